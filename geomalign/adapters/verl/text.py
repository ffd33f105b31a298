"""The YAML with which verl trains an objective."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from geomalign import recipes
from geomalign.adapters.verl.losses import NAMED, PREFIX, why_not
from geomalign.measure import FixedBudget, PooledMean
from geomalign.objective import BaseObjective

__all__ = ["configuration"]


def configuration(name: str, objective: BaseObjective, hyperparameters: Mapping[str, Any]) -> str:
    """The YAML with which verl trains an objective; see `geomalign.adapters.export.configuration`.

    A KL penalty to the reference that a recipe has as `beta` becomes verl's own.

    >>> text = configuration("opo", recipes.get("opo"), {})
    >>> print(*[line.strip() for line in text.splitlines() if "geomalign/" in line], sep="\\n")
    adv_estimator: geomalign/opo
    loss_mode: geomalign/opo
    """
    given = dict(hyperparameters)
    kl_penalty = 0.0
    if why_not(objective) and given.get("beta"):
        # verl adds a k3 KL penalty to the reference itself.
        kl_penalty = float(given.pop("beta"))
        objective = recipes.get(name, **given)
    reason = why_not(objective)
    if reason:
        raise ValueError(f"verl cannot compute {name}: {reason}.")
    mode, length = _reduction(objective)
    registered = name
    if name not in recipes.names():
        registered, given = NAMED, {"objective": name, **given}
    lines = [
        "# verl: python -m verl.trainer.main_ppo --config-path FOLDER --config-name THIS data.train_files=… …",
        "# Ask first: python -m geomalign.adapters.verl --config THIS.yaml",
        "hydra:",
        "  searchpath:",
        "    - pkg://verl.trainer.config",
        "",
        "defaults:",
        "  - ppo_trainer",
        "  - _self_",
        "",
        "algorithm:",
        "  _target_: geomalign.adapters.verl.GeometryAlgoConfig",
        f"  adv_estimator: {PREFIX}{registered}",
        "  hyperparameters: ${actor_rollout_ref.actor.policy_loss.hyperparameters}",
        "  group_size: ${actor_rollout_ref.rollout.n}  # more rows per prompt: sessions with several outputs, refused",
        "",
        "actor_rollout_ref:",
        "  actor:",
        f"    loss_agg_mode: {mode}",
        *([f"    loss_scale_factor: {length:g}"] if length else []),
        "    policy_loss:",
        "      _target_: geomalign.adapters.verl.GeometryLossConfig",
        f"      loss_mode: {PREFIX}{registered}",
        f"      hyperparameters: {json.dumps(given)}",
    ]
    if kl_penalty:
        lines += ["    use_kl_loss: true", f"    kl_loss_coef: {kl_penalty:g}", "    kl_loss_type: low_var_kl"]
    lines += [
        "    ppo_mini_batch_size: 64      # several steps per rollout, or no geometry acts",
        "    ppo_micro_batch_size_per_gpu: 8",
        "  rollout:",
        "    name: vllm",
        "    n: 8",
        "    log_prob_micro_batch_size_per_gpu: 16",
        "  ref:",
        "    log_prob_micro_batch_size_per_gpu: 16",
    ]
    return "\n".join(lines) + "\n"


def _reduction(objective: BaseObjective) -> tuple[str, float]:
    """verl's name for the measure of the first term, and its divisor where the measure has one."""
    _, first = objective.terms[0]
    if not first.unit.per_token:
        return "seq-mean-token-mean", 0.0
    if isinstance(first.measure, FixedBudget):
        return "seq-mean-token-sum-norm", first.measure.length
    return ("token-mean" if isinstance(first.measure, PooledMean) else "seq-mean-token-mean"), 0.0
