"""The families of charts and potentials with which sampled curves are compared, and their fits by least squares."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from scipy import optimize
from torch import Tensor
from torch.nn.functional import logsigmoid

from geomalign import divergences, optimization
from geomalign.chart import Chart, Dual, LogRatio, Power, Ratio, Sigmoid
from geomalign.optimization import KL, ChiSquare, FDivergence, Flat, ReverseKL

_DIVERGENCES: tuple[divergences.Divergence, ...] = (
    divergences.KullbackLeibler(),
    divergences.PearsonChiSquare(),
    divergences.ReverseKullbackLeibler(),
    divergences.SquaredHellinger(),
    divergences.NeymanChiSquare(),
    divergences.JensenShannon(),
)
_FDIVERGENCES = tuple(functools.partial(FDivergence, of) for of in _DIVERGENCES[2:])
_Family = Callable[[float], optimization.BregmanGeometry]


@dataclasses.dataclass(frozen=True)
class Match:
    """A member of the library for a sampled function, to the stated residual.

    Args:
        member: a chart with u' = scale·slope(Δ), or a potential with φ' = scale·(mirror(scale·u − shift) + offset).
        residual: largest relative error over the samples.
        scale: of a chart it belongs to the drive, of a potential to the chart.
        offset: constant force beside it: the drive with the opposite sign where that was not separated.
        shift: displacement of the coordinate (SimPO's margin).

    >>> import geomalign as ga
    >>> Match(ga.Ratio(), scale=2.0).member
    Ratio()
    """

    member: Any
    residual: float = math.nan
    scale: float = 1.0
    offset: float = 0.0
    shift: float = 0.0


def first(candidates: Iterable[Match], error: Callable[[Match], float], tolerance: float) -> Match | None:
    """The first candidate whose error over all samples, hundreds for a few parameters, is within the tolerance.

    >>> first([Match(1.0), Match(2.0)], lambda match: abs(match.member - 1.9), 0.2).member
    2.0
    """
    tried = (dataclasses.replace(match, residual=error(match)) for match in candidates)
    return next((match for match in tried if match.residual <= tolerance), None)


def tidy(value: float, relative: float, *, beside: float = 0.0) -> float:
    """The number with the fewest digits within a relative distance; 0 where it is nothing beside another size.

    >>> tidy(0.70000000001, 1e-8), tidy(1e-12, 1e-8, beside=1.0)
    (0.7, 0.0)
    """
    if abs(value) <= relative * beside:
        return 0.0
    shorter = (float(f"{value:.{digits}g}") for digits in range(1, 16))
    return next((short for short in shorter if abs(short - value) <= relative * abs(value)), value)


def amplitudes(columns: Sequence[Tensor], target: Tensor, weight: Tensor) -> list[float]:
    """The c of least Σ weight²(Σ_k c_k·column_k − target)².

    >>> x = torch.linspace(0.0, 1.0, 9)
    >>> [round(c, 5) for c in amplitudes([x, x**2], 3 * x - x**2, torch.ones(9))]
    [3.0, -1.0]
    """
    matrix = torch.stack(tuple(columns), -1) * weight[:, None]
    size = matrix.norm(dim=0).clamp(min=1e-300)
    solved: list[float] = (torch.linalg.lstsq(matrix / size, (target * weight)[:, None]).solution[:, 0] / size).tolist()
    return solved


def solve(residual: Callable[..., Tensor], starts: Iterable[Sequence[float]]) -> tuple[float, list[float]]:
    """Mean square and place of the least residual(*p) that Levenberg–Marquardt reaches from any of the starts.

    Parameters are kept within ±300, so that those that are searched by their logarithm stay finite.

    >>> mean_square, [root] = solve(lambda p: torch.tensor([p**2 - 4.0]), [[1.0]])
    >>> round(root, 6)
    2.0
    """
    best = (math.inf, [math.nan])

    def finite(p: Any) -> Any:
        return residual(*p.clip(-300, 300).tolist()).nan_to_num(1e10, 1e10, -1e10).numpy()

    for start in starts:
        found = optimize.least_squares(finite, start, method="lm", xtol=1e-15, ftol=1e-15, gtol=1e-15)
        best = min(best, (2 * float(found.cost) / len(found.fun), found.x.clip(-300, 300).tolist()))
        if best[0] < 1e-22:
            break
    return best


def separable(
    columns: Callable[..., Sequence[Tensor]], x: Tensor, target: Tensor, weight: Tensor, *starts: Sequence[float]
) -> tuple[list[float], list[float]]:
    """(p, c) of target ≈ Σ_k c_k·column_k(x, *p), c by linear least squares at every p (variable projection).

    >>> x = torch.linspace(0.0, 1.0, 50, dtype=torch.float64)
    >>> (rate,), (factor,) = separable(lambda x, k: [(k * x).exp()], x, 2 * (3 * x).exp(), torch.ones_like(x), (1.0,))
    >>> round(rate, 9), round(factor, 9)
    (3.0, 2.0)
    """
    few, aim, share = (each[_few(x)] for each in (x, target * weight, weight))

    def rest(*p: float) -> Tensor:
        basis = torch.stack(tuple(columns(few, *p)), -1) * share[:, None]
        orthogonal = torch.linalg.qr((basis / basis.norm(dim=0).clamp(min=1e-300)).nan_to_num()).Q
        return aim - orthogonal @ (orthogonal.T @ aim)

    _, p = solve(rest, starts)
    return p, amplitudes(columns(x, *p), target, weight)


def _few(x: Tensor) -> slice:
    """A few hundred of the samples, evenly spread: enough for any fit."""
    return slice(None, None, max(1, len(x) // 240))


def chart(log_ratio: Tensor, slope: Tensor, tolerance: float) -> Match | None:
    """The first of LogRatio, Ratio, Power, Dual, Sigmoid with this slope, up to a factor.

    Dual is tried of Jensen–Shannon and of sums of two divergences, the first with weight 1; of the single ones of the
    power family it is Power.

    Args:
        log_ratio: `(samples,)`.
        slope: `(samples,)`, u' there, positive.
        tolerance: largest relative residual accepted.

    >>> x = torch.linspace(-2.0, 2.0, 99, dtype=torch.float64)
    >>> chart(x, 3 * x.exp(), 1e-8).member, chart(x, torch.exp(-x / 2), 1e-8).member
    (Ratio(), Power(power=-0.5))
    """

    def scaled() -> Iterator[Match]:
        for member in _charts(log_ratio, slope, tolerance):
            yield Match(member, scale=tidy(float((slope / member.slope(log_ratio)).median()), tolerance))

    def error(match: Match) -> float:
        return float(((match.scale * match.member.slope(log_ratio) - slope) / slope).abs().max())

    return first(scaled(), error, tolerance)


def _charts(x: Tensor, slope: Tensor, tolerance: float) -> Iterator[Chart]:
    yield from (LogRatio(), Ratio())
    low, high = int(x.argmin()), int(x.argmax())
    power = tidy(float((slope[high].log() - slope[low].log()) / (x[high] - x[low])), tolerance)
    if power not in (0.0, 1.0) and abs(power) < 20:
        yield Power(power)
    yield Dual(divergences.JensenShannon())
    yield from _sigmoids(x, slope, tolerance)
    for one, other in itertools.combinations(_DIVERGENCES, 2):
        a, b = amplitudes([one.slope(x), other.slope(x)], slope, 1 / slope)
        if a > 0 and b > 0:
            yield Dual(1.0 * one + tidy(b / a, tolerance) * other)


def _sigmoids(x: Tensor, slope: Tensor, tolerance: float) -> Iterator[Sigmoid]:
    """Of this slope: log slope = log σ(βx − z) + log σ(z − βx) + constant, solved for (log β, z)."""
    few, log = x[_few(x)], slope[_few(x)].log()

    def rest(log_beta: float, z: float) -> Tensor:
        at = math.exp(log_beta) * few - z
        left = log - logsigmoid(at) - logsigmoid(-at)
        return left - left.mean()

    cost, (log_beta, z) = solve(rest, [(0.0, 0.0), (-2.5, 0.0), (1.5, 0.0)])
    if cost < 1e-3:
        beta = math.exp(log_beta)
        yield Sigmoid(tidy(beta, tolerance), tidy(z / beta, tolerance, beside=1 / beta))


def potential(
    u: Tensor,
    mirror: Tensor,
    tolerance: float,
    *,
    core: Tensor,
    kinks: Sequence[float] = (),
    drive_size: float = 1.0,
    scalable: bool = False,
) -> Match | None:
    """The first potential, simplest first, with this mirror φ', up to a constant force.

    Tried in turn: Flat, ChiSquare, KL, ReverseKL, Hinge, SquaredHinge, Logistic, AlphaDivergence, FDivergence of
    Jensen–Shannon, sums of two, ReverseKL of a multiple of u.

    Args:
        u: `(samples,)` coordinates, increasing.
        mirror: `(samples,)`, φ' there, known up to a constant.
        tolerance: largest residual accepted.
        core: `(samples,)` booleans, those near the anchor, that say what size is.
        kinks: coordinates at which φ' is known to jump or bend.
        drive_size: force below a `tolerance`th of which nothing resists.
        scalable: whether the chart may be multiplied by a number, which is `Match.scale`.

    >>> u = torch.linspace(-2.0, 2.0, 99, dtype=torch.float64)
    >>> found = potential(u, 3 * torch.sigmoid(u) - 1, 1e-8, core=u.abs() < 1)
    >>> found.member, found.offset
    (3.0 * Logistic(beta=1.0), -1.0)
    """
    level = float(mirror[core].mean())
    size = max(drive_size, abs(level))
    if float((mirror - level).abs().max()) <= tolerance * size:
        offset = tidy(level, tolerance, beside=drive_size)
        return Match(Flat(), float((mirror - offset).abs().max()) / size, offset=offset)
    nearby = mirror[core].abs().max()  # zero where nothing is felt around the anchor: then the size is that further out
    weight = 1 / (mirror.abs() + torch.where(nearby > 0, nearby, mirror.abs().max()))

    def error(match: Match) -> float:
        fit = match.scale * (match.member.mirror(match.scale * u - match.shift) + match.offset)
        return float(((fit - mirror) * weight).abs().nan_to_num(math.inf).max())

    return first(_potentials(u, mirror, weight, kinks, tolerance, scalable), error, tolerance)


def _potentials(
    u: Tensor, m: Tensor, weight: Tensor, kinks: Sequence[float], tolerance: float, scalable: bool
) -> Iterator[Match]:
    one, size, positive = torch.ones_like(u), float(1 / weight.max()), bool((u > -1).all())
    alpha = optimization.AlphaDivergence

    def linear(*families: _Family, rate: float = 1.0) -> Iterator[Match]:
        *factors, offset = amplitudes([*(family(1.0).mirror(rate * u) for family in families), one], m / rate, weight)
        if min(factors) > 0:
            parts = [family(tidy(factor, tolerance)) for family, factor in zip(families, factors)]
            member = functools.reduce(lambda a, b: a + b, parts)  # type: ignore[arg-type,return-value]
            yield Match(member, scale=rate, offset=tidy(offset, tolerance, beside=size / rate))

    def powers(x: Tensor, order: float) -> list[Tensor]:
        return [alpha(order).mirror(x), torch.ones_like(x)]

    def exponential(x: Tensor, log_rate: float) -> list[Tensor]:
        return [-torch.expm1(-math.exp(log_rate) * x), torch.ones_like(x)]

    simple: list[_Family] = [ChiSquare, KL, ReverseKL] if positive else [ChiSquare, ReverseKL]
    for family in simple:
        yield from linear(family)
    yield from _hinges(u, m, kinks, tolerance)
    yield from _logistic(u, m, weight, tolerance)
    if positive:
        (order,), _ = separable(powers, u, m, weight, (0.5,), (1.5,), (3.0,), (-1.0,))
        yield from linear(functools.partial(alpha, tidy(order, 10 * tolerance)))
        yield from linear(_FDIVERGENCES[-1])
    both: list[_Family] = [*simple, *_FDIVERGENCES] if positive else simple
    for pair in itertools.combinations(both, 2):
        yield from linear(*pair)
    if scalable:  # an exponential of ku is the reverse KL of k times the log-ratio
        (log_rate,), _ = separable(exponential, u, m, weight, (0.0,), (-2.0,), (2.0,))
        yield from linear(ReverseKL, rate=tidy(math.exp(log_rate), tolerance))


def _hinges(u: Tensor, m: Tensor, kinks: Sequence[float], tolerance: float) -> Iterator[Match]:
    """A step of m at a known kink, of height β at 1/β + shift; or a rise of slope 2β² that ends there."""
    high, height = float(m[-1]), float(m[-1] - m[0])
    steepness = max(float((m[1] - m[0]) / (u[1] - u[0])), 0.0)
    shapes = ((optimization.Hinge, height, 1), (optimization.SquaredHinge, math.sqrt(steepness / 2), 2))
    for place, (member, size, steps) in itertools.product(kinks, shapes):
        beta = tidy(size, tolerance)
        if beta > 0 and float(u[0]) < place < float(u[-1]):
            offset = tidy(high - steps * beta, tolerance, beside=height)
            yield Match(member(beta), offset=offset, shift=tidy(place - 1 / beta, tolerance, beside=1 + abs(place)))


def _logistic(u: Tensor, m: Tensor, weight: Tensor, tolerance: float) -> Iterator[Match]:
    """c·σ(βu − z) + d, from starts across the scales of β."""
    if not bool(torch.isfinite(m).all()) or float(m[-1]) <= float(m[0]):
        return
    width = math.log(10 / min(float(u.abs().max()), 10.0))
    starts = [(math.log(2.0) * start + width, 0.0) for start in (0, -2, 2, -4, 4, -6, 6, -8, 8)]

    def columns(x: Tensor, log_beta: float, z: float) -> list[Tensor]:
        return [torch.sigmoid(math.exp(log_beta) * x - z), torch.ones_like(x)]

    (log_beta, z), (height, offset) = separable(columns, u, m, weight, *starts)
    if 0 < height < math.inf:
        beta = math.exp(log_beta)
        shift, link = tidy(z / beta, tolerance, beside=1 / beta), optimization.Logistic(tidy(beta, tolerance))
        factor, offset = tidy(height / link.beta, tolerance), tidy(offset, tolerance, beside=height)
        yield Match(link if factor == 1 else factor * link, offset=offset, shift=shift)


def by_sign(x: Tensor, up: Tensor, down: Tensor, tolerance: float) -> tuple[Match, Match] | None:
    """Chart and potential of a loss whose force is |A|·f_sgn(A)(Δ), from f₊ (`up`) and f₋ (`down`) at `(samples,)`.

    `AdvantageScaled`: the odd part in A is the pull −u', the even part φ'(u)u'. `SigmoidClip`: each sign has the slope
    of a sigmoid, of a ratio or a log-ratio.

    >>> x = torch.linspace(-1.0, 1.0, 99, dtype=torch.float64)
    >>> [match.member for match in by_sign(x, 2 * x - 1, 2 * x + 1, 1e-8)]
    [LogRatio(scale=1.0), AdvantageScaled(of=ChiSquare(mu=2.0))]
    """
    pull = (down - up) / 2
    named = chart(x, pull, tolerance) if bool((pull > 0).all()) else None
    if named is not None and named.scale == 1:
        mirror = (up + down) / 2 / named.member.slope(x)
        found = potential(named.member(x), mirror, tolerance, core=x.abs() <= 1.0)
        if found is not None and found.offset == found.shift == 0:
            return named, Match(optimization.AdvantageScaled(found.member), found.residual)
    for coordinate in (Ratio(), LogRatio()):
        u, slope, one = coordinate(x), coordinate.slope(x), torch.ones_like(x)
        pulls = torch.stack([-up / slope, down / slope])
        gates = [gate for pull in pulls if bool((pulls > 0).all()) for gate in _sigmoids(u, pull, tolerance)]
        if len(gates) == 2 and gates[0].shift == gates[1].shift == 0:
            gate = optimization.SigmoidClip(gates[0].scale, gates[1].scale)
            predicted = torch.stack([-gate.force(u, one), gate.force(u, -one)])
            residual = float((predicted - pulls).abs().max() / pulls.max())
            if residual <= tolerance:
                return Match(coordinate, residual), Match(gate, residual)
    return None
