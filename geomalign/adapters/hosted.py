"""What the adapters of trainers with a loss of their own share: their advantages as drive, their reduction as measure.

These trainers normalise rewards where groups are whole, hand the loss one advantage per token, and reduce the losses of
tokens in their own way. Here the advantage is the drive, and any linear reduction is a set of weights.
"""

from __future__ import annotations

import dataclasses
import functools
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy
import torch
from torch import Tensor

from geomalign import recipes
from geomalign._util.types import Locality
from geomalign._util.words import short, spelled
from geomalign.batch import Batch, Counts
from geomalign.measure import Measure, PooledMean
from geomalign.objective import BaseObjective, Outcome, TermDrives, WeightedSum, metrics
from geomalign.sampling import (
    Advantage,
    EffectiveImportance,
    MaskedImportance,
    SamplingGeometry,
    SecondMomentMask,
    SignWeighted,
    TruncatedImportance,
)

__all__ = [
    "HostWeights",
    "approximate_kl",
    "clip_fraction",
    "drive_of",
    "evaluate",
    "hashable",
    "host_metrics",
    "in_one_line",
    "note",
    "numbers",
    "objective_of",
    "of_tokens",
    "outcomes",
    "pooled",
    "rollout",
    "weights_of",
]

_NOT_ADDED = ("_min", "_max", "/stiffness", "/gap")


@dataclasses.dataclass(frozen=True, eq=False)
class HostWeights(Measure):
    """A host's own reduction. An event that is a whole response carries the weights of all its tokens.

    Args:
        of_tokens: `(row, token)`, what the host multiplies the loss of each token with.

    >>> present = torch.ones(1, 2, dtype=torch.bool)
    >>> HostWeights(torch.tensor([[0.25, 0.25]])).weights(present.any(-1), torch.tensor(1), torch.tensor(1))
    tensor([0.5000])
    """

    of_tokens: Tensor
    rowwise = False

    def weights(self, support: Tensor, events: Tensor, rows: Tensor) -> Tensor:
        return torch.where(support, self.of_tokens if support.ndim == 2 else self.of_tokens.sum(-1), 0)

    def latex(self, tokens: bool) -> str:
        return r"\sum_i\sum_t w_{i,t}" if tokens else r"\sum_i w_i"


def weights_of(reduce: Callable[[Tensor], Tensor], support: Tensor, dtype: torch.dtype) -> Tensor:
    """The weights of a linear reduction, `(row, token)`: its gradient.

    Args:
        reduce: `(row, token)` losses → scalar.
        support: `(row, token)` booleans, the tokens that exist.
        dtype: of the losses.

    >>> weights_of(lambda losses: losses.mean(), torch.ones(1, 4, dtype=torch.bool), torch.float32)
    tensor([[0.2500, 0.2500, 0.2500, 0.2500]])
    """
    with torch.enable_grad():
        losses = torch.zeros(support.shape, dtype=dtype, device=support.device, requires_grad=True)
        return torch.autograd.grad(reduce(losses), losses)[0]


def rollout(mask: Tensor, dtype: torch.dtype, **columns: Any) -> Batch:
    """Responses that no policy has scored, as a sampling geometry reads them: their rewards and groups.

    Zeros stand for the log-probabilities under the policy, on which no drive depends.

    Args:
        mask: `(row, token)`, non-zero at tokens of the response.
        dtype: that the drive is computed in.
        columns: the other fields of `Batch`; `old` is absent unless it is among them.

    >>> import torch, geomalign as ga
    >>> rows = rollout(torch.ones(2, 3), torch.float32, reward=torch.tensor([1.0, 0.0]))
    >>> ga.GroupAdvantage().drive(rows)
    tensor([ 0.5000, -0.5000])
    """
    columns.setdefault("old", None)
    return Batch(torch.zeros(mask.shape, dtype=dtype, device=mask.device), mask=mask, **columns)


