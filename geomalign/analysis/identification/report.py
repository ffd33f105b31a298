"""What `identify` gives back: a record to read, to plot and to print."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from geomalign._util.types import Interval
from geomalign.analysis.asymptotics import Tail
from geomalign.analysis.identification.curve import Curve
from geomalign.chart import Chart
from geomalign.optimization import OptimizationGeometry
from geomalign.sampling import SamplingGeometry
from geomalign.unit import Unit


class TabulatedChart(Chart):
    """A chart known from its measured slope; NaN outside the interval on which it was measured.

    Args:
        curve: the slope u'(Δ).
    """

    def __init__(self, curve: Curve):
        self._slope = curve
        self._value = curve.integral()

    @property
    def domain(self) -> Interval:
        """The log-ratios on which it was measured."""
        return self._slope.domain

    @property
    def range(self) -> Interval:
        """The coordinates reached there."""
        ends = self._value(torch.tensor([self.domain.low, self.domain.high], dtype=torch.float64))
        return Interval(*sorted(ends.tolist()))

    @property
    def increasing(self) -> bool:
        """Whether it is a coordinate at all: a slope that changes sign folds log-ratios onto one another."""
        return bool((self._slope(torch.linspace(self.domain.low, self.domain.high, 4001)) > 0).all())

    def __call__(self, log_ratio: Tensor) -> Tensor:
        return self._value(log_ratio)

    def slope(self, log_ratio: Tensor) -> Tensor:
        return self._slope(log_ratio)

    def inverse(self, u: Tensor) -> Tensor:
        return self._value.inverse(u)

    def latex(self, log_ratio: str) -> str:
        return rf"u\left({log_ratio}\right)"


@dataclasses.dataclass(frozen=True)
class Moved(Chart):
    """A chart of log-probabilities, read as one of log-ratios from an anchor: u(Δ + origin) − u(origin).

    Args:
        of: the chart, such as `LogOdds()`.
        origin: the anchor's log-probability.
    """

    of: Chart
    origin: float

    def __call__(self, log_ratio: Tensor) -> Tensor:
        return self.of(log_ratio + self.origin) - self.of(torch.full_like(log_ratio, self.origin))

    def slope(self, log_ratio: Tensor) -> Tensor:
        return self.of.slope(log_ratio + self.origin)

    def inverse(self, u: Tensor) -> Tensor:
        return self.of.inverse(u + self.of(torch.full_like(u, self.origin))) - self.origin

    def latex(self, log_ratio: str) -> str:
        return self.of.latex(rf"{log_ratio}{self.origin:+g}")


@dataclasses.dataclass(frozen=True)
class Part:
    """One term of a pair loss.

    Args:
        unit: `Chosen()`, `Rejected()`, `Pair()` or `Preference(beta)`; whether a response is gathered by its sum or its
            mean cannot be seen in one event, and `Sequence()` stands for either.
        chart: of a response's log-ratio.
        optimization: φ.
        drive: g.
        residual: largest relative error of its force.
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


@dataclasses.dataclass(frozen=True)
class Kink:
    """A log-ratio at which the force is not smooth.

    Args:
        log_ratio: where, to about 1e-10.
        jumps: for every advantage probed, the jump of the force there (0 where it only bends, or is smooth).
    """

    log_ratio: float
    jumps: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Region:
    """A rectangle in which the potential depends on the drive.

    Args:
        log_ratio: interval of Δ.
        advantage: interval of A.
    """

    log_ratio: Interval
    advantage: Interval


@dataclasses.dataclass(frozen=True, eq=False)
class Coupling:
    """Where ∂²ℓ/∂A∂Δ is not a product of a function of A and a function of Δ.

    Args:
        log_ratio: `(samples,)` of Δ.
        advantage: `(cells + 1,)` of A; of a pair, the rejected response's log-ratios.
        slope: `(samples, cells)`: −ΔF/Δg across each cell of A. All columns equal: decoupled.
        deviation: `(samples, cells)`: relative difference of `slope` from the chart's slope.
        regions: rectangles of the coupled samples.
        by_sign: whether the slope depends on the advantage through its sign alone.
    """

    log_ratio: Tensor
    advantage: Tensor
    slope: Tensor
    deviation: Tensor
    regions: tuple[Region, ...]
    by_sign: bool

    @property
    def coupled(self) -> bool:
        """Whether there is any such place."""
        return bool(self.regions)


