"""What batches of responses and of pairs do alike with their fields."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable
from typing import Any, SupportsIndex

import torch
from torch import Tensor

__all__ = ["as_mask", "given", "select"]


def given(batch: Any, *names: str) -> list[str]:
    """Those of the fields that are not None."""
    return [name for name in names if getattr(batch, name) is not None]


def select(batch: Any, index: Any) -> Any:
    if not isinstance(index, slice) and isinstance(index, SupportsIndex) and torch.as_tensor(index).ndim == 0:
        row = operator.index(index)
        if not -batch.size <= row < batch.size:
            raise IndexError(f"there is no row {row} in a {type(batch).__name__} of {batch.size}.")
        index = slice(row, row + 1 or None)
    pick: Callable[[Any], Any] = lambda x: x[index] if isinstance(x, Tensor) else x  # noqa: E731
    return dataclasses.replace(batch, **{f.name: pick(getattr(batch, f.name)) for f in dataclasses.fields(batch)})


def as_mask(x: Tensor) -> Tensor:
    """Booleans, true where x is not zero."""
    return x if x.dtype == torch.bool else x != 0