def outcomes(rewards: Tensor, mask: Tensor, index: Any = None) -> Batch:
    """Finished responses as advantage estimators get them, with the sum of a response's rewards as its reward.

    Args:
        rewards: `(row, token)`.
        mask: `(row, token)`, non-zero at tokens of the response.
        index: `(row,)` names of the prompts, of any type and in any order; None: all rows answer one prompt.

    >>> outcomes(torch.ones(3, 2), torch.ones(3, 2), ["b", "a", "b"]).group
    tensor([1, 0, 1])
    """
    named = None if index is None else numpy.unique(numpy.asarray(index), return_inverse=True)[1].reshape(-1)
    group = None if named is None else torch.as_tensor(named, device=rewards.device)
    return rollout(mask, rewards.dtype, reward=rewards.sum(-1), group=group)


def drive_of(objective: BaseObjective, batch: Batch) -> Tensor:
    """The one drive that a host can pass on as its advantages, `(row,)` or `(row, token)`; zero where nothing pulls.

    Args:
        objective: of single responses.
        batch: a rollout with whole groups.

    Raises:
        ValueError: the terms have different drives.

    >>> import torch, geomalign as ga
    >>> rows = rollout(torch.ones(2, 3), torch.float32, reward=torch.tensor([1.0, 0.0]))
    >>> drive_of(ga.recipes.get("grpo scale_rewards=none"), rows)
    tensor([ 0.5000, -0.5000])
    """
    driven = objective.driven_terms
    if len({term.sampling for term in driven}) > 1:
        raise ValueError(
            f"the terms of this objective have different drives, {_ways(objective)}, and the host passes one."
        )
    return driven[0].drive(batch) if driven else torch.zeros(batch.size, dtype=batch.dtype, device=batch.policy.device)


def evaluate(
    objective: BaseObjective,
    batch: Batch,
    advantages: Tensor,
    weights: Tensor | None = None,
    counts: Counts | None = None,
    importance: Tensor | None = None,
) -> Outcome:
    """An objective on a host's batch, with the host's advantages in the place of its sampling geometries.

    Args:
        objective: of single responses.
        batch: of tokens.
        advantages: `(row, token)` or `(row,)`; a unit of responses takes the mean over the response's tokens.
        weights: `(row, token)` of the host's reduction; None: the objective's own measure.
        counts: of the whole batch, for the objective's own measure.
        importance: `(row, token)` weights that multiply the drive; a unit of responses takes their geometric mean.

    Raises:
        ValueError: the objective compares pairs, or the batch lacks what a term needs.

    >>> import torch, geomalign as ga
    >>> batch = ga.Batch(torch.zeros(3, 2, requires_grad=True), torch.zeros(3, 2))
    >>> evaluate(ga.recipes.ppo(), batch, torch.tensor([1.0, -1.0, 0.5])).drive
    tensor([[ 1.0000,  1.0000],
            [-1.0000, -1.0000],
            [ 0.5000,  0.5000]])
    """
    if objective.paired:
        raise ValueError(
            "this objective compares pairs, but the host samples single responses: choose a recipe for rewards, such "
            "as opo, or a trainer of preferences."
        )
    support = batch.support
    per_token = advantages if advantages.ndim == 2 else advantages[:, None].expand(support.shape)
    # A host's estimator makes NaN of a reward that is not finite: such a row has no drive, and the others keep theirs.
    per_token = torch.where(support, per_token, 0)
    per_token = torch.where(torch.isfinite(per_token).all(-1, keepdim=True), per_token, 0)
    count = support.sum(-1).clamp(min=1)
    per_response = per_token.sum(-1) / count
    if importance is not None:
        per_token = per_token * importance
        per_response = per_response * torch.exp(torch.where(support, torch.log(importance), 0).sum(-1) / count)
    terms, drives = [], []
    several = len({term.sampling for term in objective.driven_terms}) > 1
    for coefficient, term in objective.terms:
        advantage = per_token if term.unit.per_token else per_response
        driven = term.sampling.driven
        drives.append(_in_place_of(term.sampling, advantage, batch, several) if driven else term.drive(batch))
        measure = term.measure if weights is None else HostWeights(weights)
        terms.append((coefficient, dataclasses.replace(term, measure=measure)))
    return WeightedSum(tuple(terms))(batch, TermDrives(drives), counts)


