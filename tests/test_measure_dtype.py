"""Weights are computed in the loss's dtype: the reciprocal of an integer count is not float32 by default."""

import torch

import geomalign as ga


def test_the_nested_mean_is_exact_in_float64():
    support = torch.tensor([[True, True, True], [True, False, False]])
    rows = torch.tensor(2.0, dtype=torch.float64)
    weights = ga.NestedMean().weights(support, torch.tensor(4.0, dtype=torch.float64), rows)
    assert weights.dtype == torch.float64
    assert weights[0, 0].item() == 1 / 3 / 2
