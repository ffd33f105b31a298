"""Controllers: the stiffness of a run, from a schedule or from what was measured."""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from geomalign.batch import Batch, PreferenceBatch, Total
from geomalign.divergences import Divergence, KullbackLeibler
from geomalign.objective import BaseObjective, Drives, Objective, Outcome, PairLaw
from geomalign.trust_region.region import Reduce
from geomalign.trust_region.schedule import Schedule


class Controller(ABC):
    """Sets the stiffness μ of a run from what it sees; the only objects here that remember anything.

    Equality and `repr` are those of the hyper-parameters, as for every other part; the memory is in `state_dict()`.
    """

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))

    @property
    @abstractmethod
    def stiffness(self) -> Tensor:
        """μ for the coming rollout, a positive 0-dim tensor."""

    @abstractmethod
    def observe(self, outcome: Outcome) -> None:
        """Take note of one evaluation (of a micro-batch: they add up)."""

    @abstractmethod
    def advance(self) -> None:
        """A rollout has ended and another begins. Without observations since the last call nothing changes."""

    @abstractmethod
    def readings(self) -> dict[str, Tensor]:
        """What a log shows, 0-dim tensors."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Everything a run needs to continue exactly, for a checkpoint."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint."""


class Annealed(Controller):
    """μ from a schedule, over a number of rollouts; constant after them.

    Args:
        schedule: of positive values.
        rollouts: how many the schedule spans, at least 1.
    """

    def __init__(self, schedule: Schedule, rollouts: int):
        if rollouts < 1 or not (schedule(0.0) > 0 and schedule(1.0) > 0):
            raise ValueError(f"Annealed({schedule!r}, {rollouts}): positive stiffness over at least one rollout.")
        self.schedule, self.rollouts = schedule, rollouts
        self._done, self._seen = 0, False

    def __repr__(self) -> str:
        return f"Annealed({self.schedule!r}, {self.rollouts})"

    @property
    def stiffness(self) -> Tensor:
        last = max(self.rollouts - 1, 1)
        return torch.tensor(self.schedule(min(self._done / last, 1.0)), dtype=torch.float64)

    def observe(self, outcome: Outcome) -> None:
        self._seen = True

    def advance(self) -> None:
        self._done, self._seen = self._done + self._seen, False

    def readings(self) -> dict[str, Tensor]:
        return {"stiffness": self.stiffness}

    def state_dict(self) -> dict[str, Any]:
        return {"done": self._done, "seen": self._seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._done, self._seen = int(state["done"]), bool(state["seen"])


class DualAscent(Controller):
    r"""Keeps a measured divergence at its target by ascent on the multiplier of the constraint.

    .. math:: \log\mu \leftarrow \log\mu + \mathrm{rate}\cdot
              \mathrm{clip}\!\left(\frac{\hat D}{\varepsilon} - 1,\ -1,\ 1\right)

    D̂ is the mean of ψ(e^Δ) over all events that a gradient was computed on since the last rollout: of the policy in
    training against the anchor, at the objective's unit, the first update (where it is 0) included. With one update a
    rollout there is nothing to measure, and μ falls to its lower bound. Of pairs both responses count, as two samples
    of the anchor. The clip makes one rollout change μ by at most a factor e^{rate}.

    Args:
        target: ε of D̂, positive.
        divergence: ψ.
        rate: step of log μ a rollout, positive.
        initial: μ to begin with.
        low, high: bounds of μ.
        reduce: sums a tensor over processes, `distributed.summed`; one call a rollout and one for `readings`, on every
            rank. None: one process.
    """

    def __init__(
        self,
        target: float,
        divergence: Divergence = KullbackLeibler(),  # noqa: B008 (frozen)
        *,
        rate: float = 0.2,
        initial: float = 1.0,
        low: float = 1e-4,
        high: float = 1e4,
        reduce: Reduce | None = None,
    ):
        for name, value in (("target", target), ("rate", rate), ("low", low)):
            if not value > 0:
                raise ValueError(f"DualAscent({name}={value!r}): positive.")
        if not low <= initial <= high:
            raise ValueError(f"DualAscent(initial={initial!r}): between low={low:g} and high={high:g}.")
        self.target, self.divergence, self.rate, self.initial, self.low, self.high = (
            target,
            divergence,
            rate,
            initial,
            low,
            high,
        )
        self._reduce = reduce or (lambda x: x)
        self._log_mu = torch.tensor(math.log(initial), dtype=torch.float64)
        self._sum = torch.zeros(2, dtype=torch.float64)
        self._measured = torch.tensor(math.nan, dtype=torch.float64)

    def __repr__(self) -> str:
        given = f"{self.target!r}, {self.divergence!r}, rate={self.rate!r}, initial={self.initial!r}"
        return f"DualAscent({given}, low={self.low!r}, high={self.high!r})"

    @property
    def stiffness(self) -> Tensor:
        return self._log_mu.exp()

    def observe(self, outcome: Outcome) -> None:
        with torch.no_grad():
            log_ratio = outcome.log_ratio.detach()
            support = outcome.support
            if outcome.objective.anchor is None:
                raise ValueError(
                    "DualAscent measures how far the policy is from an anchor; this objective reads log π itself "
                    "(anchor=None), which is no distance."
                )
            if outcome.objective.unit.paired:
                support = torch.cat([support, support])
            value = torch.where(support, self.divergence.penalty(torch.where(support, log_ratio, 0)), 0)
            seen = torch.stack([value.double().sum(), support.sum().double()])
            self._sum = self._sum.to(seen.device) + seen

    def advance(self) -> None:
        total, count = self._reduce(self._sum).unbind()
        measured = total / count.clamp(min=1)
        step = self.rate * (measured / self.target - 1.0).clamp(-1.0, 1.0)
        log_mu = self._log_mu.to(step.device)
        moved = (log_mu + step).clamp(math.log(self.low), math.log(self.high))
        self._log_mu = torch.where(count > 0, moved, log_mu)
        self._measured = torch.where(count > 0, measured, self._measured.to(step.device))
        self._sum = torch.zeros_like(self._sum)

    def readings(self) -> dict[str, Tensor]:
        """`divergence`: D̂ since the last rollout began; `held`: D̂/target; `stiffness`: the μ it was run with."""
        total, count = self._reduce(self._sum).unbind()
        now = torch.where(count > 0, total / count.clamp(min=1), self._measured.to(total.device))
        return {"divergence": now, "held": now / self.target, "stiffness": self.stiffness}

    def state_dict(self) -> dict[str, Any]:
        return {"log_mu": self._log_mu.cpu(), "sum": self._sum.cpu(), "measured": self._measured.cpu()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._log_mu, self._sum, self._measured = state["log_mu"], state["sum"], state["measured"]


@dataclasses.dataclass(frozen=True)
class Controlled(BaseObjective):
    """An objective whose stiffness a controller sets: φ(u) − (g/μ)·u, which is 1/μ times μφ(u) − g·u.

    The potential counts from the anchor: where its mirror there is not zero, g is measured from that,
    g → φ'(u₀) + (g − φ'(u₀))/μ. Of DPO's link it makes μ a smoothing of the label, whose probability becomes
    (1 + 1/μ)/2: the loss has a minimum for μ > 1 alone, so take `DualAscent(…, low=1.0)`.

    `drive(batch)` begins a rollout: the controller takes in what it saw in the last one, and the drive is divided by
    its μ. Evaluations with gradient are shown to the controller; those without (metrics, laws) are not. Everything
    else is the objective's own, so it trains, composes and reports as any other. Save `controller.state_dict()` with
    the run.

    Args:
        of: the objective, at stiffness 1.
        controller: its state belongs to one run: give every run its own.
    """

    of: BaseObjective
    controller: Controller

    @property
    def terms(self) -> tuple[tuple[float, Objective], ...]:
        return self.of.terms

    def _summands(self) -> tuple[tuple[float, Objective], ...]:
        raise ValueError(
            "Controlled is no term of a sum, whose parts know no controller: use Controlled(a + b, controller)."
        )

    def _stiffened(self, drive: Tensor | Drives) -> Tensor | Drives:
        mu = self.controller.stiffness
        terms = [term for _, term in self.of.terms]
        if isinstance(drive, Drives):
            return Drives(_stiffened(g, mu.to(g), term) for g, term in zip(drive, terms, strict=True))
        return _stiffened(drive, mu.to(drive), terms[0])

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor | Drives:
        self.controller.advance()
        return self._stiffened(self.of.drive(batch))

    def __call__(
        self, batch: Batch | PreferenceBatch, drive: Tensor | Drives | None = None, total: Total | None = None
    ) -> Outcome:
        outcome = self.of(batch, self._stiffened(self.of.drive(batch)) if drive is None else drive, total)
        if outcome.loss.requires_grad:
            self.controller.observe(outcome)
        return outcome

    def law(
        self, batch: Batch | PreferenceBatch, drive: Tensor | Drives | None = None, total: Total | None = None
    ) -> Tensor | PairLaw:
        return self.of.law(batch, self._stiffened(self.of.drive(batch)) if drive is None else drive, total)

    def latex(self) -> str:
        return rf"{self.of.latex()},\quad g\to g/\mu"


def _stiffened(drive: Tensor, mu: Tensor, term: Objective) -> Tensor:
    """φ'(u₀) + (g − φ'(u₀))/μ, u₀ the coordinate of an event whose policy is its anchor."""
    if term.anchor is None:
        return drive / mu
    u = term.unit.combine(term.chart(drive.new_zeros(2 if term.unit.paired else 1)))
    rest = term.optimization.mirror(u.expand(drive.shape), drive)
    return rest + (drive - rest) / mu
