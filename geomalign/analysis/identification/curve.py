"""Functions of one variable, resolved to rounding: Legendre series on panels that end where a function is not smooth.

A function is only ever evaluated. Panels are halved until their series converge; kinks and jumps are found by bisection
to about 1e-12 and become edges, so that between edges quadrature and differentiation are spectral.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.polynomial import legendre
from torch import Tensor

from geomalign._util import numerics
from geomalign._util.types import Interval

_ORDER = 16  # nodes per panel
_NODES, _WEIGHTS = (torch.from_numpy(each) for each in legendre.leggauss(_ORDER))
_SERIES = torch.from_numpy(legendre.legvander(_NODES.numpy(), _ORDER - 1)).T * _WEIGHTS
_SERIES = (torch.arange(_ORDER, dtype=torch.float64) + 0.5)[:, None] * _SERIES
"""`(degree, node)`: from values at the nodes to Legendre coefficients."""
_TAIL, _PANELS, _MOST = 3, 31, 5000  # coefficients that must vanish, panels to begin with, panels at most
_NARROW, _FINEST = 2e-12, 1e-7  # widths of panel, relative to 1 + |x|, that are split no further


@dataclasses.dataclass(frozen=True, eq=False)
class _Panels:
    edges: Tensor

    @property
    def domain(self) -> Interval:
        """The interval that the panels cover."""
        return Interval(float(self.edges[0]), float(self.edges[-1]))


@dataclasses.dataclass(frozen=True, eq=False)
class Curve(_Panels):
    """A function known on panels: between edges a Legendre series, NaN outside, right-continuous at edges.

    Args:
        edges: `(panel + 1,)`, increasing.
        coefficients: `(panel, order)` of the Legendre series of each panel.

    >>> import torch, geomalign as ga
    >>> found = resolve(lambda x: torch.exp(x)[:, None], ga.Interval(-1.0, 1.0))
    >>> float(found.curve(found.values[..., 0]).integral()(torch.tensor(0.5)))
    0.648721...
    """

    coefficients: Tensor

    def _local(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Which panel each point lies in, and where between its ends at −1 and 1."""
        panel = torch.searchsorted(self.edges, x.detach().contiguous(), right=True).clamp(1, len(self.edges) - 1) - 1
        low, high = self.edges[panel], self.edges[panel + 1]
        return panel, (2 * x - low - high) / (high - low)

    def __call__(self, x: Tensor) -> Tensor:
        x = x.to(torch.float64)
        panel, local = self._local(x)
        series, value, after = self.coefficients[panel], torch.zeros_like(x), torch.zeros_like(x)
        for k in range(series.shape[-1] - 1, -1, -1):  # Clenshaw's recurrence, which autograd passes through
            step = (2 * k + 1) / (k + 1) * local * value - (k + 1) / (k + 2) * after
            value, after = series[..., k] + step, value
        return torch.where((x >= self.edges[0]) & (x <= self.edges[-1]), value, math.nan)

    def ends(self) -> tuple[Tensor, Tensor]:
        """`(panel,)` limits at the left and at the right end of every panel: P_k(±1) = (±1)^k."""
        return self.coefficients[:, ::2].sum(-1) - self.coefficients[:, 1::2].sum(-1), self.coefficients.sum(-1)

    def sides(self) -> tuple[Tensor, Tensor]:
        """`(panel − 1,)` limits from the left and from the right at the inner edges."""
        left, right = self.ends()
        return right[:-1], left[1:]

    def derivative(self) -> Curve:
        """Its derivative between the edges; jumps leave no trace."""
        series = torch.from_numpy(legendre.legder(self.coefficients.numpy(), axis=1))
        return Curve(self.edges, 2 * series / self.edges.diff()[:, None])

    def integral(self, origin: float = 0.0) -> Curve:
        """∫ from `origin`, which is moved into the domain."""
        panel, local = self._local(self.domain.clamp(torch.tensor(origin, dtype=torch.float64)))
        home, scaled = int(panel), (self.coefficients * self.edges.diff()[:, None] / 2).numpy()
        # Each panel is integrated from its end that is nearer to the origin, and the panels are summed outwards, so
        # that small values near the origin are not lost in large ones.
        parts = (scaled[:home], 1.0), (scaled[home : home + 1], float(local)), (scaled[home + 1 :], -1.0)
        series = torch.from_numpy(np.concatenate([legendre.legint(part, lbnd=start, axis=1) for part, start in parts]))
        left, right = Curve(self.edges, series).ends()
        below, above = left[1 : home + 1].flip(0).cumsum(0).flip(0), right[home:-1].cumsum(0)
        series[:, 0] += torch.cat([below, left.new_zeros(1), above])
        return Curve(self.edges, series)

    def inverse(self, y: Tensor) -> Tensor:
        """The x at which a continuous non-decreasing curve reaches `y`; NaN outside its range."""
        y, (left, right) = y.to(torch.float64), self.ends()
        x = numerics.solve_increasing(self, y, self.domain.low, self.domain.high)
        return torch.where((y >= left[0]) & (y <= right[-1]), x, math.nan)


