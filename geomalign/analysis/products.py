"""Curvature in the parameters of a network, as products with vectors: Fisher, Gauss–Newton, Hessian."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from geomalign.batch import Batch, PreferenceBatch
from geomalign.objective import BaseObjective

BatchOf = Callable[[Tensor], "Batch | PreferenceBatch"]
"""The batch at the parameters θ, differentiable in the policy's log-probabilities."""


def flatten(module: nn.Module) -> tuple[Callable[..., Any], Tensor]:
    """A network as a function of one vector θ: `(call, theta)` with `call(theta, *inputs)` the network at θ.

    Args:
        module: any network; its buffers stay as they are.

    >>> import torch
    >>> from geomalign import analysis
    >>> call, theta = analysis.flatten(torch.nn.Linear(2, 3))
    >>> theta.shape, call(theta, torch.ones(1, 2)).shape
    (torch.Size([9]), torch.Size([1, 3]))
    """
    shapes = {name: p.shape for name, p in module.named_parameters()}
    theta = torch.cat([p.detach().reshape(-1) for p in module.parameters()])

    def call(theta: Tensor, *inputs: Any) -> Any:
        parts = theta.split([shape.numel() for shape in shapes.values()])
        weights = {name: part.reshape(shape) for part, (name, shape) in zip(parts, shapes.items())}
        return torch.func.functional_call(module, weights, inputs)

    return call, theta


def _push_and_pull(output: Tensor, theta: Tensor, vector: Tensor, weigh: Callable[[Tensor], Tensor]) -> Tensor:
    """Jᵀ weigh(J vector) with J = ∂output/∂θ; J vector is the derivative of the reverse pass in its own input."""
    probe = torch.zeros_like(output, requires_grad=True)
    (pulled,) = torch.autograd.grad(output, theta, probe, create_graph=True)
    (pushed,) = torch.autograd.grad(pulled, probe, vector, retain_graph=True)
    (product,) = torch.autograd.grad(output, theta, weigh(pushed.detach()).detach(), retain_graph=True)
    return product


def gauss_newton(
    objective: BaseObjective, batch_of: BatchOf, theta: Tensor, vector: Tensor, *, drive: Any = None
) -> Tensor:
    """Σ_events weight·φ''(u)·(∇u·vector)∇u: the part of the Hessian that the optimization geometry alone makes.

    It is positive semi-definite for a convex potential, and free of the drive where the objective is decoupled. At the
    anchor, of χ² over all of a finite support, it is μ times the Fisher matrix in either chart.

    Args:
        objective: any objective.
        batch_of: θ → the batch, differentiable in the policy's log-probabilities.
        theta, vector: `(parameters,)`.
        drive: of the batch, held fixed; None: the one at `theta`.

    >>> import torch, geomalign as ga
    >>> from geomalign import analysis
    >>> batch_of = lambda theta: ga.Batch(theta[:, None], torch.zeros(3, 1), advantage=torch.ones(3))
    >>> analysis.gauss_newton(ga.recipes.opo(mu=6.0), batch_of, torch.zeros(3), torch.tensor([1.0, 0.0, 0.0]))
    tensor([2., 0., 0.])
    """
    theta = theta.detach().clone().requires_grad_()
    with torch.enable_grad():
        batch = batch_of(theta)
        outcome = objective.plain(batch, drive=objective.drive(batch) if drive is None else drive)
        product = torch.zeros_like(theta)
        for (coefficient, _), term in zip(objective.terms, outcome.terms, strict=True):
            weight, u, drive = (x.detach() for x in (coefficient * term.weights, term.u, term.drive))
            curve = lambda pushed: weight * term.optimization.curvature_along(u, drive, pushed)  # noqa: B023, E731
            product = product + _push_and_pull(term.u, theta, vector, curve)
    return product.detach()


