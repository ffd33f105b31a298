"""Two losses on the same batch: value, gradient, and the smallest batch on which they differ."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from geomalign.batch import Batch, PreferenceBatch

__all__ = ["Comparison", "Loss", "Verdict", "compare", "gradient", "minimal"]

AnyBatch: TypeAlias = Batch | PreferenceBatch
Loss: TypeAlias = Callable[[AnyBatch], Tensor]

LEAVES: dict[type, tuple[str, ...]] = {Batch: ("policy",), PreferenceBatch: ("chosen", "rejected")}
"""The fields that a gradient is taken for."""

OPTIONAL: dict[type, tuple[str, ...]] = {
    Batch: ("behavior", "reward", "group", "reference"),
    PreferenceBatch: ("chosen_mask", "rejected_mask"),
}
"""Fields that are dropped from a minimal case where the difference does not need them."""


class Verdict(str, enum.Enum):
    """How two losses relate on the batches on which they were compared.

    >>> Verdict("proportional") is Verdict.PROPORTIONAL
    True
    """

    EQUAL = "equal"
    CONSTANT = "equal up to a constant"
    PROPORTIONAL = "proportional"
    DIFFERENT = "differs"
    REFUSED = "refused"


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What came out of `compare`: `ours` is the first loss, `theirs` the second.

    Args:
        verdict: EQUAL: value and gradient agree; CONSTANT: the gradient only, the values differ by a constant;
            PROPORTIONAL: the gradients differ by one factor; DIFFERENT: none of these; REFUSED: the second loss raised.
        values: the two losses.
        value_error: |difference| / max(1, |ours|).
        gradient_error: largest |difference| over the largest |gradient| of either.
        factor: the multiple of our gradient that is nearest to theirs (least squares); NaN where ours vanishes.
        where: (field, row, token) of the largest difference of the gradients.
        gradients: the two gradients there.
        message: what was raised, for REFUSED.

    >>> import geomalign as ga
    >>> loss = lambda batch: batch.policy.sum()
    >>> ga.laws.compare(loss, lambda batch: 2 * loss(batch), ga.laws.sample_batch()).factor
    2.0
    """

    verdict: Verdict
    values: tuple[float, float]
    value_error: float
    gradient_error: float
    factor: float
    where: tuple[str, ...]
    gradients: tuple[float, float]
    message: str = ""

    @property
    def equal(self) -> bool:
        """Whether training with either gives the same weights."""
        return self.verdict in (Verdict.EQUAL, Verdict.CONSTANT)

    def __str__(self) -> str:
        if self.verdict is Verdict.REFUSED:
            return f"refused: {self.message}"
        place = "[".join([self.where[0], ", ".join(self.where[1:])]) + "]" if len(self.where) > 1 else ""
        times = "ours is zero" if self.factor != self.factor else f"theirs ≈ {self.factor:.6g} × ours"
        lines = [
            f"{self.verdict.value}",
            f"  loss      {self.values[0]:.9g}  against  {self.values[1]:.9g}   (relative error "
            f"{self.value_error:.1e})",
            f"  gradient  relative error {self.gradient_error:.1e}, {times}",
        ]
        if not self.equal:
            lines.append(f"  largest difference at {place}: {self.gradients[0]:.6g}  against  {self.gradients[1]:.6g}")
        return "\n".join(lines)