@dataclasses.dataclass(frozen=True, eq=False)
class Resolved(_Panels):
    """Several functions on panels that resolve all of them.

    Args:
        edges: `(panel + 1,)`.
        values: `(panel, node, function)`.
        kinks: points where at least one of them is not smooth; each is an edge.

    >>> import torch, geomalign as ga
    >>> [kink] = resolve(lambda x: torch.relu(x - 0.25)[:, None], ga.Interval(-1.0, 1.0)).kinks
    >>> round(kink, 9)
    0.25
    """

    values: Tensor
    kinks: tuple[float, ...]

    @property
    def nodes(self) -> Tensor:
        """`(panel, node)`: the interior points at which each panel is sampled; increasing when flattened."""
        return (self.edges[1:] + self.edges[:-1])[:, None] / 2 + self.edges.diff()[:, None] / 2 * _NODES

    def curve(self, values: Tensor) -> Curve:
        """The curve through `(panel, node)` values."""
        return Curve(self.edges, values @ _SERIES.T)

    def curves(self, values: Tensor) -> tuple[Curve, ...]:
        """The curves through `(panel, node, function)` values."""
        return tuple(self.curve(column) for column in values.unbind(-1))

    def last(self, values: Tensor) -> Tensor:
        """`(panel, 1)`: the last Legendre coefficients of values at nodes, a measure of their rounding."""
        return (values @ _SERIES.T)[:, -_TAIL:].abs().amax(-1, keepdim=True)


def resolve(function: Callable[[Tensor], Tensor], domain: Interval, *, tolerance: float = 1e-12) -> Resolved:
    """Panels on which all components of a function are polynomials of degree 15, split at every kink.

    Args:
        function: `(points,)` → `(points, function)`, finite on the domain.
        domain: bounded, with 0 inside.
        tolerance: of the last Legendre coefficients, relative to the panel's largest value, with an absolute floor of
            a hundredth of it relative to the function's size near the anchor, or anywhere if it is zero there.

    Raises:
        ValueError: the function is rough in more than 5000 places.

    >>> import torch, geomalign as ga
    >>> len(resolve(lambda x: torch.exp(x)[:, None], ga.Interval(-30.0, 30.0)).nodes)
    31
    """
    near = torch.linspace(max(domain.low, -1.0), min(domain.high, 1.0), 33, dtype=torch.float64)
    start = torch.linspace(domain.low, domain.high, _PANELS + 1, dtype=torch.float64)
    size = function(near).abs().amax(0)
    # A function that vanishes near the anchor has its size further out.
    floor = 0.01 * tolerance * torch.where(size > 0, size, function(start).abs().amax(0))
    # An edge may hide a kink, so the first edges avoid round numbers.
    start[1:-1] += (domain.high - domain.low) / _PANELS / math.pi / 10
    kinks = _kinks(_split(function, start, tolerance, floor, ends=True)[0])
    if kinks:
        at = torch.tensor(kinks, dtype=torch.float64)
        clear = ((start[:, None] - at).abs() > 1e-3).all(-1)
        clear[0] = clear[-1] = True
        start = torch.cat([start[clear], at]).sort().values
    edges, values = _split(function, start, tolerance, floor, ends=False)
    return Resolved(edges, values, kinks)


def _split(
    function: Callable[[Tensor], Tensor], edges: Tensor, tolerance: float, floor: Tensor, *, ends: bool
) -> tuple[Tensor, Tensor]:
    """Halve panels until each converges or is narrow; all panels of a level are evaluated in one call.

    With `ends`, a panel must also predict the function at its two edges: a jump between the last node and the edge is
    seen. Without, what is not smooth in a panel of 1e-7 is left unresolved.
    """
    low, high = edges[:-1], edges[1:]
    lows, values = [], []
    while low.numel():
        if len(low) > _MOST:
            raise ValueError(
                f"the function is not smooth between {float(low.min()):.6g} and {float(high.max()):.6g}, in more "
                f"than {_MOST} places: it is noise there (a random or low-precision step, or a pole). Leave that part "
                "out of the domain."
            )
        x = (low + high)[:, None] / 2 + (high - low)[:, None] / 2 * _NODES
        if ends:
            x = torch.cat([x, low[:, None], high[:, None]], -1)
        f, at = function(x.reshape(-1)).reshape(*x.shape, -1).split([_ORDER, x.shape[1] - _ORDER], 1)
        series = torch.einsum("kn,pnj->pkj", _SERIES, f)
        allowed = tolerance * f.abs().amax(1) + floor
        smooth = (series[:, -_TAIL:].abs().amax(1) <= allowed).all(-1)
        if ends:
            even, odd = series[:, ::2].sum(1), series[:, 1::2].sum(1)
            missed = (torch.stack([even - odd, even + odd], 1) - at).abs().amax(1)
            smooth = smooth & (missed <= 10 * allowed).all(-1)
        done = smooth | ((high - low) < (_NARROW if ends else _FINEST) * (1 + (low + high).abs() / 2))
        lows.append(low[done])
        values.append(f[done])
        low, high = low[~done], high[~done]
        middle = (low + high) / 2
        low, high = torch.cat([low, middle]), torch.cat([middle, high])
    left, order = torch.cat(lows).sort()
    return torch.cat([left, edges[-1:]]), torch.cat(values)[order]


def _kinks(edges: Tensor) -> tuple[float, ...]:
    """One point for each run of panels narrower than any smooth function asks for: where they are narrowest."""
    width, centre = edges.diff(), (edges[1:] + edges[:-1]) / 2
    narrow = (width < 1e-6 * (1 + centre.abs())).nonzero()[:, 0]
    runs = np.split(narrow.numpy(), (narrow.diff() > 1).nonzero()[:, 0].numpy() + 1) if len(narrow) else []
    return tuple(float(centre[run][width[run] < 1.5 * width[run].min()].mean()) for run in runs)
