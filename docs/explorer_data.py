"""What the explorer shows, and torch's values of it: `python docs/explorer_data.py` writes docs/explorer/data.js.

The page computes everything itself, in JavaScript. It compares its numbers with these when it opens, and a test does so
in a browser.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import math
import re
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import geomalign as ga
from geomalign import analysis
from geomalign.objective import SLOTS, Objective
from geomalign.recipes.catalogue import entries

PAGE = Path(__file__).parent / "explorer" / "data.js"

LOG_RATIOS = (-1.5, -0.3, -0.05, 0.0, 0.1, 0.4, 1.2)
DRIVES = (-1.0, 0.5, 2.0)

UNITS = (ga.Token, ga.Sequence, ga.MeanSequence, ga.Pair)
CHARTS = (ga.LogRatio, ga.Ratio, ga.Power, ga.Dual, ga.Sigmoid)
POTENTIALS = (
    ga.Flat, ga.Indicator, ga.ChiSquare, ga.KL, ga.ReverseKL, ga.Logistic, ga.Hinge, ga.optimization.SquaredHinge,
    ga.Clip, ga.optimization.SigmoidClip, ga.AdvantageScaled,
)  # fmt: skip
MEASURES = (ga.PooledMean, ga.NestedMean, ga.FixedBudget)
"""Parts that the page has in JavaScript; a recipe made of others is not shown."""


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def numbers(values: Tensor) -> Any:
    """Lists of numbers; JSON has no infinity."""
    return json.loads(json.dumps(values.tolist()).replace("-Infinity", '"-inf"').replace("Infinity", '"inf"'))


def written(part: object) -> str:
    """A part as its own call; a divergence is quoted, because the page only compares its name."""
    return re.sub(r"divergence=(.*)\)$", r"divergence='\1')", repr(part)) if isinstance(part, ga.Dual) else repr(part)


def shown(objective: Any) -> bool:
    """Whether the page can draw it: one term, of parts that it has."""
    if len(objective.terms) != 1:
        return False
    term = objective.terms[0][1]
    return (
        isinstance(term.unit, UNITS)
        and isinstance(term.chart, CHARTS)
        and isinstance(term.optimization, POTENTIALS)
        and not term.measure.needs_lengths
        and (not term.sampling.reweights or isinstance(term.sampling, ga.ClippedImportance))
    )


def at(term: Objective, coefficient: float, drive: float) -> dict[str, Any]:
    """One event at every log-ratio of LOG_RATIOS; of a pair, the rejected response stays at its anchor."""
    delta = tensor(*LOG_RATIOS).requires_grad_()
    zero = torch.zeros_like(delta.detach())
    g = torch.full_like(zero, drive)
    if term.unit.paired:
        batch: Any = ga.PreferenceBatch(delta[:, None], *3 * [zero[:, None]])
    else:
        batch = ga.Batch(delta[:, None], zero[:, None], reference=zero[:, None], advantage=g)
    events = term.events(batch, drive=g)
    u, g = events.u.reshape(-1), events.drive.reshape(-1)
    energy = coefficient * term.optimization.energy(u, g)
    gradient = torch.autograd.grad(energy.sum(), delta, create_graph=True)[0]
    bend = torch.zeros_like(zero)
    if gradient.requires_grad:
        bend = torch.autograd.grad(gradient.sum(), delta, materialize_grads=True)[0]
    values = {
        "u": u,
        "energy": energy,
        "force": term.optimization.force(u, g),
        "curvature": term.optimization.curvature(u, g),
        "pull": -gradient,
        "bend": bend,
    }
    return {name: numbers(value.detach()) for name, value in values.items()}


def recipe(entry: Any) -> dict[str, Any]:
    coefficient, term = entry.objective.terms[0]
    fixed = None if term.sampling.driven else term.sampling.drive_range.low
    return {
        "slots": {slot: written(getattr(term, slot)) for slot in SLOTS},
        "anchor": term.anchor,
        "offset": type(term.offset).__name__,
        "coefficient": coefficient,
        "drive": fixed,
        "source": entry.source,
        "latex": term.latex(),
        "reference": [{"drive": g, **at(term, coefficient, g)} for g in (DRIVES if fixed is None else (fixed,))],
    }


def parts(recipes: dict[str, Any]) -> dict[str, Any]:
    """Where a part is found and its defaults, for the Python that the page writes."""
    calls = " ".join(call for recipe in recipes.values() for call in recipe["slots"].values())
    named = set(re.findall(r"(\w+)\(", calls))
    pulls = [kind for name, kind in vars(ga.sampling).items() if name in named]
    found = {}
    for kind in (*UNITS, *CHARTS, *pulls, *POTENTIALS, *MEASURES):
        name = kind.__name__
        home = next(h for h in ("", "optimization.", "sampling.") if name in dir(_module(h)))
        parameters = inspect.signature(kind).parameters.values()
        default = {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}
        plain = {k: written(v) if dataclasses.is_dataclass(v) else v for k, v in default.items()}
        found[name] = {"path": f"ga.{home}{name}", "defaults": plain}
    return found


def _module(home: str) -> Any:
    return ga if not home else getattr(ga, home[:-1])


def drives() -> list[dict[str, Any]]:
    """What pulls: the drive of the responses to one prompt by each sampling geometry."""
    members = [
        ga.GroupAdvantage(),
        ga.GroupAdvantage(scale="group"),
        ga.GroupAdvantage(baseline="leave_one_out"),
        ga.Escort(alpha=0.4),
        ga.Escort(alpha=0.9, temperature=0.25, scaled=True),
        ga.Escort(alpha=1.0, scaled=True),
    ]
    rewards = (tensor(1, 0.6, 0), tensor(0.2, -0.3, 1.4, 0, 0.9), tensor(1, 1, 1))
    return [
        {
            "sampling": written(member),
            "reward": numbers(reward),
            "drive": numbers(member.drive(ga.Batch(reward[:, None] * 0, None, reward=reward))),
        }
        for member in members
        for reward in rewards
    ]


def rest(tree: analysis.Tree, objective: Any, drive: Tensor | None) -> Tensor:
    """Where the gradient flow from the anchor ends: followed, then made exact by Newton's method."""
    z = analysis.gradient_flow(tree, objective, tensor(0, 400), drive=drive).logits[-1]
    for _ in range(8):
        gradient = tree.gradient(objective, z, tree.uniform(), drive).reshape(-1)
        hessian = torch.autograd.functional.hessian(lambda x: tree.loss(objective, x, tree.uniform(), drive), z)
        hessian = hessian.reshape(z.numel(), -1)
        z = z - torch.linalg.solve(hessian + 1.0 / z.numel(), gradient).reshape(z.shape)
    return tree.probabilities(z)


