"""Controllers set the stiffness of a run, from a schedule or from what was measured, as torch's schedulers set a rate.

An objective is pure; a controller remembers, and stands outside of it. The training loop asks the controller for the
drive of a rollout and shows it every evaluation that a gradient is computed on:

```python
controller = ga.AdaptiveStiffness(target=0.02)
for rollout in rollouts:
    drive = controller.stiffen(objective, objective.drive(rollout))
    for rows in minibatches:
        outcome = objective(score(rows), drive[rows], counts)
        controller.observe(outcome)
        outcome.loss.backward()
        ...
    controller.step()
```
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, overload

import torch
from torch import Tensor

from geomalign import distributed
from geomalign._util.check import check, integer, positive, within
from geomalign._util.words import literal
from geomalign.divergences import Divergence, KullbackLeibler, PearsonChiSquare
from geomalign.objective import BaseObjective, Objective, Outcome, TermDrives

__all__ = ["AdaptiveStiffness", "Annealed", "Controller", "Geometric", "controller_of"]


class Controller(ABC):
    """Sets the stiffness μ of a run, the factor by which potentials are multiplied, from one rollout to the next.

    Controllers are the only objects here that remember anything, so give every run its own. Equality and `repr` are
    those of the hyper-parameters; the memory is in `state_dict()`.

    >>> import torch, geomalign as ga
    >>> objective, controller = ga.recipes.opo(), ga.AdaptiveStiffness(target=0.02, initial=4.0)
    >>> batch = ga.Batch(torch.zeros(2, 3), torch.zeros(2, 3), reward=torch.tensor([1.0, 0.0]))
    >>> drive = objective.drive(batch)
    >>> bool((controller.stiffen(objective, drive) == drive / 4).all())
    True
    """

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))

    @property
    @abstractmethod
    def stiffness(self) -> Tensor:
        """μ of the coming rollout, a positive 0-dim tensor."""

    def check(self, objective: BaseObjective) -> None:  # noqa: B027 (a schedule measures nothing)
        """Raise a ValueError where the controller cannot measure this objective; by default it can."""

    @abstractmethod
    def observe(self, outcome: Outcome) -> None:
        """Take note of one evaluation that a gradient is computed on. Those of micro-batches and processes add up."""

    @abstractmethod
    def step(self) -> None:
        """End a rollout. Where no process has observed anything since the last call, nothing changes.

        Over several processes this is a collective call, which every process makes: also one that had no rows.
        """

    @abstractmethod
    def readings(self) -> dict[str, Tensor]:
        """What a log shows of the last rollout, 0-dim tensors, without communication."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Everything that a run needs to continue exactly, for a checkpoint."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint."""

    @overload
    def stiffen(self, objective: BaseObjective, drive: Tensor) -> Tensor: ...
    @overload
    def stiffen(self, objective: BaseObjective, drive: TermDrives) -> TermDrives: ...
    @overload
    def stiffen(self, objective: BaseObjective, drive: Tensor | TermDrives) -> Tensor | TermDrives: ...
    def stiffen(self, objective: BaseObjective, drive: Tensor | TermDrives) -> Tensor | TermDrives:
        """The drive g/μ, under which the objective acts as if its potential were μ times as stiff.

        φ(u) − (g/μ)·u is 1/μ times μφ(u) − g·u, so the learning rate keeps its meaning. Where the potential has a slope
        φ'(u₀) at the anchor (DPO's link), only the part of the drive in excess of it is divided:
        g → φ'(u₀) + (g − φ'(u₀))/μ. For DPO μ is then a smoothing of the label, whose probability becomes (1 + 1/μ)/2:
        the loss has a minimum for μ > 1 alone, so take `AdaptiveStiffness(…, low=1.0)`.

        Args:
            objective: that the drive is of.
            drive: `objective.drive(rollout)`, or one tensor of your own.

        Returns:
            A drive of the same kind and shapes.
        """
        mu = self.stiffness
        terms = tuple(term for _, term in objective.terms)
        if isinstance(drive, TermDrives):
            return TermDrives(_stiffened(g, mu.to(g), term) for g, term in zip(drive, terms, strict=True))
        # One tensor for a sum is the drive of the terms that samples drive.
        return _stiffened(drive, mu.to(drive), (objective.driven_terms or terms)[0])


class Annealed(Controller):
    """μ from a schedule over a number of rollouts, constant after them.

    Args:
        schedule: any function of the progress, 0 at the first and 1 at the last rollout, to a positive μ, such as
            `Geometric(1.0, 10.0)` or `lambda progress: 1 + 9 * progress`.
        rollouts: how many the schedule spans, at least 1.

    Raises:
        ValueError: there is no rollout, or μ is not positive at the first or the last.

    >>> float(Annealed(Geometric(1.0, 100.0), rollouts=3).stiffness)
    1.0
    """

    def __init__(self, schedule: Callable[[float], float], rollouts: int):
        integer("Annealed", 1, "the number of rollouts that the schedule spans", rollouts=rollouts)
        for name, progress in (("first", 0.0), ("last", 1.0)):
            positive(
                "Annealed", f"the stiffness of the {name} rollout", **{f"schedule({progress:g})": schedule(progress)}
            )
        self.schedule, self.rollouts = schedule, rollouts
        self._done, self._seen, self._used = 0, False, schedule(0.0)

    def __repr__(self) -> str:
        return f"Annealed({self.schedule!r}, {self.rollouts})"

    @property
    def stiffness(self) -> Tensor:
        last = max(self.rollouts - 1, 1)
        return torch.tensor(self.schedule(min(self._done / last, 1.0)), dtype=torch.float64)

    def observe(self, outcome: Outcome) -> None:
        self._seen = True

    def step(self) -> None:
        if _summed(torch.tensor(float(self._seen))) > 0:
            self._used, self._done = float(self.stiffness), self._done + 1
        self._seen = False

    def readings(self) -> dict[str, Tensor]:
        """`stiffness`: the μ of the last rollout, or of the coming one before there was any."""
        return {"stiffness": torch.tensor(self._used, dtype=torch.float64)}

    def state_dict(self) -> dict[str, Any]:
        return {"done": self._done, "seen": self._seen, "used": self._used}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._done, self._seen, self._used = int(state["done"]), bool(state["seen"]), float(state["used"])


@dataclasses.dataclass(frozen=True)
class Geometric:
    """The schedule start·(stop/start)^progress, which moves by equal factors.

    Args:
        start: the value at progress 0, positive.
        stop: the value at progress 1, positive.

    Raises:
        ValueError: an end is not positive.

    >>> Geometric(1.0, 100.0)(0.5)
    10.0
    """

    start: float
    stop: float

    def __post_init__(self) -> None:
        positive(self, start=self.start, stop=self.stop)

    def __call__(self, progress: float) -> float:
        return float(self.start * (self.stop / self.start) ** progress)


class AdaptiveStiffness(Controller):
    """Keeps a measured divergence D̂ at a target ε, by dual ascent on the multiplier of that constraint.

    log μ ← log μ + rate · clip(D̂/ε − 1, −1, 1)

    D̂ is the mean of ψ(e^Δ) over all events that were observed in a rollout: of the policy in training against the
    anchor of the objective's first term, at that term's unit, the first step (where it is 0) included. With one
    step per rollout there is nothing to measure, and μ falls to its lower bound. Both responses of a pair count, as
    two samples of the anchor. The clip makes one rollout change μ by at most a factor e^rate. Over several processes
    the events of all of them are averaged.

    Args:
        target: ε of D̂, positive; in nats where the divergence is a KL.
        divergence: with generator ψ.
        rate: step of log μ per rollout, positive.
        initial: μ of the first rollout, in [low, high].
        low: lower bound of μ, positive.
        high: upper bound of μ.

    Raises:
        ValueError: an argument is out of its range, or an observed objective measures from no policy.

    Source: the adaptive KL penalty of PPO, Schulman et al. 2017 (arXiv 1707.06347) §4, which changes its coefficient
        by factors of 2; here by dual ascent.

    >>> import torch, geomalign as ga
    >>> objective, controller = ga.recipes.opo(), ga.AdaptiveStiffness(target=0.02)
    >>> batch = ga.Batch(torch.full((2, 3), 0.5), torch.zeros(2, 3), reward=torch.tensor([1.0, 0.0]))
    >>> controller.observe(objective(batch))
    >>> controller.step()
    >>> round(float(controller.stiffness), 4)  # far above the target, so by the whole factor e^0.2
    1.2214
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
    ):
        positive("AdaptiveStiffness", target=target, rate=rate, low=low)
        within("AdaptiveStiffness", low, high, "between `low` and `high`", initial=initial)
        self.target, self.divergence, self.rate = target, divergence, rate
        self.initial, self.low, self.high = initial, low, high
        self._log_mu = torch.tensor(math.log(initial), dtype=torch.float64)
        self._used = self._log_mu
        self._sum = torch.zeros(2, dtype=torch.float64)
        self._measured = torch.tensor(math.nan, dtype=torch.float64)

    def __repr__(self) -> str:
        given = f"{self.target!r}, {self.divergence!r}, rate={self.rate!r}, initial={self.initial!r}"
        return f"AdaptiveStiffness({given}, low={self.low!r}, high={self.high!r})"

    @property
    def stiffness(self) -> Tensor:
        return self._log_mu.exp()

    def check(self, objective: BaseObjective) -> None:
        if objective.terms[0][1].anchor is None:
            raise ValueError(
                "AdaptiveStiffness measures how far the policy is from an anchor; this objective reads log π itself "
                "(anchor=None), which is no distance. Use Annealed(…), or an objective with an anchor."
            )

    def observe(self, outcome: Outcome) -> None:
        term = outcome.terms[0]
        self.check(term.objective)
        with torch.no_grad():
            support = torch.cat([term.support, term.support]) if term.objective.unit.paired else term.support
            log_ratio = torch.where(support, term.log_ratio.detach(), 0)
            value = torch.where(support, self.divergence.penalty(log_ratio), 0)
            seen = torch.stack([value.double().sum(), support.sum().double()])
            self._sum = self._sum.to(seen.device) + seen

    def step(self) -> None:
        total, count = _summed(self._sum).unbind()
        measured = total / count.clamp(min=1)
        change = self.rate * (measured / self.target - 1.0).clamp(-1.0, 1.0)
        log_mu = self._log_mu.to(change.device)
        moved = (log_mu + change).clamp(math.log(self.low), math.log(self.high))
        self._used = torch.where(count > 0, log_mu, self._used.to(change.device))
        self._log_mu = torch.where(count > 0, moved, log_mu)
        self._measured = torch.where(count > 0, measured, self._measured.to(change.device))
        self._sum = torch.zeros_like(self._sum)

    def readings(self) -> dict[str, Tensor]:
        """`divergence`: D̂ of the last rollout, NaN before there was any; `over_target`: D̂/ε; `stiffness`: its μ."""
        return {
            "divergence": self._measured,
            "over_target": self._measured / self.target,
            "stiffness": self._used.exp(),
        }

    def state_dict(self) -> dict[str, Any]:
        names = ("log_mu", "used", "sum", "measured")
        return {name: getattr(self, f"_{name}").cpu() for name in names}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name in ("log_mu", "used", "sum", "measured"):
            setattr(self, f"_{name}", state[name])


