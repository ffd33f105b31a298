"""Finite problems in which every response can be written down: bandits and short token trees."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from geomalign.batch import Batch, PreferenceBatch
from geomalign.objective import BaseObjective


@dataclasses.dataclass(frozen=True, eq=False)
class Tree:
    """All responses of `horizon` tokens over an alphabet of `actions`, each with a reward: a bandit for a horizon of 1.

    A policy is a table of logits, `(nodes, actions)`: one row per prefix, in the order of their lengths and then
    lexicographically. Responses are in lexicographic order.

    Args:
        reward: `(actions ** horizon,)`.
        actions: at least 2.

    Raises:
        ValueError: there are fewer than two actions, or the number of rewards is no power of theirs.

    >>> import torch
    >>> Tree(torch.tensor([1.0, 0.0, 0.0, 2.0]), actions=2).horizon
    2
    """

    reward: Tensor
    actions: int

    def __post_init__(self) -> None:
        if self.actions < 2 or len(self.reward) != self.actions**self.horizon:
            raise ValueError(
                f"Tree(reward of shape {tuple(self.reward.shape)}, actions={self.actions!r}): responses of T tokens "
                "are actions ** T in number, and at least 2 actions. Give one reward per response, in their order."
            )

    @classmethod
    def bandit(cls, reward: Tensor) -> Tree:
        """A tree of one token, with one reward per action."""
        return cls(reward, len(reward))

    @property
    def horizon(self) -> int:
        """T, the number of tokens of a response."""
        count, horizon = 1, 0
        while count < len(self.reward) and self.actions > 1:
            count, horizon = count * self.actions, horizon + 1
        return max(horizon, 1)

    @property
    def nodes(self) -> int:
        """The number of prefixes at which a token is chosen."""
        return sum(self.actions**t for t in range(self.horizon))

    def uniform(self) -> Tensor:
        """`(nodes, actions)` logits of the uniform policy."""
        return self.reward.new_zeros(self.nodes, self.actions)

    def log_probs(self, logits: Tensor) -> Tensor:
        """`(responses, horizon)`: log π of every token of every response, differentiable in the logits."""
        log_pi = torch.log_softmax(logits, -1)
        columns, start = [], 0
        for t in range(self.horizon):
            width = self.actions**t
            level = log_pi[start : start + width].reshape(-1)
            columns.append(level.repeat_interleave(self.actions ** (self.horizon - t - 1)))
            start += width
        return torch.stack(columns, -1)

    def probabilities(self, logits: Tensor) -> Tensor:
        """`(responses,)`."""
        return self.log_probs(logits).sum(-1).exp()

    def logits_of(self, probabilities: Tensor) -> Tensor:
        """`(nodes, actions)`: logits of the policy with these probabilities of the responses, log π of each token."""
        rows = []
        for t in range(self.horizon):
            mass = probabilities.reshape(self.actions**t, self.actions, -1).sum(-1)
            rows.append(mass.log() - mass.sum(-1, keepdim=True).log())
        return torch.cat(rows)

    def advantage(self, anchor: Tensor) -> Tensor:
        """`(responses,)`: the reward less its expectation under the policy with logits `anchor`."""
        return self.reward - (self.probabilities(anchor) * self.reward).sum()

    def loss(self, objective: BaseObjective, logits: Tensor, anchor: Tensor, drive: Tensor | None = None) -> Tensor:
        """The expected loss under responses of the anchor, by enumeration: 0-dim, differentiable in the logits.

        Every response is one row of weight π_k(y). For objectives of pairs all ordered pairs of different responses are
        taken, with weights π_k(y)π_k(y')σ(r(y) − r(y')) (Bradley–Terry) that are normalised.

        Args:
            objective: any sum of terms.
            logits: of the policy, `(nodes, actions)`.
            anchor: logits of the policy that responses come from, also the reference.
            drive: `(responses,)`; the exact advantage under the anchor if None. Labels keep their strength. Group
                statistics of a sampling geometry equal the expectation under a uniform anchor only; there, pass
                `objective.drive(tree.batch(logits, anchor))`.
        """
        prior = self.probabilities(anchor)
        batch: Batch | PreferenceBatch
        total = logits.new_zeros(())
        for coefficient, term in objective.terms:
            if term.unit.paired:
                batch, weight = self._pairs(logits, anchor, prior)
                outcome = term.plain(batch)
            else:
                batch, weight = self.batch(logits, anchor), prior
                felt = self.advantage(anchor) if drive is None else drive
                outcome = term.plain(batch, drive=felt if term.sampling.driven else None)
            optimization = outcome.terms[0].optimization
            value = optimization.energy(outcome.u, outcome.drive) + term.offset(optimization, outcome.drive)
            share = (weight * len(weight)).reshape(-1, *[1] * (value.ndim - 1))
            total = total + coefficient * (share * outcome.weights * torch.where(outcome.support, value, 0)).sum()
        return total

    def batch(self, logits: Tensor, anchor: Tensor) -> Batch:
        """All responses, one per row, as an objective sees them, with the tree's rewards."""
        log_prob, log_anchor = self.log_probs(logits), self.log_probs(anchor).detach()
        return Batch(log_prob, log_anchor, reward=self.reward, reference=log_anchor, behavior=log_anchor)

    def _pairs(self, logits: Tensor, anchor: Tensor, prior: Tensor) -> tuple[PreferenceBatch, Tensor]:
        n = len(self.reward)
        first, second = (~torch.eye(n, dtype=torch.bool)).nonzero(as_tuple=True)
        gap = self.reward[first] - self.reward[second]
        weight = prior[first] * prior[second] * torch.sigmoid(gap)
        log_prob, log_anchor = self.log_probs(logits), self.log_probs(anchor).detach()
        batch = PreferenceBatch(log_prob[first], log_prob[second], log_anchor[first], log_anchor[second], margin=gap)
        return batch, weight / weight.sum()

    def gradient(self, objective: BaseObjective, logits: Tensor, anchor: Tensor, drive: Tensor | None = None) -> Tensor:
        """∂loss/∂logits, `(nodes, actions)`, exact."""
        z = logits.detach().clone().requires_grad_()
        with torch.enable_grad():
            return torch.autograd.grad(self.loss(objective, z, anchor, drive), z, materialize_grads=True)[0]

    def natural(self, logits: Tensor, gradient: Tensor) -> Tensor:
        """F⁺·gradient with the Fisher matrix F of the responses, as an advantage of every action at every node.

        F has one diagonal block ρ(diag π − ππᵀ) per prefix of probability ρ, so its pseudo-inverse is closed:
        (gradient/π)/ρ, centred.
        """
        pi = torch.softmax(logits, -1)
        scaled = gradient / (self.visits(logits)[:, None] * pi)
        return scaled - scaled.mean(-1, keepdim=True)

    def visits(self, logits: Tensor) -> Tensor:
        """`(nodes,)`: the probability of every prefix."""
        mass = [logits.new_ones(1)]
        pi, start = torch.softmax(logits, -1), 0
        for t in range(self.horizon - 1):
            width = self.actions**t
            mass.append((mass[-1][:, None] * pi[start : start + width]).reshape(-1))
            start += width
        return torch.cat(mass)
