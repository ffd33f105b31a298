"""verl: every recipe as a policy loss `geomalign/NAME`, every sampling geometry as an advantage estimator
`geomalign/NAME`.

```yaml
algorithm:
  adv_estimator: geomalign/opo
  hyperparameters: ${actor_rollout_ref.actor.policy_loss.hyperparameters}
actor_rollout_ref:
  actor:
    loss_agg_mode: seq-mean-token-mean
    policy_loss:
      _target_: geomalign.adapters.verl.GeometryLossConfig
      loss_mode: geomalign/opo
      hyperparameters: {alpha: 0.4, mu: 1.0}
```

`import verl` loads the plugin through the entry-point group `verl.plugins`, in the driver and in every Ray worker. verl
keeps quiet about plugins that fail to load, so ask before a run, with the run's own overrides: `python -m
geomalign.adapters.verl OVERRIDE…`.

The cut is the theory's: the sampling geometry makes the drive in the driver, where groups are whole; the optimization
geometry sees only tensors in the worker. So the two can be mixed: verl's own `grpo` estimator with `geomalign/opo`, or
`geomalign/opo` with verl's `vanilla`. The loss is averaged as `loss_agg_mode` says, over verl's global batch counts, by
verl's own `agg_loss`: it replaces the recipe's measure.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from geomalign import recipes
from geomalign.adapters import hosted
from geomalign.batch import Batch
from geomalign.objective import BaseObjective, UnboundedLossWarning
from geomalign.sampling import Advantage, Escort, GroupAdvantage, SamplingGeometry

__all__ = ["GeometryAlgoConfig", "GeometryLossConfig", "check", "estimator", "policy_loss", "register"]  # noqa: F822

PREFIX = "geomalign/"
_GEOMETRIES: dict[str, type[SamplingGeometry]] = {g.__name__: g for g in (Advantage, Escort, GroupAdvantage)}


def why_not(objective: BaseObjective) -> str | None:
    """Why verl cannot compute an objective, or None if it can."""
    if objective.paired:
        return "it compares pairs, and verl's rollouts are single responses"
    if objective.needs_reference:
        return (
            "a term measures from the reference policy, whose log-probabilities verl does not pass to a policy loss. "
            "Leave the term out (beta: 0) and let verl add it: actor.use_kl_loss: true, kl_loss_coef: BETA, "
            "kl_loss_type: low_var_kl (k3)"
        )
    if len({(term.sampling, term.unit.per_token) for term in objective.driven_terms}) > 1:
        return "its terms have different drives or units, and verl passes one drive"
    return None


@functools.lru_cache(maxsize=64)
def _recipe(name: str, hyperparameters: tuple[tuple[str, Any], ...]) -> BaseObjective:
    objective = recipes.get(name, **dict(hyperparameters))
    reason = why_not(objective)
    if reason:
        raise ValueError(
            f"{PREFIX}{name}({', '.join(f'{k}={v!r}' for k, v in hyperparameters)}) cannot run under verl: {reason}."
        )
    return objective


def _hyperparameters(config: Any) -> tuple[tuple[str, Any], ...]:
    found = None if config is None else config.get("hyperparameters", None)
    if found is None:
        return ()
    if not isinstance(found, Mapping):
        raise ValueError(f"`hyperparameters` is {found!r}; expected a mapping such as {{alpha: 0.4, mu: 1.0}}.")
    return tuple(sorted((str(k), v) for k, v in found.items()))


def policy_loss(name: str) -> Callable[..., tuple[Tensor, dict[str, float]]]:
    """verl's policy-loss function of a recipe.

    The drive is verl's `advantages`, whoever estimated them; a unit of responses takes their mean over the response's
    tokens. Rollout-correction weights multiply the drive (truncated importance sampling belongs to the sampling
    geometry): for losses that are linear in the drive, such as PPO's, this is verl's own definition; a potential is not
    weighted, where verl's `dro` weights it. For a response they enter as their geometric mean over its tokens, which is
    the weight itself where `rollout_is: sequence`.

    Args:
        name: of a recipe; its hyper-parameters come from `config.policy_loss.hyperparameters`.
    """

    def loss(
        old_log_prob: Tensor,
        log_prob: Tensor,
        advantages: Tensor,
        response_mask: Tensor,
        loss_agg_mode: str = "token-mean",
        config: Any = None,
        rollout_is_weights: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, float]]:
        from verl.trainer.ppo.core_algos import agg_loss

        objective = _recipe(name, _hyperparameters(None if config is None else config.policy_loss))
        batch = Batch(log_prob, old_log_prob, mask=response_mask)
        mask = batch.support.to(batch.dtype)
        info = {} if config is None else config.global_batch_info
        reduce = lambda losses: agg_loss(losses, mask, loss_agg_mode, **info)  # noqa: E731
        weights = hosted.weights_of(reduce, batch.support, batch.dtype)
        outcome = hosted.evaluate(objective, batch, advantages, weights, importance=rollout_is_weights)
        return outcome.loss, _metrics(outcome)

    loss.__name__ = f"geomalign_{name}"
    loss.__doc__ = inspect.getdoc(getattr(recipes, name, None))
    return loss


def _metrics(outcome: Any) -> dict[str, float]:
    """verl's names where it has one, ours under geom/. Moved to the host together, once."""
    found = hosted.found(outcome)
    count = outcome.mask.sum().clamp(min=1)
    found["actor/ppo_kl"] = -outcome.token_log_ratio.sum() / count
    found["actor/pg_clipfrac"] = found.pop("geom/clip_fraction")
    numbers = torch.stack([value.detach().float() for value in found.values()]).tolist()
    return dict(zip(found, numbers, strict=True))


