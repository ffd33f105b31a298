"""The recipes as data: each with its publication, the table of what pulls and what resists, and the bibliography.

The pages of docs/catalogue are made from it by docs/catalogue_pages.py.
"""

from __future__ import annotations

import dataclasses
import inspect
import warnings
from collections import Counter
from collections.abc import Iterator
from typing import Any

from geomalign import optimization, recipes, sampling
from geomalign._util.types import Locality
from geomalign.objective import SLOTS, BaseObjective, Objective, UnboundedLossWarning
from geomalign.recipes.publications import PUBLICATIONS
from geomalign.recipes.reference import Reference
from geomalign.recipes.symbolic import formula
from geomalign.unit import Token

__all__ = ["PULLS", "RESISTS", "Entry", "Tile", "bibtex", "entries", "own_parts", "periodic_table"]

PULLS: dict[str, tuple[type, ...]] = {
    "the label of a pair": (sampling.Label, sampling.Margin, sampling.SoftLabel, sampling.PolicyWeight),
    "an advantage, as given": (sampling.Advantage,),
    "the group's rewards": (
        sampling.GroupAdvantage,
        sampling.Whitened,
        sampling.SignalScale,
        sampling.LengthWeightedBaseline,
        sampling.LogMeanExpBaseline,
        sampling.RelativeAdvantage,
        sampling.DecoupledAdvantage,
        sampling.SignLabel,
        sampling.PassAtK,
        sampling.MaxAtK,
        sampling.BestOfN,
    ),
    "weights of a target policy": (
        sampling.ExponentiatedAdvantage,
        sampling.Escort,
        sampling.EscortESS,
        sampling.TrustRegion,
        sampling.BoundedProjection,
        sampling.GroupTarget,
    ),
    "importance weights": (
        sampling.ClippedImportance,
        sampling.DivergenceMask,
        sampling.TaperedImportance,
        sampling.GammaImportance,
        sampling.GradientPreservingClip,
        sampling.FlippedImportance,
        sampling.FutureKL,
        sampling.RingMask,
        sampling.BalancedClip,
        sampling.GroupExpectation,
        sampling.MaskedImportance,
    ),
    "a teacher": (sampling.TeacherRatio,),
    "the token's own probability": (sampling.ProbabilityWeighted, sampling.ProbabilityGated),
}
"""Rows of the periodic table: what pulls, and the sampling geometries of that kind."""

RESISTS: dict[str, tuple[type, ...]] = {
    "nothing": (optimization.Flat,),
    "a wall": (
        optimization.Clip,
        optimization.SigmoidClip,
        optimization.Hinge,
        optimization.SquaredHinge,
        optimization.Indicator,
    ),
    "a square": (optimization.ChiSquare,),
    "a divergence": (
        optimization.ReverseKL,
        optimization.FDivergence,
        optimization.NegativeEntropy,
        optimization.ImplicitNegative,
        optimization.VariationalBound,
    ),
    "a logistic link": (optimization.Logistic, optimization.LogRatioModulated),
    "the rest of the group": (
        optimization.GroupPotential,
        optimization.GroupReverseKL,
        optimization.GroupContrast,
        optimization.PlackettLuce,
        optimization.GroupVariance,
        optimization.GroupPairs,
        optimization.GroupDiscrimination,
    ),
}
"""Columns of the periodic table: what resists, and the optimization geometries of that kind."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """One recipe of the catalogue.

    Args:
        name: of the recipe.
        objective: what it makes at its defaults.
        reference: its publication.
        signature: the call with its defaults.

    >>> entry = next(entry for entry in entries() if entry.name == "dpo")
    >>> entry.signature, entry.source
    ('dpo(beta=0.1, label_smoothing=0.0)', 'Rafailov 2023')
    """

    name: str
    objective: BaseObjective
    reference: Reference
    signature: str

    @property
    def terms(self) -> tuple[tuple[float, Objective], ...]:
        """The single-term objectives, each with its coefficient."""
        return self.objective.terms

    @property
    def formula(self) -> str:
        """What it makes, in LaTeX, with symbols in the place of its numbers."""
        return formula(self.name)

    @property
    def source(self) -> str:
        """First author and year."""
        return self.reference.source


def entries() -> list[Entry]:
    """All recipes, by name.

    >>> len(entries()) == len(recipes.names())
    True
    """
    found = []
    for name in recipes.names():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UnboundedLossWarning)
            objective = recipes.get(name)
        parameters = inspect.signature(getattr(recipes, name)).parameters.values()
        given = ", ".join(f"{p.name}={p.default!r}" for p in parameters)
        found.append(Entry(name, objective, PUBLICATIONS[name], f"{name}({given})"))
    return found


def parts(value: Any) -> Iterator[type]:
    """The classes that a slot value is made of, outermost first.

    >>> import geomalign as ga
    >>> [part.__name__ for part in parts(ga.Pair(of=ga.MeanSequence()))]
    ['Pair', 'MeanSequence']
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield type(value)
        for field in dataclasses.fields(value):
            yield from parts(getattr(value, field.name))
    elif isinstance(value, tuple):
        for item in value:
            yield from parts(item)


