"""What a run did, read off its dump: where its updates happened, what pulled, and which stiffness would fit.

`geomalign audit FILE…` reads JSON lines or parquet, one response a row: what `record` wrote (`record=` of the TRL
adapter), TRL's `completions_*.parquet` (rewards only), verl's `rollout_data_dir` (scores only) or any table with
some of these columns:

| column | aliases | |
|---|---|---|
| `policy` | `per_token_logps`, `log_probs`, `log_prob` | log-probabilities of the response's tokens at the update |
| `anchor` | `old_per_token_logps`, `old_log_probs` | the same under the policy that sampled it |
| `reference` | `ref_per_token_logps`, `ref_log_prob` | the same under the reference |
| `behavior` | `sampling_per_token_logps`, `rollout_log_probs` | the same as the rollout engine reported it |
| `mask` | `completion_mask`, `response_mask` | which tokens count |
| `reward` | `score`, `rewards`; every other numeric column of TRL's table | |
| `group` | `uid`, `index`, `prompt`, `input` | what the response answers, within one `rollout` or `step` |
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
from geomalign.batch import Batch
from geomalign.estimators import effective_sample_size
from geomalign.metrics import metrics
from geomalign.objective import BaseObjective, Drives
from geomalign.sampling import Escort, GroupAdvantage
from geomalign.trust_region import chi_square_stiffness

__all__ = ["Audit", "audit", "read", "record"]

_ALIASES: dict[str, tuple[str, ...]] = {
    "policy": ("policy", "per_token_logps", "log_probs", "log_prob"),
    "anchor": ("anchor", "old_per_token_logps", "old_log_probs", "old_log_prob"),
    "reference": ("reference", "ref_per_token_logps", "ref_log_prob", "ref_log_probs"),
    "behavior": ("behavior", "sampling_per_token_logps", "rollout_log_probs"),
    "mask": ("mask", "completion_mask", "response_mask"),
    "reward": ("reward", "score", "rewards", "token_level_scores"),
    "group": ("group", "uid", "index", "prompt", "input"),
    "rollout": ("rollout", "step"),
}
_LOG_PROBS = ("policy", "anchor", "reference", "behavior")
_NOT_REWARDS = {"step", "advantage", "rollout", "rank", "index", "group", "gts"}
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


def audit(*paths: str | Path, objectives: Mapping[str, BaseObjective] | None = None, radius: float = 0.04) -> Audit:
    """Read a run's dump and say what its updates could do.

    Args:
        paths: files, or folders whose `.jsonl` and `.parquet` files are read in order of their names.
        objectives: to be evaluated on the rows, by name; grpo, gspo and opo as published by default. They need
            `policy`, `anchor` and rewards.
        radius: E[u²] of the suggested stiffness, positive; E[(t−1)²] ≤ ε bounds the total variation by √ε/2.

    Raises:
        ValueError: nothing to read, or neither rewards nor log-probabilities in it.
    """
    rows = read(*paths)
    batch, rollout = _batch(rows)
    facts: dict[str, float] = {"responses": batch.size, "rollouts": int(rollout.max()) + 1}
    steps: dict[str, list[float]] = {}
    results: dict[str, dict[str, float]] = {}
    stiffness: dict[float, float] = {}
    log_ratio = drive = torch.zeros(0)
    rewarded = batch.reward is not None
    moved = "anchor" in rows[0] and "policy" in rows[0]
    if rewarded:
        drive = _of_rewards(batch, facts, steps, rollout)
        stiffness = {r: float(chi_square_stiffness(drive, batch.groups(), r)) for r in sorted({*_RADII, radius})}
    if moved:
        log_ratio = _of_log_ratios(batch, facts, steps, rollout)
    if batch.behavior is not None and batch.anchor is not None:
        _of_engine(batch, facts)
    if rewarded and moved:
        chosen = objectives or {name: recipes.get(name) for name in ("grpo", "gspo", "opo")}
        results = {name: _acting(objective, batch) for name, objective in chosen.items()}
    if not rewarded and not moved:
        raise ValueError(
            f"neither rewards nor log-probabilities among the columns {', '.join(sorted(rows[0]))} of {_names(paths)}; "
            "the columns that are understood: "
            + ", ".join(alias for names in _ALIASES.values() for alias in names)
            + "."
        )
    advice = tuple(_advice(facts, results, stiffness.get(radius), radius))
    thinned = log_ratio[:: max(1, log_ratio.numel() // 20_000)]
    drive = drive[batch.support.any(-1)] if rewarded else drive
    return Audit(_names(paths), facts, results, stiffness, advice, steps, thinned, drive)


def read(*paths: str | Path) -> list[dict[str, Any]]:
    """The rows of the files, with our names for the columns that are known under another.

    Raises:
        ValueError: no file, no row, or a line that is no JSON object.
    """
    files: list[Path] = []
    for path in map(Path, paths):
        inside = sorted(p for p in path.rglob("*") if p.suffix in (".jsonl", ".parquet")) if path.is_dir() else [path]
        files += inside
    rows = [_renamed(row, file) for file in files for row in _rows(file)]
    if not rows:
        raise ValueError(f"no rows in {_names(paths)}: expected .jsonl or .parquet files, or folders of them.")
    return rows


def record(path: str | Path, batch: Batch, *, rollout: int = 0, step: int = 0, rank: int = 0) -> None:
    """Append the rows of a batch as JSON lines that `audit` reads, one file a process.

    Args:
        path: a file; with a suffix of the rank for ranks above zero.
        batch: with what is to be recorded; masked tokens are left out.
        rollout: number of the rollout, in which equal `group` ids are one prompt.
        step: number of the optimiser step.
        rank: of this process.
    """
    path = Path(path)
    path = path if path.suffix else path / "rollouts.jsonl"
    path = path.with_suffix(f".{rank}{path.suffix}") if rank else path
    path.parent.mkdir(parents=True, exist_ok=True)
    columns: dict[str, list[Any]] = {"rollout": [rollout] * batch.size, "step": [step] * batch.size}
    support = batch.support
    for name in _LOG_PROBS:
        value = getattr(batch, name)
        if value is not None:
            tokens = batch.tokens(value.detach().float())
            columns[name] = [
                [round(x, 6) for x in row[keep].tolist()] for row, keep in zip(tokens, support, strict=True)
            ]
    if batch.reward is not None:
        columns["reward"] = batch.per_response(batch.reward).tolist()
    if batch.group is not None:
        columns["group"] = batch.group.tolist()
    with path.open("a", encoding="utf-8") as file:
        for values in zip(*columns.values(), strict=True):
            file.write(json.dumps(dict(zip(columns, values, strict=True))) + "\n")


def _rows(path: Path) -> Iterable[dict[str, Any]]:
    if not path.exists():
        raise ValueError(f"there is no file or folder {path}.")
    if path.suffix == ".parquet":
        try:
            from pyarrow import parquet
        except ImportError:
            raise ValueError(
                f"{path} is parquet, which needs `pip install pyarrow`; JSON lines need nothing."
            ) from None
        table: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
        return table
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.strip():
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(
                    f"line {number} of {path} is no JSON: {error}. A run that was killed leaves half a line."
                ) from None
            if not isinstance(row, dict):
                raise ValueError(f"line {number} of {path} is {type(row).__name__}, not an object with named columns.")
            rows.append(row)
    return rows


def _renamed(row: dict[str, Any], path: Path) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, aliases in _ALIASES.items():
        found = next((alias for alias in aliases if row.get(alias) is not None), None)
        if found is not None:
            result[name] = row[found]
    if "reward" not in result:
        numbers = [
            v
            for k, v in row.items()
            if k not in _NOT_REWARDS and isinstance(v, (int, float)) and not isinstance(v, bool)
        ]
        if numbers:
            result["reward"] = float(sum(numbers))
    result.setdefault("rollout", path.name)
    return result


def _batch(rows: Sequence[dict[str, Any]]) -> tuple[Batch, Tensor]:
    """All rows as one batch in float64, and the number of each row's rollout."""
    columns = {name for name in _ALIASES if all(name in row for row in rows)}
    tokens = [name for name in _LOG_PROBS if name in columns]
    if "policy" not in columns and "anchor" in columns:
        raise ValueError("`anchor` without `policy`: where the updates happened needs both.")
    widths = [len(_list(row[tokens[0]])) if tokens else 1 for row in rows]
    values = {name: torch.zeros(len(rows), max(1, *widths), dtype=torch.float64) for name in tokens}
    mask = torch.zeros(len(rows), max(1, *widths), dtype=torch.bool)
    for k, (row, width) in enumerate(zip(rows, widths, strict=True)):
        for name in tokens:
            entries = _list(row[name])
            if len(entries) != width:
                raise ValueError(
                    f"row {k} has {width} tokens in `{tokens[0]}` but {len(entries)} in `{name}`: all of a row's "
                    "log-probabilities cover the same tokens."
                )
            values[name][k, :width] = torch.tensor(
                [math.nan if x is None else float(x) for x in entries], dtype=torch.float64
            )
        keep = (
            torch.tensor([bool(x) for x in _list(row["mask"])])
            if "mask" in columns
            else torch.ones(width, dtype=torch.bool)
        )
        mask[k, :width] = keep
    for value in values.values():
        mask &= ~value.isnan()
    rollouts = {key: k for k, key in enumerate(dict.fromkeys(str(row["rollout"]) for row in rows))}
    rollout = torch.tensor([rollouts[str(row["rollout"])] for row in rows])
    prompts: dict[tuple[int, str], int] = {}
    group = None
    if "group" in columns:
        keys = [(rollouts[str(row["rollout"])], json.dumps(row["group"], default=str)) for row in rows]
        group = torch.tensor([prompts.setdefault(key, len(prompts)) for key in keys])
    reward = None
    if "reward" in columns:
        reward = torch.tensor([sum(_list(row["reward"])) for row in rows], dtype=torch.float64)
        mask &= ~reward.isnan()[:, None]
    if not tokens:
        mask[:, 0] = True if reward is None else ~reward.isnan()
    blank = torch.zeros_like(mask, dtype=torch.float64)
    return Batch(
        values.get("policy", blank), values.get("anchor"), mask, reward, reference=values.get("reference"),
        group=group, behavior=values.get("behavior"),
    ), rollout  # fmt: skip


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
    log_ratio = batch.log_probs("policy", "audit") - batch.log_probs("anchor", "audit")
    seen = log_ratio[support]
    facts["tokens"] = int(support.sum())
    facts["tokens_at_the_anchor"] = float((seen.abs() < _ANCHORED).double().mean())
    for share in (0.5, 0.99):
        facts[f"log_ratio_abs_quantile_{share:g}"] = float(_quantile(seen.abs(), share))
    facts["log_ratio_abs_max"] = float(seen.abs().max())
    seen_by = metrics(
        recipes.get("reinforce")(dataclasses.replace(batch, advantage=torch.zeros(batch.size, dtype=torch.float64)))
    )
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
    gap = (batch.log_probs("anchor", "audit") - batch.log_probs("behavior", "audit"))[batch.support]
    facts["engine_log_ratio_abs_mean"] = float(gap.abs().mean())
    facts["engine_log_ratio_abs_max"] = float(gap.abs().max())
    facts["engine_ess"] = float(effective_sample_size(gap))


