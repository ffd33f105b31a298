"""What an objective is evaluated on: log-probabilities of sampled tokens, and what is known about the rows.

This is the only file that validates shapes; everything above it trusts them.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable
from typing import Any, SupportsIndex

import torch
from torch import Tensor

from geomalign._util.groups import Groups


@dataclasses.dataclass(frozen=True)
class Counts:
    """How much a whole batch holds: what a mean is divided by, so that parts of it add up to the whole.

    `batch.counts()` counts one batch; totals of micro-batches or ranks add with `+` (each field is a 0-dim tensor, so a
    distributed run sums them with one all-reduce and never synchronises with the host).

    Args:
        tokens: unmasked tokens.
        sequences: rows with at least one unmasked token.
        pairs: pairs whose two responses both have at least one unmasked token; zero for a `Batch`.
        rows: all rows, counting those without a token.
    """

    tokens: Tensor
    sequences: Tensor
    pairs: Tensor
    rows: Tensor

    def __add__(self, other: Counts) -> Counts:
        if not isinstance(other, Counts):
            return NotImplemented
        return Counts(*(a + b for a, b in zip(self.astuple(), other.astuple(), strict=True)))

    def __radd__(self, other: int) -> Counts:
        return self if other == 0 else NotImplemented

    def astuple(self) -> tuple[Tensor, ...]:
        """The counts in field order, to stack for an all-reduce; `Counts(*counts)` is the way back."""
        return (self.tokens, self.sequences, self.pairs, self.rows)


def _shape(x: Tensor) -> str:
    return str(tuple(x.shape))


def _check_tensor(name: str, x: Any, owner: str) -> None:
    if not isinstance(x, Tensor):
        raise TypeError(
            f"`{name}` of {owner} is {type(x).__name__}, not a torch.Tensor. Numbers that come from numpy or lists "
            "need torch.as_tensor."
        )


def _check_log_probs(name: str, x: Tensor, owner: str) -> None:
    _check_tensor(name, x, owner)
    if not x.is_floating_point():
        raise ValueError(
            f"`{name}` of {owner} has dtype {x.dtype}; log-probabilities are floating point. Token ids were "
            "probably passed."
        )
    if x.ndim not in (1, 2):
        raise ValueError(
            f"`{name}` of {owner} is {_shape(x)}; log-probabilities are (row, token), or (row,) where only sums "
            "are known. "
            "Logits over a vocabulary must be gathered at the sampled tokens; a group axis must be flattened into rows."
        )


def _check_like(name: str, x: Tensor, like_name: str, like: Tensor, owner: str) -> None:
    _check_tensor(name, x, owner)
    if x.shape != like.shape:
        raise ValueError(
            f"`{name}` of {owner} is {_shape(x)} but `{like_name}` is {_shape(like)}; both are (row, token). "
            "Usually one of the two was not shifted by one token, or covers prompt and response where the other "
            "covers the response."
        )


def _check_rows(name: str, x: Tensor, like: Tensor, owner: str, *, tokens: bool) -> None:
    _check_tensor(name, x, owner)
    if x.shape == like.shape[:1] or (tokens and x.shape == like.shape):
        return
    expected = f"({like.shape[0]},)" + (f" or {_shape(like)}" if tokens and like.ndim == 2 else "")
    raise ValueError(
        f"`{name}` of {owner} is {_shape(x)} but there are {like.shape[0]} rows; expected {expected}. "
        "A (prompt, sample) table must be flattened in the order of the rows."
    )


def _check_numbers(name: str, x: Tensor, owner: str) -> None:
    if x.is_complex() or x.dtype == torch.bool:
        raise ValueError(
            f"`{name}` of {owner} has dtype {x.dtype}; it holds numbers. Make 1 and 0 of true and false, "
            f"`{name}.float()`; for objectives of good and poor responses (KTO, BCO, SPPO, APO) +1 and -1, "
            f"`2.0 * {name} - 1`."
        )


def _check_integers(name: str, x: Tensor, owner: str) -> None:
    if x.is_floating_point() or x.is_complex() or x.dtype == torch.bool:
        raise ValueError(
            f"`{name}` of {owner} has dtype {x.dtype}; it holds integer ids of the prompt that each row answers. "
            f"Use `{name}.long()` if these are ids, or pass rewards as `reward`."
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Batch:
    """Sampled responses, one a row, with their log-probabilities under the policies of interest.

    Args:
        policy: `(row, token)` log π_θ of the sampled tokens in nats, with gradient; `(row,)` where only the sums over
            a response are known (then no unit that needs tokens can be used).
        old: the same under π_old, the policy that sampled the rollout (as PPO, TRL and verl say); None where the
            objective needs none.
        mask: `(row, token)`, true (non-zero) at tokens of the response. A masked token is absent: it has no influence
            on any value or gradient even if it is NaN, and a row without tokens belongs to no group. None: all count.
        reward: `(row,)`, or `(row, token)` of which the sum over the unmasked tokens counts.
        advantage: `(row,)`, or `(row, token)`.
        reference: like `old`, of the reference policy π_ref.
        group: `(row,)` integers, equal where rows answer the same prompt: any order, any sizes. None: one group.
        behavior: like `old`, as the rollout engine reported it where that differs from the trainer's.

    Half-precision log-probabilities are used in float32. Indexing selects rows: `batch[4:8]`, `batch[index_tensor]`;
    `batch[3]` is a batch of one row.

    Raises:
        TypeError: something is no tensor.
        ValueError: shapes or dtypes do not fit; the message names both, the likely cause and the remedy.

    >>> import torch, geomalign as ga
    >>> batch = ga.Batch(torch.zeros(4, 3), torch.zeros(4, 3), reward=torch.tensor([1., 0., 0., 1.]))
    >>> batch[:2].size
    2
    """

    policy: Tensor
    old: Tensor | None
    mask: Tensor | None = None
    reward: Tensor | None = None
    advantage: Tensor | None = None
    reference: Tensor | None = None
    group: Tensor | None = None
    behavior: Tensor | None = None

    def __post_init__(self) -> None:
        owner = "Batch"
        _check_log_probs("policy", self.policy, owner)
        for name in ("old", "reference", "behavior"):
            value = getattr(self, name)
            if value is not None:
                _check_like(name, value, "policy", self.policy, owner)
                _check_log_probs(name, value, owner)
        if self.mask is not None:
            _check_like("mask", self.mask, "policy", self.policy, owner)
        for name in ("reward", "advantage"):
            value = getattr(self, name)
            if value is not None:
                _check_rows(name, value, self.policy, owner, tokens=True)
                _check_numbers(name, value, owner)
        if self.group is not None:
            _check_rows("group", self.group, self.policy, owner, tokens=False)
            _check_integers("group", self.group, owner)

    paired = False
    """Whether the rows come in chosen and rejected pairs."""

    @property
    def rows(self) -> Batch:
        """The responses, one a row: itself."""
        return self

    @property
    def size(self) -> int:
        """Number of rows."""
        return self.policy.shape[0]

    @property
    def summed(self) -> bool:
        """Whether only sums over responses are known."""
        return self.policy.ndim == 1

    @property
    def dtype(self) -> torch.dtype:
        """What is computed in: the policy's dtype, at least float32."""
        return torch.promote_types(self.policy.dtype, torch.float32)

    @property
    def support(self) -> Tensor:
        """`(row, token)` booleans: the tokens that exist."""
        if self.mask is None:
            return torch.ones_like(self.tokens(self.policy), dtype=torch.bool)
        return self.tokens(self.mask) != 0

    def tokens(self, x: Tensor) -> Tensor:
        """`x` as `(row, token)`: a column where only sums are known."""
        return x[:, None] if self.summed else x

    def log_probs(self, name: str, asked_by: str) -> Tensor:
        """The log-probabilities called `name` as `(row, token)`, zero where masked, at least float32."""
        x = self.tokens(self.require(name, asked_by)).to(self.dtype)
        return torch.where(self.support, x, 0)

    def require(self, name: str, asked_by: str) -> Tensor:
        """The field called `name`, or an error that says who needs it and how to give it."""
        value: Tensor | None = getattr(self, name, None)
        if value is None:
            given = [f.name for f in dataclasses.fields(self) if getattr(self, f.name) is not None]
            raise ValueError(
                f"{asked_by} needs `{name}`, which this Batch lacks (it has {', '.join(given)}). {_REMEDY[name]}"
            )
        return value

    def per_response(self, x: Tensor) -> Tensor:
        """`(row,)` from `(row,)` or `(row, token)`: the sum over unmasked tokens; zero at rows without tokens."""
        support = self.support
        if x.ndim == 2:
            return torch.where(support, x.to(self.dtype), 0).sum(-1)
        return torch.where(support.any(-1), x, 0).to(self.dtype)

    def groups(self) -> Groups:
        """The rows that have tokens, by the prompt they answer."""
        return Groups(self.group, self.support.any(-1))

    def counts(self) -> Counts:
        """What this batch holds; give the sum over all micro-batches and ranks as `counts=` to each of them."""
        support = self.support
        sequences = support.any(-1).sum()
        return Counts(support.sum(), sequences, torch.zeros_like(sequences), torch.full_like(sequences, self.size))

    def __getitem__(self, index: Any) -> Batch:
        return _select(self, index)


