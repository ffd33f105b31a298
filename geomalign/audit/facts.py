"""What a run did, measured on its dump: how far its steps went, what drove them, and which stiffness would fit."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from geomalign import recipes
from geomalign._util.check import finite, positive
from geomalign.audit.columns import ALIASES, LOG_PROBS
from geomalign.audit.dump import Dump, load, names
from geomalign.audit.findings import ANCHORED, Audit
from geomalign.audit.rows import as_batch
from geomalign.batch import Batch
from geomalign.divergences import chi_square_stiffness, effective_sample_size
from geomalign.objective import BaseObjective, TermDrives, WeightedSum, log_ratio_metrics, metrics
from geomalign.sampling import Escort, GroupAdvantage

__all__ = ["audit"]

_RADII = (0.01, 0.04, 0.1)
_POSITIVE = 0.1
"""Nats above zero up to which rounding explains a log-probability."""


def audit(
    *paths: str | Path,
    objectives: Mapping[str, BaseObjective] | None = None,
    radius: float = 0.04,
    rewards: Mapping[str, float] | None = None,
) -> Audit:
    """Read a run's dump and say what its steps could do.

    Args:
        paths: files, or folders of `.jsonl` and `.parquet` files.
        objectives: of single responses, by name, to be evaluated on the rows; by default grpo, gspo and opo as
            published. They need `policy`, `old` and rewards.
        radius: E[u²] of the suggested stiffness, positive; E[(t−1)²] ≤ ε bounds the total variation by √ε/2.
        rewards: columns and weights that the reward is the sum of, as TRL's `reward_weights`. None: the column with a
            usual name, or what `read` takes for it in TRL's tables; the advice says which.

    Raises:
        ValueError: nothing to read, neither rewards nor log-probabilities in it, no response with a token and a reward
            that are known, or an objective of pairs; and what `read` and `as_batch` refuse.

    >>> import tempfile, geomalign as ga
    >>> from geomalign.audit import record
    >>> old = torch.zeros(4, 3)
    >>> rollout = ga.Batch(old - 0.1, old, reward=torch.tensor([1.0, 0.0, 0.0, 1.0]))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     record(folder, rollout)
    ...     found = audit(folder)
    >>> found.facts["responses"], found.facts["reward_mean"], round(found.facts["log_ratio_abs_max"], 3)
    (4, 0.5, 0.1)
    """
    positive("audit", "the E[u²] at which the suggested stiffness puts the target", radius=radius)
    finite("audit", "the weight of a column of rewards", **dict(rewards or {}))
    dump = load(*paths, rewards=rewards or None)
    source = ", ".join(map(str, paths))
    batch, rollout, columns, unknown = as_batch(dump.rows, dump.places)
    facts: dict[str, float] = {"responses": batch.size, "rollouts": int(rollout.max()) + 1}
    facts |= {f"{name}_left_out": count for name, count in unknown.items() if count}
    steps: dict[str, list[float]] = {}
    results: dict[str, dict[str, float]] = {}
    stiffness: dict[float, float] = {}
    log_ratio = drive = torch.zeros(0)
    rewarded = batch.reward is not None
    moved = {"old", "policy"} <= columns
    if (rewarded or moved) and not bool(batch.support.any()):
        raise ValueError(
            f"no response of {source} has a token that counts: of {batch.size}, {unknown.get('rewards', 0)} have no "
            f"finite reward, {unknown['tokens']} tokens no finite log-probability, and the others are empty or masked."
        )
    if rewarded:
        drive = _of_rewards(batch, facts, steps, rollout)
        stiffness = {r: float(chi_square_stiffness(drive, batch.groups(), r)) for r in sorted({*_RADII, radius})}
    if moved:
        log_ratio = _of_log_ratios(batch, facts, steps, rollout)
    if batch.behavior is not None and batch.old is not None:
        _of_engine(batch, facts)
    if rewarded and moved:
        chosen = objectives or {name: recipes.get(name) for name in ("grpo", "gspo", "opo")}
        results = {name: _acting(name, objective, batch) for name, objective in chosen.items()}
    if not rewarded and not moved:
        raise ValueError(
            f"neither rewards nor log-probabilities among the columns {', '.join(dump.columns)} of {source}; "
            f"the columns that are understood: {', '.join(names())}. Name rewards under another "
            "name: --reward NAME."
        )
    advice = (*_advice(facts, results, stiffness.get(radius), radius), *_said(dump, batch, facts))
    thinned = log_ratio[:: max(1, -(-log_ratio.numel() // 20_000))]
    drive = drive[batch.support.any(-1)] if rewarded else drive
    return Audit(source, facts, results, stiffness, advice, steps, thinned, drive)


def _of_rewards(batch: Batch, facts: dict[str, float], steps: dict[str, list[float]], rollout: Tensor) -> Tensor:
    groups = batch.groups()
    drive = GroupAdvantage().drive(batch)
    reward = batch.per_response(batch.require("reward", "audit"))
    valid = groups.valid
    spread = groups.mean(drive**2).sqrt()
    facts["prompts"] = int(batch.prompt.unique().numel()) if batch.prompt is not None else 1
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
    facts["tokens_at_the_anchor"] = float((seen.abs() < ANCHORED).double().mean())
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
    active = (log_ratio.abs() >= ANCHORED) & support
    steps["share off the anchor"] = [float(active[part].sum() / support[part].sum().clamp(min=1)) for part in parts]
    return seen


def _of_engine(batch: Batch, facts: dict[str, float]) -> None:
    gap = (batch.log_probs("old", "audit") - batch.log_probs("behavior", "audit"))[batch.support]
    facts["engine_log_ratio_abs_mean"] = float(gap.abs().mean())
    facts["engine_log_ratio_abs_max"] = float(gap.abs().max())
    facts["engine_ess"] = float(effective_sample_size(gap))
    # Of responses, because the tokens of one are not independent.
    difference = batch.log_probs("old", "audit") - batch.log_probs("behavior", "audit")
    mean = (torch.where(batch.support, torch.exp(difference), 0).sum(-1) / batch.support.sum(-1).clamp(min=1))[
        batch.support.any(-1)
    ]
    facts["engine_ratio_mean"] = float(mean.mean())
    facts["engine_ratio_error"] = float(mean.std() / math.sqrt(len(mean))) if len(mean) > 1 else math.inf


def _acting(name: str, objective: BaseObjective, batch: Batch) -> dict[str, float]:
    """The objective's gradient on these rows against that on the same rows at Δ = 0, so that no scale matters."""
    if objective.paired:
        raise ValueError(f"{name} compares pairs, but a dump holds single responses: audit with objectives of those.")
    drives = TermDrives(term.drive(batch) for _, term in objective.terms)
    objective = WeightedSum(objective.terms)
    outcome = objective(batch, drives)
    at_anchor = dataclasses.replace(batch, policy=batch.require("old", "audit"))
    here, start = (cast(Tensor, objective.gradient(rows, drives)) for rows in (batch, at_anchor))
    first = next(iter(drives))
    pulled = batch.support & ((first if first.ndim == 2 else first[:, None]) != 0)
    prefix = "" if len(outcome.terms) == 1 else "term1/"
    seen = metrics(outcome)
    norm = start.norm()  # 0 where nothing pulls: then there is no number to compare with
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
            "No log-probabilities (`policy` and `old`) in this dump, so nothing is said about where the optimiser's "
            "steps were made. TRL's completions and verl's rollouts hold none: GeometryGRPOTrainer(record=…) writes "
            "them, and geomalign.audit.record does from a loop of your own."
        )
    if at_anchor is not None and at_anchor > 0.5:
        yield (
            f"Geometry inactive: {at_anchor:.0%} of the tokens were trained on at Δ ≈ 0, where every objective has the "
            "gradient −E[g ∇log π], times the slope of its chart there. Take more optimiser steps per rollout before "
            "comparing or tuning them."
        )
    silent = facts.get("responses_in_groups_of_equal_rewards")
    if silent is not None and silent > 0.3:
        yield (
            f"{silent:.0%} of the responses are in groups of equal rewards and have no drive: the prompts are too "
            "easy or too hard."
        )
    if facts.get("sequence_ess", 1.0) < 0.3:
        yield (
            f"The responses' importance weights have an effective sample size of {facts['sequence_ess']:.0%}: the "
            "policy is far from the one that sampled. Try a length-normalised or token unit, fewer steps per "
            "rollout or a stiffer potential."
        )
    if facts.get("engine_log_ratio_abs_max", 0.0) > 1.0:
        yield (
            "The rollout engine's log-probabilities differ from the trainer's by up to "
            f"{facts['engine_log_ratio_abs_max']:.2g} nats: weigh with ga.TruncatedImportance."
        )
    kept, error = facts.get("engine_ratio_mean", 1.0), facts.get("engine_ratio_error", math.inf)
    if 1 - kept > max(0.01, 5 * error):
        yield (
            f"π_old/π_behavior has the mean {kept:.3f} ± {error:.1g} over the sampled tokens; it would be 1 if the "
            "rollout engine sampled from all of them. It truncates (top-p, top-k) and reports log-probabilities after "
            "that: let it report them before, or pass ga.sampling.unfiltered(behavior, kept_mass)."
        )
    for name, row in objectives.items():
        if row["tokens_without_gradient"] > 0.2:
            without = row["tokens_without_gradient"]
            yield f"{name} is saturated: {without:.0%} of the tokens with a drive have no gradient left."
    if mu and math.isfinite(mu):
        yield (
            f"Suggested stiffness: μ ≈ {mu:.3g} against the centred reward puts the target at E[u²] = {radius:g}. "
            "For an escort drive multiply by the ratio of the two spreads: what counts is μ/sd(g)."
        )


