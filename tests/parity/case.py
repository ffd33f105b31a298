"""One case of the parity table: an objective, a method of a reference implementation, and how the two should relate."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from geomalign import recipes
from geomalign.batch import Batch
from geomalign.laws.batches import FAMILIES, GROUP_FAMILIES, PAIR_FAMILIES, as_text
from geomalign.laws.comparison import AnyBatch, Comparison, Loss, Verdict, compare, minimal
from geomalign.laws.conformance import as_loss, with_advantage
from geomalign.objective import BaseObjective, TermDrives, UnboundedLossWarning
from tests.parity.implementations import IMPLEMENTATIONS, ReferenceImplementation
from tests.parity.implementations.base import TOLERANCE


@dataclasses.dataclass(frozen=True)
class Case:
    """An objective of geomalign against a method of a reference implementation.

    Args:
        objective: name of a recipe.
        implementation: name of a reference implementation.
        method: the implementation's entry point.
        settings: of the recipe.
        options: of that method, under the implementation's names.
        expect: the verdict on ordinary ragged batches.
        why: the reason of a verdict other than equal.
        known_deviations: family of batches -> (verdict, reason), where it is not `expect`.
        releases: beginnings of the versions that this case is about; none: all.
        estimator: compare the drive with the implementation's advantages instead of the losses.
        pairs: compare on pairs of responses. None: where the objective's events are pairs.
        build: makes the objective, where it is no recipe; `objective` is then its label.
        dtype: what the implementation needs where that is not its usual dtype.
    """

    objective: str
    implementation: str
    method: str
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    expect: Verdict = Verdict.EQUAL
    why: str = ""
    known_deviations: Mapping[str, tuple[Verdict, str]] = dataclasses.field(default_factory=dict)
    releases: tuple[str, ...] = ()
    estimator: bool = False
    pairs: bool | None = None
    build: Callable[[], BaseObjective] | None = None
    dtype: torch.dtype | None = None

    def __post_init__(self) -> None:
        if self.implementation not in IMPLEMENTATIONS:
            raise ValueError(f"Case(implementation={self.implementation!r}): there are {', '.join(IMPLEMENTATIONS)}.")
        if self.expect is not Verdict.EQUAL and not self.why:
            raise ValueError(
                f"Case({self.objective!r}, {self.implementation!r}): a verdict other than equal needs a reason, `why`."
            )

    def applies_to(self, version: str) -> bool:
        return not self.releases or any((version + ".").startswith(release + ".") for release in self.releases)

    def expected(self, family: str) -> tuple[Verdict, str]:
        return self.known_deviations.get(family, (self.expect, self.why))

    @property
    def ours(self) -> str:
        """The objective as it is written: `grpo(beta=0.04)`."""
        return self.objective if self.build else call(self.objective, self.settings)

    def make(self) -> BaseObjective:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UnboundedLossWarning)
            return self.build() if self.build else recipes.get(self.objective, **self.settings)

    @property
    def theirs(self) -> str:
        return call(self.method, self.options)


def call(name: str, arguments: Mapping[str, Any]) -> str:
    return f"{name}({', '.join(f'{k}={v!r}' for k, v in arguments.items())})"


@dataclasses.dataclass(frozen=True)
class Result:
    """What a case gave with one release of its reference implementation.

    Args:
        case: what was compared.
        version: of the implementation.
        found: family of batches -> comparison.
        example: where they differ, the smallest batch on which they do, with both losses and gradients there.
    """

    case: Case
    version: str
    found: Mapping[str, Comparison]
    example: str = ""

    @property
    def unexpected(self) -> list[str]:
        """Every family whose verdict is not the expected one."""
        lines = []
        for family, comparison in self.found.items():
            verdict, _ = self.case.expected(family)
            if comparison.verdict is not verdict:
                lines.append(
                    f"{self.case.ours} against {self.case.implementation} {self.version} {self.case.theirs} "
                    f"on {family!r}: "
                    f"expected {verdict.value!r}, found {comparison}"
                )
        return lines


def run(case: Case, implementation: ReferenceImplementation | None = None, examples: bool = True) -> Result:
    """Ask the implementation, which must be installed here.

    Args:
        case: what to compare.
        implementation: an instance to ask instead of the one that the case names.
        examples: look for the smallest batch where they differ, which takes most of the time.
    """
    implementation = IMPLEMENTATIONS[case.implementation] if implementation is None else implementation
    objective = case.make()
    if case.estimator:
        return _run_estimator(case, implementation, objective, examples)
    ours, theirs = as_loss(objective), implementation.loss(case.method, **case.options)
    dtype = case.dtype or implementation.dtype
    tolerance = TOLERANCE[dtype]
    paired = objective.paired if case.pairs is None else case.pairs
    families = PAIR_FAMILIES if paired else FAMILIES
    found: dict[str, Comparison] = {}
    example = ""
    for family, make in families.items():
        if family != "ragged" and case.expect not in (Verdict.EQUAL, Verdict.CONSTANT):
            continue
        batches: Sequence[AnyBatch] = [with_advantage(objective, batch) for batch in make(dtype)]
        found[family] = compare(ours, theirs, batches, tolerance)
        if examples and not found[family].equal and not example:
            example = _example(ours, theirs, batches, tolerance, found[family].verdict)
    return Result(case, implementation.version, found, example)


def _run_estimator(
    case: Case, implementation: ReferenceImplementation, objective: BaseObjective, examples: bool
) -> Result:
    """Drives are compared as if they were gradients of −Σ g log π, which they are for the score-function estimator."""
    estimate = implementation.estimator(case.method, **case.options)

    def as_loss(advantages: Tensor, batch: Batch) -> Tensor:
        per_token = advantages if advantages.ndim == 2 else advantages[:, None]
        return -torch.where(batch.support, per_token * batch.policy, 0).sum()

    def ours(batch: AnyBatch) -> Tensor:
        assert isinstance(batch, Batch)
        g = objective.drive(batch)
        return as_loss(next(iter(g)) if isinstance(g, TermDrives) else g, batch)

    def theirs(batch: AnyBatch) -> Tensor:
        assert isinstance(batch, Batch)
        return as_loss(estimate(batch), batch)

    found: dict[str, Comparison] = {}
    example = ""
    for family, make in GROUP_FAMILIES.items():
        if family != "ragged" and case.expect is not Verdict.EQUAL:
            continue
        batches = make(case.dtype or implementation.dtype)
        tolerance = TOLERANCE[case.dtype or implementation.dtype]
        found[family] = compare(ours, theirs, batches, tolerance)
        if examples and not found[family].equal and not example:
            example = _example(ours, theirs, batches, tolerance, found[family].verdict)
    return Result(case, implementation.version, found, example)


def _example(ours: Loss, theirs: Loss, batches: Sequence[AnyBatch], tolerance: float, verdict: Verdict) -> str:
    """The smallest batch on which the two differ, written out."""

    def exactly(batch: AnyBatch) -> bool:
        found = compare(ours, theirs, batch, tolerance)
        return found.verdict is verdict and bool(torch.isfinite(torch.tensor(found.values)).all())

    def at_all(batch: AnyBatch) -> bool:
        found = compare(ours, theirs, batch, tolerance)
        return not found.equal and (found.verdict is Verdict.REFUSED) == (verdict is Verdict.REFUSED)

    # A case with numbers is better than one with NaN; a factor that changes from batch to batch differs on none alone.
    for kept in (exactly, at_all):
        for batch in batches:
            if kept(batch):
                small = minimal(kept, batch)
                return f"{as_text(small)}\n{compare(ours, theirs, small, tolerance)}"
    return ""