_REMEDY = {
    "policy": "Pass the log-probabilities of the sampled tokens under the policy in training.",
    "old": "Pass the rollout policy's log-probabilities as `old` (`policy.detach()` if exactly on policy).",
    "reference": "Pass the reference policy's log-probabilities as `reference`, or drop the term (beta=0).",
    "behavior": "Pass the rollout engine's log-probabilities as `behavior`, or drop the importance correction.",
    "reward": "Pass one reward a row as `reward`; a known advantage goes in as `drive=` or with `Advantage()`.",
    "advantage": "Pass `advantage`, or use GroupAdvantage, which makes it from `reward`.",
    "group": "Pass the integer id of the prompt that each row answers as `group`.",
    "margin": "Differences of rewards belong to pairs: pass a PreferenceBatch with a `margin`.",
}


def _select(batch: Any, index: Any) -> Any:
    if isinstance(index, SupportsIndex) and torch.as_tensor(index).ndim == 0:
        row = operator.index(index)
        if not -batch.size <= row < batch.size:
            raise IndexError(f"there is no row {row} in a {type(batch).__name__} of {batch.size}.")
        index = slice(row, row + 1 or None)
    pick: Callable[[Any], Any] = lambda x: x[index] if isinstance(x, Tensor) else x  # noqa: E731
    return dataclasses.replace(batch, **{f.name: pick(getattr(batch, f.name)) for f in dataclasses.fields(batch)})