def _said(dump: Dump, batch: Batch, facts: dict[str, float]) -> Iterable[str]:
    """What was chosen and left out in reading the dump."""
    chosen = dump.chosen
    read_as = ", ".join(f"{name} from `{column}`" for name, column in chosen.items() if name != column)
    if read_as:
        yield f"Columns were read under other names: {read_as}."
    for name in (*LOG_PROBS, "mask", "reward"):
        taken = chosen.get(name, "").split(" + ")
        others = [f"`{other}`" for other in ALIASES[name] if other in dump.columns and other not in taken]
        if others and name in chosen:
            yield f"`{name}` was read from `{chosen[name]}`, and not from {', '.join(others)}."
    rewards, tokens = facts.get("rewards_left_out", 0), facts.get("tokens_left_out", 0)
    if rewards:
        yield f"{rewards:.0f} of {batch.size} responses are left out: their reward is missing, NaN or infinite."
    if tokens:
        yield (
            f"{tokens:.0f} tokens are left out: a log-probability of theirs is missing, NaN or infinite. A policy that "
            "gives a sampled token the probability 0 has its logits masked otherwise than the sampler had."
        )
    above = sum(
        int((value > _POSITIVE).sum()) for value in (batch.policy, batch.old, batch.behavior) if value is not None
    )
    if above:
        yield f"{above} log-probabilities are above {_POSITIVE:g}; a token's is at most 0: see how they are made."
    if batch.reward is not None and batch.group is None and batch.size > 1:
        yield (
            "No column says which responses answer the same prompt, so rewards are centred over all of them: "
            "record `group`."
        )
    elif batch.reward is not None and batch.group is not None and facts["prompts"] == batch.size > 1:
        column = chosen.get("group", "group")
        yield f"Each prompt has one response (column `{column}`), so that no group has a baseline of its own."


def _quantile(x: Tensor, share: float) -> Tensor:
    return x.sort().values[min(x.numel() - 1, int(share * x.numel()))]
