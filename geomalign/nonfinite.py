"""What a rollout holds that is no number: dropped and counted once per rollout, before the objective sees it."""

from __future__ import annotations

import dataclasses
import warnings
from typing import TypeVar

import torch
from torch import Tensor

from geomalign.batch import Batch, PreferenceBatch, as_mask

__all__ = ["NonFiniteReport", "NonFiniteWarning", "drop_nonfinite"]

_MASK_OF = {
    **dict.fromkeys(("old", "reference", "behavior"), "mask"),
    "reference_chosen": "chosen_mask",
    "reference_rejected": "rejected_mask",
}
"""Log-probabilities that other policies gave -> the mask that leaves a token of theirs out. The policy in training is
not among them: where it is not finite, training has failed, and must say so."""

_MASKS_OF = {
    **dict.fromkeys(("reward", "rewards", "advantage"), ("mask",)),
    "margin": ("chosen_mask", "rejected_mask"),
}
"""What is known about rows -> the masks that leave a row out."""

_POLICY_OF = {"mask": "policy", "chosen_mask": "chosen", "rejected_mask": "rejected"}
"""A mask -> the log-probabilities whose shape it has."""

AnyBatch = TypeVar("AnyBatch", Batch, PreferenceBatch)


class NonFiniteWarning(UserWarning):
    """Rewards or log-probabilities of a rollout are not finite; the rows and tokens that hold them were left out.

    >>> import torch, warnings, geomalign as ga
    >>> batch = ga.Batch(torch.zeros(2, 3), torch.tensor([[-1.0, float("nan"), -1.0], [-1.0, -1.0, -1.0]]))
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     ga.drop_nonfinite(batch)[1].warn()
    >>> print(caught[0].message)
    not finite: 1 of 6 tokens, left out of loss, gradient, drive and metrics (`old` of row 0). ...
    """


@dataclasses.dataclass(frozen=True, eq=False)
class NonFiniteReport:
    """How many values of a rollout are not finite, as tensors: reading them does not wait for the device.

    Args:
        values: by field of the batch, `(row,)` or `(pair,)`: how many of its values are not finite, of those that are
            not masked.
        tokens: 0-dim, the tokens that were there.
        left: 0-dim, the tokens that are left.

    >>> import torch, geomalign as ga
    >>> reward = torch.tensor([1.0, float("nan")])
    >>> batch, report = ga.drop_nonfinite(ga.Batch(torch.zeros(2, 3), reward=reward))
    >>> report.values["reward"], report.metrics()["nonfinite_tokens"]
    (tensor([0, 1]), tensor(3))
    """

    values: dict[str, Tensor]
    tokens: Tensor
    left: Tensor

    def metrics(self) -> dict[str, Tensor]:
        """`nonfinite_tokens`, the tokens left out, and `nonfinite_rewards`, the rows whose reward, advantage or margin
        is not finite; 0-dim tensors.
        """
        rows = [count > 0 for name, count in self.values.items() if name in _MASKS_OF]
        lost = torch.stack(rows).any(0).sum() if rows else torch.zeros_like(self.left)
        return {"nonfinite_tokens": self.tokens - self.left, "nonfinite_rewards": lost}

    def message(self) -> str:
        """What was left out, in words; empty where everything is finite. The host waits for the device."""
        totals = [self.tokens, self.left, *(count.sum() for count in self.values.values())]
        tokens, left, *counts = torch.stack([total.long() for total in totals]).tolist()
        where = "; ".join(
            f"`{name}` of {_rows(self.values[name])}" for name, count in zip(self.values, counts, strict=True) if count
        )
        if not where:
            return ""
        return (
            f"not finite: {tokens - left} of {tokens} tokens, left out of loss, gradient, drive and metrics ({where}). "
            "Rollout engines return such log-probabilities where they could not score a token; a reward that is not "
            "finite comes from the reward function."
        )

    def warn(self) -> None:
        """Warn of what was left out, with the rows, where there is something. The host waits for the device.

        Raises:
            ValueError: of a rollout that had tokens none is left: a policy, the engine or the reward function failed.
        """
        message = self.message()
        if message:
            self.refuse_nothing_left(message)
            warnings.warn(message, NonFiniteWarning, stacklevel=2)

    def refuse_nothing_left(self, message: str) -> None:
        """Raise a ValueError with the message if there were tokens, and none is left."""
        if self.tokens > 0 and self.left == 0:
            raise ValueError(f"{message} Nothing is left to learn from: a policy, the engine or the reward failed.")


def drop_nonfinite(batch: AnyBatch) -> tuple[AnyBatch, NonFiniteReport]:
    """The batch with a mask that leaves out what is not finite: call it once per rollout, before the drive.

    A token whose log-probability under another policy (`old`, `reference`, `behavior`) is not finite is masked, and so
    is a whole row, or pair, whose reward, advantage or margin is not. A row that is left without tokens is in no group.
    Objectives do not look for such values themselves: that would be a pass over all tokens in every evaluation.

    Args:
        batch: a rollout; its `policy` is not looked at, because a policy in training that is not finite is a failure.

    Returns:
        the batch with its new mask, and the report of what was left out.

    >>> import torch, geomalign as ga
    >>> behavior = torch.tensor([[-1.0, float("-inf"), -1.0], [-1.0, -1.0, -1.0]])
    >>> batch, report = ga.drop_nonfinite(ga.Batch(torch.zeros(2, 3), torch.zeros(2, 3), behavior=behavior))
    >>> batch.support.int().tolist(), report.metrics()["nonfinite_tokens"]
    ([[1, 0, 1], [1, 1, 1]], tensor(1))
    """
    names = {field.name for field in dataclasses.fields(batch)}
    before = {mask: _existing(batch, mask) for mask in _POLICY_OF if mask in names}
    after, values = dict(before), {}
    for name, mask in _MASK_OF.items():
        x = getattr(batch, name) if name in names else None
        if x is not None:
            finite = torch.isfinite(x)
            values[name] = _per_row(before[mask] & ~finite)
            after[mask] = after[mask] & finite
    for name, masks in _MASKS_OF.items():
        x = getattr(batch, name) if name in names else None
        if x is not None:
            tokens = x.ndim == 2 and name != "rewards"
            finite = torch.isfinite(batch.rows.per_response(x) if tokens else x)
            finite = finite if finite.ndim == 1 else finite.all(-1)
            there = torch.stack([_per_row(before[mask]) > 0 for mask in masks]).any(0)
            values[name] = (there & ~finite).long()
            for mask in masks:
                after[mask] = after[mask] & (finite if after[mask].ndim == 1 else finite[:, None])
    tokens, left = (torch.stack([mask.sum() for mask in masks.values()]).sum() for masks in (before, after))
    return dataclasses.replace(batch, **after), NonFiniteReport(values, tokens, left)


def _existing(batch: Batch | PreferenceBatch, mask: str) -> Tensor:
    given: Tensor | None = getattr(batch, mask)
    return as_mask(torch.ones_like(getattr(batch, _POLICY_OF[mask])) if given is None else given)


def _per_row(x: Tensor) -> Tensor:
    return x.long() if x.ndim == 1 else x.sum(-1)


def _rows(count: Tensor, shown: int = 5) -> str:
    """The rows in which a value is not finite, the first of them by number."""
    rows = count.nonzero()[:, 0].tolist()
    listed = ", ".join(map(str, rows[:shown])) + (f" and {len(rows) - shown} more" if len(rows) > shown else "")
    return f"row{'s' if len(rows) > 1 else ''} {listed}"