def simplexes() -> list[dict[str, Any]]:
    """Velocities of the logits on the simplex, and where the flow ends where the potential is smooth."""
    found = []
    for name in ("opo", "gopo", "ppo", "reinforce", "dpo", "chi_po", "mirror_descent", "dro"):
        for reward in (tensor(1, 0.6, 0), tensor(0.2, -0.3, 0.7, 0, 0.4)):
            tree = analysis.Tree.bandit(reward)
            objective = ga.recipes.get(name)
            term = objective.terms[0][1]
            drive = None
            if isinstance(term.sampling, ga.Escort):
                drive = term.sampling.drive(tree.batch(tree.uniform(), tree.uniform()))
            start = torch.linspace(-0.4, 0.6, len(reward), dtype=torch.float64)[None]
            smooth = name in ("opo", "mirror_descent", "dro", "dpo")
            found.append(
                {
                    "recipe": name,
                    "reward": numbers(reward),
                    "start": numbers(start[0]),
                    "velocity": numbers(-tree.gradient(objective, start, tree.uniform(), drive)[0]),
                    "rest": numbers(rest(tree, objective, drive)) if smooth else None,
                }
            )
    return found


def targets() -> list[dict[str, Any]]:
    """Targets in the ratio chart: the projection of χ² and the Gibbs policy of KL."""
    found = []
    for strength in (0.25, 0.7, 3.0):
        for drive in (tensor(0.5, 0.1, -0.6), tensor(0.2, -0.3, 1.4, 0, 0.9)):
            for geometry, divergence in (("ChiSquare", ga.PearsonChiSquare()), ("KL", ga.KullbackLeibler())):
                target = ga.target_policy(drive, strength * divergence)
                found.append(
                    {
                        "optimization": geometry,
                        "strength": strength,
                        "drive": numbers(drive),
                        "probability": numbers(target.probability),
                    }
                )
    return found


