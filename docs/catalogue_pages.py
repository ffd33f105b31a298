"""The pages of docs/catalogue, made from the code: `python docs/catalogue_pages.py` writes them."""

from __future__ import annotations

import argparse
from pathlib import Path

from catalogue_remarks import HOMONYMS, LEFT_OUT

from geomalign.objective import ESTIMATORS, KL_PENALTIES, SLOTS, Objective
from geomalign.recipes.catalogue import Entry, bibtex, entries, own_parts
from geomalign.recipes.reference import Reference


def _cite(reference: Reference) -> str:
    return f"[{reference.source}]({reference.url})" if reference.url else reference.source


def _escape(text: str) -> str:
    return text.replace("|", "\\|")


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(_escape(cell) for cell in cells) + " |"


def _table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join([_row(head), _row(["---"] * len(head)), *map(_row, rows)])


def _slots_of(term: Objective) -> list[str]:
    cells = [f"`{getattr(term, slot)!r}`" for slot in (*SLOTS, "offset")]
    return [*cells, f"`{term.anchor}`"]


def _index() -> str:
    own = own_parts()
    shared = sum(1 for parts in own.values() if not parts)
    rows = []
    for entry in entries():
        term = entry.terms[0][1]
        names = [type(getattr(term, slot)).__name__ for slot in SLOTS]
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
    head = ["recipe", "source", *SLOTS, "decoupled", "locality"]
    return f"""# The catalogue

Every published objective here is a choice of slots. There are {len(rows)} recipes; {shared} of them are made of parts
that other recipes are made of too, {len(rows) - shared} have a part of their own. No recipe has loss code.

Each recipe is tested against its published formula, written out, in value and gradient to 1e-10 in float64 on ragged
batches, and its gradient in closed form against autograd. "+ 1" after a unit means a sum of terms, of which the first
is shown. *Decoupled*: every potential is a convex function of the coordinate alone, without the drive (`discopop`'s
is without the drive, too, but not convex). *Locality*: how much of the forward pass the gradient at one token needs.

![The recipes by what pulls and what resists](periodic-table.png)

A row says what pulls and a column what resists, in a recipe's first term. The colour says what one event is, and a
dashed tile is not decoupled. `geomalign list --plot FILE` draws it, and
<a href="../periodic-table/index.html">a page with filters</a> has the same tiles with formula and parts.

{_table(head, rows)}

* [Every recipe](recipes.md): equation, slots, defaults, conventions, and where libraries depart.
* [KL penalties](kl-penalties.md): k1, k2, k3, and whose gradient each has.
* [Names that mean two things](names.md).
* [What is not here, and why](left-out.md).
* [BibTeX](references.bib) of all publications.

```{{toctree}}
:hidden:

recipes
kl-penalties
names
left-out
```
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
        f"$$ {entry.formula} $$",
        "",
        _table(
            ["", *SLOTS, "offset", "anchor"],
            [[f"{coefficient:g}", *_slots_of(term)] for coefficient, term in entry.terms],
        ),
    ]
    if reference.conventions:
        lines += ["", "Conventions:", "", *(f"* {_escape(item)}" for item in reference.conventions)]
    if reference.departures:
        lines += ["", _table(["library", "departs"], [list(pair) for pair in reference.departures])]
    return "\n".join(lines)


def _definitions() -> str:
    sections = "\n\n".join(_section(entry) for entry in entries())
    return f"""# Every recipe: equation, slots, conventions

One section per recipe: the publication, the call with its defaults, the loss as published, the objective as geomalign
prints it with symbols for its numbers (one that is zero by default has no part in it), its slots (one row per term,
its coefficient first), the conventions on which implementations disagree, and where the paper as printed, its authors'
code or another library departs. An equation without a number is named by what it is.

The other libraries are TRL 1.16, verl 0.9, Liger 0.8, OpenRLHF 0.11 and torchrl 0.14: what is said of them is run in
the [parity suite](../parity.md). What is said of open-instruct, NeMo-Aligner, ROLL and of authors' code was read in
their sources, and not run; `tests/recipes/test_departures.py` has the figures of authors' code.

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

Three estimators of a divergence hold a policy to its reference, with Δ = log π − log π_ref:

{_table(["estimator", "φ(Δ)", "as a potential"], estimators)}

Under samples of π, k1 and k3 have the *value* of KL(π‖π_ref) in expectation. What acts on the policy is the
expectation of the *gradient*. With the score s = ∇log π it follows from four identities:

$$
E_\\pi[s]=0,\\quad
E_\\pi[\\Delta s]=\\nabla\\mathrm{{KL}}(\\pi\\|\\pi_{{ref}}),\\quad
E_\\pi[e^{{-\\Delta}}s]=-\\nabla\\mathrm{{KL}}(\\pi_{{ref}}\\|\\pi),\\quad
E_\\pi[\\tfrac12\\Delta^2s]=\\nabla\\tfrac12E_\\pi[\\Delta^2]-\\nabla\\mathrm{{KL}}(\\pi\\|\\pi_{{ref}})
$$

A KL penalty in the loss has the gradient E[φ'(Δ)s], one in the reward E[φ(Δ)s], and one that is weighted by π/π_old
with the gradient through the weight E[(φ + φ')s].

{table}

* plain: `kl_penalty("k3")` is GRPO's penalty: its value estimates KL(π‖π_ref), its gradient is that of KL(π_ref‖π).
* straight through: `kl_penalty("k3", "straight_through")` has the value of the estimator and the gradient of k2.
* weighted, corrected and unbiased are for samples of an older policy. They are weighted by π/π_old: without a
  gradient through the weight, with it, and straight-through. The corrected k1 and k3 have the gradient of
  KL(π‖π_ref), the corrected k2 has not.
* reward: `KLReward` puts the penalty into the reward. k1 is exact there; k3 is not, although its value is.

Every row is tested by exact enumeration of a finite support. For whole responses, the sum of the tokens' penalties
has only each step's own divergence and misses what a token does to later ones. `unit=Sequence()`, or `KLReward(…,
unit="return")`, has all of it; this is tested on a tree of two-token responses."""


def _names_page() -> str:
    rows = [list(entry) for entry in HOMONYMS]
    return f"# Names that mean two things\n\n{_table(['name', 'here', 'elsewhere'], rows)}\n"


def _left_out_page() -> str:
    return f"# What is not here, and why\n\n{_table(['method', 'reason'], [list(pair) for pair in LEFT_OUT])}\n"


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
    parser.add_argument("folder", type=Path, nargs="?", default=Path(__file__).parent / "catalogue")
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
