"""The configuration with which an objective runs in another trainer: `geomalign export trl opo --alpha 0.4`.

Every text is complete but for names of models and data, and says in comments what the host decides instead of the
objective. What a host cannot compute is refused with the reason and, where there is one, the way around it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

from geomalign import recipes
from geomalign.adapters import verl
from geomalign.measure import FixedBudget, PooledMean
from geomalign.objective import BaseObjective, Objective

__all__ = ["HOSTS", "configuration"]


def configuration(host: str, name: str, **hyperparameters: Any) -> str:
    """The text for a host, one of `HOSTS`.

    Args:
        host: "trl" (a script), "verl" (YAML on top of verl's own), "prime-rl" (TOML), "slime" (YAML and flags),
            "openrlhf" (a command), "nemo-rl" (the lines that change), "torchtune" (YAML).
        name: a recipe.
        hyperparameters: of the recipe.

    Raises:
        ValueError: an unknown host or recipe, or an objective that the host cannot compute.

    >>> print(configuration("prime-rl", "opo", alpha=0.5))
    # prime-rl makes the advantages: they are the drive, in the place of Escort(alpha=0.5).
    [orchestrator.train.algo]
    type = "grpo"                # r − mean of the group
    <BLANKLINE>
    [trainer.loss]
    type = "custom"
    import_path = "geomalign.adapters.prime_rl.loss"
    <BLANKLINE>
    [trainer.loss.kwargs]
    objective = "opo"
    alpha = 0.5
    <BLANKLINE>
    """
    if host not in HOSTS:
        raise ValueError(f"there is no export to {host!r}; there are {', '.join(HOSTS)}.")
    return HOSTS[host](name, recipes.get(name, **hyperparameters), hyperparameters)


def _trl(name: str, objective: BaseObjective, given: dict[str, Any]) -> str:
    paired = objective.paired
    kind = "DPO" if paired else "GRPO"
    call = ", ".join([repr(name), *(f"{key}={value!r}" for key, value in given.items())])
    lines = [
        "from datasets import load_dataset",
        f"from trl import {kind}Config",
        "",
        "import geomalign as ga",
        f"from geomalign.adapters.trl import Geometry{kind}Trainer",
        "",
        'MODEL = "Qwen/Qwen3-0.6B"',
    ]
    if paired:
        lines += [
            'DATA = "preferences.jsonl"  # prompt, chosen, rejected',
            "",
            f"args = DPOConfig(output_dir={f'runs/{name}'!r}, per_device_train_batch_size=8, learning_rate=5e-7)",
            f"trainer = Geometry{kind}Trainer(",
            "    MODEL,",
        ]
    else:
        lines += [
            'DATA = "prompts.jsonl"  # prompt, answer',
            "",
            "",
            "def correct(completions, answer, **columns):",
            "    return [float(a in c) for c, a in zip(completions, answer)]",
            "",
            "",
            "args = GRPOConfig(",
            f"    output_dir={f'runs/{name}'!r},",
            "    num_generations=8,",
            "    num_iterations=2,  # updates a rollout: at the first the policy is the anchor, and no geometry acts",
        ]
        if objective.needs_reference:
            lines.append(
                "    beta=0.04,  # not zero, so that TRL scores the reference; the strength is the objective's"
            )
        lines += [")", f"trainer = Geometry{kind}Trainer(", "    MODEL,", "    reward_funcs=correct,"]
    lines += [
        "    args=args,",
        '    train_dataset=load_dataset("json", data_files=DATA, split="train"),',
        f"    objective=ga.recipes.get({call}),",
        ")",
        "trainer.train()",
    ]
    return "\n".join(lines) + "\n"


def _verl(name: str, objective: BaseObjective, given: dict[str, Any]) -> str:
    kl_penalty = 0.0
    if verl.why_not(objective) and given.get("beta"):
        # verl adds a k3 KL penalty to the reference itself.
        given = dict(given)
        kl_penalty = float(given.pop("beta"))
        objective = recipes.get(name, **given)
    reason = verl.why_not(objective)
    if reason:
        raise ValueError(f"verl cannot compute {name}: {reason}.")
    mode, scale = _verl_reduction(objective)
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
        f"  adv_estimator: geomalign/{name}",
        "  hyperparameters: ${actor_rollout_ref.actor.policy_loss.hyperparameters}",
        "",
        "actor_rollout_ref:",
        "  actor:",
        f"    loss_agg_mode: {mode}",
    ]
    lines += [f"    loss_scale_factor: {scale:g}"] if scale else []
    lines += [
        "    policy_loss:",
        "      _target_: geomalign.adapters.verl.GeometryLossConfig",
        f"      loss_mode: geomalign/{name}",
        f"      hyperparameters: {json.dumps(given)}",
    ]
    if kl_penalty:
        lines += ["    use_kl_loss: true", f"    kl_loss_coef: {kl_penalty:g}", "    kl_loss_type: low_var_kl"]
    lines += [
        "    ppo_mini_batch_size: 64      # several updates a rollout, or no geometry acts",
        "    ppo_micro_batch_size_per_gpu: 8",
        "  rollout:",
        "    name: vllm",
        "    n: 8",
        "    log_prob_micro_batch_size_per_gpu: 16",
        "  ref:",
        "    log_prob_micro_batch_size_per_gpu: 16",
    ]
    return "\n".join(lines) + "\n"


def _prime_rl(name: str, objective: BaseObjective, given: dict[str, Any]) -> str:
    _hosted(objective, "prime-rl", reference=False)
    lines = [
        _drive_of("prime-rl", objective),
        "[orchestrator.train.algo]",
        'type = "grpo"                # r − mean of the group',
        "",
        "[trainer.loss]",
        'type = "custom"',
        'import_path = "geomalign.adapters.prime_rl.loss"',
        "",
        "[trainer.loss.kwargs]",
        f"objective = {json.dumps(name)}",
        *(f"{key} = {json.dumps(value)}" for key, value in given.items()),
    ]
    return "\n".join(lines) + "\n"


def _slime(name: str, objective: BaseObjective, given: dict[str, Any]) -> str:
    _hosted(objective, "slime")
    lines = [
        "# slime: --loss-type custom_loss --custom-loss-function-path geomalign.adapters.slime.loss",
        "#        --custom-config-path THIS.yaml --advantage-estimator grpo",
        f"geomalign_objective: {_line(name, given)}",
    ]
    if len({term.sampling for term in objective.driven_terms}) == 1:
        lines.insert(2, "#        --custom-reward-post-process-path geomalign.adapters.slime.rewards")
    else:
        lines.insert(0, _drive_of("slime", objective))
    return "\n".join(lines) + "\n"


def _openrlhf(name: str, objective: BaseObjective, given: dict[str, Any]) -> str:
    _hosted(objective, "OpenRLHF", reference=False)
    mode = "token-mean" if _pooled(objective) else "seq-mean-token-mean"
    return (
        f"{_drive_of('OpenRLHF', objective)}\n"
        f"python -m geomalign.adapters.openrlhf {json.dumps(_line(name, given))} -- \\\n"
        f"    --actor.loss_agg_mode {mode} --algo.advantage.is_correction_level off \\\n"
        "    --actor.model_name_or_path MODEL --data.prompt_dataset DATA\n"
    )


def _nemo_rl(name: str, objective: BaseObjective, given: dict[str, Any]) -> str:
    _hosted(objective, "NeMo-RL")
    return (
        f"{_drive_of('NeMo-RL', objective)}\n"
        "# NeMo-RL: in a copy of examples/run_grpo.py, after setup(…) and before grpo_train(…)\n"
        "from geomalign.adapters.nemo_rl import GeometryLoss\n"
        "\n"
        f"loss_fn = GeometryLoss({json.dumps(_line(name, given))})\n"
    )


def _torchtune(name: str, objective: BaseObjective, given: dict[str, Any]) -> str:
    paired = objective.paired
    if not paired:
        _hosted(objective, "torchtune", reference=False)
    if paired and any(term.unit.needs_tokens for _, term in objective.terms):
        raise ValueError(f"torchtune hands over sums over responses, but {name} divides by their lengths.")
    note = [] if paired else [_drive_of("torchtune", objective)]
    component = "PreferenceLoss" if paired else "PPOLoss"
    config = "full_dpo_distributed" if paired else "ppo_full_finetune_single_device"
    lines = [
        *note,
        f"# torchtune: tune run {config} --config …, with",
        "loss:",
        f"  _component_: geomalign.adapters.torchtune.{component}",
        f"  objective: {name}",
        *(f"  {key}: {json.dumps(value)}" for key, value in given.items()),
    ]
    return "\n".join(lines) + "\n"


HOSTS: dict[str, Callable[[str, BaseObjective, dict[str, Any]], str]] = {
    "trl": _trl,
    "verl": _verl,
    "prime-rl": _prime_rl,
    "slime": _slime,
    "openrlhf": _openrlhf,
    "nemo-rl": _nemo_rl,
    "torchtune": _torchtune,
}
"""Host → the function that writes its configuration."""


def _terms(objective: BaseObjective) -> list[Objective]:
    return [term for _, term in objective.terms]


def _pooled(objective: BaseObjective) -> bool:
    return all(term.unit.per_token and isinstance(term.measure, PooledMean) for term in _terms(objective))


def _verl_reduction(objective: BaseObjective) -> tuple[str, float]:
    """verl's name for the measure of the driven terms, and its divisor where the measure has one."""
    first = _terms(objective)[0]
    if not first.unit.per_token:
        return "seq-mean-token-mean", 0.0
    if isinstance(first.measure, FixedBudget):
        return "seq-mean-token-sum-norm", first.measure.length
    return ("token-mean" if isinstance(first.measure, PooledMean) else "seq-mean-token-mean"), 0.0


def _hosted(objective: BaseObjective, host: str, *, reference: bool = True) -> None:
    """Refuse what cannot be computed where the host owns rewards, advantages and reduction."""
    if objective.paired:
        raise ValueError(f"{host} samples single responses, but this objective compares pairs.")
    if not reference and objective.needs_reference:
        raise ValueError(
            f"a term is measured from the reference, whose log-probabilities {host} does not pass to a loss: use its "
            "own KL term and beta=0."
        )


def _drive_of(host: str, objective: BaseObjective) -> str:
    """A comment: which sampling geometry the host's advantages take the place of."""
    replaced = " and ".join(dict.fromkeys(short(term.sampling) for term in objective.driven_terms))
    return f"# {host} makes the advantages: they are the drive, in the place of {replaced}."


def short(member: Any) -> str:
    """`repr` without the arguments that have their default.

    >>> short(recipes.get("opo", alpha=0.5).terms[0][1].sampling)
    'Escort(alpha=0.5)'
    """
    changed = [
        f"{f.name}={getattr(member, f.name)!r}"
        for f in dataclasses.fields(member)
        if f.default is dataclasses.MISSING or getattr(member, f.name) != f.default
    ]
    return f"{type(member).__name__}({', '.join(changed)})"


def _line(name: str, given: dict[str, Any]) -> str:
    """The objective in one line, as `hosted.objective_of` reads it."""
    return " ".join([name, *(f"{key}={value}" for key, value in given.items())])
