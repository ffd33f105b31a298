"""Learning without noise: gradient flow, natural gradient flow and mirror descent of expected losses."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from geomalign.analysis.finite import Tree
from geomalign.divergences import Divergence, target_policy
from geomalign.objective import BaseObjective


@dataclasses.dataclass(frozen=True, eq=False)
class Flow:
    """A trajectory of policies.

    Args:
        time: `(points,)`; iterations of a discrete method.
        logits: `(points, nodes, actions)`.
        probabilities: `(points, responses)`.
        loss: `(points,)`, NaN where the method has none.
        reward: `(points,)`, expected.

    >>> import torch, geomalign as ga
    >>> from geomalign import analysis
    >>> bandit = analysis.Tree.bandit(torch.tensor([1.0, 0.0]))
    >>> analysis.mirror_descent(bandit, ga.KullbackLeibler(), 3).logits.shape
    torch.Size([4, 1, 2])
    """

    time: Tensor
    logits: Tensor
    probabilities: Tensor
    loss: Tensor
    reward: Tensor


_METRICS = ("euclidean", "fisher")


def _velocity(
    tree: Tree, objective: BaseObjective, logits: Tensor, anchor: Tensor, drive: Tensor | None, metric: str
) -> Tensor:
    """The velocity of the logits, −∇L or −F⁺∇L."""
    gradient = tree.gradient(objective, logits, anchor, drive)
    return -(tree.natural(logits, gradient) if metric == "fisher" else gradient)


def _check(metric: str) -> None:
    if metric not in _METRICS:
        raise ValueError(f"metric={metric!r} is unknown: choose one of {', '.join(map(repr, _METRICS))}.")


def gradient_flow(
    tree: Tree,
    objective: BaseObjective,
    time: Tensor,
    *,
    start: Tensor | None = None,
    anchor: Tensor | None = None,
    drive: Tensor | None = None,
    metric: str = "euclidean",
    tolerance: float = 1e-10,
) -> Flow:
    """dz/ds = −∇_z L of the tabular softmax policy, or −F⁺∇_z L, integrated by Dormand–Prince of order 8(5,3).

    The loss is the exact expectation; the only error is that of the integrator, controlled by `tolerance`. Under the
    Fisher metric the flow does not depend on the parametrisation, and a reward that is linear in π gives replicator
    dynamics, π(s) ∝ π(0)e^{sA}.

    Args:
        tree: the problem.
        objective: any sum of terms.
        time: `(points,)` at which the trajectory is wanted, increasing, ≥ 0.
        start: logits at time 0; those of the anchor if None.
        anchor: logits of the anchor; uniform if None.
        drive: as for `Tree.loss`, fixed along the flow.
        metric: "euclidean" in the logits, or "fisher".
        tolerance: relative and absolute, of the integrator.

    Raises:
        ValueError: the metric is unknown, or the integration fails (a flow that reaches the border in finite time).

    >>> import torch, geomalign as ga
    >>> from geomalign import analysis
    >>> bandit = analysis.Tree.bandit(torch.tensor([1.0, 0.0]))
    >>> flow = analysis.gradient_flow(bandit, ga.recipes.opo(mu=1.0), torch.tensor([0.0, 10.0]))
    >>> bool(flow.reward[1] > flow.reward[0])
    True
    """
    from scipy.integrate import solve_ivp

    _check(metric)
    anchor = tree.uniform() if anchor is None else anchor
    z = anchor if start is None else start

    def field(s: float, flat: object) -> object:
        logits = torch.as_tensor(flat, dtype=torch.float64).reshape(z.shape)
        return _velocity(tree, objective, logits, anchor, drive, metric).reshape(-1).numpy()

    found = solve_ivp(
        field,
        (0.0, float(time[-1])),
        z.double().reshape(-1).numpy(),
        method="DOP853",
        t_eval=time.double().numpy(),
        rtol=max(tolerance, 3e-14),
        atol=tolerance,
    )
    if not found.success:
        raise ValueError(
            f"the flow could not be followed to time {float(time[-1]):g}: {found.message} A flow may reach a zero "
            "probability in finite time; end it earlier, or raise the tolerance."
        )
    logits = torch.as_tensor(found.y.T, dtype=torch.float64).reshape(-1, *z.shape)
    with torch.no_grad():
        loss = torch.stack([tree.loss(objective, x, anchor, drive) for x in logits])
    return _flow(tree, time.double(), logits, loss)


def _flow(tree: Tree, time: Tensor, logits: Tensor, loss: Tensor) -> Flow:
    probabilities = torch.stack([tree.probabilities(x) for x in logits])
    return Flow(time, logits, probabilities, loss, probabilities @ tree.reward.to(probabilities.dtype))


def mirror_descent(
    tree: Tree, divergence: Divergence, steps: int, *, start: Tensor | None = None, moving: bool = True
) -> Flow:
    """π ← argmax ⟨r, π⟩ − D_ψ(π‖π_k), solved exactly over all responses at once.

    Args:
        tree: the problem.
        divergence: D_ψ, with its stiffness: `0.5 * KullbackLeibler()`.
        steps: how many.
        start: logits of the first policy; uniform if None.
        moving: whether π_k is the policy before the step (then the optimum is approached), or always the first one
            (then one step is the fixed point).

    Returns:
        `Flow` of `steps + 1` policies. A divergence that allows zeros gives logits of −inf.

    >>> import torch, geomalign as ga
    >>> from geomalign import analysis
    >>> bandit = analysis.Tree.bandit(torch.tensor([1.0, 0.0]))
    >>> analysis.mirror_descent(bandit, ga.KullbackLeibler(), 2).probabilities[:, 0]
    tensor([0.5000, 0.7311, 0.8808])
    """
    logits = tree.uniform() if start is None else start
    first = tree.log_probs(logits).sum(-1)
    log_prob, path = first, [first]
    for _ in range(steps):
        prior = log_prob if moving else first
        log_prob = target_policy(tree.reward.to(prior.dtype), divergence, log_prior=prior).probability.log()
        path.append(log_prob)
    probabilities = torch.stack(path).exp()
    tables = torch.stack([tree.logits_of(p) for p in probabilities])
    nothing = torch.full((steps + 1,), float("nan"), dtype=probabilities.dtype)
    time = torch.arange(steps + 1, dtype=probabilities.dtype)
    return Flow(time, tables, probabilities, nothing, probabilities @ tree.reward.to(probabilities.dtype))


@dataclasses.dataclass(frozen=True, eq=False)
class Portrait:
    """A vector field on the simplex of three responses.

    Args:
        probabilities: `(points, 3)`, a triangular lattice inside the simplex.
        velocity: `(points, 3)`, dπ/ds; each row sums to zero.
        loss: `(points,)`.

    >>> import torch
    >>> Portrait(torch.tensor([[1.0, 0.0, 0.0]]), torch.zeros(1, 3), torch.zeros(1)).plane
    tensor([[0., 0.]])
    """

    probabilities: Tensor
    velocity: Tensor
    loss: Tensor

    @property
    def plane(self) -> Tensor:
        """`(points, 2)`: the points in an equilateral triangle of side 1."""
        return self.probabilities @ _corners(self.probabilities)

    @property
    def arrows(self) -> Tensor:
        """`(points, 2)`: the velocities in the plane of the triangle."""
        return self.velocity @ _corners(self.velocity)


def _corners(like: Tensor) -> Tensor:
    return torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, 3**0.5 / 2]], dtype=like.dtype)


def portrait(
    tree: Tree,
    objective: BaseObjective,
    *,
    anchor: Tensor | None = None,
    drive: Tensor | None = None,
    metric: str = "euclidean",
    resolution: int = 16,
) -> Portrait:
    """The phase portrait of a bandit with three arms: how an objective moves every policy, with the anchor held fixed.

    Args:
        tree: `Tree.bandit` of three rewards.
        objective, anchor, drive, metric: as for `gradient_flow`.
        resolution: lattice points per side, at least 2; the border, where softmax policies never are, is left out.

    Raises:
        ValueError: the tree is no bandit with three arms.

    >>> import torch, geomalign as ga
    >>> from geomalign import analysis
    >>> bandit = analysis.Tree.bandit(torch.tensor([1.0, 0.0, 0.0]))
    >>> analysis.portrait(bandit, ga.recipes.opo(), resolution=2).velocity.shape
    torch.Size([3, 3])
    """
    _check(metric)
    if tree.horizon != 1 or tree.actions != 3:
        raise ValueError(
            f"a portrait is drawn on the simplex of three responses of one token, but this tree has {len(tree.reward)} "
            f"responses of {tree.horizon}: use Tree.bandit of three rewards."
        )
    anchor = tree.uniform() if anchor is None else anchor
    n = resolution + 2
    lattice = [(i, j, n - i - j) for i in range(1, n) for j in range(1, n - i)]
    points = torch.tensor(lattice, dtype=torch.float64) / n
    velocity, loss = [], []
    for p in points:
        logits = p.log()[None]
        dz = _velocity(tree, objective, logits, anchor, drive, metric)[0]
        velocity.append(p * (dz - (p * dz).sum()))
        with torch.no_grad():
            loss.append(tree.loss(objective, logits, anchor, drive))
    return Portrait(points, torch.stack(velocity), torch.stack(loss))
