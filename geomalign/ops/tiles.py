"""Log-probabilities of a language-model head and their gradients, one tile of logits after another.

The logits are z = softcap·tanh((h Wᵀ + b)/softcap)/T. A tile holds some rows (tokens) against some columns
(vocabulary); no function here makes all logits at once. What is summed is float32 or better.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from geomalign.ops.products import accumulation_dtype, add_product, operand, product

__all__ = ["Gradients", "Head", "Statistics", "fold", "fold_and_keep", "kept_rows", "recompute"]

# Logits of one tile. 4 MiB of float32 stay in a CPU's caches with what is made of them; a GPU wants to be filled.
_TILE, _GPU_TILE = 1 << 20, 1 << 27
# The narrowest tile, and the widest of kept logits on a CPU: outside of these a product loses a tenth or more.
_NARROW, _WIDE, _TALL, _GPU_TALL = 512, 4096, 2048, 4096


@dataclasses.dataclass(frozen=True, eq=False)
class Head:
    """The last layer of a language model.

    Args:
        weight: `(vocabulary, hidden)`.
        bias: `(vocabulary,)`, or None.
        temperature: T, what the logits are divided by. > 0.
        softcap: bound of |z·T|; None bounds nothing.
    """

    weight: Tensor
    bias: Tensor | None = None
    temperature: float = 1.0
    softcap: float | None = None

    def logits(self, hidden: Tensor, columns: slice) -> Tensor:
        """A new tile `(row, column)` of z."""
        z = product(hidden, operand(self.weight[columns], hidden))
        if self.bias is not None:
            z.add_(self.bias[columns])
        if self.softcap is not None:
            z.div_(self.softcap).tanh_().mul_(self.softcap)
        return z if self.temperature == 1.0 else z.div_(self.temperature)

    def slope(self, z: Tensor) -> Tensor | None:
        """1 − tanh², the factor by which the soft cap shrinks the gradient at each logit; None without a cap."""
        if self.softcap is None:
            return None
        return (z * (self.temperature / self.softcap)).square_().neg_().add_(1)

    def columns(self, width: int) -> list[slice]:
        """The vocabulary in tiles of so many columns."""
        size = self.weight.shape[0]
        return [slice(start, min(start + width, size)) for start in range(0, size, width)]


class Statistics(NamedTuple):
    """What one pass over the vocabulary finds for each row.

    Args:
        log_prob: `(row,)` log p of the row's target.
        log_z: `(row,)` log Σ exp z.
        entropy: `(row,)` −Σ p log p, where asked for.
        direction: `(row, hidden)` ∂ log_prob/∂h, where asked for.
    """

    log_prob: Tensor
    log_z: Tensor
    entropy: Tensor | None
    direction: Tensor | None


class Gradients(NamedTuple):
    """∂/∂hidden, ∂/∂weight and ∂/∂bias, each None where it is not needed, in the type that sums are made in."""

    hidden: Tensor | None
    weight: Tensor | None
    bias: Tensor | None

    @classmethod
    def zeros(cls, hidden: Tensor, head: Head, needs: tuple[bool, bool, bool]) -> Gradients:
        """What the gradients that `needs` names are summed into."""
        dtype = accumulation_dtype(hidden, head.weight)
        like = (hidden, head.weight, head.bias)
        return cls(*(torch.zeros_like(x, dtype=dtype) if n and x is not None else None for n, x in zip(needs, like)))


def fold(head: Head, hidden: Tensor, targets: Tensor, *, entropy: bool, direction: bool) -> Statistics:
    """One product (two with `direction`): the log-probability of every row's target.

    The log-sum-exp runs along: a tile that raises a row's largest logit scales down what was summed before, as in flash
    attention with K = V = W. The chosen logit is read from the tile that is summed, so that no log-probability is > 0.
    """
    found = []
    for rows, columns in _tiles(head, hidden):
        h = operand(hidden[rows], hidden)
        place = _Places(targets[rows], columns)
        top = h.new_full(h.shape[:1], -torch.inf, dtype=accumulation_dtype(h))
        total, weighted, chosen = torch.zeros_like(top), torch.zeros_like(top), torch.zeros_like(top)
        mean = torch.zeros_like(h, dtype=top.dtype) if direction else None
        slope_at = torch.ones_like(top)
        for part, row, column in place:
            z = head.logits(h, part)
            chosen[row] = z[row, column]
            slope = head.slope(z) if direction else None
            higher = torch.maximum(top, z.amax(1))
            scale = torch.exp(top - higher)
            z.sub_(higher[:, None])
            if entropy:
                below = z.clone()
            z.exp_()
            here = z.sum(1)
            if entropy:
                weighted.mul_(scale).add_(below.mul_(z).sum(1)).addcmul_(higher, here)
            total.mul_(scale).add_(here)
            if mean is not None:
                if slope is not None:
                    slope_at[row] = slope[row, column]
                    z.mul_(slope)
                mean.mul_(scale[:, None])
                w = operand(head.weight[part], h)
                add_product(mean, z.to(w.dtype), w)
            top = higher
            del z, slope
        log_total = total.log()
        u = None
        if mean is not None:
            u = mean.div_(-total[:, None]).add_(operand(head.weight[targets[rows]], h) * slope_at[:, None])
            u.div_(head.temperature)
        spread = top + log_total - weighted / total if entropy else None
        found.append(Statistics(chosen - top - log_total, top + log_total, spread, u))
    joined: list[Any] = [None if x[0] is None else x[0] if len(x) == 1 else torch.cat(x) for x in zip(*found)]
    return Statistics(*joined)


def recompute(
    head: Head,
    hidden: Tensor,
    targets: Tensor,
    seen: Statistics,
    pull: Tensor | None,
    entropy_pull: Tensor | None,
    needs: tuple[bool, bool, bool],
) -> Gradients:
    """Three products, two where the weight or the hidden states need no gradient: the logits again, and from each tile
    its share of the gradients, ∂/∂z = pull·(1[target] − p) − entropy_pull·p·(log p + entropy).

    Args:
        seen: what `fold` found.
        pull: `(row,)` the gradient of the log-probabilities.
        entropy_pull: `(row,)` that of the entropies.
        needs: whether hidden states, weight and bias need a gradient.
    """
    into = Gradients.zeros(hidden, head, needs)
    for rows, columns in _tiles(head, hidden):
        h = operand(hidden[rows], hidden)
        share = _Share(head, h, into, rows, None if pull is None or entropy_pull is not None else -pull[rows])
        for part, row, column in _Places(targets[rows], columns):
            z = head.logits(h, part)
            slope = head.slope(z)
            z.sub_(seen.log_z[rows, None])
            if entropy_pull is None:
                z.exp_()
                z[row, column] -= 1
            else:
                p = z.exp()
                z.add_(seen.entropy[rows, None]).mul_(entropy_pull[rows, None])  # type: ignore[index]
                if pull is not None:
                    z.add_(pull[rows, None])
                z.mul_(p).neg_()
                if pull is not None:
                    z[row, column] += pull[rows][row]
            share.add(z, slope, part)
            del z, slope
        share.finish()
    return into


def fold_and_keep(
    head: Head,
    hidden: Tensor,
    targets: Tensor,
    parts: list[slice],
    gradient: Callable[[slice, Tensor], Tensor],
    needs: tuple[bool, bool, bool],
) -> tuple[Tensor, Gradients]:
    """Three products: the logits of some rows are kept until the gradient at their log-probabilities is known.

    Args:
        parts: the rows of every tile, in order, as `kept_rows` bounds them.
        gradient: `(rows, log-probabilities of these rows) → ∂L/∂log p` of these rows.
        needs: whether hidden states, weight and bias need a gradient.

    Returns:
        the log-probabilities of all rows, and the gradients.
    """
    into = Gradients.zeros(hidden, head, needs)
    found = []
    columns = head.columns(_GPU_TILE // _GPU_TALL if hidden.is_cuda else _WIDE)
    for rows in parts:
        h = operand(hidden[rows], hidden)
        places = list(_Places(targets[rows], columns))
        tiles: list[Tensor] = []
        slopes: list[Tensor | None] = []
        tops, totals = [], []
        chosen = h.new_zeros(h.shape[:1], dtype=accumulation_dtype(h))
        for part, row, column in places:
            z = head.logits(h, part)
            chosen[row] = z[row, column]
            slopes.append(head.slope(z))
            tops.append(z.amax(1))
            tiles.append(z.sub_(tops[-1][:, None]).exp_())
            totals.append(z.sum(1))
            del z
        top = torch.stack(tops).amax(0)
        scales = [torch.exp(x - top) for x in tops]
        total = sum((x * scale for x, scale in zip(totals[1:], scales[1:])), totals[0] * scales[0])
        log_prob = chosen - top - total.log()
        found.append(log_prob)
        share = _Share(head, h, into, rows, -gradient(rows, log_prob))
        for k, (part, row, column) in enumerate(places):
            z, tiles[k] = tiles[k], h  # the list no longer holds the tile, so that its memory is free after its turn
            z.mul_(scales[k].div_(total)[:, None])
            z[row, column] -= 1
            share.add(z, slopes[k], part)
            slopes[k] = None
            del z
        share.finish()
    return torch.cat(found) if found else hidden.new_zeros(0, dtype=accumulation_dtype(hidden)), into


def kept_rows(head: Head, hidden: Tensor) -> int:
    """The most rows of which `fold_and_keep` may keep all logits: half the size of the weight's gradient, or one tile.

    Each tile reads the weight and its gradient once, so that fewer rows would make memory the limit.
    """
    size = _GPU_TILE if hidden.is_cuda else _TILE
    rows = max(size // head.weight.shape[0], head.weight.shape[1] // 2, 1)
    return rows if head.softcap is None else max(rows // 2, 1)


def _tiles(head: Head, hidden: Tensor) -> Iterator[tuple[slice, list[slice]]]:
    """Tiles of `(rows, columns)`: on a CPU all rows against few columns, so that the weight is read once."""
    size, tall = (_GPU_TILE, _GPU_TALL) if hidden.is_cuda else (_TILE, _TALL)
    n = hidden.shape[0]
    tall = min(n, tall)
    columns = head.columns(max(size // max(tall, 1), _NARROW))
    for start in range(0, max(n, 1), max(tall, 1)):
        yield slice(start, min(start + tall, n)), columns


class _Places:
    """For every tile of columns, the rows whose target lies in it, and the column of the tile where it does."""

    def __init__(self, targets: Tensor, columns: list[slice]) -> None:
        self.columns = columns
        self.targets, self.order = targets.sort()
        edges = torch.tensor([part.start for part in columns], device=targets.device)
        self.edges = [*torch.searchsorted(self.targets, edges).tolist(), len(targets)]

    def __iter__(self) -> Iterator[tuple[slice, Tensor, Tensor]]:
        for part, start, stop in zip(self.columns, self.edges, self.edges[1:]):
            yield part, self.order[start:stop], self.targets[start:stop] - part.start


class _Share:
    """What the tiles of some rows add to the gradients.

    Where `factor` is given, the gradient at the logits is `factor` of its row times the tile. It multiplies the hidden
    states and the finished ∂/∂hidden, which are smaller than the tile, except where the tile is rounded to half
    precision anyway.
    """

    def __init__(self, head: Head, hidden: Tensor, into: Gradients, rows: slice, factor: Tensor | None) -> None:
        self.head, self.hidden, self.rows, self.into = head, hidden, rows, into
        factor = None if factor is None else factor / head.temperature
        self.half = hidden.dtype.itemsize < 4
        self.factor = factor
        self.scaled = hidden if factor is None or self.half else hidden * factor[:, None]

    def add(self, tile: Tensor, slope: Tensor | None, columns: slice) -> None:
        """Add a tile of gradients at the logits, which is overwritten."""
        if slope is not None:
            tile.mul_(slope)
        if self.factor is None:
            tile.div_(self.head.temperature)
        elif self.half:
            tile.mul_(self.factor[:, None])
        if self.into.bias is not None:
            ones = torch.ones_like(tile[:, 0]) if self.factor is None or self.half else self.factor
            self.into.bias[columns] += torch.mv(tile.t(), ones)
        tile = tile.to(self.hidden.dtype)
        if self.into.hidden is not None:
            w = operand(self.head.weight[columns], self.hidden)
            add_product(self.into.hidden[self.rows], tile, w)
        if self.into.weight is not None:
            add_product(self.into.weight[columns], tile.t(), self.scaled)

    def finish(self) -> None:
        """Scale ∂/∂hidden of these rows once all their tiles were added."""
        if self.into.hidden is not None and self.factor is not None and not self.half:
            self.into.hidden[self.rows].mul_(self.factor[:, None])
