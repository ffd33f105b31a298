"""Measures whose weights depend on the lengths of all rows of the batch, or on which prompts these answer."""

from __future__ import annotations

import copy
import dataclasses
from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from geomalign._util.check import finite, positive
from geomalign._util.groups import Groups
from geomalign.batch import Batch, Counts
from geomalign.measure.base import Measure

__all__ = ["LengthPower", "LengthPreference", "LengthWeights", "PromptMean"]


class LengthWeights(Measure):
    """A measure that gives the events of a row a weight by the lengths of all rows and by the prompts they answer.

    The weight of a row of a micro-batch depends on rows that are elsewhere. It is exact because `Counts.lengths` and
    `Counts.prompts` hold the lengths and prompts of the whole batch, so that groups may be cut anywhere: pass
    `whole_batch.counts()` to every part, and of several processes `distributed.counts(batch, lengths=True)`.
    A length is a number of events. Events that are whole responses have length one.

    A measure of one's own states `weigh` alone:

    >>> import dataclasses, torch, geomalign as ga
    >>> class ByRoot(ga.measure.LengthWeights):
    ...     def weigh(self, length, counted, groups, events):
    ...         return length.clamp(min=1) ** -0.5 / torch.where(counted, length**0.5, 0).sum().clamp(min=1)
    >>> ga.laws.check_measure(ByRoot())
    """

    rowwise = False
    needs_lengths = True
    _whole: tuple[Tensor, Tensor, Tensor] | None = None

    def among(self, rows: Batch, counts: Counts) -> Measure:
        if counts.lengths is None:
            raise ValueError(
                f"{self!r} weighs responses by the lengths of the whole batch, which these counts lack, as a sum of "
                "counts, counts of pairs and counts of four numbers do. Pass whole_batch.counts(), or in several "
                "processes distributed.counts(batch, lengths=True)."
            )
        prompts, here = counts.prompts, rows.prompt
        if (prompts is None) != (here is None):
            raise ValueError(
                f"{self!r}: the prompts are known of {'these rows' if prompts is None else 'the whole batch'} alone; "
                "give `group` to the parts and to the whole, or to neither."
            )
        if prompts is None or here is None:
            prompts, here = torch.zeros_like(counts.lengths), rows.support.new_zeros(rows.size, dtype=torch.long)
        bound = copy.copy(self)
        object.__setattr__(bound, "_whole", (counts.lengths, prompts, here))  # no field: what is equal stays equal
        return bound

    def weights(self, support: Tensor, events: Tensor, rows: Tensor) -> Tensor:
        own = support.sum(-1) if support.ndim == 2 else support.long()
        whole, prompts, here = self._whole or (own, torch.zeros_like(own), torch.zeros_like(own))
        whole = whole if support.ndim == 2 else (whole > 0).long()
        # The rows of the part stand behind those of the whole, which alone are counted: they read what belongs to them.
        length = torch.cat([whole, own]).to(events.dtype)
        counted = torch.cat([whole > 0, torch.zeros_like(own, dtype=torch.bool)])
        groups = Groups(torch.cat([prompts, here]), torch.ones_like(counted))
        found = self.weigh(length, counted, groups, events)[len(whole) :]
        return torch.where(support, found[:, None] if support.ndim == 2 else found, 0)

    @abstractmethod
    def weigh(self, length: Tensor, counted: Tensor, groups: Groups, events: Tensor) -> Tensor:
        """`(row,)` weights of one event of every row.

        Args:
            length: `(row,)` numbers of events.
            counted: `(row,)` booleans, the rows that sums are taken over: those of the whole batch that have an event.
            groups: the rows by their prompt; `groups.sum` of what is zero outside `counted` sums over a prompt.
            events: the number of events in the whole batch, 0-dim.
        """


