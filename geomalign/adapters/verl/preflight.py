"""A check before a run: what verl registered, and one step with the run's own configuration on random numbers."""

from __future__ import annotations

from typing import Any

import torch

from geomalign.adapters.verl.losses import PREFIX, objective_from, register

__all__ = ["check"]


def check(overrides: list[str] | None = None, config_path: str | None = None) -> list[str]:
    """Whether a run would find what it names: composes verl's configuration and makes one step on random numbers.

    Args:
        overrides: as on the command line of `verl.trainer.main_ppo`.
        config_path: a YAML file of one's own, as `--config-path` and `--config-name` would name it.

    Returns:
        What was found, line by line; the last line begins with "ok".

    Raises:
        RuntimeError: verl did not load the plug-in, or the configuration names something of geomalign that does not
            work.

    ```py
    print(*check(["algorithm.adv_estimator=geomalign/opo"]), sep="\\n")
    ```
    """
    import importlib.metadata
    import os

    import verl
    from verl.trainer.ppo.core_algos import POLICY_LOSS_REGISTRY

    lines = [f"verl {verl.__version__}, geomalign {importlib.metadata.version('geomalign')}"]
    points = [p for p in importlib.metadata.entry_points(group="verl.plugins") if p.value.startswith("geomalign.")]
    if not points:
        raise RuntimeError(
            "no entry point of group verl.plugins leads to geomalign, so `import verl` cannot load it: the package is "
            "on the path but not installed. Run `pip install --no-deps -e .` (or `pip install geomalign`) in verl's "
            "environment, on every node."
        )
    if not any(name.startswith(PREFIX) for name in POLICY_LOSS_REGISTRY):
        policy = os.getenv("VERL_USE_EXTERNAL_PLUGINS", "auto")
        try:
            points[0].load()
        except Exception as error:
            raise RuntimeError(
                f"the plug-in fails to load, and verl hides it: {type(error).__name__}: {error}"
            ) from error
        raise RuntimeError(
            f"`import verl` did not load the plug-in: VERL_USE_EXTERNAL_PLUGINS is {policy!r}; set it to 'auto' or "
            f"include {points[0].name!r}."
        )
    registered = register()
    lines.append(f"{len(registered.losses)} policy losses: {', '.join(registered.losses)}")
    lines.append(f"{len(registered.estimators)} advantage estimators: {', '.join(registered.estimators)}")
    if overrides or config_path:
        lines += _check_run(list(overrides or []), config_path)
    lines.append("ok")
    return lines


def _compose(overrides: list[str], config_path: str | None = None) -> Any:
    """verl's PPO configuration as its launcher composes it: `ppo_trainer`, or a YAML file that begins with it."""
    import pathlib

    import verl.trainer
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    folder = f"{next(iter(verl.trainer.__path__))}/config"
    GlobalHydra.instance().clear()
    if config_path is None:
        with initialize_config_dir(folder, version_base=None):
            return hydra_compose("ppo_trainer", overrides=overrides)
    path = pathlib.Path(config_path).resolve()
    with initialize_config_dir(str(path.parent), version_base=None):
        return hydra_compose(path.stem, overrides=overrides)


def _check_bypass(config: Any, mode: str) -> None:
    """Bypass mode puts the rollout engine's log-probabilities in the place of the old policy's."""
    if not (config.algorithm.get("rollout_correction") or {}).get("bypass_mode", False):
        return
    if not config.trainer.use_v1 and mode.startswith(PREFIX):
        raise RuntimeError(
            f"algorithm.rollout_correction.bypass_mode with trainer.use_v1=false overwrites loss_mode {mode!r} with "
            "verl's own loss. Set trainer.use_v1=true, which exchanges the old policy's log-probabilities and nothing "
            "else."
        )
    if not config.actor_rollout_ref.rollout.calculate_log_probs:
        raise RuntimeError(
            "algorithm.rollout_correction.bypass_mode takes the rollout engine's log-probabilities, which are not "
            "computed: set actor_rollout_ref.rollout.calculate_log_probs=true."
        )


def _check_run(overrides: list[str], config_path: str | None) -> list[str]:
    from verl.trainer.ppo.core_algos import get_adv_estimator_fn, get_policy_loss_fn
    from verl.trainer.ppo.utils import need_reference_policy
    from verl.utils.config import omega_conf_to_dataclass, validate_config

    try:
        config = _compose(overrides, config_path)
        validate_config(config, need_reference_policy(config), use_critic=False)
        actor = omega_conf_to_dataclass(config.actor_rollout_ref.actor)
    except Exception as error:  # of Hydra, OmegaConf and verl, each with its own classes
        raise RuntimeError(f"verl does not accept the configuration: {error}") from error
    mode, estimate = actor.policy_loss.loss_mode, config.algorithm.adv_estimator
    _check_bypass(config, mode)
    generator = torch.Generator().manual_seed(0)
    old = -torch.rand(8, 5, generator=generator) - 0.1
    policy = (old + 0.1 * torch.randn(8, 5, generator=generator)).requires_grad_()
    mask = torch.arange(5) < torch.tensor([[5], [3], [1], [4], [2], [5], [5], [3]])
    rewards = torch.where(torch.arange(5) == 0, torch.randn(8, 1, generator=generator), 0.0)
    lines = [
        f"algorithm.adv_estimator {estimate}, actor.policy_loss.loss_mode {mode}, actor.loss_agg_mode "
        f"{actor.loss_agg_mode}"
    ]
    try:
        advantages = torch.where(mask, rewards.sum(-1, keepdim=True), 0.0)
        if str(estimate).startswith(PREFIX):
            index = [f"prompt-{i // min(4, config.algorithm.get('group_size') or 4)}" for i in range(8)]
            advantages, _ = get_adv_estimator_fn(estimate)(
                token_level_rewards=rewards, response_mask=mask, config=config.algorithm, index=index
            )
        loss, found = get_policy_loss_fn(mode)(old, policy, advantages, mask, actor.loss_agg_mode, config=actor)
        loss.backward()
    except Exception as error:
        raise RuntimeError(f"{lines[0]}: {error}") from error
    if policy.grad is None:
        raise RuntimeError(f"{lines[0]}: the loss has no gradient in the log-probabilities.")
    lines.append(
        f"one step: loss {float(loss):.4g}, gradient norm {float(policy.grad.norm()):.4g}, {len(found)} metrics"
    )
    if mode.startswith(PREFIX):
        lines.append(f"objective {objective_from(mode.removeprefix(PREFIX), actor.policy_loss)!r}")
    return lines
