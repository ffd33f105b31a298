"""The pages of docs/catalogue, made from the code: `python docs/catalogue_pages.py` writes them."""

from __future__ import annotations

import argparse
from pathlib import Path

from geomalign.objective import ESTIMATORS, KL_PENALTIES, SLOTS, Objective
from geomalign.recipes.catalogue import Entry, bibtex, entries, own_parts
from geomalign.recipes.reference import Reference

LEFT_OUT: tuple[tuple[str, str], ...] = (
    (
        "Clip-Cov, KL-Cov (2505.22617)",
        "select tokens at random by a covariance over the batch: the loss is not a function of the batch alone.",
    ),
    (
        "Walls by the entropy of a step (Archer; ASPO's runs)",
        "need the entropy of every step. `aspo` and PPO's relatives have one wall on each side; tokens of two kinds "
        "can be two terms on two masks.",
    ),
    (
        "Rows of an expert beside those of the policy (Trinity-RFT's `mix`, `mix_chord`, `sft_is`)",
        "a flag says for each row which of two losses it has: two objectives on two batches, each with its own "
        "`counts`; `chord_phi` is the weight of the expert's tokens.",
    ),
    (
        "Entropy bonus, high-entropy token masks (2506.01939)",
        "need the entropy of every step, which sampled log-probabilities do not hold. A mask that was computed "
        "elsewhere goes into "
        "`Batch.mask`.",
    ),
    (
        "DPPO's top-K divergence (2602.04879)",
        "needs K log-probabilities per token under two policies; its binary form is `dppo`.",
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
        "Triple Preference Optimization (2405.16681), TRL's `tpo`",
        "a third response, the gold one, beside every pair, which a `PreferenceBatch` does not hold: it is "
        "`cpo(beta, alpha=0)` on the pairs plus a likelihood term on a `Batch` of the gold responses.",
    ),
    (
        "f-GRPO (2602.05946)",
        "GRPO as the estimate of an f-divergence. Left to a user until its weights and link functions are checked "
        "against the paper, from which its published code departs.",
    ),
    (
        "DisCO's likelihood ratio as the score (2505.12366)",
        "a mean of token ratios is no function of the response's log-ratio; `disco` has its other score, the mean "
        "log-likelihood.",
    ),
)
"""What is not in the catalogue, and why."""

HOMONYMS: tuple[tuple[str, str, str], ...] = (
    (
        "OPO",
        "`opo`: Orthogonalized Policy Optimization (2601.12415), escort weights against a χ² potential",
        "`optimal_baseline`: On-Policy RL with Optimal reward baseline (2505.23585), verl's `opo`",
    ),
    (
        "IPO",
        "`ipo`: Identity Preference Optimization (2310.12036), the squared margin",
        "`prime_ipo`: prime-rl's loss type `ipo`, a mask by the change of a token's probability; Iterative and Inverse "
        "Preference Optimization: data procedures around other losses",
    ),
    (
        "AlphaPO",
        "`alpha_po`: the power chart of the mean log-probability (2501.03884), TRL's `alpha`",
        "α-DPO (2410.10148), an adaptive margin of SimPO; α-divergence DPO is `f_dpo(divergence='alpha')`",
    ),
    (
        "RPO",
        "`rpo`: Reward-aware Preference Optimization (2502.00203), a distance between two margins",
        "TRL's `rpo_alpha`: DPO + NLL (2404.19733 and 2405.16436); Reward Partitioning Optimization (2506.13702)",
    ),
    (
        "BNPO",
        "`bnpo`: TRL's name for GRPO averaged over the tokens of a local batch",
        "Beta Normalization Policy Optimization (2506.02864), rewards scaled by a Beta density",
    ),
    (
        "A2PO",
        "`a2po`: A*-PO, regression on the optimal advantage (2505.20686), TRL's `a2po`",
        "Agentic or asymmetric variants of PPO under the same letters",
    ),
    (
        "SPO",
        "the surrogate of `cfpo`: Simple Policy Optimization (2401.16025)",
        "Self-play Preference Optimization (2401.04056), Single-stream Policy Optimization (2509.13232)",
    ),
    (
        "SPPO",
        "`sppo`: Self-Play Preference Optimization (2405.00675), a square of every response",
        "`softmax_ppo`: the softmax PPO of 2108.05828, Trinity-RFT's `sppo`",
    ),
    (
        "ASPO",
        "`aspo`: Asymmetric Importance Sampling Policy Optimization (2510.06062), the flipped ratio",
        "Advantage Shaping Policy Optimization, a bonus for early tool calls in verl's recipes",
    ),
    (
        "WPO",
        "`wpo`: Weighted Preference Optimization (2406.11827)",
        "Wasserstein Policy Optimization (2505.00663), for continuous actions",
    ),
    (
        "DPPO",
        "`dppo`: Divergence PPO (2602.04879), a mask by binary TV or KL",
        "Diffusion Policy Policy Optimization (2409.00588); Decentralised PPO",
    ),
    (
        "DRO",
        "`dro`: Direct Reward Optimisation (2405.19107), a squared residual of sequence rewards with a value",
        "distributionally robust optimisation (Dr. DPO); verl's `dro` is the same square per token, value-free",
    ),
    (
        "TPO",
        "`tpo`: Target Policy Optimization (2604.06159), a cross-entropy over the group",
        "Triple Preference Optimization (2405.16681), TRL's `tpo`",
    ),
    (
        "OPMD",
        "`opmd`: Trinity-RFT's loss of that name, a weighted score function; `pmd`: the squared residual of Kimi k1.5 "
        "(2501.12599)",
        "Trinity-RFT's pairwise OPMD: `gvpo`, up to its constants",
    ),
    (
        "clip ratio",
        "PPO, GRPO: ε, so that the ratio is kept in [1 − ε, 1 + ε]; GMPO: ε in nats of log t",
        "CISPO in TRL and `cispo`: a bound of the ratio itself; DPPO in verl: a threshold of a divergence",
    ),
    (
        "forward KL",
        "f-DPO and this library's divergences: KL(π_ref‖π), the mass-covering one, chart 1 − 1/t",
        "some trainers call KL(π‖π_ref) forward because it is averaged under the policy",
    ),
    (
        "α",
        "`Escort` (OPO): 1 is uniform, 0 target-driven; f-DPO's α-divergence: order 1 − α; CressieRead: the order "
        "itself",
        "OPO's published code: reversed; TRL's `f_alpha_divergence_coef`: the order, 1 − α of f-DPO's paper",
    ),
    (
        "KL (k3) penalty",
        "as a value an estimate of KL(π‖π_ref) under samples of π",
        "as a loss, by its gradient, KL(π_ref‖π): see the table of KL penalties",
    ),
)
"""Names that mean two things: the name, what it means here, what else it means."""


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
