"""A loss of your own compared with a recipe: `geomalign parity my_module:my_loss --against grpo`."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from geomalign import recipes
from geomalign._util.columns import COLUMN_ALIASES
from geomalign.batch import Batch, PreferenceBatch
from geomalign.laws.batches import FAMILIES, PAIR_FAMILIES, as_text
from geomalign.laws.comparison import AnyBatch, Comparison, Loss, Verdict, compare, minimal
from geomalign.objective import BaseObjective, Objective, TermDrives
from geomalign.optimization import ImportanceWeighted
from geomalign.sampling import MaskedImportance, SamplingGeometry, TruncatedImportance

_PARAMETERS = {field: aliases for field, aliases in COLUMN_ALIASES.items() if field != "rollout"}
# The text of a prompt names its group in a dump; a parameter of that name is something else.
_FIELD = {alias: f for f, aliases in _PARAMETERS.items() for alias in aliases if alias not in ("prompt", "input")}


class LossReport(dict[str, Comparison]):
    """Family of batches -> `Comparison`. Prints as text.

    Args:
        found: the comparisons.
        against: the recipe with its settings.
        example: the smallest batch on which the two differ, as text; empty where they are equal.

    >>> import geomalign as ga
    >>> print(ga.laws.compare_loss(lambda batch: ga.recipes.grpo()(batch).loss, "grpo")["ragged"].verdict.value)
    equal
    """

    def __init__(self, found: dict[str, Comparison], against: str, example: str):
        super().__init__(found)
        self.against = against
        self.example = example

    @property
    def equal(self) -> bool:
        """Whether value and gradient agree on every family."""
        return all(comparison.equal for comparison in self.values())

    def __str__(self) -> str:
        lines = [f"against {self.against}"]
        for family, comparison in self.items():
            lines += [f"{family}: {comparison}"]
        if self.example:
            lines += ["", "smallest batch on which they differ:", self.example]
        return "\n".join(lines)


def adapt(function: Callable[..., Tensor]) -> Loss:
    """A function of named tensors as a function of a batch.

    Every parameter is given the batch's field of its name, or of one of the names that trainers use for it
    (`old_log_probs`, `response_mask`, `advantages`, …); a function of one parameter called `batch` is given the batch,
    with rewards and groups.

    Raises:
        ValueError: it is an objective, no parameter is a field, or one without default has a name that no field goes
            by; the message lists them all.

    >>> import torch, geomalign as ga
    >>> loss = adapt(lambda logps, completion_mask: (logps * completion_mask).sum())
    >>> loss(ga.Batch(torch.tensor([[1.0, 2.0]]), None, torch.tensor([[True, False]])))
    tensor(1.)
    """
    name = getattr(function, "__name__", type(function).__name__)
    parameters = inspect.signature(function).parameters
    if isinstance(function, BaseObjective) or not parameters.keys() & {*_FIELD, "batch"}:
        seen = "is an objective" if isinstance(function, BaseObjective) else "takes no field of a batch"
        raise ValueError(
            "expected a loss, a function such as my_loss(logps, old_logps, advantages, mask) or my_loss(batch); "
            f"{name} {seen}. The loss of an objective is `lambda batch: objective(batch).loss`."
        )
    if list(parameters) == ["batch"]:
        return function
    unknown = [
        p.name
        for p in parameters.values()
        if p.name not in _FIELD and p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    ]
    if unknown:
        known = "; ".join(" = ".join(a for a in aliases if a in _FIELD) for aliases in _PARAMETERS.values())
        raise ValueError(
            f"{name} has the parameters {', '.join(map(repr, unknown))}, which are "
            f"no field of a batch. Fields and their other names: {known}. Rename the parameters, give them defaults, "
            "or take one parameter called `batch`."
        )
    wanted = [p.name for p in parameters.values() if p.name in _FIELD]

    def loss(batch: AnyBatch) -> Tensor:
        given: dict[str, Any] = {name: getattr(batch, _FIELD[name], None) for name in wanted}
        return function(**given)

    return loss


def compare_loss(
    function: Callable[..., Tensor],
    recipe: str | BaseObjective,
    *,
    dtype: torch.dtype = torch.float64,
    tolerance: float | None = None,
    **settings: Any,
) -> LossReport:
    """Whether a loss of your own is the objective that it is meant to be: value and gradient on random ragged batches.

    Args:
        function: returns the scalar loss of named tensors, each `(row, token)` or `(row,)`: any of `policy`, `old`,
            `mask`, `advantage`, `reward`, `reference`, `group`, or for pairs `chosen`, `rejected`, `reference_chosen`,
            …, `chosen_mask`, …; the names that trainers use are understood (see `adapt`). `advantage` is what the
            recipe's sampling geometry makes of the rewards.
        recipe: name of the recipe to compare with, `"my_module:my_objective"`, or an objective.
        dtype: of the tensors.
        tolerance: relative; None: 1e-6 in float64, 3e-5 in float32.
        settings: of the recipe; an objective takes none.

    Raises:
        ValueError: no such recipe, or settings beside an objective.

    Returns:
        `LossReport`: one `Comparison` for ordinary batches and for each family of unusual ones.

    >>> import torch
    >>> from geomalign.laws import compare_loss
    >>> def mine(logps, old_logps, advantages, mask):
    ...     ratio = (logps - old_logps).exp()
    ...     each = -torch.minimum(ratio * advantages[:, None], ratio.clamp(0.8, 1.2) * advantages[:, None])
    ...     return (each * mask).sum() / mask.sum()
    >>> compare_loss(mine, "bnpo")["ragged"].verdict.value, compare_loss(mine, "grpo")["ragged"].verdict.value
    ('equal', 'differs')
    """
    if isinstance(recipe, BaseObjective) and settings:
        raise ValueError(f"compare_loss: {', '.join(settings)} beside an objective, which holds its settings already.")
    objective = recipe if isinstance(recipe, BaseObjective) else recipes.get(recipe, **settings)
    theirs = adapt(function)
    given = "advantage" in _fields_of(function)
    ours: Loss = as_loss(objective) if given else lambda batch: objective(batch).loss
    paired = objective.paired or "chosen" in _fields_of(function)
    families = PAIR_FAMILIES if paired else FAMILIES
    limit = tolerance or {torch.float64: 1e-6, torch.float32: 3e-5}[dtype]
    found: dict[str, Comparison] = {}
    example = ""
    for family, make in families.items():
        batches: list[Batch | PreferenceBatch] = [with_advantage(objective, b) if given else b for b in make(dtype)]
        found[family] = compare(ours, theirs, batches, limit)
        if not found[family].equal and found[family].verdict is not Verdict.REFUSED and not example:
            example = _smallest(ours, theirs, batches, limit)
    written = f"{recipe}({', '.join(f'{k}={v!r}' for k, v in settings.items())})" if isinstance(recipe, str) else "it"
    return LossReport(found, written, example)


def _fields_of(function: Callable[..., Tensor]) -> set[str]:
    return {_FIELD[name] for name in inspect.signature(function).parameters if name in _FIELD}


def _smallest(ours: Loss, theirs: Loss, batches: list[Batch | PreferenceBatch], tolerance: float) -> str:
    def differ(batch: AnyBatch) -> bool:
        found = compare(ours, theirs, batch, tolerance)
        return not found.equal and found.verdict is not Verdict.REFUSED

    for batch in batches:
        if differ(batch):
            small = minimal(differ, batch)
            return f"{as_text(small)}\n{compare(ours, theirs, small, tolerance)}"
    return ""


def _sampled(objective: BaseObjective) -> list[Objective]:
    """The terms whose drive is an advantage: a label is fixed, and the drive of `ImportanceWeighted` is a weight."""
    return [term for term in objective.driven_terms if not isinstance(term.optimization, ImportanceWeighted)]


def with_advantage(objective: BaseObjective, batch: AnyBatch) -> AnyBatch:
    """The batch with the objective's own drive as its `advantage`, as a trainer passes it to its loss.

    Of terms with different drives (one per sign of the advantage) it is the sum.

    >>> import geomalign as ga
    >>> batch, objective = ga.laws.sample_batch(), ga.recipes.dr_grpo()
    >>> with_advantage(objective, batch).advantage.equal(objective.drive(batch))
    True
    """
    if isinstance(batch, PreferenceBatch):
        return batch
    if _corrected(objective):  # a trainer passes the advantage and the importance weight separately
        inner = next(s.of for s in (term.sampling for term in _sampled(objective)) if _corrects(s))  # type: ignore[attr-defined]
        return dataclasses.replace(batch, advantage=inner.drive(batch))
    drives = objective.drive(batch)
    if isinstance(drives, TermDrives):
        terms = _sampled(objective)
        sampled = [g for g, (_, term) in zip(drives, objective.terms, strict=True) if term in terms]
        if not sampled:
            drives = torch.zeros(batch.size, dtype=batch.dtype)
        else:
            drives = sampled[0] if len({term.sampling for term in terms}) == 1 else torch.stack(sampled).sum(0)
    return dataclasses.replace(batch, advantage=drives)


def _one_drive(objective: BaseObjective) -> bool:
    return len({term.sampling for term in objective.driven_terms}) <= 1


def _corrected(objective: BaseObjective) -> bool:
    return any(_corrects(term.sampling) for term in _sampled(objective))


def _corrects(sampling: SamplingGeometry) -> bool:
    """Whether the drive holds a weight between two policies of the rollout, beside an advantage."""
    if isinstance(sampling, MaskedImportance):
        return sampling.numerator != "policy"
    return isinstance(sampling, TruncatedImportance)


def as_loss(objective: BaseObjective) -> Loss:
    """The objective as a function of a batch that `with_advantage` has prepared.

    >>> import geomalign as ga
    >>> batch, objective = ga.laws.sample_batch(), ga.recipes.dr_grpo()
    >>> bool(as_loss(objective)(with_advantage(objective, batch)) == objective(batch).loss)
    True
    """

    def loss(batch: AnyBatch) -> Tensor:
        if isinstance(batch, PreferenceBatch) or not _one_drive(objective) or _corrected(objective):
            return objective(batch).loss
        return objective(batch, drive=batch.advantage).loss

    return loss