def own_parts() -> dict[str, set[str]]:
    """The classes that no other recipe uses, by recipe; empty where every part is shared.

    >>> own_parts()["sapo"], own_parts()["grpo"]
    ({'SigmoidClip'}, set())
    """
    table = {
        entry.name: {
            part.__name__
            for _, term in entry.terms
            for slot in (*SLOTS, "offset")
            for part in parts(getattr(term, slot))
        }
        for entry in entries()
    }
    uses = Counter(part for parts in table.values() for part in parts)
    return {name: {part for part in parts if uses[part] == 1} for name, parts in table.items()}


@dataclasses.dataclass(frozen=True)
class Tile:
    """A recipe in the periodic table.

    Args:
        name: the recipe.
        source: first author and year.
        event: "token", "response", "pair" or "group".
        decoupled: whether every potential is a convex function of the coordinate alone, without the drive.

    >>> periodic_table()["the label of a pair", "a divergence"][0]
    Tile(name='exo', source='Ji 2024', event='pair', decoupled=True)
    """

    name: str
    source: str
    event: str
    decoupled: bool


def _kind(kinds: dict[str, tuple[type, ...]], value: Any) -> str:
    """The kind of the outermost class that has one, so that a wrapper is of the kind of what it wraps."""
    classes = list(parts(value))
    kind = next((kind for part in classes for kind, members in kinds.items() if part in members), None)
    if kind is None:
        names = " of ".join(part.__name__ for part in classes)
        raise ValueError(f"{names} is of no kind in the periodic table; add it to PULLS or RESISTS.")
    return kind


def periodic_table() -> dict[tuple[str, str], list[Tile]]:
    """The recipes by what pulls (`PULLS`) and what resists (`RESISTS`) in their first term.

    >>> [tile.name for tile in periodic_table()["the group's rewards", "a square"]]
    ['cfpo', 'mirror_descent', 'pmd']
    """
    cells: dict[tuple[str, str], list[Tile]] = {}
    for entry in entries():
        term = entry.terms[0][1]
        key = _kind(PULLS, term.sampling), _kind(RESISTS, term.optimization)
        event = "pair" if term.unit.paired else "token" if isinstance(term.unit, Token) else "response"
        event = "group" if term.optimization.locality >= Locality.GROUP else event
        cells.setdefault(key, []).append(Tile(entry.name, entry.source, event, entry.objective.decoupled))
    return cells


def bibtex() -> str:
    """All publications as BibTeX, each once.

    >>> bibtex().splitlines()[0]
    '@misc{agarwal2023onpolicy,'
    """
    unique = {reference.key: reference for reference in PUBLICATIONS.values()}
    return "\n\n".join(unique[key].bibtex() for key in sorted(unique)) + "\n"
