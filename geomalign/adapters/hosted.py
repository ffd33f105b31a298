"""What the adapters of trainers with a loss of their own share: their advantages as drive, their reduction as measure.

These trainers normalise rewards where groups are whole and hand the loss one advantage a token; they reduce token
losses in their own way. Here the advantage is the drive, and any linear reduction is a set of weights.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from geomalign import recipes
from geomalign.batch import Batch, Total
from geomalign.measure import Measure
from geomalign.metrics import metrics
from geomalign.objective import BaseObjective, Combination, Drives, Objective, Outcome
from geomalign.trust_region import Controlled

__all__ = ["HostWeights", "evaluate", "found", "objective_of", "weights_of"]


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


def evaluate(
    objective: BaseObjective,
    batch: Batch,
    advantages: Tensor,
    weights: Tensor | None = None,
    total: Total | None = None,
) -> Outcome:
    """An objective on a host's batch, with the host's advantages in the place of its sampling geometries.

    Args:
        objective: of single responses.
        batch: of tokens.
        advantages: `(row, token)` or `(row,)`; a unit of responses takes the mean over the response's tokens.
        weights: `(row, token)` of the host's reduction; None: the objective's own measure.
        total: of the whole batch, for the objective's own measure.
    """
    if isinstance(objective, Controlled):
        raise ValueError("a Controlled objective sets its stiffness through the drive, which here is the host's.")
    terms = objective.terms
    if any(term.unit.paired for _, term in terms):
        raise ValueError("this objective compares pairs, but the host samples single responses.")
    support = batch.support
    per_token = advantages if advantages.ndim == 2 else advantages[:, None].expand(support.shape)
    per_token = torch.where(support, per_token, 0)
    per_response = per_token.sum(-1) / support.sum(-1).clamp(min=1)
    drives = []
    for _, term in terms:
        fixed = term.sampling.range.low == term.sampling.range.high
        host = per_token if term.unit.per_token else per_response
        drives.append(term.drive(batch) if fixed else host)
    if weights is not None:
        measure = HostWeights(weights)
        terms = tuple((c, dataclasses.replace(term, measure=measure)) for c, term in terms)
    if isinstance(objective, Objective):
        return terms[0][1](batch, drives[0], total)
    return Combination(terms)(batch, Drives(drives), total)


def found(outcome: Outcome) -> dict[str, Tensor]:
    """Our metrics for a host's log, under `geom/`: 0-dim tensors."""
    return {f"geom/{name}": value for name, value in metrics(outcome).items() if name != "loss"}


@functools.lru_cache(maxsize=64)
def objective_of(description: str, hyperparameters: tuple[tuple[str, Any], ...] = ()) -> BaseObjective:
    """A recipe from one line of a configuration, kept for the next call.

    >>> objective_of("opo alpha=0.5 mu=2").sampling
    Escort(alpha=0.5, temperature=1.0, scaled=False, inverse_probability=False)

    Raises:
        ValueError: no recipe of this name, or a word that is not `name=value`.
    """
    name, *words = description.split()
    settings = dict(hyperparameters)
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise ValueError(f"{word!r} in {description!r} is not name=value, as in 'opo alpha=0.4 mu=1'.")
        settings[key] = _value(value)
    return recipes.get(name, **settings)


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
