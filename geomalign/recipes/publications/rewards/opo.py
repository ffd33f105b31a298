"""The publications of the recipes of `recipes/rewards/opo.py`."""

from __future__ import annotations

from geomalign.recipes.reference import Reference

__all__ = ["PUBLICATIONS"]

PUBLICATIONS: dict[str, Reference] = {
    "gopo": Reference(
        title=(
            "Group Orthogonalized Policy Optimization: Group Policy Optimization as Orthogonal Projection in Hilbert "
            "Space"
        ),
        authors="Wang, Zixian",
        year=2026,
        arxiv="2602.21269",
        equation="§4.5, eq. 23–24 of the author's LaTeX (28 February 2026)",
        loss="(1/N) Σ_i [ (μ/2) v_i² − μ v*_i v_i ], v* = max(−1, (A − λ)/μ), Σ v* = 0 in the group",
        conventions=(
            "the projection is exact here; by bisection in the paper",
            "without the constant (μ/2) v*_i² of eq. 24",
        ),
        departures=(
            (
                "the author's code",
                "the ratio is e^x with x the log-ratio averaged over the response's tokens and clamped at ±5, beyond "
                "which it has no gradient; here it is the response's. Advantages are divided by the group's standard "
                "deviation by default",
            ),
        ),
    ),
    "mirror_descent": Reference(
        title="Kimi k1.5: Scaling Reinforcement Learning with LLMs",
        authors="Kimi Team",
        year=2025,
        arxiv="2501.12599",
        equation="§2.3.2",
        loss="(1/N) Σ_i [ (τ/2) Δ_i² − (r_i − r̄) Δ_i ]",
        conventions=("the gradient of the squared form divided by 2τ; its constant is not part of the value",),
        departures=(
            (
                "verl 0.9",
                "`dro`: the same square per token, with log π in the linear term: another value, equal gradient",
            ),
        ),
    ),
    "opo": Reference(
        title="Orthogonalized Policy Optimization: Policy Optimization as Orthogonal Projection in Hilbert Space",
        authors="Wang, Zixian",
        year=2026,
        arxiv="2601.12415",
        equation="the surrogate, eq. 19 of §5.1 in the author's LaTeX (28 February 2026)",
        loss="(1/N) Σ_i [ (μ/2) Δ_i² − (ω̃_i − mean ω̃) Δ_i ], ω̃ = exp((1−α)A) · sg π_k^{−(1−α)} (Algorithm 1)",
        conventions=(
            "α = 1 is uniform, 0 target-driven",
            "log form: Δ averaged over tokens; ratio form: of the response",
            "ω̃ is divided by its mean in the group, and the factor sg π_k^{−(1−α)} is left out",
        ),
        departures=(
            (
                "Algorithm 1",
                "as printed ω̃ is not normalised and has the factor, and Δ is of the whole response: on responses of "
                "1 to 7 tokens this recipe's first step is 0.03 of its size. With ω̃/mean ω̃ in the place of ω̃ it is "
                "`Escort(α, inverse_probability=True)` on `Sequence()`, exactly",
            ),
            (
                "the author's code",
                "α reversed; weights softmax(A/β)^α · softmax(u)^{1−α}; the drive summed over the group and scaled "
                "by 1/α while the penalty is averaged; Δ clamped to ±5",
            ),
        ),
    ),
    "opo_ess": Reference(
        title="Orthogonalized Policy Optimization: Policy Optimization as Orthogonal Projection in Hilbert Space",
        authors="Wang, Zixian",
        year=2026,
        arxiv="2601.12415",
        equation="this library's, from the duality of its constraint",
        loss="OPO with α from the effective sample size of the escort weights",
    ),
    "opo_trust_region": Reference(
        title="Orthogonalized Policy Optimization: Policy Optimization as Orthogonal Projection in Hilbert Space",
        authors="Wang, Zixian",
        year=2026,
        arxiv="2601.12415",
        equation="this library's, from the duality of its constraint",
        loss="OPO with μ from a radius ε of the step",
    ),
    "w_gopo": Reference(
        title=(
            "Group Orthogonalized Policy Optimization: Group Policy Optimization as Orthogonal Projection in Hilbert "
            "Space"
        ),
        authors="Wang, Zixian",
        year=2026,
        arxiv="2602.21269",
        equation="W-GOPO in the author's LaTeX (28 February 2026), eq. 11, 17–19 and Proposition 4.4",
        loss=(
            "(1/N) Σ_i (v_i − v*_i)², v* the bounded projection of centred [(1−α)Ā + αĀe^Ā]/μ, Ā = centred tanh(r − "
            "mean)"
        ),
        conventions=(
            "μ is not the stiffness, which is 2: it divides the target alone",
            "2/μ times GOPO's loss, with its constant: at α = 0 and without the tanh the same minimiser",
            "not divided by the standard deviation",
        ),
        departures=(
            (
                "the author's code",
                "½μ(v − v*)²: μ/2 of the paper's loss; the ratio is e^x with x the log-ratio averaged over tokens and "
                "clamped at ±5; squashes advantages divided by the standard deviation by default",
            ),
            (
                "the paper's claim",
                "that the drive is of second order for poor responses: it is Ā + αĀ² + …, of first order",
            ),
        ),
    ),
}
"""Each recipe of that file has its entry, by its name."""
