"""Functions of one variable, resolved to rounding: piecewise Legendre series on panels split where a function is not
smooth.

What is integrated, differentiated and inverted here was only ever *evaluated*: the panels are chosen by how fast the
series of a panel converges, kinks and jumps are found by bisection to ~1e-12 and become edges, so that between edges
quadrature and differentiation are spectral.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable

import torch
from torch import Tensor

from geomalign._util.types import Interval

ORDER = 16
_TAIL = 3
_NARROW = 2e-12
_MOST = 5000


@functools.lru_cache(maxsize=1)
def _rule() -> tuple[Tensor, Tensor]:
    """Gauss–Legendre nodes in (−1, 1), and the matrix from values there to Legendre coefficients (Golub and Welsch)."""
    k = torch.arange(1, ORDER, dtype=torch.float64)
    off = k / torch.sqrt(4 * k * k - 1)
    nodes, vectors = torch.linalg.eigh(torch.diag(off, 1) + torch.diag(off, -1))
    weights = 2 * vectors[0] ** 2
    degree = torch.arange(ORDER, dtype=torch.float64)
    return nodes, (degree + 0.5)[:, None] * _legendre(nodes, ORDER).T * weights


def _legendre(x: Tensor, count: int) -> Tensor:
    """`(..., count)`: P_0(x) … P_{count−1}(x)."""
    columns = [torch.ones_like(x), x]
    for k in range(1, count - 1):
        columns.append(((2 * k + 1) * x * columns[k] - k * columns[k - 1]) / (k + 1))
    return torch.stack(columns[:count], -1)


def nodes(edges: Tensor) -> Tensor:
    """`(panel, node)`: the interior points at which each panel is sampled; increasing when flattened."""
    half, centre = (edges[1:] - edges[:-1]) / 2, (edges[1:] + edges[:-1]) / 2
    return centre[:, None] + half[:, None] * _rule()[0]


@dataclasses.dataclass(frozen=True, eq=False)
class Curve:
    """A function known on panels: between edges a Legendre series, NaN outside, right-continuous at edges.

    Args:
        edges: `(panel + 1,)`, increasing.
        coefficients: `(panel, order)` of the Legendre series of each panel.

    >>> import torch
    >>> edges = torch.linspace(-1.0, 1.0, 3, dtype=torch.float64)
    >>> curve = Curve.through(edges, torch.exp(nodes(edges)))
    >>> bool((curve.integral()(torch.tensor(0.5)) - torch.expm1(torch.tensor(0.5, dtype=torch.float64))).abs() < 1e-14)
    True
    """

    edges: Tensor
    coefficients: Tensor

    @classmethod
    def through(cls, edges: Tensor, values: Tensor) -> Curve:
        """The curve with these `(panel, node)` values at `nodes(edges)`."""
        return cls(edges, values @ _rule()[1].T)

    @property
    def domain(self) -> Interval:
        """Where it is known."""
        return Interval(float(self.edges[0]), float(self.edges[-1]))

    def __call__(self, x: Tensor) -> Tensor:
        x = x.to(torch.float64)
        panel = (torch.searchsorted(self.edges, x.detach().contiguous(), right=True) - 1).clamp(0, len(self.edges) - 2)
        low, high = self.edges[panel], self.edges[panel + 1]
        local = (2 * x - low - high) / (high - low)
        inside = (x >= self.edges[0]) & (x <= self.edges[-1])
        value = (_legendre(local, self.coefficients.shape[1]) * self.coefficients[panel]).sum(-1)
        return torch.where(inside, value, math.nan)

    def sides(self) -> tuple[Tensor, Tensor]:
        """`(panel − 1,)` limits from the left and from the right at the inner edges."""
        ends = _legendre(torch.tensor([-1.0, 1.0], dtype=torch.float64), self.coefficients.shape[1])
        low, high = self.coefficients @ ends[0], self.coefficients @ ends[1]
        return high[:-1], low[1:]

    def derivative(self) -> Curve:
        """Its derivative between the edges; jumps leave no trace."""
        half = (self.edges[1:] - self.edges[:-1]) / 2
        c, count = self.coefficients, self.coefficients.shape[1]
        columns = []
        for k in range(count - 1):  # P_j' = Σ (2k+1) P_k over k = j−1, j−3, …
            columns.append((2 * k + 1) * c[:, k + 1 :: 2].sum(-1))
        return Curve(self.edges, torch.stack(columns, -1) / half[:, None])

    def integral(self, origin: float = 0.0) -> Curve:
        """∫ from `origin` (moved into the domain), summed outwards so that small values near it are not lost in large
        ones."""
        half = (self.edges[1:] - self.edges[:-1]) / 2
        c = self.coefficients
        zero = c.new_zeros(len(c), 1)
        wide = torch.cat([c, zero, zero], -1)
        k = torch.arange(1, c.shape[1] + 1, dtype=c.dtype)
        inner = wide[:, :-2] / (2 * k - 1) - wide[:, 2:] / (2 * k + 3)  # ∫P_k = (P_{k+1} − P_{k−1})/(2k+1)
        series = torch.cat([zero, inner], -1) * half[:, None]
        signs = torch.where(torch.arange(series.shape[1]) % 2 == 0, 1.0, -1.0).to(c.dtype)
        start, stop = series @ signs, series.sum(-1)
        home = int(
            (torch.searchsorted(self.edges, torch.tensor(origin, dtype=c.dtype), right=True) - 1).clamp(0, len(c) - 1)
        )
        origin = min(max(origin, float(self.edges[home])), float(self.edges[home + 1]))
        local = (2 * origin - self.edges[home] - self.edges[home + 1]) / (2 * half[home])
        at_home = -(_legendre(local, series.shape[1]) * series[home]).sum()
        step = stop - start
        above = at_home + stop[home] + torch.cat([c.new_zeros(1), step[home + 1 :].cumsum(0)])
        below = at_home + start[home] - torch.cat([c.new_zeros(1), step[:home].flip(0).cumsum(0)])
        offset = torch.cat([(below[1:]).flip(0) - start[:home], at_home[None], above[:-1] - start[home + 1 :]])
        return Curve(self.edges, torch.cat([series[:, :1] + offset[:, None], series[:, 1:]], -1))

    def inverse(self, y: Tensor) -> Tensor:
        """The x at which a continuous non-decreasing curve reaches `y`; NaN outside its range, the left end of a
        plateau."""
        y = y.to(torch.float64)
        low, high = torch.full_like(y, float(self.edges[0])), torch.full_like(y, float(self.edges[-1]))
        span = self(torch.stack([self.edges[0], self.edges[-1]]))
        for _ in range(64):
            middle = (low + high) / 2
            reached = self(middle) >= y
            low, high = torch.where(reached, low, middle), torch.where(reached, middle, high)
        # One secant of the last bracket is no gain; what is left is the rounding of x.
        return torch.where((y >= span[0]) & (y <= span[1]), (low + high) / 2, math.nan)


@dataclasses.dataclass(frozen=True, eq=False)
class Resolved:
    """Several functions on panels that resolve all of them.

    Args:
        edges: `(panel + 1,)`.
        values: `(panel, node, function)`.
        kinks: points where at least one of them is not smooth; each is an edge.
    """

    edges: Tensor
    values: Tensor
    kinks: tuple[float, ...]

    @property
    def nodes(self) -> Tensor:
        """`(panel, node)`."""
        return nodes(self.edges)

    def curve(self, values: Tensor) -> Curve:
        """The curve through `(panel, node)` values."""
        return Curve.through(self.edges, values)


def resolve(
    function: Callable[[Tensor], Tensor],
    domain: Interval,
    *,
    tolerance: float = 1e-12,
    panels: int = 31,
    finest: float = 1e-7,
) -> Resolved:
    """Panels on which all components of a function are polynomials of degree 15 to a relative tolerance, split at every
    kink.

    Args:
        function: `(points,)` → `(points, function)`, finite on the domain.
        domain: bounded, with 0 inside.
        tolerance: of the last Legendre coefficients, relative to the panel's largest value, with an absolute floor of
            a hundredth of it relative to the function's size near the anchor.
        panels: of the first partition, odd.
        finest: width of panel at which a singularity that is no jump and no kink is left unresolved.

    Returns:
        The panels, the values at their nodes and the kinks.
    """
    near = torch.linspace(max(domain.low, -1.0), min(domain.high, 1.0), 33, dtype=torch.float64)
    floor = 0.01 * tolerance * function(near).abs().amax(0)
    # An edge may hide a kink, so the first edges avoid round numbers.
    inner = torch.linspace(domain.low, domain.high, panels + 1, dtype=torch.float64)[1:-1]
    inner = inner + (domain.high - domain.low) / panels / math.pi / 10
    start = torch.cat([inner.new_tensor([domain.low]), inner, inner.new_tensor([domain.high])])
    kinks = _kinks(_split(function, start, tolerance, floor, _NARROW, ends=True)[0])
    if kinks:
        at = torch.tensor(kinks, dtype=torch.float64)
        clear = ((start[:, None] - at).abs() > 1e-3).all(-1)
        clear[0] = clear[-1] = True
        start = torch.cat([start[clear], at]).sort().values
    edges, values = _split(function, start, tolerance, floor, finest, ends=False)
    return Resolved(edges, values, kinks)


def _split(
    function: Callable[[Tensor], Tensor], edges: Tensor, tolerance: float, floor: Tensor, narrow: float, *, ends: bool
) -> tuple[Tensor, Tensor]:
    """Halve panels until each converges or is narrow; all panels of a level are evaluated in one call.

    With `ends`, a panel must also predict the function at its two edges: a jump between the last node and the edge is
    seen.
    """
    low, high = edges[:-1], edges[1:]
    at_ends = _legendre(torch.tensor([-1.0, 1.0], dtype=torch.float64), ORDER)
    lows, values = [], []
    while low.numel():
        if len(low) > _MOST:
            raise ValueError(
                f"the function is not smooth between {float(low.min()):.6g} and {float(high.max()):.6g}, in more "
                f"than {_MOST} places: it is noise there (a random or low-precision step, or a pole). Leave that part "
                "out of the domain."
            )
        x = (low + high)[:, None] / 2 + (high - low)[:, None] / 2 * _rule()[0]
        if ends:
            x = torch.cat([x, low[:, None], high[:, None]], -1)
        f, at = function(x.reshape(-1)).reshape(*x.shape, -1).split([ORDER, x.shape[1] - ORDER], 1)
        series = torch.einsum("kn,pnj->pkj", _rule()[1], f)
        allowed = tolerance * f.abs().amax(1) + floor
        smooth = (series[:, -_TAIL:].abs().amax(1) <= allowed).all(-1)
        if ends:
            missed = (torch.einsum("ek,pkj->pej", at_ends, series) - at).abs().amax(1)
            smooth = smooth & (missed <= 10 * allowed).all(-1)
        thin = (high - low) < narrow * (1 + (low + high).abs() / 2)
        done = smooth | thin
        lows.append(low[done])
        values.append(f[done])
        low, high = low[~done], high[~done]
        middle = (low + high) / 2
        low, high = torch.cat([low, middle]), torch.cat([middle, high])
    left, order = torch.cat(lows).sort()
    return torch.cat([left, edges[-1:]]), torch.cat(values)[order]


def _kinks(edges: Tensor) -> tuple[float, ...]:
    """One point for each run of panels that had to be narrower than any smooth function asks for: where they are
    narrowest."""
    width, centre = edges.diff(), (edges[1:] + edges[:-1]) / 2
    kinks: list[float] = []
    run: list[int] = []
    for k in (*(width < 1e-6 * (1 + centre.abs())).nonzero()[:, 0].tolist(), -1):
        if run and k != run[-1] + 1:
            narrowest = float(width[run].min())
            at = [float(centre[j]) for j in run if float(width[j]) < 1.5 * narrowest]
            kinks.append(sum(at) / len(at))
            run = []
        run.append(k)
    return tuple(kinks)
