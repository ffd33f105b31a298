"""An objective on a host's batch, with the host's advantages as drive and its reduction as measure."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy
import torch
from torch import Tensor

from geomalign.adapters.hosted.notes import drives_in_words
from geomalign.batch import Batch, Counts
from geomalign.measure import Measure
from geomalign.objective import BaseObjective, Outcome, TermDrives, WeightedSum
from geomalign.sampling import (
    Advantage,
    EffectiveImportance,
    MaskedImportance,
    SamplingGeometry,
    SecondMomentMask,
    SignWeighted,
    TruncatedImportance,
)

__all__ = ["HostWeights", "drive_of", "evaluate", "outcomes", "rollout", "weights_of"]


@dataclasses.dataclass(frozen=True, eq=False)
class HostWeights(Measure):
    """A host's own reduction. An event that is a whole response carries the weights of all its tokens.

    Args:
        of_tokens: `(row, token)`, what the host multiplies the loss of each token with.

    >>> present = torch.ones(1, 2, dtype=torch.bool)
    >>> HostWeights(torch.tensor([[0.25, 0.25]])).weights(present.any(-1), torch.tensor(1), torch.tensor(1))
    tensor([0.5000])
    """

    of_tokens: Tensor
    rowwise = False

    def weights(self, support: Tensor, events: Tensor, rows: Tensor) -> Tensor:
        return torch.where(support, self.of_tokens if support.ndim == 2 else self.of_tokens.sum(-1), 0)

    def latex(self, tokens: bool) -> str:
        return r"\sum_i\sum_t w_{i,t}" if tokens else r"\sum_i w_i"


def weights_of(reduce: Callable[[Tensor], Tensor], support: Tensor, dtype: torch.dtype) -> Tensor:
    """The weights of a linear reduction, `(row, token)`: its gradient.

    Args:
        reduce: `(row, token)` losses → scalar.
        support: `(row, token)` booleans, the tokens that exist.
        dtype: of the losses.

    >>> weights_of(lambda losses: losses.mean(), torch.ones(1, 4, dtype=torch.bool), torch.float32)
    tensor([[0.2500, 0.2500, 0.2500, 0.2500]])
    """
    with torch.enable_grad():
        losses = torch.zeros(support.shape, dtype=dtype, device=support.device, requires_grad=True)
        return torch.autograd.grad(reduce(losses), losses)[0]


def rollout(mask: Tensor, dtype: torch.dtype, **columns: Any) -> Batch:
    """Responses that no policy has scored, as a sampling geometry reads them: their rewards and groups.

    Zeros stand for the log-probabilities under the policy, on which no drive depends.

    Args:
        mask: `(row, token)`, non-zero at tokens of the response.
        dtype: that the drive is computed in.
        columns: the other fields of `Batch`; `old` is absent unless it is among them.

    >>> import torch, geomalign as ga
    >>> rows = rollout(torch.ones(2, 3), torch.float32, reward=torch.tensor([1.0, 0.0]))
    >>> ga.GroupAdvantage().drive(rows)
    tensor([ 0.5000, -0.5000])
    """
    columns.setdefault("old", None)
    return Batch(torch.zeros(mask.shape, dtype=dtype, device=mask.device), mask=mask, **columns)


def outcomes(rewards: Tensor, mask: Tensor, index: Any = None) -> Batch:
    """Finished responses as advantage estimators get them, with the sum of a response's rewards as its reward.

    Args:
        rewards: `(row, token)`.
        mask: `(row, token)`, non-zero at tokens of the response.
        index: `(row,)` names of the prompts, of any type and in any order; None: all rows answer one prompt.

    >>> outcomes(torch.ones(3, 2), torch.ones(3, 2), ["b", "a", "b"]).group
    tensor([1, 0, 1])
    """
    named = None if index is None else numpy.unique(numpy.asarray(index), return_inverse=True)[1].reshape(-1)
    group = None if named is None else torch.as_tensor(named, device=rewards.device)
    return rollout(mask, rewards.dtype, reward=rewards.sum(-1), group=group)


def drive_of(objective: BaseObjective, batch: Batch) -> Tensor:
    """The one drive that a host can pass on as its advantages, `(row,)` or `(row, token)`; zero where nothing pulls.

    Args:
        objective: of single responses.
        batch: a rollout with whole groups.

    Raises:
        ValueError: the terms have different drives.

    >>> import torch, geomalign as ga
    >>> rows = rollout(torch.ones(2, 3), torch.float32, reward=torch.tensor([1.0, 0.0]))
    >>> drive_of(ga.recipes.get("grpo scale_rewards=none"), rows)
    tensor([ 0.5000, -0.5000])
    """
    driven = objective.driven_terms
    if len({term.sampling for term in driven}) > 1:
        raise ValueError(
            f"the terms of this objective have different drives, {drives_in_words(objective)}, and the host passes one."
        )
    return driven[0].drive(batch) if driven else torch.zeros(batch.size, dtype=batch.dtype, device=batch.policy.device)


def evaluate(
    objective: BaseObjective,
    batch: Batch,
    advantages: Tensor,
    weights: Tensor | None = None,
    counts: Counts | None = None,
    importance: Tensor | None = None,
) -> Outcome:
    """An objective on a host's batch, with the host's advantages in the place of its sampling geometries.

    Args:
        objective: of single responses.
        batch: of tokens.
        advantages: `(row, token)` or `(row,)`; a unit of responses takes the mean over the response's tokens.
        weights: `(row, token)` of the host's reduction; None: the objective's own measure.
        counts: of the whole batch, for the objective's own measure.
        importance: `(row, token)` weights that multiply the drive; a unit of responses takes their geometric mean.

    Raises:
        ValueError: the objective compares pairs, or the batch lacks what a term needs.

    >>> import torch, geomalign as ga
    >>> batch = ga.Batch(torch.zeros(3, 2, requires_grad=True), torch.zeros(3, 2))
    >>> evaluate(ga.recipes.ppo(), batch, torch.tensor([1.0, -1.0, 0.5])).drive
    tensor([[ 1.0000,  1.0000],
            [-1.0000, -1.0000],
            [ 0.5000,  0.5000]])
    """
    if objective.paired:
        raise ValueError(
            "this objective compares pairs, but the host samples single responses: choose a recipe for rewards, such "
            "as opo, or a trainer of preferences."
        )
    support = batch.support
    per_token = advantages if advantages.ndim == 2 else advantages[:, None].expand(support.shape)
    # A host's estimator makes NaN of a reward that is not finite: such a row has no drive, and the others keep theirs.
    per_token = torch.where(support, per_token, 0)
    per_token = torch.where(torch.isfinite(per_token).all(-1, keepdim=True), per_token, 0)
    count = support.sum(-1).clamp(min=1)
    per_response = per_token.sum(-1) / count
    if importance is not None:
        per_token = per_token * importance
        per_response = per_response * torch.exp(torch.where(support, torch.log(importance), 0).sum(-1) / count)
    terms, drives = [], []
    several = len({term.sampling for term in objective.driven_terms}) > 1
    for coefficient, term in objective.terms:
        advantage = per_token if term.unit.per_token else per_response
        driven = term.sampling.driven
        drives.append(_in_place_of(term.sampling, advantage, batch, several) if driven else term.drive(batch))
        measure = term.measure if weights is None else HostWeights(weights)
        terms.append((coefficient, dataclasses.replace(term, measure=measure)))
    return WeightedSum(tuple(terms))(batch, TermDrives(drives), counts)


def _in_place_of(sampling: SamplingGeometry, advantages: Tensor, batch: Batch, several: bool) -> Tensor:
    """The host's drive with what needs rows and no groups: engine weights, and by sign where terms share a drive."""
    engine = (TruncatedImportance, MaskedImportance, EffectiveImportance, SecondMomentMask)
    kept = (*engine, SignWeighted) if several else engine
    if not isinstance(sampling, kept):
        return advantages

    def weighed(of: SamplingGeometry) -> SamplingGeometry:
        return dataclasses.replace(of, of=weighed(of.of)) if isinstance(of, kept) else Advantage()

    return weighed(sampling).drive(dataclasses.replace(batch, advantage=advantages))
