"""The catalogue as pages: the definition table, the KL penalties, names that mean two things, BibTeX. All generated
from the
code.

`python -m geomalign.recipes.table docs/catalogue` writes the pages.
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from geomalign import recipes
from geomalign.objective import ESTIMATORS, KL_PENALTIES, BaseObjective, Objective, UnboundedLossWarning
from geomalign.recipes.publications import PUBLICATIONS
from geomalign.recipes.reference import HOMONYMS, Reference
from geomalign.unit import Token

__all__ = ["PULLS", "RESISTS", "Entry", "LEFT_OUT", "Tile", "bibtex", "entries", "own_parts", "pages", "periodic_table"]

_SLOTS = ("unit", "chart", "sampling", "optimization", "measure", "offset")

LEFT_OUT: tuple[tuple[str, str], ...] = (
    (
        "Clip-Cov, KL-Cov (2505.22617)",
        "select tokens at random by a covariance over the batch: the loss is not a function of the batch alone.",
    ),
    (
        "Entropy bonus, high-entropy token masks (2506.01939)",
        "need the entropy of every step, which sampled log-probabilities do not hold. A mask that was computed "
        "elsewhere goes into "
        "`Batch.mask`.",
    ),
    (
        "DPPO's top-K divergence (2602.04879)",
        "needs K log-probabilities a token under two policies; its binary form is `dppo`.",
    ),
    (
        "On-policy GKD and reverse-KL distillation over the vocabulary (2306.13649)",
        "a sum over the vocabulary is a function of logits. `generalized_jsd` is its unbiased estimate from the "
        "teacher's samples.",
    ),
    (
        "WPO's weight alignment (2406.11827)",
        "divides by Σ_v π(v)² of every step, which needs logits; `wpo` has the weight without it.",
    ),
    (
        "Beta-normalised BNPO (2506.02864)",
        "a baseline fitted to the batch's success rates by a Beta density. A sampling geometry like the others; "
        "left to a user until its "
        "moment estimates are checked against its code.",
    ),
    (
        "GAE, value losses (1506.02438)",
        "estimate advantages from a critic. The advantage goes into `Batch.advantage`; the critic's own loss is a "
        "regression elsewhere.",
    ),
    (
        "BCO's density ratio (2404.04656)",
        "needs a classifier of prompts; `bco` is the loss without it.",
    ),
    (
        "LD-DPO, TDPO and other token-level variants of DPO",
        "weigh tokens by position relative to the other response, or need the KL of every step over the vocabulary.",
    ),
    (
        "Optimal token baseline (verl)",
        "needs Σ_v π(v)² of every step; the response-level baseline is `optimal_baseline`.",
    ),
    (
        "Target Policy Optimization (2604.06159)",
        "a cross-entropy between two softmaxes over the group: its potential is a log-sum-exp over responses, not "
        "a sum over events.",
    ),
)
"""What is not in the catalogue, and why."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """One recipe: its name, its objective at the defaults, its publication and its signature."""

    name: str
    objective: BaseObjective
    reference: Reference
    signature: str

    @property
    def terms(self) -> tuple[tuple[float, Objective], ...]:
        """The single-term objectives, each with its coefficient."""
        return self.objective.terms


def entries() -> list[Entry]:
    """All recipes, by name."""
    found = []
    for name in recipes.names():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UnboundedLossWarning)
            objective = recipes.get(name)
        parameters = inspect.signature(getattr(recipes, name)).parameters.values()
        given = ", ".join(f"{p.name}={p.default!r}" for p in parameters)
        found.append(Entry(name, objective, PUBLICATIONS[name], f"{name}({given})"))
    return found


def _parts(value: Any) -> Iterator[str]:
    """The names of the classes a slot value is made of, outermost first."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield type(value).__name__
        for field in dataclasses.fields(value):
            yield from _parts(getattr(value, field.name))
    elif isinstance(value, tuple):
        for item in value:
            yield from _parts(item)


