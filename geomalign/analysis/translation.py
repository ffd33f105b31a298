"""What a number of one objective is in another: ε, β, τ and μ compared by what they do, not by their size."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from geomalign._util import numerics
from geomalign._util.check import one_of, positive, refuse, typed
from geomalign._util.types import Locality
from geomalign.batch import Batch, PreferenceBatch
from geomalign.objective import BaseObjective, Objective

__all__ = ["Invariants", "Reach", "Translation", "invariants", "reach", "translate"]

INVARIANTS = ("curvature", "radius", "clipped")


@dataclasses.dataclass(frozen=True)
class Invariants:
    """Three numbers that say how firmly an objective holds the policy, whatever it is written in.

    All are averages with the objective's own weights, unchanged where the loss is multiplied by a factor, and in
    nats of the average token of an event: a response that moves by x moves each of its tokens by x.

    Args:
        curvature: E[κ g²]/E[g²]^{3/2}, with the potential's curvature κ and the pull g at the anchor. Its inverse is
            how far the pull would carry an event if the potential stayed as curved as it is there; 0 of a clip.
        radius: E[(t* − 1)²], the χ² radius of the target: t* is the ratio at which potential and pull balance. Infinite
            where they never do.
        clipped: mean share of the pull that the potential has taken away where the policy is now, over the events that
            something pulls at. Of a clip it is the share of events beyond their wall.

    >>> Invariants(curvature=5.0, radius=0.04, clipped=0.0).radius
    0.04
    """

    curvature: float
    radius: float
    clipped: float


class Translation(NamedTuple):
    """A number, the objective that it makes, and what both objectives do.

    Args:
        setting: the number.
        objective: the objective with it.
        source: invariants of the objective that was translated.
        found: those of the objective that was found.

    >>> Translation._fields
    ('setting', 'objective', 'source', 'found')
    """

    setting: float
    objective: BaseObjective
    source: Invariants
    found: Invariants


def invariants(objective: BaseObjective, batch: Batch | PreferenceBatch) -> Invariants:
    """The three invariants of an objective on a batch.

    Args:
        objective: of one term (take one of `objective.terms` of a sum), with an anchor and a unit that is linear in the
            log-probabilities.
        batch: what it is evaluated on. Curvature and radius belong to its drives and lengths alone; the clipped share
            belongs to where its `policy` has moved.

    Raises:
        ValueError: the objective is a sum, has no anchor, or its events are not measured by one log-ratio each.

    >>> import torch, geomalign as ga
    >>> from geomalign import analysis
    >>> old = torch.full((2, 3), -1.0)
    >>> moved = old + torch.tensor([[0.3, 0.1, 0.0], [0.3, -0.3, -0.1]])
    >>> batch = ga.Batch(moved, old, advantage=torch.tensor([1.0, -1.0]))
    >>> found = analysis.invariants(ga.recipes.ppo(epsilon=0.2), batch)
    >>> round(found.curvature, 3), round(found.radius, 3), round(found.clipped, 3)  # two of six beyond their walls
    (0.0, 0.04, 0.333)
    """
    seen = _Seen(objective, batch)
    return Invariants(**{name: getattr(seen, name)() for name in INVARIANTS})


def translate(
    objective: BaseObjective,
    to: Callable[[float], BaseObjective],
    batch: Batch | PreferenceBatch,
    by: str = "radius",
    *,
    low: float = 1e-6,
    high: float = 1e4,
) -> Translation:
    """The number that makes another objective hold the policy as firmly as this one does, by one of the invariants.

    The three disagree where the objectives are of different kinds: compare `source` and `found`.

    Args:
        objective: with the number that is known.
        to: makes the other objective from its number, such as `lambda mu: recipes.opo(mu=mu)`.
        batch: as of `invariants`.
        by: "curvature", "radius" or "clipped".
        low, high: numbers between which the answer is searched, positive. Of several answers it is the smallest.

    Raises:
        ValueError: the objective's invariant is 0 or infinite (a clip has no curvature, DPO no finite target), no
            number between `low` and `high` has it, `to` is no function, or an end of the search is not positive.

    >>> import torch, geomalign as ga
    >>> from geomalign import analysis
    >>> pairs = ga.PreferenceBatch(*(torch.zeros(4, 3) for _ in range(4)))
    >>> ipo = lambda tau: ga.recipes.ipo(tau=tau, normalize="sum")
    >>> round(analysis.translate(ga.recipes.dpo(beta=0.1), ipo, pairs, by="curvature").setting, 6)  # τ = β/4
    0.025
    """
    from scipy.optimize import brentq

    one_of("translate", "by", by, INVARIANTS)
    positive("translate", "an end of the search", low=low, high=high)
    if not low < high:
        refuse("translate", "the ends of the search, low < high.", low=low, high=high)
    if not callable(to):
        refuse("translate", "a function of the number, such as `lambda mu: recipes.opo(mu=mu)`.", to=to)
    source = invariants(objective, batch)
    wanted = getattr(source, by)
    if not 0 < wanted < math.inf or (by == "clipped" and wanted == 1):
        raise ValueError(f"translate(by={by!r}): the objective's own is {wanted:g}. {_NO_INVARIANT[by]}")

    def excess(log_setting: float) -> float:
        """By how many nats the invariant is too large; NaN out of the range of the other objective's number."""
        try:
            found = getattr(_Seen(to(math.exp(log_setting)), batch), by)()
        except ValueError:
            return math.nan
        return max(min(math.log(found / wanted), 700.0), -700.0) if found > 0 else -700.0

    steps = max(2 * round(math.log10(high / low)), 1)
    grid = [math.log(low) + k / steps * math.log(high / low) for k in range(steps + 1)]
    values = [excess(x) for x in grid]
    if all(math.isnan(x) for x in values):
        invariants(to(math.exp(grid[steps // 2])), batch)  # raises what is wrong with it
    turns = [k for k in range(steps) if values[k] * values[k + 1] <= 0]
    if not turns:
        seen = [wanted * math.exp(x) if x > -700 else 0.0 for x in values if not math.isnan(x)]
        raise ValueError(
            f"translate(by={by!r}): the objective has {wanted:.4g}, and the other one has {min(seen):.4g} to "
            f"{max(seen):.4g} for numbers from {low:g} to {high:g}."
        )
    # A share of events jumps where it passes the answer, which is then met to within one event.
    setting = math.exp(brentq(excess, grid[turns[0]], grid[turns[0] + 1], xtol=1e-12, rtol=1e-12, disp=False))
    found = invariants(to(setting), batch)
    if by != "clipped" and not math.isclose(getattr(found, by), wanted, rel_tol=1e-6):
        raise ValueError(
            f"translate(by={by!r}): the objective has {wanted:.4g}, over which the other one jumps at {setting:.4g}, "
            f"where it has {getattr(found, by):.4g}: a response whose target is a ratio of zero is infinitely far."
        )
    return Translation(setting, to(setting), source, found)


_NO_INVARIANT = {
    "curvature": "At the anchor this potential does not resist (as of a clip), or nothing pulls.",
    "radius": "Nothing pulls, or the potential never balances the pull (as of a logistic link under a hard label), so "
    "that the target is not finite.",
    "clipped": "The policy has not moved from the anchor, or not in the direction of any pull; or all of it is beyond "
    "the walls.",
}


@dataclasses.dataclass(frozen=True)
class Reach:
    """How far a pull of one carries an event, in nats of its own log-ratio (of a pair, of the difference of two).

    Args:
        curvature: |g|/κ, as if the potential stayed as curved as at the anchor; infinite of a clip.
        target: |t* − 1| at the balance, the root of the χ² radius; infinite where there is none.

    >>> Reach(curvature=20.0, target=math.inf).curvature
    20.0
    """

    curvature: float
    target: float


def reach(objective: Objective, drive: float = 1.0) -> Reach:
    """The reach of a term under drives of ±`drive`, or under the only drive that its sampling gives.

    It needs no batch: it is what `geomalign show` prints. The ε of a clip in the ratio is its `target`; the μ of a χ²
    potential in the log-ratio is drive/curvature, DPO's β is 2/curvature and IPO's τ 1/(2·curvature).

    Args:
        objective: one term.
        drive: g, positive.

    Raises:
        ValueError: the objective is a sum, or the drive is not positive.

    >>> import geomalign as ga
    >>> from geomalign import analysis
    >>> dpo, opo = analysis.reach(ga.recipes.dpo(beta=0.1)), analysis.reach(ga.recipes.opo(mu=5.0))
    >>> round(dpo.curvature, 6), dpo.target, round(opo.curvature, 6)
    (20.0, inf, 0.2)
    """
    objective = _single("reach", objective)
    positive("reach", "the size of a pull", drive=drive)
    pulls, geometry, chart = objective.sampling.drive_range, objective.optimization.section, objective.chart
    low = [pulls.low] if pulls.low == pulls.high else [-drive, drive]
    g = torch.tensor(low, dtype=torch.float64)
    zero = torch.zeros_like(g)
    u, slope = chart(zero) - chart(zero) if objective.unit.paired else chart(zero), chart.slope(zero)
    pull = -geometry.force(u, g)
    square = ((pull * slope) ** 2).mean()
    bent = (geometry.curvature(u, g) * slope**2 * (pull * slope) ** 2).mean()
    rest = _finite(chart.inverse(_finite(geometry.equilibrium(g), pull)), pull)
    return Reach(float(square**1.5 / bent), float((torch.expm1(rest) ** 2).mean().sqrt()))


class _Seen:
    """An objective on a batch, where the policy is and where it was, from which each invariant is computed alone."""

    def __init__(self, objective: BaseObjective, batch: Batch | PreferenceBatch) -> None:
        term = _one(objective)
        with torch.no_grad():
            self.here, self.there = term.events(batch), term.events(_at_anchor(batch, term.anchor))
            self.geometry = term.optimization.among(self.here.rows)
            self.pull = -self.geometry.force(self.there.u, self.there.drive)
            self.coordinate = _Coordinate(term, self.here.rows, self.here.mask, self.here.support)

    def mean(self, x: Tensor) -> float:
        return float((self.here.weights * torch.where(self.here.support, x, 0)).sum() / self.here.weights.sum())

    @torch.no_grad()
    def curvature(self) -> float:
        slope = self.coordinate.slope(torch.zeros_like(self.pull))
        square = (self.pull * slope) ** 2
        bent = self.geometry.curvature(self.there.u, self.there.drive) * slope**2
        scale = self.mean(square)
        return self.mean(bent * square) / scale**1.5 if scale else math.nan

    @torch.no_grad()
    def radius(self) -> float:
        rest = self.coordinate.inverse(self.geometry.equilibrium(self.there.drive), self.pull)
        return self.mean(torch.where(self.pull == 0, 0, torch.expm1(rest) ** 2))

    @torch.no_grad()
    def clipped(self) -> float:
        here, pulled = self.here, (self.pull != 0).to(self.pull.dtype)
        # A potential that pushes in the direction of the pull has taken nothing away.
        left = self.geometry.force(here.u, here.drive) / self.geometry.force(self.there.u, here.drive)
        lost = self.mean(torch.where(pulled > 0, 1 - left.nan_to_num(1.0).clamp(0, 1), 0))
        return lost / share if (share := self.mean(pulled)) else math.nan


def _single(owner: str, objective: BaseObjective) -> Objective:
    """The only term of an objective."""
    typed(owner, "objective", objective, BaseObjective, "A name becomes one by ga.recipes.get(name).")
    if len(objective.terms) != 1:
        raise ValueError(f"this objective is a sum of {len(objective.terms)} terms; take one of objective.terms.")
    return objective.terms[0][1]


def _one(objective: BaseObjective) -> Objective:
    """The only term of an objective that has invariants."""
    term = _single("invariants", objective)
    if term.anchor is None or not term.unit.linear or term.unit.locality is Locality.BATCH:
        raise ValueError(
            "invariants are measured from an anchor by one log-ratio per event, which this term does not have: "
            f"anchor={term.anchor!r}, unit={term.unit!r}."
        )
    return term


def _at_anchor(batch: Batch | PreferenceBatch, anchor: str | None) -> Batch | PreferenceBatch:
    """The batch with the policy at the anchor."""
    if isinstance(batch, Batch):
        return dataclasses.replace(batch, policy=batch.require(str(anchor), "invariants of this objective"))
    batch.rows.require("reference", "invariants of this objective")
    assert batch.reference_chosen is not None and batch.reference_rejected is not None, "one of them was required"
    return dataclasses.replace(batch, chosen=batch.reference_chosen, rejected=batch.reference_rejected)


class _Coordinate:
    """An event's coordinate as a function of x, by which its average token's log-ratio moves.

    Of a pair x is the difference between its responses: the chosen one moves by x/2, the other one by −x/2.
    """

    def __init__(self, term: Objective, rows: Batch, mask: Tensor, support: Tensor) -> None:
        self.term, self.support = term, support
        ones = mask.to(rows.dtype)
        self.lengths = term.unit.reduce(ones, mask)  # of the log-ratio where every token moves by one nat
        self.chart, self.shift = term._chart(rows, mask), term.unit.shift(rows)

    def __call__(self, x: Tensor) -> Tensor:
        sides = torch.cat([x / 2, -x / 2]) if self.term.unit.paired else x
        return self.term.unit.combine(self.chart(self.lengths * sides)) - self.shift

    def slope(self, x: Tensor) -> Tensor:
        found: Tensor = torch.func.vjp(self, x)[1](torch.ones_like(x))[0]
        return torch.where(self.support, found, 0)

    def inverse(self, u: Tensor, pull: Tensor) -> Tensor:
        """x at u, infinite in the direction of the pull where the coordinate does not reach u."""
        u = torch.where(self.support, _finite(u, pull), 0)
        if not self.term.unit.paired:
            found = self.chart.inverse(u + self.shift) / self.lengths
        elif self.chart.linear:
            zero = torch.zeros_like(u)
            found = (u - self(zero)) / self.slope(zero)
        else:
            found = numerics.invert_increasing(self, self.slope, u)
        return torch.where(self.support, _finite(found, pull), 0)


def _finite(x: Tensor, pull: Tensor) -> Tensor:
    """`x`, where it is no number infinite in the direction of the pull, as far as this goes; 0 where nothing pulls."""
    return torch.where(x.isnan(), torch.where(pull == 0, 0, pull.sign() * math.inf), x)