def _acting(objective: BaseObjective, batch: Batch) -> dict[str, float]:
    """Scale-free: the gradient law on these rows against the same rows at Δ = 0."""
    drive = objective.drive(batch)
    outcome = objective(batch, drive)
    here = objective.law(batch, drive)
    start = objective.law(dataclasses.replace(batch, policy=batch.require("anchor", "audit")), drive)
    assert isinstance(here, Tensor) and isinstance(start, Tensor)
    first = next(iter(drive)) if isinstance(drive, Drives) else drive
    pulled = batch.support & ((first if first.ndim == 2 else first[:, None]) != 0)
    seen = metrics(outcome)
    norm = start.norm().clamp(min=1e-300)
    return {
        "clipped": float(seen["clip_fraction"]),
        "tokens_without_gradient": float(((here == 0) & pulled).sum() / pulled.sum().clamp(min=1)),
        "gradient_against_at_anchor": float(here.norm() / norm),
        "cosine_with_at_anchor": float((here * start).sum() / (norm * here.norm().clamp(min=1e-300))),
        "stiffness_over_sd_of_drive": float(seen["stiffness"]),
    }


def _advice(
    facts: dict[str, float], objectives: dict[str, dict[str, float]], mu: float | None, radius: float
) -> Iterable[str]:
    at_anchor = facts.get("tokens_at_the_anchor")
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


def _list(x: Any) -> list[Any]:
    return list(x) if isinstance(x, (list, tuple)) else [x]


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
