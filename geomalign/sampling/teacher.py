"""Drives of distillation: how much more likely a teacher finds a token that the policy sampled."""

from __future__ import annotations

import dataclasses

from torch import Tensor

from geomalign._util.check import boolean
from geomalign._util.types import Locality
from geomalign.batch import Batch, PreferenceBatch
from geomalign.sampling.base import SamplingGeometry

__all__ = ["TeacherRatio"]


@dataclasses.dataclass(frozen=True)
class TeacherRatio(SamplingGeometry):
    """g = log(π_T/π_old) of every token, with the teacher's log-probabilities as the batch's `reference`.

    It is the reward whose mean under the policy is −KL(π‖π_T) of the next token: the policy gradient of on-policy
    distillation. What a token changes for later tokens is not part of it.

    Args:
        current: whether it is measured from the policy in training, log(π_T/π), at every evaluation; else from the one
            that sampled, once per rollout.

    Raises:
        ValueError: `current` is neither true nor false; in `drive`, a batch without `old` or `reference`.

    Source: Lu and Thinking Machines Lab 2025, "On-Policy Distillation"; with `current`, prime-rl's `ref_kl` loss.

    >>> import torch, geomalign as ga
    >>> old, teacher = torch.tensor([[-1.0, -2.0]]), torch.tensor([[-0.5, -4.0]])
    >>> ga.sampling.TeacherRatio().drive(ga.Batch(old, old, reference=teacher))
    tensor([[ 0.5000, -2.0000]])
    """

    current: bool = False

    def __post_init__(self) -> None:
        boolean(self, current=self.current)

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        rows, owner = batch.rows, type(self).__name__
        return (rows.log_probs("reference", owner) - rows.log_probs("old", owner)).detach()

    def reweight(self, drive: Tensor, log_ratio: Tensor, batch: Batch | PreferenceBatch) -> Tensor:
        return drive - log_ratio if self.current else drive

    @property
    def reweights(self) -> bool:
        return self.current

    @property
    def needs_reference(self) -> bool:
        return True

    @property
    def locality(self) -> Locality:
        return Locality.TOKEN if self.current else Locality.ROLLOUT

    def latex(self) -> str:
        if self.current:
            return r"\operatorname{sg}\left[\log\frac{\pi_T}{\pi_\theta}\right]"
        return r"\log\frac{\pi_T}{\pi_k}"