@dataclasses.dataclass(frozen=True)
class PromptMean(LengthWeights):
    """Every prompt counts the same, and every event among its responses: (1/P) Σ_p (1/Σ_{i∈p}|y_i|) Σ_{i∈p} Σ_t.

    Prompts without an event are not counted, a prompt whose rewards are all equal is. Events that are whole responses
    are averaged within the prompt, then over prompts.

    Source: SkyRL's `loss_reduction="prompt_mean"` and prime-rl's `loss_aggregation="prompt"` (code of 2026), both by
    scaling what a token brings. Departures: prime-rl leaves tokens with an advantage of exactly zero out of its
    denominator, so that it counts fewer prompts; torchrl calls `NestedMean` by the name "prompt_mean".

    >>> import torch, geomalign as ga
    >>> mask = torch.tensor([[True, True, True], [True, False, False], [True, True, False]])
    >>> batch = ga.Batch(torch.zeros(3, 3), None, mask, group=torch.tensor([7, 7, 9]))
    >>> counts = batch.counts()
    >>> ga.PromptMean().among(batch, counts).weights(mask, torch.tensor(6.0), torch.tensor(3.0))
    tensor([[0.1250, 0.1250, 0.1250],
            [0.1250, 0.0000, 0.0000],
            [0.2500, 0.2500, 0.0000]])
    """

    def weigh(self, length: Tensor, counted: Tensor, groups: Groups, events: Tensor) -> Tensor:
        within = groups.sum(torch.where(counted, length, 0)).clamp(min=1)
        responses = groups.sum(counted.to(length.dtype)).clamp(min=1)
        # A prompt of n rows has n times 1/n; its sum is a whole number up to rounding.
        prompts = torch.where(counted, 1 / responses, 0).sum().round().clamp(min=1)
        return 1 / (prompts * within)

    def latex(self, tokens: bool) -> str:
        if not tokens:
            return r"\frac{1}{P}\sum_p\frac{1}{n_p}\sum_{i\in p}"
        return r"\frac{1}{P}\sum_p\frac{1}{\sum_{i\in p}|y_i|}\sum_{i\in p}\sum_t"


@dataclasses.dataclass(frozen=True)
class LengthPower(LengthWeights):
    """A response's sum over tokens is weighted by a power of its length: (1/length) Σ_i x_i Σ_t, x_i = |y_i|^{−α} /
    Σ_j |y_j|^{−α}.

    The weights x_i sum to one, so that the estimate is unbiased where the sum over tokens does not depend on the
    length. Where its variance grows as |y_i|, α = 1 has the smallest variance. α = 0 is `FixedBudget(length)`, and α =
    1 is `NestedMean` up to a common factor, the harmonic mean of the lengths over `length`.

    Args:
        alpha: α, a finite number; 1 for the smallest variance, smaller to use long responses more.
        length: events per row, positive; the paper takes a constant, such as the limit of generation in tokens.

    Raises:
        ValueError: an alpha that is not finite, or a length that is not positive.

    Source: He et al. 2025 (ΔL Normalization, arXiv 2509.07558), and the authors' code, which multiplies advantages by
    |y_i|^{−α} over its mean and divides by the padded size of the batch.

    >>> import torch, geomalign as ga
    >>> mask = torch.tensor([[True, True], [True, False]])
    >>> batch = ga.Batch(torch.zeros(2, 2), None, mask)
    >>> measure = ga.measure.LengthPower(alpha=1.0, length=2).among(batch, batch.counts())
    >>> measure.weights(mask, torch.tensor(3.0), torch.tensor(2.0))
    tensor([[0.1667, 0.1667],
            [0.3333, 0.0000]])
    """

    alpha: float
    length: float
    normalised = False

    def __post_init__(self) -> None:
        finite(self, "the negative power of the length", alpha=self.alpha)
        positive(self, "usually the length limit of generation in tokens", length=self.length)

    def weigh(self, length: Tensor, counted: Tensor, groups: Groups, events: Tensor) -> Tensor:
        # Over the mean length, so that no power over- or underflows.
        mean = torch.where(counted, length, 0).sum() / counted.sum().clamp(min=1)
        x = (length.clamp(min=1) / mean.clamp(min=1)) ** -self.alpha
        total = torch.where(counted, x, 0).sum()
        return x / (self.length * torch.where(total > 0, total, 1))

    def latex(self, tokens: bool) -> str:
        inner = "" if self.length == 1 else rf"\frac{{1}}{{{self.length:g}}}"
        power = rf"^{{-{self.alpha:g}}}"
        within = r"\sum_t" if tokens else ""
        return rf"{inner}\sum_i\frac{{|y_i|{power}}}{{\sum_j|y_j|{power}}}{within}"


