"""What the cases of several libraries share: verdicts, known deviations that recur, objectives that are no recipe."""

from __future__ import annotations

import dataclasses

from torch import Tensor

from geomalign import recipes
from geomalign.batch import Batch, PreferenceBatch
from geomalign.chart import LogRatio, Ratio
from geomalign.laws.comparison import Verdict
from geomalign.measure import NestedMean, PooledMean
from geomalign.objective import BaseObjective, Objective, Surrogate
from geomalign.optimization import ChiSquare, Clip, ImportanceWeighted, Logistic, OptimizationGeometry, ReverseKL
from geomalign.sampling import (
    Advantage,
    GroupAdvantage,
    ImportanceRatio,
    Label,
    SamplingGeometry,
    TruncatedImportance,
)
from geomalign.sampling.base import Transformed
from geomalign.unit import Pair, Sequence, Token
from tests.parity.implementations.verl import columns

CONSTANT, PROPORTIONAL, DIFFERENT, REFUSED = Verdict.CONSTANT, Verdict.PROPORTIONAL, Verdict.DIFFERENT, Verdict.REFUSED
KnownDeviations = dict[str, tuple[Verdict, str]]

ROWS: KnownDeviations = {
    "empty": (
        PROPORTIONAL,
        "divides by all rows; a row without a token counts. Ours divides by the responses that exist.",
    )
}
RESPONSES: KnownDeviations = {
    "empty": (
        PROPORTIONAL,
        "counts a response without a token, as one with Δ = 0. Ours divides by the responses that exist.",
    )
}
PAIRS = "trains the other response of a pair that has lost one, and counts the pair. Ours leaves such a pair out."
HALF_PAIR: KnownDeviations = {"empty": (DIFFERENT, PAIRS)}
CLAMP = (
    "clamps Δ of a token to ±20 nats before the exponential, so that a token beyond has another value and no "
    "gradient at all."
)
CLAMPED: KnownDeviations = {"far": (DIFFERENT, CLAMP)}
LOST: KnownDeviations = {"empty": (PROPORTIONAL, "counts a pair that has lost a response.")}
SEQUENCE = {"importance_sampling_level": "sequence"}


def truncated(objective: BaseObjective) -> Objective:
    """GRPO with the weight min(π_old/π_rollout, 2) of an engine whose probabilities differ from the trainer's."""
    assert isinstance(objective, Objective)
    return dataclasses.replace(objective, sampling=TruncatedImportance(objective.sampling, cap=2.0))


def corrected_kl_penalty() -> Objective:
    """E_π[k3] estimated under the old policy: the weight π/π_old with its gradient."""
    return Objective(
        unit=Token(),
        chart=LogRatio(),
        sampling=ImportanceRatio(),
        optimization=ImportanceWeighted(ReverseKL()),
        measure=NestedMean(),
        anchor="reference",
    )


def response_clip() -> Objective:
    return Objective(
        unit=Sequence(),
        chart=Ratio(),
        sampling=GroupAdvantage(baseline="leave_one_out"),
        optimization=Clip(0.2, 0.2),
        offset=Surrogate(),
    )


def cpo_margin() -> Objective:
    return Objective(unit=Pair(), chart=LogRatio(), sampling=Label(0.1), optimization=Logistic(0.1), anchor=None)


def chi_square(mu: float) -> Objective:
    return Objective(
        unit=Token(), chart=LogRatio(), sampling=Advantage(), optimization=ChiSquare(mu), measure=PooledMean()
    )


@dataclasses.dataclass(frozen=True)
class SeveralRewards(Transformed):
    """The drive of another geometry on the `columns` of the reward."""

    of: SamplingGeometry

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        assert isinstance(batch, Batch)
        return self.of.drive(dataclasses.replace(batch, rewards=columns(batch)))


def decoupled(weights: tuple[float, ...] | None = None) -> Objective:
    """GDPO of several rewards."""
    objective = recipes.gdpo(weights, over="tokens")
    return dataclasses.replace(objective, sampling=SeveralRewards(objective.sampling))


def k_kl_penalty(geometry: OptimizationGeometry, nested: bool = False) -> Objective:
    return Objective(
        unit=Token(),
        chart=LogRatio(),
        sampling=Label(0.0),
        optimization=geometry,
        measure=NestedMean() if nested else PooledMean(),
        anchor="reference",
    )
