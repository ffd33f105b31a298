"""Sampled responses: what an objective of rewards is evaluated on."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from geomalign._util.groups import Groups
from geomalign._util.tensors import are_integers, are_log_probs, are_numbers, divides, has_columns, has_rows, is_like
from geomalign.batch.counts import Counts
from geomalign.batch.fields import as_mask, given, select

__all__ = ["Batch"]


@dataclasses.dataclass(frozen=True, eq=False)
class Batch:
    """Sampled responses, one per row, with their log-probabilities under the policies of interest.

    Args:
        policy: `(row, token)` log π_θ of the sampled tokens in nats, with gradient; `(row,)` where only the sums over
            a response are known (then no unit that needs tokens can be used).
        old: the same under π_old, the policy that sampled the rollout (as PPO, TRL and verl say); None where the
            objective needs none.
        mask: `(row, token)`, true (non-zero) at tokens of the response; None: all of them. A masked token is absent:
            it has no influence on any value or gradient even if it is NaN, and a row without tokens is in no group.
        reward: `(row,)`, or `(row, token)`, of which the sum over the unmasked tokens counts. A row whose reward or
            advantage is not finite is in no group and has a drive of zero, under every sampling geometry that reads
            one of them.
        advantage: `(row,)`, or `(row, token)`.
        reference: like `old`, under the reference policy π_ref.
        group: `(row,)` integers, equal where rows answer the same prompt: any order, any sizes. A number G: rows come
            G at a time, the first G answer the first prompt, which needs no sorting on any device. None: one group.
        behavior: like `old`, as the rollout engine reported it where that differs from the trainer's own.
        rewards: `(row, reward)`, several rewards per response, one column for each kind, for what normalises them apart
            (`DecoupledAdvantage`). What reads `reward` does not sum them: pass the sum as `reward` for that. A row is
            treated as one of a reward that is not finite where any of its rewards is not.
        observation_mask: `(row, token)`, true (non-zero) at tokens that the environment wrote, such as a tool's output,
            for units that predict these (`Observation`); it needs `mask`, which they are not part of. Where both are
            true the token is the response's, and a row that `mask` leaves without tokens has no observations.

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
    old: Tensor | None = None
    mask: Tensor | None = None
    reward: Tensor | None = None
    advantage: Tensor | None = None
    reference: Tensor | None = None
    group: Tensor | int | None = None
    behavior: Tensor | None = None
    rewards: Tensor | None = None
    observation_mask: Tensor | None = None

    def __post_init__(self) -> None:
        are_log_probs("Batch", "policy", self.policy)
        for name in given(self, "old", "reference", "behavior"):
            is_like("Batch", name, getattr(self, name), "policy", self.policy)
            are_log_probs("Batch", name, getattr(self, name))
        for name in given(self, "mask", "observation_mask"):
            is_like("Batch", name, getattr(self, name), "policy", self.policy)
        if self.observation_mask is not None and self.mask is None:
            raise ValueError(
                "`observation_mask` of Batch is given without `mask`, so that every token is the response's. Pass the "
                "tokens that the policy sampled as `mask`."
            )
        if self.rewards is not None:
            has_columns("Batch", "rewards", self.rewards, self.policy, "For one reward per response use `reward`.")
            are_numbers("Batch", "rewards", self.rewards)
        for name in given(self, "reward", "advantage"):
            has_rows("Batch", name, getattr(self, name), self.policy, tokens=True)
            are_numbers("Batch", name, getattr(self, name))
        if isinstance(self.group, int):
            divides("Batch", "group", self.group, self.policy)
        elif self.group is not None:
            has_rows("Batch", "group", self.group, self.policy, tokens=False)
            are_integers("Batch", "group", self.group)

    paired = False
    """Whether the rows come in chosen and rejected pairs."""

    @property
    def rows(self) -> Batch:
        """The responses, one per row: the batch itself."""
        return self

    @property
    def size(self) -> int:
        """Number of rows."""
        return self.policy.shape[0]

    @property
    def summed(self) -> bool:
        """Whether only sums over responses are known, not the single tokens."""
        return self.policy.ndim == 1

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of all computation: the policy's, at least float32."""
        return torch.promote_types(self.policy.dtype, torch.float32)

    @property
    def support(self) -> Tensor:
        """`(row, token)` booleans: the tokens that exist."""
        if self.mask is None:
            return torch.ones_like(self.tokens(self.policy), dtype=torch.bool)
        return as_mask(self.tokens(self.mask))

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
            here = ", ".join(given(self, *(field.name for field in dataclasses.fields(self))))
            raise ValueError(f"{asked_by} needs `{name}`, which this Batch lacks (it has {here}). {_REMEDY[name]}")
        return value

    def per_response(self, x: Tensor) -> Tensor:
        """`(row,)` from `(row,)` or `(row, token)`: the sum over unmasked tokens; zero at rows without tokens."""
        support = self.support
        if x.ndim == 2:
            return torch.where(support, x.to(self.dtype), 0).sum(-1)
        return torch.where(support.any(-1), x, 0).to(self.dtype)

    @property
    def judged(self) -> Tensor:
        """`(row,)` booleans: the rows that have a token, and whose rewards and advantage, where given, are finite."""
        judged = self.support.any(-1)
        for name in given(self, "reward", "advantage"):
            judged = judged & torch.isfinite(self.per_response(getattr(self, name)))
        return judged if self.rewards is None else judged & torch.isfinite(self.rewards).all(-1)

    @property
    def observed(self) -> Tensor:
        """`(row, token)` booleans: the tokens of the environment, of rows that have a token of the response."""
        if self.observation_mask is None:
            return torch.zeros_like(self.support)
        support = self.support
        return as_mask(self.tokens(self.observation_mask)) & ~support & support.any(-1, keepdim=True)

    def groups(self) -> Groups:
        """The rows that are `judged`, grouped by the prompt that they answer."""
        return Groups(self.group, self.judged)

    def counts(self) -> Counts:
        """How much this batch holds. Give the sum over all micro-batches and ranks as `counts=` to each of them."""
        lengths = self.support.sum(-1)
        sequences = (lengths > 0).sum()
        size, none = torch.full_like(sequences, self.size), torch.zeros_like(sequences)
        return Counts(lengths.sum(), sequences, none, size, lengths, self.prompt)

    @property
    def prompt(self) -> Tensor | None:
        """`(row,)` integers, the prompt that each row answers, also where `group` is a number; None: one prompt."""
        if isinstance(self.group, int):
            return torch.arange(self.size, device=self.policy.device) // self.group
        return self.group

    def __getitem__(self, index: Any) -> Batch:
        # A part need not hold whole groups.
        return select(dataclasses.replace(self, group=self.prompt) if isinstance(self.group, int) else self, index)


_REMEDY = {
    "policy": "Pass the log-probabilities of the sampled tokens under the policy in training.",
    "old": "Pass the log-probabilities under π_old, which sampled, as `old` (`policy.detach()` if exactly on policy).",
    "reference": "Pass the reference policy's log-probabilities as `reference`, or drop the term (beta=0).",
    "behavior": "Pass the rollout engine's log-probabilities as `behavior`, or drop the importance correction.",
    "reward": "Pass one reward per row as `reward`; a known advantage goes in as `drive=` or with `Advantage()`.",
    "rewards": "Pass one column per kind of reward as `rewards`.",
    "observation_mask": "Pass true at the tokens that the environment wrote as `observation_mask`, or drop the term.",
    "advantage": "Pass `advantage`, or use GroupAdvantage, which makes it from `reward`.",
    "group": "Pass the integer id of the prompt that each row answers as `group`.",
    "margin": "Differences of rewards belong to pairs: pass a PreferenceBatch with a `margin`.",
}
