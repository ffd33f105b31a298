"""What the literal formulas of the catalogue's tests are written with: plain loops over rows, tokens and groups.

Nothing here uses the library's slots, so that a formula in a test is the paper's and not ours.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

import geomalign as ga
from geomalign.laws import sample_batch, sample_pairs

_SAMPLE = sample_batch(rows=16, tokens=7, seed=11)
# Log-probabilities are negative: the sampled anchor and reference need not be.
BATCH = dataclasses.replace(_SAMPLE, old=-_SAMPLE.old.abs() - 1e-3, reference=-_SAMPLE.reference.abs() - 1e-3)
PAIRS = sample_pairs(pairs=9, tokens=6, seed=12)
# The pairs of which neither response is empty: there a mean over responses is half the mean over pairs of sums.
_KEPT = PAIRS[(PAIRS.chosen_mask.any(-1) & PAIRS.rejected_mask.any(-1)).nonzero().flatten()]
WHOLE = dataclasses.replace(
    _KEPT, chosen=_KEPT.chosen.detach().requires_grad_(), rejected=_KEPT.rejected.detach().requires_grad_()
)
BINARY = dataclasses.replace(BATCH, reward=(BATCH.reward > 0).to(BATCH.reward.dtype))


def rows(b: ga.Batch = BATCH) -> list[int]:
    """Rows that have a token."""
    return [i for i in range(b.size) if b.mask[i].any()]


def tokens(i: int, b: ga.Batch = BATCH) -> list[int]:
    return b.mask[i].nonzero().flatten().tolist()


def groups(b: ga.Batch = BATCH) -> list[list[int]]:
    """The rows of every group, by a plain loop."""
    table: dict[int, list[int]] = {}
    for i in rows(b):
        table.setdefault(int(b.group[i]), []).append(i)
    return list(table.values())


def log_probs(i: int, name: str = "policy", b: ga.Batch = BATCH) -> Tensor:
    """log π_name of the tokens of row i."""
    return torch.stack([getattr(b, name)[i, t] for t in tokens(i, b)])


def delta(i: int, against: str = "old", b: ga.Batch = BATCH) -> Tensor:
    return log_probs(i, "policy", b) - log_probs(i, against, b)


def advantages(b: ga.Batch = BATCH, *, std: bool = False, epsilon: float = 1e-6) -> dict[int, Tensor]:
    """(r − mean) of the group, divided by (std + epsilon) with the unbiased std."""
    result = {}
    for members in groups(b):
        r = b.reward[members]
        for i in members:
            centred = b.reward[i] - r.mean()
            if len(members) == 1:
                result[i] = torch.zeros((), dtype=r.dtype)
            else:
                result[i] = centred / (r.std() + epsilon) if std else centred
    return result


def mean(values: list[Tensor]) -> Tensor:
    return torch.stack(values).mean()


def token_mean(values: dict[int, Tensor]) -> Tensor:
    """(1/Σ|y_i|) Σ_i Σ_t."""
    return torch.cat(list(values.values())).mean()


def nested_mean(values: dict[int, Tensor]) -> Tensor:
    """(1/N) Σ_i (1/|y_i|) Σ_t."""
    return mean([v.mean() for v in values.values()])


@dataclasses.dataclass
class Side:
    """One response of a pair, over its own tokens."""

    policy: Tensor
    reference: Tensor

    @property
    def delta(self) -> Tensor:
        """log π − log π_ref of the whole response."""
        return (self.policy - self.reference).sum()

    @property
    def mean_delta(self) -> Tensor:
        return (self.policy - self.reference).mean()


@dataclasses.dataclass
class Both:
    """A pair: chosen and rejected response, and the difference of their rewards."""

    chosen: Side
    rejected: Side
    margin: Tensor


def pairs(p: ga.PreferenceBatch = PAIRS) -> list[Both]:
    """The pairs of which both responses have a token."""
    found = []
    for i in range(p.size):
        w, l = p.chosen_mask[i], p.rejected_mask[i]
        if w.any() and l.any():
            chosen = Side(p.chosen[i][w], p.reference_chosen[i][w])
            rejected = Side(p.rejected[i][l], p.reference_rejected[i][l])
            found.append(Both(chosen, rejected, p.margin[i]))
    return found


def agree(objective: ga.BaseObjective, literal: Callable[[], Tensor], batch: ga.Batch | ga.PreferenceBatch) -> None:
    """Value and gradient of the literal formula are those of the objective in one pass, of its plain formula under
    autograd, and of its closed form."""
    leaves = [batch.policy] if isinstance(batch, ga.Batch) else [batch.chosen, batch.rejected]
    expected = literal()
    found = objective.gradient(batch)
    gradients = [found if isinstance(found, ga.PairGradient) else (found,)]
    theirs, *ours = (
        torch.autograd.grad(x, leaves, allow_unused=True, materialize_grads=True)
        for x in (expected, objective(batch).loss, objective.plain(batch).loss)
    )
    for loss in (objective(batch).loss, objective.plain(batch).loss):
        torch.testing.assert_close(loss, expected, rtol=1e-10, atol=1e-12)
    assert any(g.abs().max() > 1e-4 for g in theirs), "the literal formula has no gradient here: nothing is compared"
    for mine in (*gradients, *ours):
        for gradient, wanted in zip(mine, theirs, strict=True):
            torch.testing.assert_close(gradient, wanted, rtol=1e-10, atol=1e-13)
