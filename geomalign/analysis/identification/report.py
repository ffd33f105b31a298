"""What `identify` gives back: a record to read, to plot and to print."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from geomalign._util import numerics
from geomalign._util.types import Interval
from geomalign.analysis.asymptotics import Tail
from geomalign.analysis.identification.charts import TabulatedChart
from geomalign.analysis.identification.curve import Curve
from geomalign.chart import Chart
from geomalign.optimization import OptimizationGeometry
from geomalign.sampling import SamplingGeometry
from geomalign.unit import Unit


@dataclasses.dataclass(frozen=True)
class Part:
    """One term of a pair loss.

    Args:
        unit: `Chosen()`, `Rejected()`, `Pair()` or `PreferenceProbability(beta)`; whether a response is gathered by its
            sum or its mean cannot be seen in one event, and `Sequence()` stands for either.
        chart: of a response's log-ratio.
        optimization: φ.
        drive: g.
        residual: largest relative error of its force.

    >>> import torch, geomalign as ga
    >>> part = Part(ga.Chosen(), ga.LogRatio(), ga.Flat(), drive=1.0, residual=0.0)
    >>> part.forces(torch.zeros(1), torch.zeros(1))
    (tensor([-1.]), tensor([0.]))
    """

    unit: Unit
    chart: Chart
    optimization: OptimizationGeometry
    drive: float
    residual: float

    def forces(self, chosen: Tensor, rejected: Tensor) -> tuple[Tensor, Tensor]:
        """∂/∂Δ⁺ and ∂/∂Δ⁻ of the term at log-ratios `(n,)`."""
        both = torch.cat([chosen, rejected])
        coordinates = self.chart(both)
        u = self.unit.combine(coordinates)
        force = self.optimization.force(u, torch.full_like(u, self.drive))
        first, second = (self.unit.split(force, coordinates) * self.chart.slope(both)).chunk(2)
        return first, second


class Kink(NamedTuple):
    """A log-ratio, to about 1e-10, at which the force is not smooth, and its jump there for every advantage probed: 0
    where it only bends, or is smooth.

    >>> import torch, geomalign as ga
    >>> [kink] = ga.identify(lambda margin: torch.relu(1 - margin)).kinks
    >>> round(kink.log_ratio, 9), [round(jump, 9) for jump in kink.jumps]
    (1.0, [1.0])
    """

    log_ratio: float
    jumps: tuple[float, ...]


class Region(NamedTuple):
    """A rectangle of Δ and A (of a pair, of the two log-ratios) in which the potential depends on the drive.

    >>> import geomalign as ga
    >>> Region(ga.Interval(0.2, 30.0), ga.Interval(0.0, 2.0)).advantage.high
    2.0
    """

    log_ratio: Interval
    advantage: Interval


class Coupling(NamedTuple):
    """Where ∂²ℓ/∂A∂Δ is not a product of a function of A and a function of Δ.

    Args:
        regions: where it is not; none: decoupled.
        by_sign: whether the slope depends on the advantage through its sign alone.

    >>> import torch, geomalign as ga
    >>> loss = lambda log_ratio, advantage: -torch.minimum(log_ratio * advantage, log_ratio.clamp(-1, 1) * advantage)
    >>> coupling = ga.identify(loss).coupling
    >>> coupling.coupled, coupling.by_sign, len(coupling.regions)
    (True, True, 2)
    """

    regions: tuple[Region, ...] = ()
    by_sign: bool = False

    @property
    def coupled(self) -> bool:
        """Whether the loss is coupled anywhere."""
        return bool(self.regions)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recognised:
    """What of the geometry has a name. A slot without a match within the tolerance is None.

    Args:
        chart: of the library.
        optimization: of the library.
        penalty: a further potential that is read in another chart, `penalty_chart`, and pulled by no drive; None where
            there is none.
        penalty_chart: the log-ratio or the ratio.
        shift: what is subtracted from the coordinate first (a pair's margin).
        offset: what the value adds to the energy: "none", "surrogate" (−g), "fenchel_young" (φ*(g)); None for anything
            else.
        parts: of a pair loss that is no potential of one margin, its terms; empty where one has no name.
        weight: what a loss with a stop-gradient multiplies its drive by, as the sampling geometry that does so; its
            chart and potential are then those of the loss without the weight, while curves and coupling of the
            `Identification` are those of the force.
        chart_residual, residual: largest relative errors, of the chart's slope and of ∂ℓ/∂u, the latter at points
            and advantages that no fit has seen.
        window: the log-ratios to which the names apply.

    >>> import torch, geomalign as ga
    >>> found = ga.identify(lambda margin: -torch.nn.functional.logsigmoid(2 * margin - 0.5)).recognised
    >>> found.optimization, found.shift
    (Logistic(beta=2.0), 0.25)
    """

    chart: Chart | None
    optimization: OptimizationGeometry | None
    penalty: OptimizationGeometry | None = None
    penalty_chart: Chart | None = None
    shift: float = 0.0
    offset: str | None = None
    chart_residual: float
    residual: float = math.nan
    window: Interval
    parts: tuple[Part, ...] = ()
    weight: SamplingGeometry | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Identification:
    """The geometry that `identify` found. Print it, or read its parts; all tensors are float64 and free of gradient.

    Args:
        kind: "advantage" for ℓ(Δ, A), "margin" for ℓ(m), "pair" for ℓ(Δ_chosen, Δ_rejected).
        chart: u(Δ), a `Chart`.
        advantage: `(drives,)` that were probed; one entry, the label's strength, without an advantage.
        drive: `(drives,)`, g of each.
        drive_formula: g as a formula of A, where it is recognised.
        log_ratio: `(samples,)`, the adaptive grid.
        force: `(samples, drives)`: ∂ℓ/∂Δ.
        kinks: log-ratios where the force is not smooth.
        coupling: where the potential depends on the drive.
        convex: whether φ is convex in u, for every drive probed; None where the chart is no coordinate.
        conservative: whether the value's differences are the integral of the force. False betrays a stop-gradient.
        saturation: by advantage, the behaviour of the force at Δ → −∞ and Δ → +∞.
        recognised: names.
        tolerance: of the recognition; raised above the default where the loss computes in low precision.

    >>> import torch, geomalign as ga
    >>> report = ga.identify(lambda log_ratio, advantage: log_ratio**2 - advantage * log_ratio)
    >>> report.decoupled, report.equilibrium(1.0), round(float(report.curvature(torch.tensor(1.0))), 9)
    (True, tensor(0.5000, dtype=torch.float64), 2.0)
    """

    kind: str
    chart: TabulatedChart
    advantage: Tensor
    drive: Tensor
    drive_formula: str | None
    log_ratio: Tensor
    force: Tensor
    kinks: tuple[Kink, ...]
    coupling: Coupling
    convex: bool | None
    conservative: bool
    saturation: dict[float, tuple[Tail, Tail]]
    recognised: Recognised
    tolerance: float
    _base: int = dataclasses.field(repr=False)
    _rounding: float = dataclasses.field(repr=False)
    _forces: tuple[Curve, ...] = dataclasses.field(repr=False)
    _mirrors: tuple[Curve, ...] = dataclasses.field(repr=False)
    _potentials: tuple[Curve, ...] = dataclasses.field(repr=False)

    @property
    def decoupled(self) -> bool:
        """Whether the potential does not depend on the drive."""
        return not self.coupling.coupled

    def mirror(self, u: Tensor, advantage: float | None = None) -> Tensor:
        """φ'(u). Of a coupled loss, for one of the advantages probed."""
        return self._mirrors[self._column(advantage)](self.chart.inverse(u))

    def potential(self, u: Tensor, advantage: float | None = None) -> Tensor:
        """φ(u) with φ(0) = 0. Of a coupled loss, for one of the advantages probed."""
        return self._potentials[self._column(advantage)](self.chart.inverse(u))

    def curvature(self, u: Tensor, advantage: float | None = None) -> Tensor:
        """φ''(u), between kinks. Of a coupled loss, for one of the advantages probed."""
        log_ratio = self.chart.inverse(u)
        return self._mirrors[self._column(advantage)].derivative()(log_ratio) / self.chart.slope(log_ratio)

    def equilibrium(self, drive: Tensor | float | None = None) -> Tensor:
        """u* at which the force first vanishes on the way from the anchor; ±inf where it does nowhere in the domain.

        Args:
            drive: any shape. Of a coupled loss, advantages that were probed; of a label, its own strength if None.
        """
        g = torch.as_tensor(self.drive if drive is None else drive, dtype=torch.float64)
        return torch.stack([self._equilibrium(float(x)) for x in g.reshape(-1)]).reshape(g.shape)

    def _equilibrium(self, drive: float) -> Tensor:
        column = self._column(drive) if self.coupling.coupled and self.kind == "advantage" else self._base
        extra = 0.0 if self.coupling.coupled else drive - float(self.drive[column])
        inside = (self.log_ratio > self.chart.domain.low) & (self.log_ratio < self.chart.domain.high)
        x, measured = self.log_ratio[inside], self.force[inside, column]
        pull = extra * self.chart.slope(x)
        net, noise = measured - pull, self._rounding * torch.where(pull != 0, measured.abs() + pull.abs(), 0.0)
        sign, home = torch.where(net.abs() <= noise, 0.0, net.sign()), x.abs().argmin()
        direction = -int(sign[home])
        if direction == 0:
            return torch.zeros((), dtype=torch.float64)
        way, order = (direction * x).sort()  # increasing on the way
        arrived = ((way > direction * x[home]) & (direction * sign[order] >= 0)).nonzero()
        after = int(arrived[0]) if len(arrived) else 0
        # A force below 1e-250 is not an equilibrium but underflow on the way to infinity.
        if not after or float(net[order][after - 1].abs()) < 1e-250:
            return torch.tensor(direction * math.inf, dtype=torch.float64)
        almost, low, high = -1e-13 * net[order][after - 1 : after + 1].abs().sum(), way[after - 1], way[after]

        def climb(y: Tensor) -> Tensor:
            return direction * (self._forces[column](direction * y) - extra * self.chart.slope(direction * y))

        return self.chart(direction * numerics.solve_increasing(climb, almost, low, high))

    def _column(self, advantage: float | None) -> int:
        if self.decoupled:
            return 0
        if advantage is None or float(advantage) not in self.advantage.tolist():
            raise ValueError(
                f"this loss is coupled: its potential depends on the advantage. Choose one that was probed, "
                f"{self.advantage.tolist()}, or pass others as identify(loss, advantages=…)."
            )
        return self.advantage.tolist().index(float(advantage))

    def summary(self) -> str:
        """The report as text."""
        lines = (f"{label:<14}{text}" for label, text in _lines(self))
        return "\n".join(({"advantage": "ℓ(Δ, A)", "margin": "ℓ(margin)", "pair": "ℓ(Δ⁺, Δ⁻)"}[self.kind], *lines))

    def __repr__(self) -> str:
        return self.summary()


def _clean(x: float) -> float:
    return 0.0 if abs(x) < 1e-12 else x


def _lines(r: Identification) -> Iterator[tuple[str, str]]:
    """Label and text of every line of a summary."""
    n, reach, labels = r.recognised, r.chart, r.kind == "advantage" and len(r.drive) > 1
    unnamed = "no name within tolerance"
    where = f" (residual {n.chart_residual:.1e}) on {n.window.low:.4g} < Δ < {n.window.high:.4g}"
    name = unnamed if n.chart is None else f"{n.chart!r}{where}"
    span = f"u from {reach.range.low:.4g} to {reach.range.high:.4g}"
    yield "chart", f"{name}; {span} on Δ from {reach.domain.low:.4g} to {reach.domain.high:.4g}"
    shift = f", shifted by {n.shift:.6g}" if n.shift else ""
    penalty = f", and {n.penalty!r} read in {n.penalty_chart!r}" if n.penalty is not None else ""
    known = f"{n.optimization!r}{shift}{penalty} (residual {n.residual:.1e})"
    yield "potential", known if n.optimization is not None else "that of its parts" if n.parts else unnamed
    for p in n.parts:
        text = f"{p.unit!r} in {p.chart!r}: {p.optimization!r}, drive {p.drive:.6g} (residual {p.residual:.1e})"
        yield "part", text
    if n.weight is not None:
        yield "weight", f"{n.weight!r}, without gradient; chart and potential are those beside it"
    values = "" if r.kind != "advantage" else ": " + ", ".join(f"{g:.4g}" for g in r.drive.tolist())
    yield "drive", r.drive_formula or f"a function of A, no name{values}"
    yield "convex", {True: "yes", False: "no", None: "the chart is not monotone"}[r.convex]
    if r.convex is not None:
        if r.decoupled:
            at_anchor = float(r.curvature(torch.zeros(1, dtype=torch.float64)))
            yield "curvature", f"{_clean(at_anchor):.6g} at the anchor"
        for a, g in zip(r.advantage.tolist(), r.drive.tolist()):
            if not labels or abs(a) == 1:
                u = float(r.equilibrium(g if r.decoupled else a))
                rest = f"u* = {_clean(u):.6g}" if math.isfinite(u) else f"none: pushed to Δ → {'+' if u > 0 else '−'}∞"
                yield "equilibrium", rest + (f" at A = {a:g}" if labels else "") + f" (g = {g:.4g})"
    if r.decoupled:
        yield "coupling", "none: the potential does not depend on the drive"
    elif r.kind == "pair":
        yield "coupling", "not a function of u(Δ⁺) − u(Δ⁻) for any chart u"
    else:
        yield "coupling", f"through the {'sign' if r.coupling.by_sign else 'size'} of the advantage"
        for region in r.coupling.regions[:12]:
            x, y = region.log_ratio, region.advantage
            yield "", f"{x.low:.6g} < Δ < {x.high:.6g}, {y.low:.4g} < A < {y.high:.4g}"
    for kink in r.kinks[:12]:
        ratio = math.exp(min(kink.log_ratio, 700))
        yield "kink", f"{'jump' if any(kink.jumps) else 'bend'} at Δ = {kink.log_ratio:.9g} (t = {ratio:.6g})"
    for a, (low, high) in r.saturation.items():
        yield "saturation", f"{f'A = {a:g}' if r.kind == 'advantage' else 'force'}: Δ → −∞ {low}; Δ → +∞ {high}"
    if not r.conservative:
        yield "stop-gradient", "the value is not the integral of the force"
    if n.offset not in (None, "none"):
        yield "offset", str(n.offset)
