"""Checks of one field of a batch, made by `batch` alone: errors say what was seen, its likely cause, the remedy."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["are_integers", "are_log_probs", "are_numbers", "divides", "has_columns", "has_rows", "is_like", "is_tensor"]


def is_tensor(owner: str, name: str, x: Any) -> str:
    """Raise unless the field is a tensor; how the messages of the other checks begin.

    >>> is_tensor("Batch", "policy", torch.zeros(2))
    '`policy` of Batch'
    """
    if not isinstance(x, Tensor):
        raise TypeError(
            f"`{name}` of {owner} is {type(x).__name__}, not a torch.Tensor. Numbers that come from numpy or lists "
            "need torch.as_tensor."
        )
    return f"`{name}` of {owner}"


def are_log_probs(owner: str, name: str, x: Tensor) -> None:
    """Raise unless the field is floating point and `(row, token)` or `(row,)`.

    >>> are_log_probs("Batch", "policy", torch.zeros(2, 3))
    """
    this = is_tensor(owner, name, x)
    if not x.is_floating_point():
        raise ValueError(
            f"{this} has dtype {x.dtype}; log-probabilities are floating point. Token ids were probably passed."
        )
    if x.ndim not in (1, 2):
        raise ValueError(
            f"{this} is {tuple(x.shape)}; log-probabilities are (row, token), or (row,) where only sums are known. "
            "Logits over a vocabulary must be gathered at the sampled tokens; a group axis must be flattened into rows."
        )


def is_like(owner: str, name: str, x: Tensor, other: str, like: Tensor) -> None:
    """Raise unless the field has the shape of the field `other`.

    >>> is_like("Batch", "old", torch.zeros(2, 3), "policy", torch.zeros(2, 3))
    """
    this = is_tensor(owner, name, x)
    if x.shape != like.shape:
        raise ValueError(
            f"{this} is {tuple(x.shape)} but `{other}` is {tuple(like.shape)}; both are (row, token). Usually one of "
            "the two was not shifted by one token, or covers prompt and response where the other covers the response."
        )


def has_rows(owner: str, name: str, x: Tensor, like: Tensor, *, tokens: bool) -> None:
    """Raise unless the field has one number per row of `like`, or with `tokens` one per token.

    >>> has_rows("Batch", "reward", torch.zeros(2), torch.zeros(2, 3), tokens=False)
    """
    this = is_tensor(owner, name, x)
    if x.shape != like.shape[:1] and not (tokens and x.shape == like.shape):
        expected = f"({like.shape[0]},)" + (f" or {tuple(like.shape)}" if tokens and like.ndim == 2 else "")
        raise ValueError(
            f"{this} is {tuple(x.shape)} but there are {like.shape[0]} rows; expected {expected}. A (prompt, sample) "
            "table must be flattened in the order of the rows."
        )


def has_columns(owner: str, name: str, x: Tensor, like: Tensor, remedy: str) -> None:
    """Raise unless the field has, per row of `like`, at least one column.

    >>> has_columns("Batch", "rewards", torch.zeros(2, 3), torch.zeros(2, 5), "")
    """
    this = is_tensor(owner, name, x)
    if x.ndim != 2 or x.shape[0] != like.shape[0] or not x.shape[1]:
        raise ValueError(
            f"{this} is {tuple(x.shape)} but there are {like.shape[0]} rows; expected ({like.shape[0]}, columns) with "
            f"at least one column. {remedy}"
        )


def are_numbers(owner: str, name: str, x: Tensor) -> None:
    """Raise unless the field holds real numbers.

    >>> are_numbers("Batch", "reward", torch.zeros(2))
    """
    if x.is_complex() or x.dtype == torch.bool:
        raise ValueError(
            f"`{name}` of {owner} has dtype {x.dtype}; it holds numbers. Make 1 and 0 of true and false, "
            f"`{name}.float()`; for objectives of good and poor responses (KTO, BCO, SPPO, APO) +1 and -1, "
            f"`2.0 * {name} - 1`."
        )


def are_integers(owner: str, name: str, x: Tensor) -> None:
    """Raise unless the field holds integers.

    >>> are_integers("Batch", "group", torch.arange(2))
    """
    if x.is_floating_point() or x.is_complex() or x.dtype == torch.bool:
        raise ValueError(
            f"`{name}` of {owner} has dtype {x.dtype}; it holds integer ids of the prompt that each row answers. "
            f"Use `{name}.long()` if these are ids, or pass rewards as `reward`."
        )


def divides(owner: str, name: str, size: int, like: Tensor) -> None:
    """Raise unless the rows of `like` are whole groups of `size`.

    >>> divides("Batch", "group", 2, torch.zeros(4, 3))
    """
    rows = like.shape[0]
    if isinstance(size, bool) or size < 1 or rows % size:
        raise ValueError(
            f"`{name}` of {owner} is {size!r}, but there are {rows} rows; a number is the size of every group, which "
            "divides the rows. Where groups differ in size or are not in order, pass `(row,)` ids of the prompts."
        )
