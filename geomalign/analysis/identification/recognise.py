"""Names for what was measured: fits of the library's charts and potentials to sampled functions, each with its
residual.

A match is reported only if its largest relative residual over all samples is within the tolerance; the parameters are
few and the samples hundreds, so a fit cannot pass by bending.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from geomalign.chart import Chart, Dual, LogRatio, Power, Ratio, Sigmoid
from geomalign.divergences import (
    Divergence,
    JensenShannon,
    KullbackLeibler,
    NeymanChiSquare,
    PearsonChiSquare,
    ReverseKullbackLeibler,
    SquaredHellinger,
)
from geomalign.optimization import (
    KL,
    AlphaDivergence,
    BregmanGeometry,
    ChiSquare,
    FDivergence,
    Flat,
    Hinge,
    Logistic,
    ReverseKL,
    SquaredHinge,
)

_DIVERGENCES: tuple[Divergence, ...] = (
    KullbackLeibler(),
    PearsonChiSquare(),
    ReverseKullbackLeibler(),
    SquaredHellinger(),
    NeymanChiSquare(),
    JensenShannon(),
)


@dataclasses.dataclass(frozen=True)
class ChartMatch:
    """u'(Δ) = scale · chart.slope(Δ), to the stated residual.

    Args:
        chart: the library's member.
        scale: what its slope is multiplied by; belongs to the drive.
        residual: largest |u' − fit|/|u'| over the samples.
    """

    chart: Chart
    scale: float
    residual: float


@dataclasses.dataclass(frozen=True)
class PotentialMatch:
    """m(u) = potential.mirror(u − shift) + offset, to the stated residual.

    Args:
        potential: the library's member.
        offset: constant force beside it: the drive with the opposite sign where that was not separated.
        shift: displacement of the coordinate (SimPO's margin).
        residual: largest |m − fit|/(|m| + size) over the samples, size the largest |m| near the anchor.
    """

    potential: BregmanGeometry
    offset: float
    shift: float
    residual: float


def tidy(value: float, relative: float) -> float:
    """The number with the fewest digits within a relative distance."""
    for digits in range(1, 16):
        short = float(f"{value:.{digits}g}")
        if abs(short - value) <= relative * abs(value):
            return short
    return value


def least_squares(columns: list[Tensor], target: Tensor, weight: Tensor) -> Tensor:
    matrix = torch.stack(columns, -1) * weight[:, None]
    size = matrix.norm(dim=0).clamp(min=1e-300)
    return torch.linalg.lstsq(matrix / size, (target * weight)[:, None], driver="gelsd").solution[:, 0] / size


def chart(log_ratio: Tensor, slope: Tensor, tolerance: float, *, scaled: bool = False) -> ChartMatch | None:
    """The first of LogRatio, Ratio, Power, Dual, Sigmoid whose slope is that sampled, up to a factor.

    Dual is tried of Jensen–Shannon and of sums of two divergences; of the single ones of the power family it is Power.

    Args:
        log_ratio: `(samples,)`.
        slope: `(samples,)`, u' there, positive.
        tolerance: largest relative residual accepted.
        scaled: whether the slope is only known up to a factor; a sum of divergences then begins with weight 1.
    """
    for candidate, scale in _charts(log_ratio, slope, tolerance, scaled):
        residual = float(((scale * candidate.slope(log_ratio) - slope) / slope).abs().max())
        if residual <= tolerance:
            return ChartMatch(candidate, scale, residual)
    return None


def _charts(x: Tensor, slope: Tensor, tolerance: float, scaled: bool) -> Iterator[tuple[Chart, float]]:
    def times(member: Chart) -> tuple[Chart, float]:
        return member, tidy(float((slope / member.slope(x)).median()), tolerance)

    yield times(LogRatio())
    yield times(Ratio())
    log = slope.log()
    first, last = int(x.argmin()), int(x.argmax())
    power = tidy(float((log[last] - log[first]) / (x[last] - x[first])), tolerance)
    if power not in (0.0, 1.0) and abs(power) < 20:
        yield times(Power(power))
    yield times(Dual(JensenShannon()))
    yield from map(times, sigmoids(x, slope, tolerance))
    for first_one, second in itertools.combinations(_DIVERGENCES, 2):
        a, b = least_squares([first_one.slope(x), second.slope(x)], slope, 1 / slope).tolist()
        if a > 0 and b > 0:
            scale = a if scaled else 1.0
            yield (
                Dual(tidy(a / scale, tolerance) * first_one + tidy(b / scale, tolerance) * second),
                tidy(scale, tolerance),
            )


def sigmoids(x: Tensor, slope: Tensor, tolerance: float) -> Iterator[Sigmoid]:
    """Sigmoid charts of this slope, log slope = log σ(β(Δ − s)) + log σ(−β(Δ − s)) + constant.

    By Levenberg–Marquardt in (log β, βs).
    """
    keep = torch.linspace(0, len(x) - 1, min(len(x), 240)).long().unique()
    few, log = x[keep], slope[keep].log()

    def residual(p: Tensor) -> Tensor:
        z = p[0].exp() * few - p[1]
        rest = log - torch.nn.functional.logsigmoid(z) - torch.nn.functional.logsigmoid(-z)
        return rest - rest.mean()

    found = [levenberg_marquardt(residual, torch.tensor([start, 0.0], dtype=x.dtype)) for start in (0.0, -2.5, 1.5)]
    cost, p = min(found, key=lambda f: f[0])
    if cost < 1e-3 * len(few):
        beta, shift = math.exp(float(p[0])), float(p[1]) / math.exp(float(p[0]))
        yield Sigmoid(tidy(beta, tolerance), 0.0 if abs(float(p[1])) <= tolerance else tidy(shift, tolerance))


def exponential_rate(u: Tensor, m: Tensor) -> float | None:
    """The k of m = c(1 − e^{−ku}) + d, from three samples; None where m does not rise ever more slowly."""
    reach = min(float(u.max()), -float(u.min()), 5.0)
    near = [int((u - at).abs().argmin()) for at in (-reach, 0.0, reach)]
    (u0, u1, u2), (m0, m1, m2) = u[near].tolist(), m[near].tolist()
    if not (m0 < m1 < m2 and u0 < u1 < u2):
        return None
    target = (m1 - m0) / (m2 - m1)

    def ratio(k: float) -> float:
        return math.expm1(k * (u1 - u0)) / -math.expm1(-k * (u2 - u1))

    low, high = 1e-6, 50.0 / reach
    if not ratio(low) < target < ratio(high):
        return None
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if ratio(middle) < target else (low, middle)
    return (low + high) / 2


def potential(
    u: Tensor, mirror: Tensor, tolerance: float, *, core: Tensor, kinks: tuple[float, ...] = (), drive_size: float = 1.0
) -> PotentialMatch | None:
    """The first potential, simplest first, whose mirror φ' is that sampled, up to a constant force.

    Tried in turn: Flat, ChiSquare, KL, ReverseKL, Hinge, SquaredHinge, Logistic, AlphaDivergence, FDivergence of
    Jensen–Shannon, sums of two.

    Args:
        u: `(samples,)` coordinates, increasing.
        mirror: `(samples,)`, φ' there, known up to a constant.
        tolerance: largest residual accepted.
        core: `(samples,)` booleans, those near the anchor, that say what size is.
        kinks: coordinates at which φ' is known to jump or bend.
        drive_size: force below a `tolerance`th of which nothing resists.
    """
    level = float(mirror[core].mean())
    if float((mirror - level).abs().max()) <= tolerance * max(drive_size, abs(level)):
        offset = 0.0 if abs(level) <= tolerance * drive_size else tidy(level, tolerance)
        return PotentialMatch(Flat(), offset, 0.0, float((mirror - offset).abs().max()) / max(drive_size, abs(level)))
    size = float(mirror[core].abs().max())
    weight = 1 / (mirror.abs() + size)
    for member, offset, shift in _potentials(u, mirror, weight, kinks, tolerance):
        fit = member.mirror(u - shift) + offset
        residual = float(((fit - mirror) * weight).abs().nan_to_num(math.inf).max())
        if residual <= tolerance:
            return PotentialMatch(member, offset, shift, residual)
    return None


def _potentials(
    u: Tensor, m: Tensor, weight: Tensor, kinks: tuple[float, ...], tolerance: float
) -> Iterator[tuple[BregmanGeometry, float, float]]:
    size = float(1 / weight.max())
    one = torch.ones_like(u)
    positive = bool((u > -1).all())

    def short(value: float, at: float = 0.0) -> float:
        """Tidy, and zero where it is nothing beside `at`."""
        return 0.0 if abs(value) <= tolerance * at else tidy(value, tolerance)

    def amplitudes(*units: BregmanGeometry) -> list[float]:
        return least_squares([*(unit.mirror(u) for unit in units), one], m, weight).tolist()

    simple: list[Callable[[float], BregmanGeometry]] = [ChiSquare, ReverseKL]
    if positive:
        simple = [ChiSquare, KL, ReverseKL]
    for family in simple:
        a, offset = amplitudes(family(1.0))
        if a > 0:
            yield family(short(a)), short(offset, size), 0.0
    yield from _hinge(u, m, kinks, tolerance)
    yield from _logistic(u, m, weight, tolerance)
    if positive:
        order = _order(u, m)
        if order is not None:
            order = tidy(order, 10 * tolerance)
            a, offset = amplitudes(AlphaDivergence(order))
            if a > 0:
                yield AlphaDivergence(order, short(a)), short(offset, size), 0.0
        a, offset = amplitudes(FDivergence(JensenShannon()))
        if a > 0:
            yield FDivergence(JensenShannon(), short(a)), short(offset, size), 0.0
    units: list[Callable[[float], BregmanGeometry]] = [*simple]
    if positive:
        units += [lambda mu, of=of: FDivergence(of, mu) for of in _DIVERGENCES[2:]]  # type: ignore[misc]
    for first, second in itertools.combinations(units, 2):
        a, b, offset = amplitudes(first(1.0), second(1.0))
        if a > 0 and b > 0:
            both = first(short(a)) + second(short(b))
            assert isinstance(both, BregmanGeometry)
            yield both, short(offset, size), 0.0


def _order(u: Tensor, m: Tensor) -> float | None:
    """The order a of φ'' ∝ (1+u)^{a−2}, from three mirrors at equal steps of log(1+u): their differences grow by
    e^{(a−1)h}."""
    log_t = torch.log1p(u)
    reach = min(float(log_t.max()), -float(log_t.min()), 4.0)
    if reach < 0.1:
        return None
    near = [int((log_t - at).abs().argmin()) for at in (-reach, 0.0, reach)]
    (x0, x1, x2), (m0, m1, m2) = log_t[near].tolist(), m[near].tolist()
    if not m0 < m1 < m2:
        return None
    ratio = math.log((m2 - m1) / (m1 - m0))

    def growth(p: float) -> float:  # log of the same ratio for ψ' = (t^p − 1)/p
        def step(a: float, b: float) -> float:
            return b - a if abs(p) < 1e-12 else math.exp(p * a) * math.expm1(p * (b - a)) / p

        return math.log(step(x1, x2)) - math.log(step(x0, x1))

    low, high = -20.0, 20.0
    if not growth(low) < ratio < growth(high):
        return None
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if growth(middle) < ratio else (low, middle)
    return 1 + (low + high) / 2


def _logistic(u: Tensor, m: Tensor, weight: Tensor, tolerance: float) -> Iterator[tuple[BregmanGeometry, float, float]]:
    """c·σ(β(u − s)) + d, by Levenberg–Marquardt in (log β, βs) with c and d solved exactly, from starts across the
    scales of β."""
    if not bool(torch.isfinite(m).all()) or float(m[-1]) <= float(m[0]):
        return
    keep = torch.linspace(0, len(u) - 1, min(len(u), 240)).long().unique()
    few = (u[keep], m[keep], weight[keep])
    best: tuple[float, Tensor] | None = None
    width = math.log(10 / min(float(u.abs().max()), 10.0))
    for start in (0, -2, 2, -4, 4, -6, 6, -8, 8):
        p = torch.tensor([math.log(2.0) * start + width, 0.0], dtype=torch.float64)
        cost, p = levenberg_marquardt(lambda q: _logistic_residual(q, *few), p)
        if best is None or cost < best[0]:
            best = (cost, p)
        if cost < 1e-22 * len(keep):
            break
    assert best is not None
    beta = math.exp(float(best[1][0]))
    c, offset = least_squares([torch.sigmoid(beta * u - best[1][1]), torch.ones_like(u)], m, weight).tolist()
    if not (c > 0 and math.isfinite(c)):
        return
    beta, shift = tidy(beta, tolerance), float(best[1][1]) / beta
    shift = 0.0 if abs(shift) * beta <= tolerance else tidy(shift, tolerance)
    factor = tidy(c / beta, tolerance)
    size = abs(c)
    offset = 0.0 if abs(offset) <= tolerance * size else tidy(offset, tolerance)
    link = Logistic(beta)
    yield link if factor == 1 else factor * link, offset, shift  # type: ignore[misc]


def _logistic_residual(p: Tensor, u: Tensor, m: Tensor, weight: Tensor) -> Tensor:
    """What is left of the weighted samples after their projection on the sigmoid and the constant."""
    one = weight / weight.norm()
    sigmoid = torch.sigmoid(p[0].exp() * u - p[1]) * weight
    sigmoid = sigmoid - one * (one @ sigmoid)
    sigmoid = sigmoid / sigmoid.norm().clamp(min=1e-300)
    rest = m * weight
    rest = rest - one * (one @ rest)
    return rest - sigmoid * (sigmoid @ rest)


def levenberg_marquardt(residual: Callable[[Tensor], Tensor], p: Tensor, steps: int = 80) -> tuple[float, Tensor]:
    """A few parameters; the Jacobian by central differences."""
    damping, r = 1e-3, residual(p)
    cost = float(r @ r)
    shifts = 1e-5 * torch.eye(len(p), dtype=p.dtype)
    for _ in range(steps):
        jacobian = torch.stack([(residual(p + d) - residual(p - d)) / 2e-5 for d in shifts], -1)
        gram, slope = jacobian.T @ jacobian, jacobian.T @ r
        damped = gram + torch.diag(damping * gram.diagonal() + 1e-30)
        step = torch.linalg.solve(damped, -slope).nan_to_num()
        trial = p + step.clamp(-1, 1)
        r_trial = residual(trial)
        trial_cost = float(r_trial @ r_trial)
        if trial_cost < cost:
            settled = cost - trial_cost <= 1e-10 * cost
            p, r, cost, damping = trial, r_trial, trial_cost, damping / 10
            if settled:
                break
        else:
            damping *= 10
            if damping > 1e8:
                break
    return cost, p


def _hinge(
    u: Tensor, m: Tensor, kinks: tuple[float, ...], tolerance: float
) -> Iterator[tuple[BregmanGeometry, float, float]]:
    """One step of m at a known kink, of height β at 1/β + shift; or a rise of slope 2β² that ends there (squared
    hinge)."""
    low, high = float(m[0]), float(m[-1])
    height = high - low
    for place in kinks:
        if height > 0 and float(u[0]) < place < float(u[-1]):
            beta = tidy(height, tolerance)
            shift = place - 1 / beta
            offset = 0.0 if abs(low) <= tolerance * height else tidy(low, tolerance)
            yield Hinge(beta), offset, 0.0 if abs(shift) <= tolerance * (1 + abs(place)) else tidy(shift, tolerance)
        steepness = float((m[1] - m[0]) / (u[1] - u[0]))
        if steepness > 0 and float(u[1]) < place < float(u[-1]):
            beta = tidy(math.sqrt(steepness / 2), tolerance)
            shift, offset = place - 1 / beta, high - 2 * beta
            offset = 0.0 if abs(offset) <= tolerance * height else tidy(offset, tolerance)
            shift = 0.0 if abs(shift) <= tolerance * (1 + abs(place)) else tidy(shift, tolerance)
            yield SquaredHinge(beta), offset, shift
