"""What a run did, read off its dump: where its updates happened, what pulled, and which stiffness would fit.

`geomalign audit FILE…` reads what `geomalign.dumps` understands: what `record` wrote (`record=` of the TRL adapter),
TRL's `completions_*.parquet` and verl's `rollout_data_dir` (rewards only, no log-probabilities), or any table with
log-probabilities or rewards under one of their usual names.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from geomalign import recipes
from geomalign.audit import dump as dumps
from geomalign.audit.dump import read, record
from geomalign.batch import Batch
from geomalign.divergences import chi_square_stiffness, effective_sample_size
from geomalign.objective import BaseObjective, TermDrives, log_ratio_metrics, metrics
from geomalign.sampling import Escort, GroupAdvantage

__all__ = ["Audit", "audit", "read", "record"]

_ANCHORED = 1e-6  # nats: below, no potential has a force that rounding does not hide
_RADII = (0.01, 0.04, 0.1)


@dataclasses.dataclass(frozen=True, eq=False)
class Audit:
    """What `audit` found.

    Args:
        source: what was read.
        facts: name → number; which names there are depends on the columns.
        objectives: how each objective would have acted on these rows: name → (name → number).
        stiffness: χ² radius → the μ at which the drive's target lies at that radius.
        advice: what follows, in words.
        steps: name → one number a training step, for the figure.
        log_ratio: Δ of every token (at most 20,000 of them), for the figure.
        drive: centred reward of every response.
    """

    source: str
    facts: dict[str, float]
    objectives: dict[str, dict[str, float]]
    stiffness: dict[float, float]
    advice: tuple[str, ...]
    steps: dict[str, list[float]]
    log_ratio: Tensor
    drive: Tensor

    def text(self) -> str:
        """The report as Markdown."""
        lines = [
            f"# Audit of {self.source}",
            "",
            *(f"* {sentence}" for sentence in self.advice),
            "",
            "| | |",
            "|---|---|",
        ]
        lines += [f"| {name.replace('_', ' ')} | {_number(value)} |" for name, value in self.facts.items()]
        if self.objectives:
            names = list(next(iter(self.objectives.values())))
            lines += ["", "How objectives act on these rows:", ""]
            lines += [
                "| | " + " | ".join(name.replace("_", " ") for name in names) + " |",
                "|---" * (len(names) + 1) + "|",
            ]
            for objective, row in self.objectives.items():
                lines.append(f"| {objective} | " + " | ".join(_number(value) for value in row.values()) + " |")
        if self.stiffness:
            lines += [
                "",
                "Stiffness μ at which the drive's target lies at a given E[u²]:",
                "",
                "| E[u²] | TV at most | μ |",
            ]
            lines += ["|---|---|---|"]
            lines += [f"| {r:g} | {math.sqrt(r) / 2:.3g} | {_number(mu)} |" for r, mu in self.stiffness.items()]
        return "\n".join(lines) + "\n"

    def to_json(self) -> str:
        """Everything but the samples of the figure."""
        kept = ("source", "facts", "objectives", "stiffness", "advice", "steps")
        return json.dumps({name: getattr(self, name) for name in kept}, indent=2)

    def figure(self, path: str | Path) -> Path:
        """Write the panels: how far the policy moved, what pulled, and the course over the run."""
        from geomalign import plotting

        with plotting.canvas(1, 3, panel=(3.6, 2.7)) as (figure, axes):
            moved, pulled, course = axes[0]
            moved.set_title("log-ratio Δ of tokens")
            if self.log_ratio.numel():
                size = self.log_ratio.abs().clamp(min=1e-9).log10().numpy()
                moved.hist(size, bins=40, range=_wide(size), color=plotting.PALETTE[0])
                moved.axvline(math.log10(_ANCHORED), color=plotting.MUTED, linestyle="--")
                moved.text(
                    math.log10(_ANCHORED),
                    0.97,
                    " inactive to the left",
                    transform=moved.get_xaxis_transform(),
                    va="top",
                )
                moved.set_xlabel("log₁₀ |Δ| (nats)")
                moved.set_ylabel("tokens")
            else:
                _absent(moved, "no log-probabilities in the dump")
            pulled.set_title("centred reward")
            if self.drive.numel():
                pulled.hist(self.drive.numpy(), bins=40, range=_wide(self.drive.numpy()), color=plotting.PALETTE[1])
                pulled.set_xlabel("r − mean of the group")
                pulled.set_ylabel("responses")
            else:
                _absent(pulled, "no rewards in the dump")
            course.set_title("over the run")
            for k, (name, values) in enumerate(self.steps.items()):
                course.plot(values, color=plotting.PALETTE[k], marker=plotting.MARKERS[k], markersize=3, label=name)
            course.set_xlabel("rollout")
            course.set_ylim(-0.03, 1.03)
            course.legend(frameon=False)
            return plotting.save(figure, path)


def audit(
    *paths: str | Path,
    objectives: Mapping[str, BaseObjective] | None = None,
    radius: float = 0.04,
    rewards: Mapping[str, float] | None = None,
) -> Audit:
    """Read a run's dump and say what its updates could do.

    Args:
        paths: files, or folders of `.jsonl` and `.parquet` files.
        objectives: to be evaluated on the rows, by name; grpo, gspo and opo as published by default. They need
            `policy`, `anchor` and rewards.
        radius: E[u²] of the suggested stiffness, positive; E[(t−1)²] ≤ ε bounds the total variation by √ε/2.
        rewards: columns and weights that the reward is the sum of, where it is not one column, as TRL's
            `reward_weights`. None: what `dumps.read` takes for it.

    Raises:
        ValueError: nothing to read, or neither rewards nor log-probabilities in it.
    """
    rows = read(*paths, rewards=rewards)
    batch, rollout, columns = dumps.as_batch(rows)
    facts: dict[str, float] = {"responses": batch.size, "rollouts": int(rollout.max()) + 1}
    steps: dict[str, list[float]] = {}
    results: dict[str, dict[str, float]] = {}
    stiffness: dict[float, float] = {}
    log_ratio = drive = torch.zeros(0)
    rewarded = batch.reward is not None and not bool(batch.reward.isnan().all())
    moved = {"old", "policy"} <= columns
    if rewarded:
        drive = _of_rewards(batch, facts, steps, rollout)
        stiffness = {r: float(chi_square_stiffness(drive, batch.groups(), r)) for r in sorted({*_RADII, radius})}
    if moved:
        log_ratio = _of_log_ratios(batch, facts, steps, rollout)
    if batch.behavior is not None and batch.old is not None:
        _of_engine(batch, facts)
    if rewarded and moved:
        chosen = objectives or {name: recipes.get(name) for name in ("grpo", "gspo", "opo")}
        results = {name: _acting(objective, batch) for name, objective in chosen.items()}
    if not rewarded and not moved:
        raise ValueError(
            f"neither rewards nor log-probabilities among the columns {', '.join(sorted(rows[0]))} of {_names(paths)}; "
            f"the columns that are understood: {', '.join(dumps.names())}."
        )
    advice = tuple(_advice(facts, results, stiffness.get(radius), radius))
    thinned = log_ratio[:: max(1, log_ratio.numel() // 20_000)]
    drive = drive[batch.support.any(-1)] if rewarded else drive
    return Audit(_names(paths), facts, results, stiffness, advice, steps, thinned, drive)


def _of_rewards(batch: Batch, facts: dict[str, float], steps: dict[str, list[float]], rollout: Tensor) -> Tensor:
    groups = batch.groups()
    drive = GroupAdvantage().drive(batch)
    reward = batch.per_response(batch.require("reward", "audit"))
    valid = groups.valid
    spread = groups.mean(drive**2).sqrt()
    facts["prompts"] = int(batch.group.unique().numel()) if batch.group is not None else 1
    facts["reward_mean"] = float(reward[valid].mean())
    facts["responses_in_groups_of_equal_rewards"] = float((spread[valid] < 1e-12).double().mean())
    facts["sd_of_centred_reward"] = float(drive[valid].std(correction=0))
    escort = Escort(alpha=0.4)
    weight = torch.where(valid, escort.drive(batch) + 1, 0)
    facts["escort_effective_sample_size_at_alpha_0.4"] = float(
        (groups.sum(weight) ** 2 / (groups.count(weight.dtype) * groups.sum(weight**2)).clamp(min=1e-300))[valid].mean()
    )
    facts["sd_of_escort_drive_at_alpha_0.4"] = float(escort.drive(batch)[valid].std(correction=0))
    pulled = (spread > 1e-12).double()
    steps["share with a drive"] = [float(pulled[(rollout == k) & valid].mean()) for k in range(int(rollout.max()) + 1)]
    return drive


def _of_log_ratios(batch: Batch, facts: dict[str, float], steps: dict[str, list[float]], rollout: Tensor) -> Tensor:
    support = batch.support
    log_ratio = batch.log_probs("policy", "audit") - batch.log_probs("old", "audit")
    seen = log_ratio[support]
    facts["tokens"] = int(support.sum())
    facts["tokens_at_the_anchor"] = float((seen.abs() < _ANCHORED).double().mean())
    for share in (0.5, 0.99):
        facts[f"log_ratio_abs_quantile_{share:g}"] = float(_quantile(seen.abs(), share))
    facts["log_ratio_abs_max"] = float(seen.abs().max())
    seen_by = log_ratio_metrics(log_ratio, support)
    for name in ("kl", "kl_reverse", "chi2", "ess", "sequence_ess"):
        facts[name] = float(seen_by[name])
    totals = torch.where(support, log_ratio, 0).sum(-1)
    valid = support.any(-1)
    parts = [(rollout == k) & valid for k in range(int(rollout.max()) + 1)]
    steps["sequence ESS"] = [float(effective_sample_size(totals[part])) if part.any() else math.nan for part in parts]
    active = (log_ratio.abs() >= _ANCHORED) & support
    steps["share off the anchor"] = [float(active[part].sum() / support[part].sum().clamp(min=1)) for part in parts]
    return seen


def _of_engine(batch: Batch, facts: dict[str, float]) -> None:
    gap = (batch.log_probs("old", "audit") - batch.log_probs("behavior", "audit"))[batch.support]
    facts["engine_log_ratio_abs_mean"] = float(gap.abs().mean())
    facts["engine_log_ratio_abs_max"] = float(gap.abs().max())
    facts["engine_ess"] = float(effective_sample_size(gap))


def _acting(objective: BaseObjective, batch: Batch) -> dict[str, float]:
    """Scale-free: the gradient law on these rows against the same rows at Δ = 0."""
    drive = objective.drive(batch)
    outcome = objective(batch, drive)
    here = objective.gradient(batch, drive)
    start = objective.gradient(dataclasses.replace(batch, policy=batch.require("old", "audit")), drive)
    assert isinstance(here, Tensor) and isinstance(start, Tensor)
    first = next(iter(drive)) if isinstance(drive, TermDrives) else drive
    pulled = batch.support & ((first if first.ndim == 2 else first[:, None]) != 0)
    prefix = "" if len(outcome.terms) == 1 else "term1/"
    seen = metrics(outcome)
    norm = start.norm().clamp(min=1e-300)
    return {
        "clipped": float(seen[f"{prefix}clip_fraction"]),
        "tokens_without_gradient": float(((here == 0) & pulled).sum() / pulled.sum().clamp(min=1)),
        "gradient_against_at_anchor": float(here.norm() / norm),
        "cosine_with_at_anchor": float((here * start).sum() / (norm * here.norm().clamp(min=1e-300))),
        "stiffness_over_sd_of_drive": float(seen[f"{prefix}stiffness"]),
    }


def _advice(
    facts: dict[str, float], objectives: dict[str, dict[str, float]], mu: float | None, radius: float
) -> Iterable[str]:
    at_anchor = facts.get("tokens_at_the_anchor")
    if at_anchor is None:
        yield (
            "No log-probabilities (`policy` and `anchor`) in this dump, so nothing is said about where the updates "
            "happened. TRL's completions and verl's rollouts hold none: GeometryGRPOTrainer(record=…) writes them, and "
            "geomalign.audit.record does from a loop of your own."
        )
    if at_anchor is not None and at_anchor > 0.5:
        yield (
            f"Geometry inactive: {at_anchor:.0%} of the tokens were updated at Δ ≈ 0, where every objective has the "
            "gradient −E[g ∇log π]. Take more optimiser steps a rollout before comparing or tuning them."
        )
    silent = facts.get("responses_in_groups_of_equal_rewards")
    if silent is not None and silent > 0.3:
        yield (
            f"{silent:.0%} of the responses are in groups of equal rewards and pull on nothing: the prompts are too "
            "easy or too hard."
        )
    if facts.get("sequence_ess", 1.0) < 0.3:
        yield (
            f"The responses' importance weights have an effective sample size of {facts['sequence_ess']:.0%}: the "
            "policy is far from the one that sampled. Try a length-normalised or token unit, fewer steps a rollout or "
            "a stiffer potential."
        )
    if facts.get("engine_log_ratio_abs_max", 0.0) > 1.0:
        yield (
            "The rollout engine's log-probabilities differ from the trainer's by up to "
            f"{facts['engine_log_ratio_abs_max']:.2g} nats: weigh with ga.TruncatedImportance."
        )
    for name, row in objectives.items():
        if row["tokens_without_gradient"] > 0.2:
            without = row["tokens_without_gradient"]
            yield f"{name} is saturated: {without:.0%} of the tokens with a drive have no gradient left."
    if mu:
        yield (
            f"Suggested stiffness: μ ≈ {_number(mu)} against the centred reward puts the target at E[u²] = {radius:g}. "
            "For an escort drive multiply by the ratio of the two spreads: what counts is μ/sd(g)."
        )


def _quantile(x: Tensor, share: float) -> Tensor:
    return x.sort().values[min(x.numel() - 1, int(share * x.numel()))]


def _number(value: float) -> str:
    return (
        f"{value:,.0f}" if value == int(value) and abs(value) >= 10 else f"{value:.3g}" if math.isfinite(value) else "–"
    )


def _names(paths: Sequence[str | Path]) -> str:
    return ", ".join(str(path) for path in paths) or "nothing"


def _wide(values: Any) -> tuple[float, float]:
    """From the least to the largest value; a little around values that are all alike."""
    low, high = float(values.min()), float(values.max())
    return (low, high) if high - low > 1e-6 else (low - 0.5, high + 0.5)


def _absent(axis: Any, why: str) -> None:
    axis.text(0.5, 0.5, why, ha="center", va="center", transform=axis.transAxes)
    axis.set_xticks([])
    axis.set_yticks([])
