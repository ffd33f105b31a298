"""W-GOPO's drive: an advantage that is tilted towards its own exponential weight."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from geomalign.batch import Batch, PreferenceBatch
from geomalign.sampling import GroupAdvantage, SamplingGeometry

__all__ = ["TiltedAdvantage"]


@dataclasses.dataclass(frozen=True)
class TiltedAdvantage(SamplingGeometry):
    """g = h − mean_G(h), h = (1−α)A + αA e^A, A = squash · tanh(g₀/squash): W-GOPO's drive, centred in the group.

    α = 0 is the plain advantage (GOPO); α > 0 weighs good responses exponentially. h = A + αA² + O(A³), so for poor
    responses it is O(A) and not O(A²) as published. The squash bounds the exponential: |A| < squash.

    Args:
        of: the geometry whose drive g₀ is tilted; one drive a response.
        alpha: in [0, 1].
        squash: bound of |A|, positive. 1 is the paper's tanh.

    Raises:
        ValueError: α outside [0, 1], a squash that is not positive, or a drive a token.

    Source: W-GOPO, in later versions of GOPO (arXiv 2602.21269).

    >>> import torch, geomalign as ga
    >>> batch = ga.Batch(torch.zeros(2, 1), None, reward=torch.tensor([1.0, -1.0]))
    >>> TiltedAdvantage(ga.GroupAdvantage(), alpha=0.0).drive(batch)
    tensor([ 0.7616, -0.7616])
    """

    of: SamplingGeometry = GroupAdvantage(scale="group")
    alpha: float = 0.5
    squash: float = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.of, SamplingGeometry):
            raise ValueError(f"TiltedAdvantage(of={self.of!r}): expected a SamplingGeometry such as GroupAdvantage().")
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"TiltedAdvantage(alpha={self.alpha!r}): a share of the exponential weight, in [0, 1].")
        if not self.squash > 0:
            raise ValueError(f"TiltedAdvantage(squash={self.squash!r}): the bound of an advantage is positive.")

    def drive(self, batch: Batch | PreferenceBatch) -> Tensor:
        drive = self.of.drive(batch)
        if drive.ndim != 1 or not isinstance(batch, Batch):
            raise ValueError(f"TiltedAdvantage needs one drive a response; {self.of!r} gave {tuple(drive.shape)}.")
        a = self.squash * torch.tanh(drive / self.squash)
        return batch.groups().centred((1 - self.alpha) * a + self.alpha * a * torch.exp(a))

    def latex(self) -> str:
        a = rf"A_i={self.squash:g}\tanh\frac{{{self.of.latex()}}}{{{self.squash:g}}}"
        return rf"h_i-\operatorname{{mean}}_G(h),\ h_i={1 - self.alpha:g}A_i+{self.alpha:g}A_ie^{{A_i}},\ {a}"
