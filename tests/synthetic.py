"""A made-up comparison on disk, in the files that `geomalign compare` writes: what the report is tested with."""

import json
import math
from pathlib import Path

import numpy as np

LEVELS = {"3": "in", "4": "harder", "6": "unseen"}
FINAL = {  # (label, rate) → accuracy on the trained level
    ("opo", 5e-5): 0.98, ("gspo", 5e-5): 0.97, ("grpo", 5e-5): 0.975, ("dapo", 5e-5): 0.96,
    ("opo", 2e-4): 0.87, ("gspo", 2e-4): 0.60, ("grpo", 2e-4): 0.55, ("dapo", 2e-4): 0.20,
}  # fmt: skip
SLOTS = {
    "unit": "MeanSequence()", "chart": "LogRatio(scale=1.0)", "sampling": "Escort(alpha=0.4)", "optimization": "ChiSquare(mu=10.0)",
    "measure": "PooledMean()", "anchor": "old",
}  # fmt: skip
KL_PENALTY = {
    "unit": "Token()",
    "chart": "LogRatio(scale=1.0)",
    "sampling": "Advantage()",
    "optimization": "ReverseKL(beta=1.0)",
    "anchor": "reference",
}


def comparison(
    directory: Path,
    labels: tuple[str, ...] = ("opo", "gspo", "grpo", "dapo"),
    rates: tuple[float, ...] = (5e-5, 2e-4),
    seeds: tuple[int, ...] = (0, 1, 2),
    iterations: int = 60,
    inactive: float = 0.07,
    scatter: float = 0.02,
) -> Path:
    """Write runs whose curves rise to `FINAL`, each seed `scatter` apart."""
    rng = np.random.default_rng(0)
    summaries = []
    for label in labels:
        for rate in rates:
            for seed in seeds:
                name = f"{label}-r{rate:g}-s{seed}"
                folder = directory / "runs" / name
                folder.mkdir(parents=True)
                goal = float(
                    np.clip(FINAL.get((label, rate), 0.5) + scatter * (seed - 1) + scatter * rng.normal() / 4, 0, 1)
                )
                lines = []
                for step in range(iterations + 1):
                    rise = 1 - math.exp(-step / 12)
                    line: dict[str, float] = {"step": step, "rate": rate}
                    if step % 20 == 0 or step == iterations:
                        line |= {
                            "accuracy/3": 0.06 + (goal - 0.06) * rise,
                            "accuracy/4": 0.9 * goal * rise,
                            "accuracy/6": 0.5 * goal * rise,
                        }
                        line |= {
                            "accuracy_in": line["accuracy/3"],
                            "accuracy_out": line["accuracy/4"],
                            "accuracy_unseen": line["accuracy/6"],
                        }
                    if step:
                        noise = float(np.exp(0.3 * rng.normal()))
                        scale = (1 + labels.index(label)) * (rate / 5e-5)
                        line |= {
                            "reward": float(np.clip(goal * rise + 0.05 * rng.normal(), 0, 1)), "loss": -0.1 * noise,
                            "grad_norm": 0.4 * scale * noise, "grad_norm_max": 0.9 * scale * noise, "grad_per_range": 0.1 * scale * noise,
                            "drive_range": 2.0, "drive_std": 0.6, "entropy": 0.5 * math.exp(-step / 30) + 0.05 * noise,
                            "kl": 2e-3 * scale**2 * noise, "chi2": 5e-3 * scale**2 * noise, "ess": 1 / (1 + 5e-3 * scale**2 * noise),
                            "clip_fraction": 0.0 if label == "opo" else 0.02 * scale * noise, "stiffness": 16.0 * noise,
                            "inactive": inactive, "tokens": 2400.0, "time/generation": 0.3, "time/scoring": 0.02, "time/update": 0.2,
                        }  # fmt: skip
                    lines.append(line)
                (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
                tail = lines[1:][-10:]
                final = {
                    k: float(np.mean([t[k] for t in tail]))
                    for k in tail[-1]
                    if all(k in t for t in tail) and k not in ("step", "rate")
                }
                final |= {k: v for k, v in lines[-1].items() if k.startswith("accuracy")}
                terms = [{"coefficient": 1.0, **SLOTS}]
                if label == "grpo":
                    terms.append({"coefficient": 0.04, **SLOTS, **KL_PENALTY})
                summary = {
                    "name": name, "label": label, "objective": label, "options": {}, "rate": rate, "seed": seed, "mode": "rl",
                    "slots": terms[0], "terms": terms, "latex": r"\mathcal{L} = \tfrac{\mu}{2} u^2 - g\,u", "parameters": 187104, "iterations": iterations,
                    "base": {"accuracy_in": 0.06, "accuracy_out": 0.03, "accuracy_unseen": 0.02}, "final": final,
                    "time": {"generation": 18.0, "scoring": 1.2, "update": 12.0, "evaluation": 3.0, "total": 34.2},
                    "cpu_seconds": 34.0, "tokens": 144000, "tokens_per_second": 4600.0, "masked": 0, "skipped": 0, "warnings": [],
                    "levels": LEVELS,
                }  # fmt: skip
                (folder / "summary.json").write_text(json.dumps(summary))
                summaries.append(summary)
    environment = {
        "python": "3.11.7",
        "torch": "2.13.0",
        "transformers": "5.23.0",
        "geomalign": "0.1.0",
        "processor": "a processor",
        "cores": 2,
    }
    top = {
        "config": {}, "environment": environment, "levels": LEVELS, "base": {"accuracy_in": 0.06, "accuracy_out": 0.03, "accuracy_unseen": 0.02, "seconds": 57.0},
        "runs": summaries, "failed": {}, "seconds": 431.0, "warnings": [],
    }  # fmt: skip
    (directory / "summary.json").write_text(json.dumps(top))
    return directory
