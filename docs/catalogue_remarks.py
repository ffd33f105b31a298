"""What the pages of the catalogue say and no recipe holds: what is left out, and names that mean two things."""

from __future__ import annotations

__all__ = ["HOMONYMS", "LEFT_OUT"]

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
        "f-HAL (2602.05946)",
        "the sum of `f_grpo` on rollouts and of the same bound on pairs: two batches, whose losses are added.",
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
        "F-GRPO",
        "`f_grpo`: f-GRPO (2602.05946), a bound of an f-divergence as the loss",
        "F-GRPO (2602.06717), focal weights (1 − success rate)^γ before GRPO's advantages",
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
