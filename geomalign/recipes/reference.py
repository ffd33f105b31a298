"""Where a recipe comes from: its paper, the equation, the conventions, and who departs from it how."""

from __future__ import annotations

import dataclasses

__all__ = ["HOMONYMS", "Reference"]


@dataclasses.dataclass(frozen=True)
class Reference:
    """The publication of an objective.

    Args:
        title: of the paper.
        authors: in BibTeX's form, first author first; "and others" for the rest.
        year: of the first version.
        arxiv: identifier, or None where there is none.
        equation: where in the paper.
        loss: the loss as published, in plain text.
        conventions: choices that trainers disagree on, one a line.
        departures: pairs of a peer and how it departs from the paper.
        venue: where it appeared, if not on arXiv.
    """

    title: str
    authors: str
    year: int
    arxiv: str | None
    equation: str
    loss: str
    conventions: tuple[str, ...] = ()
    departures: tuple[tuple[str, str], ...] = ()
    venue: str = ""

    @property
    def key(self) -> str:
        """The BibTeX key: first author's surname, year, first word of the title that is not an article."""
        surname = self.authors.split(" and ")[0].split(",")[0].lower().replace(" ", "").replace("-", "")
        words = ["".join(c for c in word if c.isalnum()) for word in self.title.lower().split()]
        return surname + str(self.year) + next(word for word in words if word and word not in ("a", "an", "the", "on"))

    @property
    def url(self) -> str:
        """Of the abstract; empty without an arXiv identifier."""
        return f"https://arxiv.org/abs/{self.arxiv}" if self.arxiv else ""

    def bibtex(self) -> str:
        """The BibTeX entry.

        >>> from geomalign.recipes import PUBLICATIONS
        >>> print(PUBLICATIONS["dpo"].bibtex().splitlines()[0])
        @misc{rafailov2023direct,
        """
        fields = {"title": f"{{{self.title}}}", "author": self.authors, "year": str(self.year)}
        if self.venue:
            fields["howpublished"] = self.venue
        if self.arxiv:
            fields |= {"eprint": self.arxiv, "archivePrefix": "arXiv"}
        body = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items())
        return f"@misc{{{self.key},\n{body}\n}}"


HOMONYMS: tuple[tuple[str, str, str], ...] = (
    (
        "OPO",
        "`opo`: Orthogonalized Policy Optimization (2601.12415), escort weights against a χ² potential",
        "`optimal_baseline`: On-Policy RL with Optimal reward baseline (2505.23585), verl's `opo`",
    ),
    (
        "IPO",
        "`ipo`: Identity Preference Optimization (2310.12036), the squared margin",
        "Iterative Preference Optimization and Inverse Preference Optimization: data procedures around other losses",
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
        "distributionally robust optimisation (Dr. DPO); verl's `dro` is the same square a token, value-free",
    ),
    (
        "TPO",
        "not here: Target Policy Optimization (2604.06159), a cross-entropy over the group",
        "Triple Preference Optimization (2405.16681), TRL's `tpo`",
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
