"""A plugin that pytest loads wherever geomalign is installed: a loss of your own, held to a recipe by your own suite.

```python
def test_my_loss(assert_conforms):  # or: from geomalign.laws.pytest_plugin import assert_conforms
    assert_conforms(my_loss, "grpo", epsilon=0.1)
```
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from geomalign.laws import LossReport

__all__ = ["assert_conforms"]


def assert_conforms(
    loss: Callable[..., Tensor],
    recipe: str,
    *,
    deviations: Mapping[str, str] | None = None,
    dtype: torch.dtype | None = None,
    tolerance: float | None = None,
    **settings: Any,
) -> LossReport:
    """Fail unless a loss has a recipe's value and gradient, up to a constant, on random ragged batches.

    Args:
        loss: of named tensors, or of one `batch`; see `geomalign.laws.compare_loss`.
        recipe: the recipe that it is meant to be.
        deviations: family of batches → why the loss departs from the recipe there. A known deviation must be seen: once
            the two agree on such a family, this fails too.
        dtype: of the tensors; None: float64.
        tolerance: relative; None: 1e-6 in float64, 3e-5 in float32.
        settings: of the recipe.

    Returns:
        The comparison family by family: `ragged`, `wide`, `holes`, `empty`, `far`.

    Raises:
        AssertionError: the two differ on a family without a known deviation, with the smallest batch that shows it; or
            a known deviation is not there.
        ValueError: an unknown family, what `recipes.get` raises, or parameters that no field of a batch goes by.

    >>> def mine(logps, old_logps, advantages, mask):
    ...     ratio, a = (logps - old_logps).exp(), advantages[:, None]
    ...     return (-(ratio * a).minimum(ratio.clamp(0.8, 1.2) * a) * mask).sum() / mask.sum()
    >>> report = assert_conforms(mine, "bnpo", epsilon=0.2)
    >>> list(report)
    ['ragged', 'wide', 'holes', 'empty', 'far']
    """
    __tracebackhide__ = True
    import torch

    from geomalign.laws import compare_loss

    report = compare_loss(loss, recipe, dtype=dtype or torch.float64, tolerance=tolerance, **settings)
    known = deviations or {}
    unknown = known.keys() - report.keys()
    if unknown:
        raise ValueError(f"`deviations` names {sorted(unknown)}; the families of batches are {list(report)}.")
    name = getattr(loss, "__name__", type(loss).__name__)
    settled = [f"{family} ({why})" for family, why in known.items() if report[family].equal]
    if settled:
        raise AssertionError(
            f"{name} equals {report.against} on the batches where it is known to deviate: {', '.join(settled)}. Take "
            "the entry out of `deviations`."
        )
    if any(not comparison.equal for family, comparison in report.items() if family not in known):
        raise AssertionError(f"{name} is not the recipe that it is held to:\n{report}")
    return report


@pytest.fixture(name="assert_conforms", scope="session")
def _assert_conforms() -> Callable[..., LossReport]:
    """`geomalign.laws.pytest_plugin.assert_conforms`: a loss of yours against a recipe, `(my_loss, "grpo")`."""
    return assert_conforms