def estimator(name: str) -> Callable[..., tuple[Tensor, Tensor]]:
    """verl's advantage estimator of a recipe's sampling geometry, or of a sampling geometry by its class name.

    Rewards are summed over a response's tokens; `index` (verl's prompt uids) makes the groups, of any size and in any
    order. A group of one and a response without a token have zero advantage. Advantages and returns are the drive, the
    same for every token of a response.

    Args:
        name: of a recipe, or Advantage, Escort, GroupAdvantage; hyper-parameters come from `config.hyperparameters`
            (section `algorithm`).
    """

    def estimate(
        token_level_rewards: Tensor, response_mask: Tensor, config: Any = None, index: Any = None, **unused: Any
    ) -> tuple[Tensor, Tensor]:
        group = None if index is None else torch.as_tensor(_integers(index), device=token_level_rewards.device)
        rewards = token_level_rewards.sum(-1)
        nothing = torch.zeros_like(token_level_rewards)
        batch = Batch(nothing, nothing, mask=response_mask, reward=rewards, group=group)
        drive = _drive(name, _hyperparameters(config), batch)
        if drive.ndim == 1:
            drive = drive[:, None]
        advantages = torch.where(batch.support, drive, 0)
        return advantages, advantages

    estimate.__name__ = f"geomalign_{name}"
    return estimate


def _drive(name: str, hyperparameters: tuple[tuple[str, Any], ...], batch: Batch) -> Tensor:
    if name in _GEOMETRIES:
        with torch.no_grad():
            return _GEOMETRIES[name](**dict(hyperparameters)).drive(batch)
    return hosted.drive_of(_recipe(name, hyperparameters), batch)


def _integers(index: Any) -> Any:
    import numpy

    return numpy.unique(numpy.asarray(index), return_inverse=True)[1].reshape(-1)


@dataclasses.dataclass(frozen=True)
class Registered:
    """What `register` did: names of losses and estimators, and the recipes left out with the reason."""

    losses: tuple[str, ...]
    estimators: tuple[str, ...]
    left_out: Mapping[str, str]


def register() -> Registered:
    """Put every recipe that verl can run into its two registries. A second call changes nothing."""
    from verl.trainer.ppo.core_algos import (
        ADV_ESTIMATOR_REGISTRY,
        POLICY_LOSS_REGISTRY,
        register_adv_est,
        register_policy_loss,
    )

    losses, estimators, left_out = [], [], {}
    for name in recipes.names():
        reason = _first_reason(name)
        if reason:
            left_out[name] = reason
            continue
        losses.append(PREFIX + name)
        estimators.append(PREFIX + name)
    estimators += [PREFIX + name for name in _GEOMETRIES]
    for full in losses:
        if full not in POLICY_LOSS_REGISTRY:
            register_policy_loss(full)(policy_loss(full.removeprefix(PREFIX)))
    for full in estimators:
        if full not in ADV_ESTIMATOR_REGISTRY:
            register_adv_est(full)(estimator(full.removeprefix(PREFIX)))
    return Registered(tuple(losses), tuple(estimators), left_out)


def _first_reason(name: str) -> str | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UnboundedLossWarning)  # of whoever uses the recipe, not of `import verl`
            return why_not(recipes.get(name))
    except (TypeError, ValueError) as error:  # a recipe without defaults, or one that asks for something else
        return str(error)