def _classes(entry: Entry) -> set[str]:
    return {part for _, term in entry.terms for slot in _SLOTS for part in _parts(getattr(term, slot))}


def own_parts() -> dict[str, set[str]]:
    """By recipe, the classes that no other recipe is made of: empty for one that is a choice of parts others share."""
    table = {entry.name: _classes(entry) for entry in entries()}
    uses = Counter(part for parts in table.values() for part in parts)
    return {name: {part for part in parts if uses[part] == 1} for name, parts in table.items()}


PULLS: dict[str, tuple[str, ...]] = {
    "the label of a pair": ("Label", "Margin", "SoftLabel", "PolicyWeight"),
    "an advantage, as given": ("Advantage",),
    "the group's rewards": (
        "GroupAdvantage",
        "Whitened",
        "SignalScale",
        "LengthWeightedBaseline",
        "PassAtK",
        "MaxAtK",
        "BestOfN",
    ),
    "weights of a target policy": ("ExponentiatedAdvantage", "Escort", "EscortESS", "TrustRegion", "BoundedProjection"),
    "importance weights": ("ClippedImportance", "DivergenceMask", "TaperedImportance", "GammaImportance"),
}
"""Rows of the periodic table: what pulls, and the sampling geometries of that kind."""

RESISTS: dict[str, tuple[str, ...]] = {
    "nothing": ("Flat",),
    "a wall": ("Clip", "SigmoidClip", "Hinge", "SquaredHinge", "Indicator"),
    "a square": ("ChiSquare",),
    "a divergence": ("ReverseKL", "FDivergence", "NegativeEntropy"),
    "a logistic link": ("Logistic", "LogRatioModulated"),
}
"""Columns of the periodic table: what resists, and the optimization geometries of that kind."""


@dataclasses.dataclass(frozen=True)
class Tile:
    """A recipe in the periodic table.

    Args:
        name: the recipe.
        source: first author and year.
        event: "token", "response" or "pair".
        decoupled: whether every potential is a convex function of the coordinate alone, without the drive.
    """

    name: str
    source: str
    event: str
    decoupled: bool


def _kind(kinds: dict[str, tuple[str, ...]], parts: Iterator[str]) -> str:
    """Of the outermost class that is of a kind: a wrapper is of the kind of what it wraps."""
    names = list(parts)
    found = (kind for name in names for kind, members in kinds.items() if name in members)
    kind = next(found, None)
    if kind is None:
        raise ValueError(f"{' of '.join(names)} is of no kind in the periodic table; add it to PULLS or RESISTS.")
    return kind


def periodic_table() -> dict[tuple[str, str], list[Tile]]:
    """The recipes by what pulls (`PULLS`) and what resists (`RESISTS`) in their first term."""
    cells: dict[tuple[str, str], list[Tile]] = {}
    for entry in entries():
        term = entry.terms[0][1]
        key = _kind(PULLS, _parts(term.sampling)), _kind(RESISTS, _parts(term.optimization))
        event = "pair" if term.unit.paired else "token" if isinstance(term.unit, Token) else "response"
        tile = Tile(entry.name, _source(entry.reference), event, entry.objective.decoupled)
        cells.setdefault(key, []).append(tile)
    return cells


def bibtex() -> str:
    """All publications, each once."""
    unique = {reference.key: reference for reference in PUBLICATIONS.values()}
    return "\n\n".join(unique[key].bibtex() for key in sorted(unique)) + "\n"


def _source(reference: Reference) -> str:
    """First author and year."""
    surname = reference.authors.split(" and ")[0].split(",")[0]
    return f"{surname} {reference.year}".replace("{\\c{C}}a{\\u{g}}atan", "Çağatan")


def _cite(reference: Reference) -> str:
    text = _source(reference)
    return f"[{text}]({reference.url})" if reference.url else text


def _escape(text: str) -> str:
    return text.replace("|", "\\|")


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(_escape(cell) for cell in cells) + " |"


