"""A unit of the tokens that the environment wrote, beside those of the response."""

from __future__ import annotations

import dataclasses
from typing import Any

from geomalign._util.check import refuse
from geomalign.unit.base import Gathered, ResponseUnit
from geomalign.unit.response import Token

__all__ = ["Observation"]


@dataclasses.dataclass(frozen=True)
class Observation(Gathered, ResponseUnit):
    """The tokens of the environment as events, gathered as another unit gathers those of a response.

    A term of this unit sees the batch with `observation_mask` in the place of `mask`: its drive, weights and potential
    know of no other token. Beside it, other terms of the same sum see the response's tokens alone.

    The measure divides by the counts of the *responses*, which are those that processes exchange: under `NestedMean` a
    row counts the same and its observation tokens share it; under `PooledMean` and `FixedBudget` an observation token
    weighs as much as a token of a response.

    Args:
        of: the unit whose events are made of these tokens: `Token()`, `Sequence()`, `MeanSequence()`.

    Raises:
        ValueError: `of` is no unit of responses or their tokens; at evaluation, a batch without `observation_mask`, or
            one that holds sums over responses.

    >>> import torch, geomalign as ga
    >>> mask = torch.tensor([[1, 1, 0, 0]])
    >>> batch = ga.Batch(torch.tensor([[-1.0, -1.0, -2.0, -4.0]]), mask=mask, observation_mask=1 - mask)
    >>> action, observation = (term for _, term in ga.recipes.echo().terms)
    >>> observation.unit, observation(batch).loss  # −log π of a token, a mean over the two that the environment wrote
    (Observation(of=Token()), tensor(3.))
    """

    of: ResponseUnit = Token()
    needs_tokens = True
    observes = True

    def __post_init__(self) -> None:
        if not isinstance(self.of, ResponseUnit) or self.of.observes:
            refuse(self, "a unit of responses or of their tokens, such as Token().", of=self.of)

    @property
    def per_token(self) -> bool:  # type: ignore[override]
        return self.of.per_token

    def view(self, batch: Any) -> Any:
        return dataclasses.replace(batch, mask=batch.observed, observation_mask=None)

    def latex(self, anchor: str | None) -> str:
        return self.of.latex(anchor).replace("y_", "o_", 1)
