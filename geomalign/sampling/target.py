"""Drives that state a target distribution over the responses to one prompt, and drives that are mere verdicts."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from geomalign._util.check import boolean, instance, one_of, positive, refuse
from geomalign._util.types import Interval, Locality
from geomalign.batch import Batch, PreferenceBatch
from geomalign.divergences import Divergence, KullbackLeibler, target_policy
from geomalign.sampling.advantage import GroupAdvantage
from geomalign.sampling.base import SamplingGeometry, is_sampling, responses

__all__ = ["GroupTarget", "SignLabel"]


@dataclasses.dataclass(frozen=True)
class GroupTarget(SamplingGeometry):
    """g = n·q − 1: a target q on the simplex of a group's n responses, as a density of mean one less one.

    q = argmax ⟨q, g₀⟩ − T·D_ψ(q‖prior): the softmax of g₀/T for KL, its sparsemax and entmax for χ² and the powers
    between, in which poor responses have a target of exactly zero. The drives of a group sum to zero. To first order in
    1/T they are (g₀ − ḡ₀)/T.

    Args:
        of: the geometry whose drive g₀ the target follows, one per response.
        divergence: ψ, strictly convex.
        temperature: T, positive, in units of g₀.
        prior: None: uniform over the group. "sum" or "mean": the softmax of the responses' log π_old, summed or
            averaged over tokens. For sums over whole responses it is close to one-hot.

    Raises:
        ValueError: an argument out of its range; in `drive`, drives of tokens or pairs, or no `old` where the prior
            needs it.

    Source: TPO (arXiv 2604.06159) eq. 2 with the prior "sum"; LPO (arXiv 2605.06139) without. `Escort(0, temperature)`
    is the softmax of the batch's own advantage or reward.

    >>> import torch, geomalign as ga
    >>> batch = ga.Batch(torch.zeros(3, 1), None, reward=torch.tensor([2.0, 0.0, -2.0]))
    >>> ga.sampling.GroupTarget().drive(batch)
    tensor([ 1.6004, -0.6481, -0.9524])
    >>> ga.sampling.GroupTarget(divergence=ga.PearsonChiSquare()).drive(batch)
    tensor([ 1.5000, -0.5000, -1.0000])
    """

    of: SamplingGeometry = GroupAdvantage()
    divergence: Divergence = KullbackLeibler()
    temperature: float = 1.0
    prior: str | None = None

    def __post_init__(self) -> None:
        _of_rollout(self, self.of)
        instance(self, "divergence", self.divergence, Divergence, "KullbackLeibler()")
        positive(self, "in units of the drive", temperature=self.temperature)
        one_of(self, "prior", self.prior, (None, "sum", "mean"))

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        batch, drive = responses(self, self.of, batch)
        groups = batch.groups()
        scores = groups.centred(drive / self.temperature)
        if self.prior is None:
            found = target_policy(scores, self.divergence, groups=groups).fluctuation
            # Where all scores of a group are equal the density is 1 only to rounding, and the drive must be zero.
            moves = groups.valid & (groups.max(scores) + groups.max(-scores) > 0)
            return torch.where(moves, found, 0)
        log_old = batch.log_probs("old", f"GroupTarget(prior={self.prior!r})").sum(-1)
        if self.prior == "mean":
            log_old = log_old / batch.support.sum(-1).clamp(min=1)
        target = target_policy(scores, self.divergence, log_prior=log_old, groups=groups)
        return torch.where(groups.valid, groups.count(drive.dtype) * target.probability - 1, 0)

    @property
    def drive_range(self) -> Interval:
        return Interval(-1.0)

    def latex(self) -> str:
        scores = self.of.latex() if self.temperature == 1 else rf"\left({self.of.latex()}\right)/{self.temperature:g}"
        if self.divergence != KullbackLeibler():
            mirror = self.divergence.latex_mirror("t_i")
            target = r"n\,q_i-1,\ q_i\propto t_i" + ("" if self.prior is None else r"\,\pi_k(y_i)")
            return rf"{target},\ {mirror}={scores}-\lambda"
        length = {"sum": "", "mean": r"^{1/|y_i|}", None: None}[self.prior]
        prior = "" if length is None else rf"\pi_k(y_i){length}\,"
        return rf"\frac{{{prior}\exp\left({scores}\right)}}{{\operatorname{{mean}}_G(\cdot)}}-1"


@dataclasses.dataclass(frozen=True)
class SignLabel(SamplingGeometry):
    """g = 1 where the drive of another geometry is positive, −1 where it is not: the verdict on a response, as a label.

    Args:
        of: the geometry whose drive is read, one per response. That of a reward of 0 or 1 is the reward itself.
        mixed: whether the responses of a group that has verdicts of one kind only get 0.

    >>> import torch, geomalign as ga
    >>> ga.sampling.SignLabel().drive(ga.Batch(torch.zeros(2, 1), None, reward=torch.tensor([1.0, 0.0])))
    tensor([ 1., -1.])
    """

    of: SamplingGeometry = GroupAdvantage(baseline="none")
    mixed: bool = False

    def __post_init__(self) -> None:
        _of_rollout(self, self.of)
        boolean(self, mixed=self.mixed)

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        batch, drive = responses(self, self.of, batch)
        groups = batch.groups()
        verdict = torch.where(drive > 0, 1.0, -1.0).to(drive.dtype)
        kept = groups.valid
        if self.mixed:
            kept = kept & (groups.max(verdict) + groups.max(-verdict) > 0)
        return torch.where(kept, verdict, 0)

    @property
    def drive_range(self) -> Interval:
        return Interval(-1.0, 1.0)

    def latex(self) -> str:
        return rf"\operatorname{{sgn}}\left({self.of.latex()}\right)"


def _of_rollout(owner: object, of: SamplingGeometry) -> None:
    """Refuse what is no sampling geometry, or weighs by the current policy: a target is a distribution, fixed once."""
    is_sampling(owner, of)
    if of.locality > Locality.ROLLOUT:
        refuse(owner, "a target is made once per rollout, but this drive is weighed by the current policy.", of=of)