def _in_place_of(sampling: SamplingGeometry, advantages: Tensor, batch: Batch, several: bool) -> Tensor:
    """The host's drive with what needs rows and no groups: engine weights, and by sign where terms share a drive."""
    engine = (TruncatedImportance, MaskedImportance, EffectiveImportance, SecondMomentMask)
    kept = (*engine, SignWeighted) if several else engine
    if not isinstance(sampling, kept):
        return advantages

    def weighed(of: SamplingGeometry) -> SamplingGeometry:
        return dataclasses.replace(of, of=weighed(of.of)) if isinstance(of, kept) else Advantage()

    return weighed(sampling).drive(dataclasses.replace(batch, advantage=advantages))


def host_metrics(outcome: Outcome, share: Tensor | None = None) -> dict[str, Tensor]:
    """Our metrics for a host's log, under `geom/`: 0-dim tensors.

    Args:
        outcome: of a micro-batch.
        share: for hosts that add up what micro-batches report: what a mean is multiplied with. What does not add up is
            then left out: extremes, and what need not be finite.

    >>> import torch, geomalign as ga
    >>> outcome = evaluate(ga.recipes.ppo(), ga.Batch(torch.zeros(3, 2), torch.zeros(3, 2)), torch.ones(3))
    >>> host_metrics(outcome)["geom/inactive"]
    tensor(1.)
    """
    seen = {f"geom/{name}": value for name, value in metrics(outcome).items() if name != "loss"}
    if share is None:
        return seen
    return {name: value * share for name, value in seen.items() if not name.endswith(_NOT_ADDED)}


def numbers(seen: Mapping[str, Tensor]) -> dict[str, float]:
    """Metrics as numbers, moved to the host together, once.

    >>> numbers({"geom/ess": torch.tensor(0.5)})
    {'geom/ess': 0.5}
    """
    return dict(zip(seen, torch.stack([value.detach().float() for value in seen.values()]).tolist(), strict=True))


def clip_fraction(seen: Mapping[str, Tensor]) -> Tensor:
    """The share of events with a drive and no force, of the objective or of a sum's first term, of `host_metrics`.

    >>> clip_fraction({"geom/term1/clip_fraction": torch.tensor(0.25)})
    tensor(0.2500)
    """
    return seen.get("geom/clip_fraction", seen.get("geom/term1/clip_fraction", torch.zeros(())))


def approximate_kl(outcome: Outcome) -> Tensor:
    """−Δ averaged over the tokens, in nats: what hosts log as the approximate KL divergence.

    Args:
        outcome: of a batch that has `old`.

    Raises:
        ValueError: the batch had none.

    >>> import torch, geomalign as ga
    >>> approximate_kl(evaluate(ga.recipes.ppo(), ga.Batch(torch.zeros(3, 2), torch.ones(3, 2)), torch.ones(3)))
    tensor(1.)
    """
    if outcome.token_log_ratio is None:
        raise ValueError("the approximate KL is measured from the old policy, whose log-probabilities are not there.")
    return -outcome.token_log_ratio.sum() / outcome.mask.sum().clamp(min=1)


