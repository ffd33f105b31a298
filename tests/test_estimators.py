"""Estimators, judged by exact enumeration: the mean over all samples there are, against the divergence itself."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

import geomalign as ga

P, Q = (0.5, 0.3, 0.2), (0.25, 0.35, 0.4)
STRICT: list[ga.Divergence] = [
    ga.KullbackLeibler(),
    ga.ReverseKullbackLeibler(),
    ga.PearsonChiSquare(),
    ga.NeymanChiSquare(),
    ga.CressieRead(1.5),
    ga.JensenShannon(),
    ga.TotalVariation(),
    ga.KullbackLeibler() + ga.PearsonChiSquare(),
]
members = pytest.mark.parametrize("d", STRICT, ids=repr)


def policies() -> tuple[Tensor, Tensor]:
    return torch.tensor(P).log(), torch.tensor(Q).log()


def every_sample(size: int) -> tuple[Tensor, Tensor]:
    """All ordered samples of `size` draws from Q, `(samples, size)` log-ratios, and their probabilities."""
    log_p, log_q = policies()
    draws = torch.tensor(list(itertools.product(range(3), repeat=size)))
    return (log_p - log_q)[draws], log_q[draws].sum(-1).exp()


def close(a: Tensor, b: Tensor, rtol: float = 1e-10, atol: float = 1e-12) -> None:
    torch.testing.assert_close(a, b, rtol=rtol, atol=atol)


@members
@pytest.mark.parametrize("control", [0.0, -1.0, 0.7])
def test_the_plain_estimate_and_its_squared_error_are_unbiased(d, control):
    log_ratio, probability = every_sample(4)
    estimate = ga.divergence_estimate(log_ratio, d, control=control)
    mean = (probability * estimate.value).sum()
    close(mean, d.value(*policies()))
    variance = (probability * (estimate.value - mean) ** 2).sum()
    close((probability * estimate.standard_error**2).sum(), variance)
    if control == 0.0:
        assert bool((estimate.value >= 0).all())


@members
def test_the_self_normalised_estimate_is_biased_by_one_over_n(d):
    biases = []
    for size in (4, 8):
        log_ratio, probability = every_sample(size)
        value = ga.divergence_estimate(log_ratio, d, self_normalised=True).value
        biases.append(size * float((probability * value).sum() - d.value(*policies())))
    assert abs(biases[0] - biases[1]) <= 0.35 * abs(biases[1]) + 2e-3
    assert abs(biases[1]) < 0.6


@members
def test_the_self_normalised_estimate_sees_no_constant(d):
    log_ratio = torch.randn(6, 9)
    one = ga.divergence_estimate(log_ratio, d, self_normalised=True)
    for other in (
        ga.divergence_estimate(log_ratio + 7.0, d, self_normalised=True),
        ga.divergence_estimate(log_ratio - 3.0, d, self_normalised=True, control=4.0),
    ):
        close(one.value, other.value)
        close(one.standard_error, other.standard_error)


@members
def test_the_delta_methods_error_is_the_spread_over_many_samples(d):
    """n = 8 is small for it: within 35 % of the exact standard deviation over all 6561 samples."""
    log_ratio, probability = every_sample(8)
    estimate = ga.divergence_estimate(log_ratio, d, self_normalised=True)
    mean = (probability * estimate.value).sum()
    exact = (probability * (estimate.value - mean) ** 2).sum().sqrt()
    claimed = (probability * estimate.standard_error**2).sum().sqrt()
    assert 0.65 <= float(claimed / exact) <= 1.5


@pytest.mark.parametrize("order", [0.5, 2.0, 3.0])
@pytest.mark.parametrize("self_normalised", [False, True])
def test_renyis_bias_is_that_of_the_logarithm(order, self_normalised):
    exact = ga.Renyi(order).value(*policies())
    t = (policies()[0] - policies()[1]).exp()
    q = torch.tensor(Q)
    biases = []
    for size in (4, 8):
        log_ratio, probability = every_sample(size)
        estimate = ga.renyi_estimate(log_ratio, ga.Renyi(order), self_normalised=self_normalised)
        biases.append(size * float((probability * estimate.value).sum() - exact))
        if self_normalised:
            assert bool((estimate.value >= -1e-12).all())
    if not self_normalised:
        moment = (q * t**order).sum()
        variance = (q * (t**order - moment) ** 2).sum()
        first_order = float(-variance / (2 * (order - 1) * moment**2))
        assert abs(biases[1] - first_order) <= 0.45 * abs(first_order)
        assert abs(biases[1] - first_order) < abs(biases[0] - first_order)
    assert abs(biases[1]) <= 2.0


@pytest.mark.parametrize("order", [0.5, 1.0, 2.0])
def test_renyis_error_is_the_spread_over_many_samples(order):
    log_ratio, probability = every_sample(8)
    for self_normalised in (False, True):
        estimate = ga.renyi_estimate(log_ratio, ga.Renyi(order), self_normalised=self_normalised)
        mean = (probability * estimate.value).sum()
        exact = (probability * (estimate.value - mean) ** 2).sum().sqrt()
        claimed = (probability * estimate.standard_error**2).sum().sqrt()
        assert 0.6 <= float(claimed / exact) <= 1.6


@members
def test_samples_of_the_policy_serve_with_the_arguments_exchanged(d):
    log_p, log_q = policies()
    draws = torch.tensor(list(itertools.product(range(3), repeat=3)))
    value = ga.divergence_estimate(-(log_p - log_q)[draws], d.reverse).value
    close((log_p[draws].sum(-1).exp() * value).sum(), d.value(log_p, log_q))


@members
def test_masked_samples_do_not_exist(d):
    log_ratio = torch.randn(3, 6)
    mask = torch.tensor([[1, 1, 0, 1, 0, 1]]).bool().expand(3, 6)
    spoiled = torch.where(mask, log_ratio, math.nan)
    for self_normalised in (False, True):
        alone = ga.divergence_estimate(log_ratio[:, [0, 1, 3, 5]], d, self_normalised=self_normalised)
        masked = ga.divergence_estimate(spoiled, d, mask=mask, self_normalised=self_normalised)
        close(alone.value, masked.value)
        close(alone.standard_error, masked.standard_error)
    close(
        ga.renyi_estimate(spoiled, ga.Renyi(2.0), mask=mask).value,
        ga.renyi_estimate(log_ratio[:, [0, 1, 3, 5]], ga.Renyi(2.0)).value,
    )


def test_log_space_is_exact_where_ratios_overflow():
    log_ratio = torch.tensor([1000.0, 0.0, -1000.0, 2.0])
    close(ga.log_power_moment(log_ratio, 3.0), torch.tensor(3000.0 - math.log(4)))
    close(ga.renyi_estimate(log_ratio, ga.Renyi(3.0)).value, torch.tensor((3000.0 - math.log(4)) / 2))
    estimate = ga.divergence_estimate(torch.tensor([1e4, -1e4], dtype=torch.float32), ga.PearsonChiSquare())
    assert torch.isfinite(estimate.value) and torch.isfinite(estimate.standard_error)


def test_the_effective_sample_size_is_kishs():
    log_weight = torch.randn(4, 7)
    w = log_weight.exp()
    close(ga.effective_sample_size(log_weight), w.sum(-1) ** 2 / (7 * (w**2).sum(-1)))
    close(ga.effective_sample_size(torch.zeros(5) + 800.0), torch.tensor(1.0))
    close(ga.effective_sample_size(torch.tensor([0.0, -2000.0])), torch.tensor(0.5))


def test_one_sample_has_no_standard_error():
    estimate = ga.divergence_estimate(torch.zeros(2, 1), ga.KullbackLeibler())
    assert torch.equal(estimate.value, torch.zeros(2)) and bool(estimate.standard_error.isnan().all())
