"""What the adapters of trainers with a loss of their own share: their advantages as drive, their reduction as measure.

These trainers normalise rewards where groups are whole and hand the loss one advantage a token; they reduce token
losses in their own way. Here the advantage is the drive, and any linear reduction is a set of weights.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from geomalign import recipes
from geomalign.batch import Batch, Counts
from geomalign.measure import Measure
from geomalign.objective import BaseObjective, Objective, Outcome, TermDrives, WeightedSum, metrics
from geomalign.sampling import Advantage, SamplingGeometry, TruncatedImportance

__all__ = ["HostWeights", "clip_fraction", "drive_of", "evaluate", "found", "objective_of", "weights_of"]

_NOT_ADDED = ("_min", "_max", "/stiffness", "/gap")


@dataclasses.dataclass(frozen=True, eq=False)
class HostWeights(Measure):
    """A host's own reduction. An event that is a whole response carries the weights of all its tokens.

    Args:
        of_tokens: `(row, token)`, what the host multiplies a token's loss with.
    """

    of_tokens: Tensor

    def weights(self, support: Tensor, events: Tensor, rows: Tensor) -> Tensor:
        return torch.where(support, self.of_tokens if support.ndim == 2 else self.of_tokens.sum(-1), 0)

    def latex(self, tokens: bool) -> str:
        return r"\sum_i\sum_t w_{i,t}" if tokens else r"\sum_i w_i"


def weights_of(reduce: Callable[[Tensor], Tensor], support: Tensor, dtype: torch.dtype) -> Tensor:
    """The weights of a linear reduction `(row, token)` → scalar: its gradient."""
    with torch.enable_grad():
        losses = torch.zeros(support.shape, dtype=dtype, device=support.device, requires_grad=True)
        return torch.autograd.grad(reduce(losses), losses)[0]


def drive_of(objective: BaseObjective, batch: Batch) -> Tensor:
    """The one drive that a host can pass on as its advantages, `(row,)` or `(row, token)`; zero where nothing pulls.

    Raises:
        ValueError: the terms have different drives.
    """
    driven = objective.driven_terms
    if len({term.sampling for term in driven}) > 1:
        raise ValueError("the terms of this objective have different drives, and the host passes one.")
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
    """
    terms = objective.terms
    if objective.paired:
        raise ValueError("this objective compares pairs, but the host samples single responses.")
    support = batch.support
    per_token = advantages if advantages.ndim == 2 else advantages[:, None].expand(support.shape)
    per_token = torch.where(support, per_token, 0)
    count = support.sum(-1).clamp(min=1)
    per_response = per_token.sum(-1) / count
    if importance is not None:
        per_token = per_token * importance
        per_response = per_response * torch.exp(torch.where(support, torch.log(importance), 0).sum(-1) / count)
    driven = objective.driven_terms
    drives = [
        _in_place_of(term.sampling, per_token if term.unit.per_token else per_response, batch)
        if term in driven
        else term.drive(batch)
        for _, term in terms
    ]
    if weights is not None:
        measure = HostWeights(weights)
        terms = tuple((c, dataclasses.replace(term, measure=measure)) for c, term in terms)
    if isinstance(objective, Objective):
        return terms[0][1](batch, drives[0], counts)
    return WeightedSum(terms)(batch, TermDrives(drives), counts)


def _in_place_of(sampling: SamplingGeometry, advantages: Tensor, batch: Batch) -> Tensor:
    """The host's drive, weighed for the rollout engine where the objective says so: that needs rows and no groups."""
    if isinstance(sampling, TruncatedImportance):
        weighed = dataclasses.replace(sampling, of=Advantage())
        return weighed.drive(dataclasses.replace(batch, advantage=advantages))
    return advantages


def found(outcome: Outcome, share: Tensor | None = None) -> dict[str, Tensor]:
    """Our metrics for a host's log, under `geom/`: 0-dim tensors.

    Args:
        outcome: of a micro-batch.
        share: for hosts that add up what micro-batches report: what a mean is multiplied with. Left out is then what
            does not add up: extremes, and what need not be finite.
    """
    seen = {f"geom/{name}": value for name, value in metrics(outcome).items() if name != "loss"}
    if share is None:
        return seen
    return {name: value * share for name, value in seen.items() if not name.endswith(_NOT_ADDED)}


def clip_fraction(found: dict[str, Tensor]) -> Tensor:
    """The share of events with a drive and no force, of the objective or of the first term of a sum."""
    return found.get("geom/clip_fraction", found.get("geom/term1/clip_fraction", torch.zeros(())))


@functools.lru_cache(maxsize=64)
def objective_of(description: str, hyperparameters: tuple[tuple[str, Any], ...] = ()) -> BaseObjective:
    """`recipes.get`, kept for the next call: a host asks at every step.

    >>> objective_of("opo alpha=0.5 mu=2").sampling
    Escort(alpha=0.5, temperature=1.0, scaled=False, inverse_probability=False)

    Args:
        description: a recipe or `module:attribute`, with options behind it.
        hyperparameters: further options, hashable.

    Raises:
        ValueError: as `recipes.get`.
    """
    return recipes.get(description, **dict(hyperparameters))