def objective_of(objective: BaseObjective | str, hyperparameters: Iterable[tuple[str, Any]] = ()) -> BaseObjective:
    """An objective as it is, or the one that a text describes, kept for the next call: a host asks at every step.

    Args:
        objective: it; or a recipe or `module:attribute`, with options behind it.
        hyperparameters: further options of a text.

    Raises:
        ValueError: as `recipes.get`.

    >>> objective_of("opo alpha=0.5 mu=2").sampling
    Escort(alpha=0.5, temperature=1.0, scaled=False, inverse_probability=False)
    """
    if not isinstance(objective, str):
        return objective
    # 1, 1.0 and True are one key to a dictionary and three values of an option, and a list is no key at all.
    return _kept(objective, tuple((key, hashable(value), repr(value)) for key, value in sorted(hyperparameters)))


@functools.lru_cache(maxsize=64)
def _kept(description: str, hyperparameters: tuple[tuple[str, Any, str], ...]) -> BaseObjective:
    return recipes.get(description, **{key: value for key, value, _ in hyperparameters})


def hashable(value: Any) -> Any:
    """Lists of a configuration as tuples, which is how `recipes.get` reads them too.

    >>> hashable([2, [3, 4]])
    (2, (3, 4))
    """
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(hashable(item) for item in value)
    return value


def in_one_line(name: str, hyperparameters: Mapping[str, Any]) -> str:
    """A name and its hyper-parameters as the one line that `objective_of` reads.

    >>> in_one_line("opo", {"alpha": 0.4, "normalize": "mean"})
    'opo alpha=0.4 normalize=mean'
    """
    return " ".join([name, *(shlex.quote(f"{key}={spelled(value)}") for key, value in hyperparameters.items())])


def pooled(objective: BaseObjective) -> bool:
    """Whether every term is a mean over all tokens of the batch.

    >>> pooled(recipes.get("dapo")), pooled(recipes.get("grpo"))
    (True, False)
    """
    return all(term.unit.per_token and isinstance(term.measure, PooledMean) for _, term in objective.terms)


def of_tokens(objective: BaseObjective) -> bool:
    """Whether a token's loss needs that token alone, so that a host may pack responses or hold parts of them.

    >>> of_tokens(recipes.get("ppo")), of_tokens(recipes.get("luspo"))
    (True, False)
    """
    return objective.per_token and objective.locality <= Locality.TOKEN


def cut_groups(objective: BaseObjective, host: str) -> str | None:
    """Why a host that hands over parts of groups cannot compute the objective; None where it can.

    >>> print(cut_groups(recipes.get("real"), "TRL"))  # doctest: +ELLIPSIS
    GroupContrast(temperature=0.5) couples the responses to one prompt, and TRL cuts groups into micro-batches: ...
    """
    for _, term in objective.terms:
        if term.optimization.locality >= Locality.GROUP:
            return (
                f"{short(term.optimization)} couples the responses to one prompt, and {host} cuts groups into "
                "micro-batches: use geomalign's trainer, whose parts are whole groups"
            )
    return None


def note(objective: BaseObjective, host: str, *, reference: bool = True) -> str:
    """The comment with which a configuration begins: whose drive an objective has where the host makes the advantages.

    Args:
        objective: to be exported.
        host: its name.
        reference: whether the host passes the reference policy's log-probabilities to a loss.

    Raises:
        ValueError: the objective compares pairs, or a term measures from a reference that the host does not pass.

    >>> note(recipes.get("opo alpha=0.5"), "OpenRLHF")
    '# OpenRLHF makes the advantages: they are the drive, in the place of Escort(alpha=0.5).'
    """
    if objective.paired:
        raise ValueError(f"{host} samples single responses, but this objective compares pairs.")
    if cut := cut_groups(objective, host):
        raise ValueError(f"{cut}.")
    if not reference and objective.needs_reference:
        raise ValueError(
            f"a term is measured from the reference, whose log-probabilities {host} does not pass to a loss: use its "
            "own KL term and beta=0."
        )
    return f"# {host} makes the advantages: they are the drive, in the place of {_ways(objective)}."


def _ways(objective: BaseObjective) -> str:
    return " and ".join(dict.fromkeys(short(term.sampling) for term in objective.driven_terms))