def hessian(objective: BaseObjective, batch_of: BatchOf, theta: Tensor, vector: Tensor, *, drive: Any = None) -> Tensor:
    """∇²L·vector with the drive held fixed: `gauss_newton` and Σ weight·(φ' − g)(∇²u)·vector, where the drive enters.

    Args:
        objective, batch_of, theta, vector, drive: as for `gauss_newton`.

    >>> import torch, geomalign as ga
    >>> from geomalign import analysis
    >>> batch_of = lambda theta: ga.Batch(theta[:, None], torch.zeros(3, 1), advantage=torch.ones(3))
    >>> analysis.hessian(ga.recipes.reinforce(), batch_of, torch.zeros(3), torch.ones(3))
    tensor([0., 0., 0.])
    """
    theta = theta.detach().clone().requires_grad_()
    with torch.enable_grad():
        batch = batch_of(theta)
        loss = objective.plain(batch, drive=objective.drive(batch) if drive is None else drive).loss
        (gradient,) = torch.autograd.grad(loss, theta, create_graph=True, materialize_grads=True)
        if not gradient.requires_grad:
            return torch.zeros_like(theta)
        (product,) = torch.autograd.grad(gradient, theta, vector, materialize_grads=True)
    return product.detach()


def fisher(
    log_probs_of: Callable[[Tensor], Tensor], theta: Tensor, vector: Tensor, *, weights: Tensor | None = None
) -> Tensor:
    """E_contexts E_{a ∼ π}[(∇log π(a)·vector)∇log π(a)], the expectation over actions by enumeration.

    Args:
        log_probs_of: θ → `(context, action)` log-probabilities of all actions.
        theta, vector: `(parameters,)`.
        weights: `(context,)` that sum to one; None: equal.

    >>> import torch
    >>> from geomalign import analysis
    >>> analysis.fisher(lambda z: torch.log_softmax(z[None], -1), torch.zeros(2), torch.tensor([1.0, 0.0]))
    tensor([ 0.2500, -0.2500])
    """
    theta = theta.detach().clone().requires_grad_()
    with torch.enable_grad():
        log_probs = log_probs_of(theta)
        share = torch.full((len(log_probs),), 1 / len(log_probs), dtype=log_probs.dtype) if weights is None else weights
        weight = share[:, None] * log_probs.detach().exp()
        return _push_and_pull(log_probs, theta, vector, lambda pushed: weight * pushed).detach()


def matrix(product: Callable[[Tensor], Tensor], theta: Tensor) -> Tensor:
    """The `(parameters, parameters)` matrix of a product with vectors, one column per call: for small networks.

    >>> import torch
    >>> from geomalign import analysis
    >>> analysis.matrix(lambda vector: 2 * vector, torch.zeros(2))
    tensor([[2., 0.],
            [0., 2.]])
    """
    return torch.stack([product(e) for e in torch.eye(len(theta), dtype=theta.dtype)], -1)


@dataclasses.dataclass(frozen=True, eq=False)
class Spectrum:
    """The eigenvalues of a symmetric matrix and what they say of descent.

    Args:
        eigenvalues: `(size,)`, in increasing order.
        rank: how many differ from zero.
        conditioning: the largest over the smallest of the non-zero ones; inf with a negative one among them.
        largest_rate: 2/the largest, up to which descent on the quadratic is stable; inf if none is positive.

    >>> import torch
    >>> Spectrum(torch.tensor([0.0, 4.0]), rank=1, conditioning=1.0, largest_rate=0.5).rank
    1
    """

    eigenvalues: Tensor
    rank: int
    conditioning: float
    largest_rate: float


def spectrum(symmetric: Tensor, *, tolerance: float = 1e-10) -> Spectrum:
    """Eigenvalues, rank and conditioning of a symmetric matrix.

    Args:
        symmetric: `(size, size)`; only its symmetric part is used.
        tolerance: relative to the largest eigenvalue, below which one counts as zero.

    >>> import torch
    >>> from geomalign import analysis
    >>> found = analysis.spectrum(torch.diag(torch.tensor([0.0, 0.5, 4.0])))
    >>> found.rank, found.conditioning, found.largest_rate
    (2, 8.0, 0.5)
    """
    values = torch.linalg.eigvalsh((symmetric + symmetric.T) / 2)
    size = float(values.abs().max())
    kept = values[values.abs() > tolerance * size]
    if not len(kept):
        return Spectrum(values, 0, math.nan, math.inf)
    low, high = float(kept.min()), float(kept.max())
    return Spectrum(values, len(kept), high / low if low > 0 else math.inf, 2 / high if high > 0 else math.inf)
