"""Stiffness from a measured divergence."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from geomalign._util.check import positive, within
from geomalign.control.base import Controller, across_processes
from geomalign.divergences import Divergence, KullbackLeibler
from geomalign.objective import BaseObjective, Outcome

__all__ = ["AdaptiveStiffness"]


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
        total, count = across_processes(self._sum).unbind()
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