@functools.cache
def _config_classes() -> dict[str, type]:
    from verl.trainer.config import AlgoConfig
    from verl.workers.config import PolicyLossConfig

    made = {}
    for name, base, section in (
        ("GeometryLossConfig", PolicyLossConfig, "actor_rollout_ref.actor.policy_loss"),
        ("GeometryAlgoConfig", AlgoConfig, "algorithm"),
    ):
        field: Any = ("hyperparameters", dict[str, Any], dataclasses.field(default_factory=dict))
        made[name] = dataclasses.make_dataclass(name, [field], bases=(base,), namespace={"__module__": __name__})
        made[
            name
        ].__doc__ = (
            f"verl's {base.__name__} with `hyperparameters` of the recipe; name it as `_target_` of `{section}`."
        )
    return made


def __getattr__(name: str) -> Any:
    # verl instantiates its configuration from import paths; the classes extend verl's own, so they exist where verl
    # does.
    if name in ("GeometryLossConfig", "GeometryAlgoConfig"):
        return _config_classes()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def check(overrides: list[str] | None = None, config_path: str | None = None) -> list[str]:
    """Whether a run would find what it names: composes verl's configuration and makes one update of random numbers.

    Args:
        overrides: as on the command line of `verl.trainer.main_ppo`.
        config_path: a YAML file of one's own, as `--config-path` and `--config-name` would name it.

    Returns:
        What was found, line by line; the last line begins with "ok".

    Raises:
        RuntimeError: verl did not load the plug-in, or the configuration names something of geomalign that does not
            work.
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
            "on the path but not "
            "installed. Run `pip install --no-deps -e .` (or `pip install geomalign`) in verl's environment, on every "
            "node."
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


def compose(overrides: list[str], config_path: str | None = None) -> Any:
    """verl's PPO configuration as its launcher composes it: `ppo_trainer`, or a YAML file that begins with it."""
    import verl.trainer
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    folder = f"{next(iter(verl.trainer.__path__))}/config"
    GlobalHydra.instance().clear()
    if config_path is None:
        with initialize_config_dir(folder, version_base=None):
            return hydra_compose("ppo_trainer", overrides=overrides)
    import pathlib

    path = pathlib.Path(config_path).resolve()
    with initialize_config_dir(str(path.parent), version_base=None):
        return hydra_compose(path.stem, overrides=overrides)


def _check_run(overrides: list[str], config_path: str | None) -> list[str]:
    from verl.trainer.ppo.core_algos import get_adv_estimator_fn, get_policy_loss_fn
    from verl.trainer.ppo.utils import need_reference_policy
    from verl.utils.config import omega_conf_to_dataclass, validate_config

    try:
        config = compose(overrides, config_path)
        validate_config(config, need_reference_policy(config), use_critic=False)
        actor = omega_conf_to_dataclass(config.actor_rollout_ref.actor)
    except Exception as error:  # of Hydra, OmegaConf and verl, each with its own classes
        raise RuntimeError(f"verl does not accept the configuration: {error}") from error
    mode, estimate = actor.policy_loss.loss_mode, config.algorithm.adv_estimator
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
            index = [f"prompt-{i // 4}" for i in range(8)]
            advantages, _ = get_adv_estimator_fn(estimate)(
                token_level_rewards=rewards, response_mask=mask, config=config.algorithm, index=index
            )
        loss, found = get_policy_loss_fn(mode)(old, policy, advantages, mask, actor.loss_agg_mode, config=actor)
        loss.backward()
    except Exception as error:
        raise RuntimeError(f"{lines[0]}: {error}") from error
    assert policy.grad is not None
    lines.append(
        f"one update: loss {float(loss):.4g}, gradient norm {float(policy.grad.norm()):.4g}, {len(found)} metrics"
    )
    if mode.startswith(PREFIX):
        lines.append(f"objective {_recipe(mode.removeprefix(PREFIX), _hyperparameters(actor.policy_loss))!r}")
    return lines


def main(arguments: list[str]) -> int:
    """`python -m geomalign.adapters.verl [--config FILE] [OVERRIDE…]`: `check` from a command line; 1 where something
    is missing.
    """
    path = None
    if arguments[:1] == ["--config"]:
        path, arguments = arguments[1], arguments[2:]
    try:
        print(*check(arguments, path), sep="\n")
    except RuntimeError as error:
        print(f"not ok: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