_DIVERGENCES: dict[str, Divergence] = {"kl": KullbackLeibler(), "chi2": PearsonChiSquare()}
_OPTIONS = dict.fromkeys(_DIVERGENCES, ("rate", "initial", "low", "high")) | {"anneal": ("rollouts",)}


def controller_of(description: str) -> Controller:
    """The controller that a text describes, for the command line and configuration files.

    Args:
        description: `"kl=0.02"` or `"chi2=0.05"`, an `AdaptiveStiffness` of that target, with `rate`, `initial`, `low`
            and `high` as further words; or `"anneal=1:10 rollouts=100"`, an `Annealed` of the geometric schedule from 1
            to 10.

    Raises:
        ValueError: a word is not key=value, a key is unknown, or a value is out of its range.

    >>> controller_of("kl=0.02 initial=2")
    AdaptiveStiffness(0.02, KullbackLeibler(), rate=0.2, initial=2, low=0.0001, high=10000.0)
    >>> controller_of("anneal=1:10 rollouts=100")
    Annealed(Geometric(start=1.0, stop=10.0), 100)
    """
    form = '"kl=0.02", "chi2=0.05 rate=0.1" or "anneal=1:10 rollouts=100"'
    at = f"control {description!r}: "
    given: dict[str, Any] = {}
    for word in description.split():
        key, equals, value = word.partition("=")
        check(bool(equals), f"{at}{word!r} is not key=value; write {form}.")
        given[key] = literal(value)
    kinds = [key for key in _OPTIONS if key in given]
    check(bool(given), f"{at}there is no word; write {form}.")
    check(bool(kinds), f"{at}{next(iter(given), '')!r} is no controller; there are kl, chi2 and anneal, as in {form}.")
    check(len(kinds) == 1, f"{at}{' and '.join(kinds)} are {len(kinds)} controllers, and a run has one; write {form}.")
    kind, options = kinds[0], _OPTIONS[kinds[0]]
    value = given.pop(kind)
    unknown = [key for key in given if key not in options]
    check(not unknown, f"{at}{', '.join(map(repr, unknown))} is no option of {kind}, which takes {', '.join(options)}.")
    try:
        if kind != "anneal":
            return AdaptiveStiffness(value, _DIVERGENCES[kind], **given)
        start, stop = _ends(str(value))
        check("rollouts" in given, f"anneal={value}: over how many rollouts, as in anneal={value} rollouts=100.")
        return Annealed(Geometric(start, stop), **given)
    except ValueError as error:
        raise ValueError(f"{at}{error}") from None


def _ends(text: str) -> tuple[float, float]:
    try:
        start, stop = map(float, text.split(":"))
    except ValueError:
        raise ValueError(f"anneal={text}: a start and an end, as in anneal=1:10.") from None
    return start, stop


def _summed(x: Tensor) -> Tensor:
    """The sum over processes. They exchange pickles: one without rows holds its zeros on another device."""
    if distributed.world_size() == 1:
        return x
    return torch.stack(distributed.everyone(x.cpu())).sum(0).to(x.device)


def _stiffened(drive: Tensor, mu: Tensor, term: Objective) -> Tensor:
    """φ'(u₀) + (g − φ'(u₀))/μ, with u₀ the coordinate of an event whose policy equals its anchor."""
    if term.anchor is None:
        return drive / mu
    u = term.unit.combine(term.chart(drive.new_zeros(2 if term.unit.paired else 1)))
    rest = term.optimization.mirror(u.expand(drive.shape), drive)
    return rest + (drive - rest) / mu