def weights() -> list[dict[str, Any]]:
    """What a token of two responses of unequal length weighs: the gradient under the drive 1 at the anchor."""
    lengths = (3, 11)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    found = []
    for unit in (ga.Token(), ga.Sequence(), ga.MeanSequence()):
        for measure in (ga.PooledMean(), ga.NestedMean(), ga.FixedBudget(16)):
            policy = torch.zeros(mask.shape, dtype=torch.float64, requires_grad=True)
            objective = ga.Objective(unit=unit, sampling=ga.Advantage(), optimization=ga.Flat(), measure=measure)
            batch = ga.Batch(policy, policy.detach(), mask=mask, advantage=tensor(1, 1))
            objective(batch).loss.backward()
            found.append(
                {
                    "unit": written(unit),
                    "measure": written(measure),
                    "lengths": list(lengths),
                    "weight": numbers(-policy.grad[:, 0]),  # type: ignore[index]
                }
            )
    return found


def policies() -> list[dict[str, Any]]:
    """Importance weights of a rollout engine: as they are, capped, masked, and the effective share of the sample."""
    log_weight = tensor(0.0, 0.1, -0.2, 0.9, -1.4, 0.3)
    zero = torch.zeros(len(log_weight), 1, dtype=torch.float64)
    batch = ga.Batch(zero, zero, behavior=-log_weight[:, None], advantage=torch.ones_like(log_weight))
    found = []
    for cap in (1.1, 2.0, 5.0):
        plain = log_weight.exp()
        capped = ga.TruncatedImportance(ga.Advantage(), cap=cap, sequence=True).drive(batch)
        masked = ga.MaskedImportance(ga.Advantage(), high=cap, level="sequence", importance="sequence").drive(batch)
        kinds = {"plain": plain, "cap": capped, "mask": masked}
        found += [
            {
                "kind": kind,
                "cap": cap,
                "log_weight": numbers(log_weight),
                "weight": numbers(w),
                "ess": float(w.sum() ** 2 / (w**2).sum()),
            }
            for kind, w in kinds.items()
        ]
    return found


def data() -> dict[str, Any]:
    """Everything that the page needs from Python."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # robust_dpo at its default warns that it has no minimum
        chosen = {entry.name: entry for entry in entries() if shown(entry.objective)}
        names = [entry.name for entry in entries()]
        recipes = {name: recipe(entry) for name, entry in chosen.items()}
        return {
            "log_ratios": list(LOG_RATIOS),
            "recipes": recipes,
            "left_out": [name for name in names if name not in chosen],
            "parts": parts(recipes),
            "drives": drives(),
            "simplexes": simplexes(),
            "targets": targets(),
            "weights": weights(),
            "policies": policies(),
        }


def page(found: dict[str, Any]) -> str:
    text = json.dumps(found, ensure_ascii=False, indent=0, allow_nan=False)
    flat = re.sub(r"\[[^\[\]{}]*\]", lambda m: re.sub(r"\s*\n\s*", " ", m[0]), text)  # a list of numbers on one line
    return f"// Made by `python docs/explorer_data.py`; do not edit.\nwindow.GA = {{ data: {flat} }};\n"


def same(one: Any, other: Any, tolerance: float = 1e-12) -> bool:
    """Whether two values of `data()` agree, their numbers up to rounding, which depends on the machine."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k], tolerance) for k in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(same(a, b, tolerance) for a, b in zip(one, other, strict=True))
    if isinstance(one, (int, float)) and isinstance(other, (int, float)):
        return math.isclose(one, other, rel_tol=tolerance, abs_tol=tolerance)
    return bool(one == other)


def read(path: Path = PAGE) -> dict[str, Any]:
    """What the committed page holds."""
    text = path.read_text(encoding="utf-8")
    return json.loads(text[text.index("{ data: ") + 8 : text.rindex(" };")])


if __name__ == "__main__":
    PAGE.write_text(page(data()), encoding="utf-8")
