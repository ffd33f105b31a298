"""A batch as hosts have it."""

import pytest
import torch
from adapters.common import ROWS, TOKENS, Rows


@pytest.fixture
def rows() -> Rows:
    old = -torch.rand(ROWS, TOKENS)
    return Rows(
        policy=(old + 0.3 * torch.randn(ROWS, TOKENS)).requires_grad_(),
        old=old,
        reference=old + 0.2 * torch.randn(ROWS, TOKENS),
        advantages=torch.randn(ROWS, 1).expand(ROWS, TOKENS),
        mask=torch.arange(TOKENS) < torch.tensor([9, 4, 1, 6, 2, 7])[:, None],
    )