def _table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join([_row(head), _row(["---"] * len(head)), *map(_row, rows)])


def _slots_of(term: Objective) -> list[str]:
    cells = [f"`{getattr(term, slot)!r}`" for slot in _SLOTS]
    return [*cells, f"`{term.anchor}`"]


def _index() -> str:
    own = own_parts()
    shared = sum(1 for parts in own.values() if not parts)
    rows = []
    for entry in entries():
        term = entry.terms[0][1]
        names = [
            type(getattr(term, slot)).__name__ for slot in ("unit", "chart", "sampling", "optimization", "measure")
        ]
        more = f" + {len(entry.terms) - 1}" if len(entry.terms) > 1 else ""
        rows.append(
            [
                f"[`{entry.name}`](recipes.md#{entry.name.replace('_', '-')})",
                _cite(entry.reference),
                names[0] + more,
                *names[1:],
                "yes" if entry.objective.decoupled else "no",
                entry.objective.locality.name.lower(),
            ]
        )
    head = ["recipe", "source", "unit", "chart", "sampling", "optimization", "measure", "decoupled", "locality"]
    return f"""# The catalogue

Every published objective here is a choice of slots. {len(rows)} recipes; {shared} of them are made of parts that other
recipes are made of too, {len(rows) - shared} have a part of their own. No recipe has loss code.

Each is tested against its published formula, written out, in value and gradient to 1e-10 in float64 on ragged batches,
and its gradient law against autograd. "+ 1" after a unit: a sum of terms, of which the first is shown. *Decoupled*:
every potential is a convex function of the coordinate alone, without the drive (`discopop`'s is without the drive, too,
but not convex). *Locality*: how much of the forward pass the gradient at one token needs.

![The recipes by what pulls and what resists](periodic-table.png)

A row says what pulls, a column what resists, in a recipe's first term; the colour, what one event is; a dashed tile is
not decoupled. `geomalign list --plot FILE` draws it.

{_table(head, rows)}

* [Definitions](recipes.md): equation, slots, defaults, conventions, and where peers depart.
* [KL penalties](kl-penalties.md): k1, k2, k3, and whose gradient each has.
* [Names that mean two things](names.md).
* [Left out](left-out.md), with the reason.
* [BibTeX](references.bib) of all publications.
"""


def _section(entry: Entry) -> str:
    reference = entry.reference
    where = f", {reference.equation}" if reference.equation else ""
    lines = [
        f"## {entry.name}",
        "",
        f"*{reference.title}* ({_cite(reference)}{where}; `{reference.key}`).",
        "",
        f"`{entry.signature}`",
        "",
        f"Published: {_escape(reference.loss)}",
        "",
        f"$$ {entry.objective.latex()} $$",
        "",
        _table(
            ["", *_SLOTS, "anchor"],
            [[f"{coefficient:g}", *_slots_of(term)] for coefficient, term in entry.terms],
        ),
    ]
    if reference.conventions:
        lines += ["", "Conventions:", "", *(f"* {_escape(item)}" for item in reference.conventions)]
    if reference.departures:
        lines += ["", _table(["peer", "departs"], [list(pair) for pair in reference.departures])]
    return "\n".join(lines)


def _definitions() -> str:
    sections = "\n\n".join(_section(entry) for entry in entries())
    return f"""# Definitions

One section a recipe: the publication, the call with its defaults, the loss as published, the objective as the library
prints it, its slots (one row a term, its coefficient first), the conventions on which implementations disagree, and
where a peer departs from the paper. An equation without a number is named by what it is.

Peers as of TRL 1.16, verl 0.9, Liger 0.8, OpenRLHF 0.11 and torchrl 0.14: what is said of them is run in the
[parity suite](../parity.md). What is said of open-instruct, NeMo-Aligner, ROLL and the author's code was read in their
sources, and not run.

{sections}
"""