@dataclasses.dataclass(frozen=True, eq=False)
class PreferenceBatch:
    """Pairs of responses to one prompt, one preferred.

    Args:
        chosen: `(pair, token)` log π_θ of the preferred response's tokens in nats, with gradient; `(pair,)` for sums.
        rejected: the same of the other response; its padded length may differ.
        reference_chosen: as `chosen`, under the reference policy. None for methods without a reference.
        reference_rejected: as `rejected`, under the reference policy.
        chosen_mask: `(pair, token)`, true (non-zero) at tokens of the response; None: all count.
        rejected_mask: the same.
        margin: `(pair,)`, by how much the chosen response's reward exceeds the other's, where it is known.

    The reference policy is both the `reference` and the `old` of the rows. Indexing selects pairs.

    Raises:
        TypeError: something is no tensor.
        ValueError: shapes or dtypes do not fit, or only one of the two references is given.
    """

    chosen: Tensor
    rejected: Tensor
    reference_chosen: Tensor | None = None
    reference_rejected: Tensor | None = None
    chosen_mask: Tensor | None = None
    rejected_mask: Tensor | None = None
    margin: Tensor | None = None

    def __post_init__(self) -> None:
        owner = "PreferenceBatch"
        for name in ("chosen", "rejected"):
            value = getattr(self, name)
            _check_log_probs(name, value, owner)
            for other in (f"reference_{name}", f"{name}_mask"):
                if getattr(self, other) is not None:
                    _check_like(other, getattr(self, other), name, value, owner)
        if self.chosen.ndim != self.rejected.ndim or self.chosen.shape[0] != self.rejected.shape[0]:
            raise ValueError(
                f"`chosen` is {_shape(self.chosen)} but `rejected` is {_shape(self.rejected)}; row i of both "
                "answers prompt i. "
                "If the two were concatenated, split them first."
            )
        if (self.reference_chosen is None) != (self.reference_rejected is None):
            raise ValueError(
                "Only one of `reference_chosen` and `reference_rejected` is given; a margin needs both, a "
                "reference-free method neither."
            )

        if self.margin is not None:
            _check_rows("margin", self.margin, self.chosen, owner, tokens=False)
            _check_numbers("margin", self.margin, owner)

    paired = True

    @property
    def size(self) -> int:
        """Number of pairs."""
        return self.chosen.shape[0]

    @property
    def summed(self) -> bool:
        """Whether only sums over responses are known."""
        return self.chosen.ndim == 1

    @property
    def rows(self) -> Batch:
        """All responses, one a row: the chosen ones, then the rejected ones, padded to one length.

        `reward` is +1 for a chosen and -1 for a rejected response; `group` is the pair.
        """
        mask = None
        if not (self.chosen_mask is None and self.rejected_mask is None and self.chosen.shape == self.rejected.shape):
            kept = [torch.ones_like(x) if m is None else m for x, m in self._sides("mask")]
            mask = _stack(kept[0] != 0, kept[1] != 0)
        reference = None
        if self.reference_chosen is not None and self.reference_rejected is not None:
            reference = _stack(self.reference_chosen, self.reference_rejected)
        pair = torch.arange(self.size, device=self.chosen.device)
        sign = torch.ones(self.size, dtype=torch.promote_types(self.chosen.dtype, torch.float32), device=pair.device)
        return Batch(
            _stack(self.chosen, self.rejected),
            reference,
            mask,
            reward=torch.cat([sign, -sign]),
            reference=reference,
            group=torch.cat([pair, pair]),
        )

    def _sides(self, what: str) -> list[tuple[Tensor, Tensor | None]]:
        return [(self.chosen, getattr(self, f"chosen_{what}")), (self.rejected, getattr(self, f"rejected_{what}"))]

    def require(self, name: str, asked_by: str) -> Tensor:
        """The `margin`; pairs carry no rewards, advantages or groups of their own, and an error says so."""
        if name == "margin" and self.margin is not None:
            return self.margin
        remedy = (
            "Pass the difference of the two responses' rewards as `margin`."
            if name == "margin"
            else "Use sampling=Label(), or pass a Batch with a unit of single responses."
        )
        raise ValueError(
            f"{asked_by} needs `{name}`, but this PreferenceBatch has only log-probabilities of pairs. {remedy}"
        )

    def counts(self) -> Counts:
        """What this batch holds; give the sum over all micro-batches and ranks as `counts=` to each of them."""
        rows = self.rows
        nonempty = rows.support.any(-1)
        chosen, rejected = nonempty.chunk(2)
        counts = rows.counts()
        return dataclasses.replace(counts, pairs=(chosen & rejected).sum())

    def __getitem__(self, index: Any) -> PreferenceBatch:
        return _select(self, index)


def _stack(chosen: Tensor, rejected: Tensor) -> Tensor:
    if chosen.ndim == 2:
        width = max(chosen.shape[1], rejected.shape[1])
        chosen, rejected = (torch.nn.functional.pad(x, (0, width - x.shape[1])) for x in (chosen, rejected))
    return torch.cat([chosen, rejected])