@dataclasses.dataclass(frozen=True)
class Recognised:
    """What of the geometry has a name. A slot without a match within the tolerance is None.

    Args:
        chart: of the library.
        optimization: of the library.
        KL penalty: a further potential that is read in another chart, `penalty_chart`, and pulled by no drive; None
        where
            there is none.
        penalty_chart: the log-ratio or the ratio.
        shift: what is subtracted from the coordinate first (a pair's margin).
        constant: what the value adds to the energy: "energy" (nothing), "surrogate" (−g), "completed" (φ*(g)); None
            otherwise.
        parts: of a pair loss that is no potential of one margin, its terms; empty where one has no name.
        weight: what a loss with a stop-gradient multiplies its drive by, as the sampling geometry that does so; its
            chart and potential are then those of the loss without the weight, while curves and coupling of the
            `Identification` are those of the force.
        chart_residual, residual: largest relative errors, of the chart's slope and of ∂ℓ/∂u, the latter at points
            and advantages that no fit has seen.
        window: the log-ratios to which the names apply.
    """

    chart: Chart | None
    optimization: OptimizationGeometry | None
    penalty: OptimizationGeometry | None
    penalty_chart: Chart | None
    shift: float
    constant: str | None
    chart_residual: float
    residual: float
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
        saturation: by advantage, the force's law at Δ → −∞ and Δ → +∞.
        recognised: names.
        tolerance: of the recognition; raised above the default where the loss computes in low precision.
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
        if drive is None:
            drive = self.drive
        g = torch.as_tensor(drive, dtype=torch.float64)
        return torch.stack([self._equilibrium(float(x)) for x in g.reshape(-1)]).reshape(g.shape)

    def _equilibrium(self, drive: float) -> Tensor:
        column = self._column(drive) if self.coupling.coupled and self.kind == "advantage" else self._base
        shift = 0.0 if self.coupling.coupled else drive - float(self.drive[column])
        inside = (self.log_ratio > self.chart.domain.low) & (self.log_ratio < self.chart.domain.high)
        x, measured = self.log_ratio[inside], self.force[inside, column]
        pull = shift * self.chart.slope(x)
        force = measured - pull
        sign = torch.where(
            (pull != 0) & (force.abs() <= self._rounding * (measured.abs() + pull.abs())), 0.0, force.sign()
        )
        home = int(x.abs().argmin())
        direction = -int(sign[home])
        if direction == 0:
            flat = bool((sign[max(home - 1, 0) : home + 2] == 0).all())
            return torch.zeros((), dtype=torch.float64) if flat else self.chart(x[home])
        path = torch.arange(home, len(x) if direction > 0 else -1, direction)
        arrived = (sign[path] * direction >= 0).nonzero()
        if not len(arrived):
            return torch.tensor(direction * math.inf, dtype=torch.float64)
        step = max(int(arrived[0]), 1)
        if float(force[path[step - 1]].abs()) < 1e-250:  # not an equilibrium but underflow on the way to infinity
            return torch.tensor(direction * math.inf, dtype=torch.float64)
        left, right = x[path[step - 1]], x[path[step]]
        curve, size = self._forces[column], float(force[path[step - 1]].abs() + force[path[step]].abs())
        for _ in range(80):
            middle = (left + right) / 2
            reached = float(curve(middle) - shift * self.chart.slope(middle)) * direction >= -1e-13 * size
            left, right = (left, middle) if reached else (middle, right)
        return self.chart(right)

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
        return summary(self)

    def __repr__(self) -> str:
        return summary(self)


def _clean(x: float) -> float:
    return 0.0 if abs(x) < 1e-12 else x