@dataclasses.dataclass(frozen=True)
class LengthPreference(LengthWeights):
    """Long or short responses to a prompt are preferred: (1/Σ_i|y_i|) Σ_i f_i Σ_t,  f = G · softmax(h^λ) over the G
    responses to a prompt.

    h = 1 + spread · z, where z is a length less the mean of its group, over the group's standard deviation (of the
    population, zero where all lengths are equal). λ = 0 is `PooledMean` (f = 1), λ > 0 prefers long responses, λ < 0
    short ones.

    Args:
        preference: λ, a finite number, or a 0-dim tensor. The weights are differentiable in a tensor, so that autograd
            of `objective.plain(batch).loss` has the gradient in λ; the closed form has that of the policy alone.
        spread: r, positive. h is kept above 1e-6; it is positive by itself in groups of up to 1 + 1/spread² responses.

    Raises:
        ValueError: a number that is not finite, or a spread that is not positive.

    Source: Wang et al. 2025 (λ-GRPO, arXiv 2510.06870); z, h and the softmax by two summaries of the paper, r = 1/9
    and the population's deviation by another implementation. Its own text was not read.

    >>> import torch, geomalign as ga
    >>> mask = torch.tensor([[True, True, True], [True, False, False]])
    >>> batch = ga.Batch(torch.zeros(2, 3), None, mask)
    >>> measure = ga.measure.LengthPreference(-5.0).among(batch, batch.counts())
    >>> measure.weights(mask, torch.tensor(4.0), torch.tensor(2.0))
    tensor([[0.1147, 0.1147, 0.1147],
            [0.3853, 0.0000, 0.0000]])
    """

    preference: float | Tensor
    spread: float = 1 / 9
    normalised = False

    def __post_init__(self) -> None:
        if not isinstance(self.preference, Tensor):
            finite(self, "the exponent of the length", preference=self.preference)
        elif self.preference.ndim or not self.preference.is_floating_point():
            raise ValueError(
                f"LengthPreference(preference=…) is {tuple(self.preference.shape)} {self.preference.dtype}: expected a "
                "number or a 0-dim floating-point tensor, one preference for the whole batch."
            )
        positive(self, "how far h moves per standard deviation of the length", spread=self.spread)

    def weigh(self, length: Tensor, counted: Tensor, groups: Groups, events: Tensor) -> Tensor:
        present = counted.to(length.dtype)
        size = groups.sum(present).clamp(min=1)
        centred = length - groups.sum(present * length) / size
        variance = groups.sum(present * centred**2) / size
        z = torch.where(variance > 0, centred / torch.where(variance > 0, variance, 1).sqrt(), 0)
        power: Any = self.preference
        h = (1 + self.spread * z).clamp(min=1e-6) ** power
        # A common factor per group cancels, and a detached one has no gradient.
        e = torch.exp(h - groups.max(h.detach()))
        return size * e / groups.sum(present * e).clamp(min=torch.finfo(e.dtype).tiny) / events.clamp(min=1)

    def latex(self, tokens: bool) -> str:
        within = r"\sum_t" if tokens else ""
        spread = "" if self.spread == 1 else rf"{self.spread:g}\,"
        weight = rf"\operatorname{{softmax}}_G\left(\left(1+{spread}z_i\right)^{{{self.preference:g}}}\right)"
        return rf"\frac{{1}}{{\sum_i|y_i|}}\sum_i G{weight}{within}"