_DIVERGENCES = {
    "reverse": "∇KL(π‖π_ref)",
    "forward": "∇KL(π_ref‖π)",
    "square": "∇½E_π[Δ²]",
    "rollout": "∇KL(π_old‖π)",
    "rollout_square": "∇½E_old[Δ²]",
    "rollout_k3": "∇E_old[e^{−Δ} + Δ − 1]",
}
_SAMPLES = {"policy": "π, exactly on policy", "rollout": "π_old"}
_SIGNS = {1.0: "", -1.0: "−"}


def _gradient(terms: tuple[tuple[float, str], ...]) -> str:
    text = (
        " ".join(f"{_SIGNS[c] or '+'} {_DIVERGENCES[d]}" for c, d in terms).removeprefix("+ ").replace("− ∇", "−∇", 1)
    )
    return text or "none"


def _penalty_page() -> str:
    rows = [[e.estimator, e.use.replace("_", " "), _SAMPLES[e.samples], _gradient(e.gradient)] for e in KL_PENALTIES]
    formulas = {"k1": "Δ", "k2": "½Δ²", "k3": "e^{−Δ} + Δ − 1"}
    estimators = [[name, formulas[name], f"`{ESTIMATORS[name]!r}`"] for name in ESTIMATORS]
    table = _table(["estimator", "use", "samples of", "its gradient"], rows)
    return f"""# KL penalties

Three estimators hold a policy to its reference, Δ = log π − log π_ref:

{_table(["estimator", "φ(Δ)", "as a potential"], estimators)}

Under samples of π, k1 and k3 have the *value* of KL(π‖π_ref) in expectation. What pulls on the policy is the
expectation of the *gradient*. With the score s = ∇log π it follows from four identities:

$$
E_\\pi[s]=0,\\quad
E_\\pi[\\Delta s]=\\nabla\\mathrm{{KL}}(\\pi\\|\\pi_{{ref}}),\\quad
E_\\pi[e^{{-\\Delta}}s]=-\\nabla\\mathrm{{KL}}(\\pi_{{ref}}\\|\\pi),\\quad
E_\\pi[\\tfrac12\\Delta^2s]=\\nabla\\tfrac12E_\\pi[\\Delta^2]-\\nabla\\mathrm{{KL}}(\\pi\\|\\pi_{{ref}})
$$

A KL penalty in the loss has E[φ'(Δ)s], one in the reward E[φ(Δ)s], one that is weighted by π/π_old with the gradient
through
the weight E[(φ + φ')s].

{table}

* plain: `kl_penalty("k3")`. GRPO's penalty: its value estimates KL(π‖π_ref), its gradient is that of KL(π_ref‖π).
* straight through: `kl_penalty("k3", "straight_through")`, the value of the estimator and the gradient of k2.
* weighted, corrected, unbiased: for samples of an older policy. By π/π_old without a gradient through the weight, with
  it, and straight-through. The corrected k1 and k3 have the gradient of KL(π‖π_ref), the corrected k2 has not.
* reward: `KLReward`. k1 there is exact; k3 is not, although its value is.

Every row is tested by exact enumeration of a finite support. For whole responses, a sum over tokens of a token's KL
penalty
has only each step's own divergence and misses what a token does to later ones. `unit=Sequence()`, or
`KLReward(…, unit="return")`, has all of it: tested on a tree of two-token responses.
"""


def _names_page() -> str:
    rows = [list(entry) for entry in HOMONYMS]
    return f"# Names that mean two things\n\n{_table(['name', 'here', 'elsewhere'], rows)}\n"


def _left_out_page() -> str:
    return f"# Left out\n\n{_table(['method', 'reason'], [list(pair) for pair in LEFT_OUT])}\n"


def pages() -> dict[str, str]:
    """The pages of the catalogue, by file name."""
    return {
        "index.md": _index(),
        "recipes.md": _definitions(),
        "kl-penalties.md": _penalty_page(),
        "names.md": _names_page(),
        "left-out.md": _left_out_page(),
        "references.bib": bibtex(),
    }


def main() -> None:
    """Write the pages into a folder."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