def summary(r: Identification) -> str:
    lines = [f"{'ℓ(Δ, A)' if r.kind == 'advantage' else 'ℓ(margin)' if r.kind == 'margin' else 'ℓ(Δ⁺, Δ⁻)'}"]
    n = r.recognised
    where = f" on {n.window.low:.4g} < Δ < {n.window.high:.4g}"
    unnamed = "no name within tolerance"
    chart = f"{n.chart!r} (residual {n.chart_residual:.1e}){where}" if n.chart is not None else unnamed
    lines.append(
        f"chart         {chart}; u from {r.chart.range.low:.4g} to {r.chart.range.high:.4g} "
        f"on Δ from {r.chart.domain.low:.4g} to {r.chart.domain.high:.4g}"
    )
    shift = f", shifted by {n.shift:.6g}" if n.shift else ""
    penalty = f", and {n.penalty!r} read in {n.penalty_chart!r}" if n.penalty is not None else ""
    potential = f"{n.optimization!r}{shift}{penalty} (residual {n.residual:.1e})"
    unnamed = "that of its parts" if n.parts else unnamed
    lines.append(f"potential     {potential if n.optimization is not None else unnamed}")
    lines += [
        f"part          {p.unit!r} in {p.chart!r}: {p.optimization!r}, drive {p.drive:.6g} (residual {p.residual:.1e})"
        for p in n.parts
    ]
    if n.weight is not None:
        lines.append(f"weight        {n.weight!r}, without gradient; chart and potential are those beside it")
    values = ", ".join(f"{g:.4g}" for g in r.drive.tolist())
    lines.append(
        f"drive         {r.drive_formula or 'a function of A, no name'}"
        + ("" if r.kind != "advantage" or r.drive_formula else f": {values}")
    )
    convex = {True: "yes", False: "no", None: "the chart is not monotone"}[r.convex]
    lines.append(f"convex        {convex}")
    zero = torch.zeros(1, dtype=torch.float64)
    if r.decoupled and r.convex is not None:
        lines.append(f"curvature     {_clean(float(r.curvature(zero))):.6g} at the anchor")
    if r.convex is not None:
        for a, g in zip(r.advantage.tolist(), r.drive.tolist()):
            if r.kind != "advantage" or len(r.drive) == 1 or abs(a) == 1:
                u = float(r.equilibrium(g if r.decoupled else a))
                where = f"u* = {_clean(u):.6g}" if math.isfinite(u) else f"none: pushed to Δ → {'+' if u > 0 else '−'}∞"
                at = f" at A = {a:g}" if r.kind == "advantage" and len(r.drive) > 1 else ""
                lines.append(f"equilibrium   {where}{at} (g = {g:.4g})")
    if r.decoupled:
        lines.append("coupling      none: the potential does not depend on the drive")
    elif r.kind == "pair":
        lines.append("coupling      not a function of u(Δ⁺) − u(Δ⁻) for any chart u")
    else:
        lines.append(
            "coupling      "
            + ("through the sign of the advantage" if r.coupling.by_sign else "through the size of the advantage")
        )
        for region in r.coupling.regions[:12]:
            a, b = region.log_ratio, region.advantage
            lines.append(f"              {a.low:.6g} < Δ < {a.high:.6g}, {b.low:.4g} < A < {b.high:.4g}")
    for kink in r.kinks[:12]:
        kind = "jump" if any(kink.jumps) else "bend"
        lines.append(f"kink          {kind} at Δ = {kink.log_ratio:.9g} (t = {math.exp(min(kink.log_ratio, 700)):.6g})")
    for a, (low, high) in r.saturation.items():
        at = f"A = {a:g}" if r.kind == "advantage" else "force"
        lines.append(f"saturation    {at}: Δ → −∞ {low}; Δ → +∞ {high}")
    if not r.conservative:
        lines.append("stop-gradient the value is not the integral of the force")
    if n.constant not in (None, "energy"):
        lines.append(f"constant      {n.constant}")
    return "\n".join(lines)