def gradient(loss: Loss, batch: AnyBatch) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss and its gradient with respect to the policy's log-probabilities, by autograd.

    A loss without a graph has zero gradient: that a method does not train is a finding, not an error.

    >>> import torch, geomalign as ga
    >>> batch = ga.Batch(torch.tensor([[-1.0, -2.0]]), None)
    >>> gradient(lambda b: (b.policy**2).sum(), batch)
    (tensor(5.), {'policy': tensor([[-2., -4.]])})
    """
    leaves = {name: getattr(batch, name).detach().clone().requires_grad_() for name in LEAVES[type(batch)]}
    value = loss(dataclasses.replace(batch, **leaves))
    if not value.requires_grad:
        return value.detach(), {name: torch.zeros_like(leaf) for name, leaf in leaves.items()}
    found = torch.autograd.grad(value, list(leaves.values()), allow_unused=True)
    return value.detach(), {
        name: torch.zeros_like(leaf) if g is None else g for (name, leaf), g in zip(leaves.items(), found, strict=True)
    }


def compare(ours: Loss, theirs: Loss, batches: AnyBatch | Sequence[AnyBatch], tolerance: float = 1e-9) -> Comparison:
    """Whether two losses are the same function, value and gradient, on every one of the batches.

    Args:
        ours: a function of a batch that returns a scalar with a graph to its log-probabilities.
        theirs: another; what it raises makes the verdict REFUSED.
        batches: one batch or several; the worst of them is reported.
        tolerance: relative, > 0; 1e-9 suits float64, 2e-5 float32.

    >>> import torch, geomalign as ga
    >>> batch = ga.Batch(torch.tensor([[-1.0, -2.0]]), torch.tensor([[-1.5, -2.0]]))
    >>> half = lambda b: (b.policy - b.old).square().sum() / 2
    >>> compare(half, lambda b: 2 * half(b), batch).verdict.value
    'proportional'
    >>> compare(half, lambda b: half(b) + 3, batch).verdict.value
    'equal up to a constant'
    """
    batches = [batches] if isinstance(batches, (Batch, PreferenceBatch)) else list(batches)
    found = [_compare_one(ours, theirs, batch, tolerance) for batch in batches]
    worst = max(found, key=lambda c: (_RANK[c.verdict], c.gradient_error, c.value_error))
    factors = [c.factor for c in found]
    # Proportional with a factor that changes from batch to batch is no proportionality.
    if worst.verdict is Verdict.PROPORTIONAL and max(factors) - min(factors) > 1e3 * tolerance * max(map(abs, factors)):
        worst = dataclasses.replace(worst, verdict=Verdict.DIFFERENT)
    return worst


_RANK = {verdict: i for i, verdict in enumerate(Verdict)}


def _compare_one(ours: Loss, theirs: Loss, batch: AnyBatch, tolerance: float) -> Comparison:
    a, g = gradient(ours, batch)
    try:
        b, h = gradient(theirs, batch)
    except Exception as error:  # an exception of another library is one result of the comparison
        text = f"{type(error).__name__}: {error}".splitlines()[0]
        return Comparison(Verdict.REFUSED, (float(a), float("nan")), *(float("nan"),) * 3, ("",), (0.0, 0.0), text)
    flat = [torch.cat([x[name].flatten().double() for name in g]) for x in (g, h)]
    difference = torch.nan_to_num((flat[0] - flat[1]).abs(), nan=float("inf"))
    size = flat[0].abs().max()
    larger = torch.maximum(size, torch.nan_to_num(flat[1], posinf=0, neginf=0).abs().max())
    value_error = _error(float(a), float(b))
    gradient_error = (
        float(difference.max() / larger.clamp(min=torch.finfo(size.dtype).tiny)) if float(difference.max()) else 0.0
    )
    factor = float(flat[0] @ flat[1] / (flat[0] @ flat[0])) if float(size) else float("nan")
    residual = torch.nan_to_num((flat[1] - factor * flat[0]).abs(), nan=float("inf")).max()
    if gradient_error <= tolerance:
        verdict = Verdict.EQUAL if value_error <= tolerance else Verdict.CONSTANT
    elif factor and residual <= tolerance * abs(factor) * size:
        verdict = Verdict.PROPORTIONAL
    else:
        verdict = Verdict.DIFFERENT
    at = int(difference.argmax())
    where = _where(batch, g, at)
    return Comparison(
        verdict,
        (float(a), float(b)),
        value_error,
        gradient_error,
        factor,
        where,
        (float(flat[0][at]), float(flat[1][at])),
    )


def _error(a: float, b: float) -> float:
    error = abs(a - b) / max(1.0, abs(a))
    return error if error == error else float("inf")


def _where(batch: AnyBatch, g: dict[str, Tensor], index: int) -> tuple[str, ...]:
    for name, x in g.items():
        if index < x.numel():
            place = torch.unravel_index(torch.tensor(index), x.shape)
            return (name, *(str(int(i)) for i in place))
        index -= x.numel()
    raise AssertionError("index beyond the gradients")


def minimal(differ: Callable[[AnyBatch], bool], batch: AnyBatch) -> AnyBatch:
    """The smallest batch that can be cut out of `batch` and still satisfies `differ`: few rows, few tokens, short
    numbers.

    Rows are dropped one by one, then the last tokens; numbers are rounded; optional fields go: each as long as `differ`
    holds.

    Args:
        differ: the property to keep; a batch on which it raises does not have it.
        batch: has the property.

    Raises:
        ValueError: `batch` does not have the property.

    >>> import torch, geomalign as ga
    >>> batch = ga.Batch(torch.tensor([[-1.2345, -2.0], [-9.8765, -1.0]]), None)
    >>> minimal(lambda b: bool((b.policy < -5).any()), batch).policy
    tensor([[-10.]])
    """

    def holds(candidate: AnyBatch) -> bool:
        try:
            return differ(candidate)
        except Exception:
            return False

    if not holds(batch):
        raise ValueError("minimal() starts from a batch on which the two differ; these two agree on it.")
    kept = list(range(batch.size))
    for row in range(batch.size):
        fewer = [i for i in kept if i != row]
        if fewer and holds(batch[torch.tensor(fewer)]):
            kept = fewer
    batch = batch[torch.tensor(kept)]
    while (shorter := _without_last_token(batch)) is not None and holds(shorter):
        batch = shorter
    for digits in (0, 1, 2):
        rounded = _rounded(batch, digits)
        if holds(rounded):
            batch = rounded
            break
    for name in OPTIONAL[type(batch)]:
        nothing: dict[str, Any] = {name: None}
        without = dataclasses.replace(batch, **nothing)
        if holds(without):
            batch = without
    return batch


def _map(batch: AnyBatch, change: Callable[[Tensor], Tensor]) -> AnyBatch:
    fields = {f.name: getattr(batch, f.name) for f in dataclasses.fields(batch)}
    changed: dict[str, Any] = {name: change(x) for name, x in fields.items() if isinstance(x, Tensor)}
    return dataclasses.replace(batch, **changed)


def _without_last_token(batch: AnyBatch) -> AnyBatch | None:
    width = max(getattr(batch, name).shape[-1] if getattr(batch, name).ndim == 2 else 1 for name in LEAVES[type(batch)])
    if width == 1:
        return None
    return _map(batch, lambda x: x[:, : width - 1] if x.ndim == 2 else x)


def _rounded(batch: AnyBatch, digits: int) -> AnyBatch:
    """Numbers of `digits` decimals; a log-probability stays below zero, where every implementation is finite."""
    fields = {f.name: getattr(batch, f.name) for f in dataclasses.fields(batch)}
    changed: dict[str, Any] = {}
    for name, x in fields.items():
        if isinstance(x, Tensor) and x.is_floating_point():
            rounded = torch.round(x, decimals=digits) + 0.0
            changed[name] = rounded if name in ("reward", "advantage") else rounded.clamp(max=-0.1)
    return dataclasses.replace(batch, **changed)
