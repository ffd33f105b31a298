"""What an audit found, as Markdown, as JSON and as a figure."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

from torch import Tensor

__all__ = ["ANCHORED", "Audit"]

ANCHORED = 1e-6
"""Nats of |Δ|, below which no potential has a force that rounding does not hide."""


@dataclasses.dataclass(frozen=True, eq=False)
class Audit:
    """What `audit` found: numbers, and what follows from them.

    Args:
        source: what was read.
        facts: name → number; which names there are depends on the columns.
        objectives: how each objective would have acted on these rows: name → (name → number).
        stiffness: χ² radius → the μ at which the drive's target lies at that radius.
        advice: what follows, in words.
        steps: name → one number per rollout, for the figure.
        log_ratio: `(token,)` Δ in nats of at most 20,000 tokens, for the figure.
        drive: `(response,)` centred rewards.

    >>> found = Audit("a.jsonl", {"responses": 8.0}, {}, {0.04: 2.5}, ("Take more steps.",), {}, Tensor(), Tensor())
    >>> print(found.text().splitlines()[0])
    # Audit of a.jsonl
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
        """Everything but the samples of the figure; null where a number is not finite, which JSON cannot hold."""
        kept = ("source", "facts", "objectives", "stiffness", "advice", "steps")
        return json.dumps(_json({name: getattr(self, name) for name in kept}), indent=2, allow_nan=False)

    def figure(self, path: str | Path) -> Path:
        """Write the panels: how far the policy moved, what pulled, and the course over the run."""
        from geomalign import plotting

        with plotting.canvas(1, 3, panel=(3.6, 2.7)) as (figure, axes):
            moved, pulled, course = axes[0]
            moved.set_title("log-ratio Δ of tokens")
            if self.log_ratio.numel():
                size = self.log_ratio.abs().clamp(min=1e-9).log10().numpy()
                moved.hist(size, bins=40, range=_wide(size), color=plotting.PALETTE[0])
                moved.axvline(math.log10(ANCHORED), color=plotting.MUTED, linestyle="--")
                moved.text(
                    math.log10(ANCHORED),
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


def _number(value: float) -> str:
    """Whole where it is large and whole, else of three digits; a dash where it is not finite."""
    if not math.isfinite(value):
        return "–"
    return f"{value:,.0f}" if value == int(value) and abs(value) >= 10 else f"{value:.3g}"


def _json(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _json(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _wide(values: Any) -> tuple[float, float]:
    """From the least to the largest value; a little around values that are all alike."""
    low, high = float(values.min()), float(values.max())
    return (low, high) if high - low > 1e-6 else (low - 0.5, high + 0.5)


def _absent(axis: Any, why: str) -> None:
    axis.text(0.5, 0.5, why, ha="center", va="center", transform=axis.transAxes)
    axis.set_xticks([])
    axis.set_yticks([])
