"""verl's two registries: policy losses from objectives, advantage estimators from their sampling geometries."""

from __future__ import annotations

import dataclasses
import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from geomalign import recipes
from geomalign.adapters import hosted
from geomalign.batch import Batch
from geomalign.nonfinite import NonFiniteWarning, drop_nonfinite
from geomalign.objective import BaseObjective, Outcome, UnboundedLossWarning
from geomalign.sampling import Advantage, Escort, GroupAdvantage, SamplingGeometry

__all__ = ["NAMED", "PREFIX", "Registered", "estimator", "objective_from", "policy_loss", "register", "why_not"]

PREFIX = "geomalign/"
"""What our names in verl's registries begin with."""

NAMED = "objective"
"""The name behind the prefix under which `hyperparameters.objective` says which objective is meant."""

_GEOMETRIES: dict[str, type[SamplingGeometry]] = {g.__name__: g for g in (Advantage, Escort, GroupAdvantage)}


def why_not(objective: BaseObjective) -> str | None:
    """Why verl cannot compute an objective, or None if it can.

    >>> why_not(recipes.get("opo")) is None, why_not(recipes.get("dpo"))
    (True, "it compares pairs, and verl's rollouts are single responses")
    """
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
    if hosted.of_engine(objective):
        return (
            "a term weighs by the engine's log-probabilities, and verl passes weights that it has made of them: leave "
            "the term's weight out and set algorithm.rollout_correction"
        )
    return hosted.cut_groups(objective, "verl")


def objective_from(name: str, config: Any) -> BaseObjective:
    """The objective that a name behind `geomalign/` and a section of verl's configuration describe.

    Args:
        name: of a recipe, or "objective": then `hyperparameters.objective` is a recipe or `module:attribute`.
        config: the section with `hyperparameters`; None for the defaults.

    Raises:
        ValueError: what `recipes.get` raises, hyper-parameters that are no mapping, or an objective that verl cannot
            compute.

    >>> objective_from("opo", {"hyperparameters": {"alpha": 0.5}}).sampling
    Escort(alpha=0.5, temperature=1.0, scaled=False, inverse_probability=False)
    >>> objective_from("objective", {"hyperparameters": {"objective": "grpo"}}) == recipes.get("grpo")
    True
    """
    return _resolved(name, _hyperparameters(config))


def _resolved(name: str, hyperparameters: tuple[tuple[str, Any], ...]) -> BaseObjective:
    given = dict(hyperparameters)
    if name == NAMED:
        if "objective" not in given:
            raise ValueError(
                f"{PREFIX}{NAMED} needs hyperparameters.objective: the name of a recipe, or module:attribute, as in "
                "{objective: my_module:mine, mu: 1.0}."
            )
        name = given.pop("objective")
    objective = hosted.objective_of(name, given.items())
    reason = why_not(objective)
    if reason:
        said = ", ".join(f"{key}={value!r}" for key, value in given.items())
        raise ValueError(f"{PREFIX}{name}({said}) cannot run under verl: {reason}.")
    return objective


def _hyperparameters(config: Any) -> tuple[tuple[str, Any], ...]:
    found = None if config is None else config.get("hyperparameters", None)
    if found is None:
        return ()
    if not isinstance(found, Mapping):
        raise ValueError(f"`hyperparameters` is {found!r}; expected a mapping such as {{alpha: 0.4, mu: 1.0}}.")
    return tuple(sorted((str(key), value) for key, value in found.items()))


def policy_loss(name: str) -> Callable[..., tuple[Tensor, dict[str, float]]]:
    """verl's policy-loss function of an objective.

    The drive is verl's `advantages`, whoever estimated them; a unit of responses takes their mean over the response's
    tokens. Rollout-correction weights multiply the drive (truncated importance sampling belongs to the sampling
    geometry): for losses that are linear in the drive, such as PPO's, this is verl's own definition; a potential is not
    weighted, where verl's `dro` weights it. For a response they enter as their geometric mean over its tokens, which is
    the weight itself where `rollout_is: sequence`.

    Args:
        name: of a recipe, or "objective"; hyper-parameters come from `config.policy_loss.hyperparameters`, and in
            verl's distillation (`distillation_loss.policy_loss_mode`) from `config.hyperparameters`.

    >>> policy_loss("opo").__name__
    'geomalign_opo'
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

        # verl's distillation passes its own section, which has no `policy_loss` in it.
        distils = config is not None and getattr(config, "policy_loss", None) is None
        objective = objective_from(name, config if config is None or distils else config.policy_loss)
        # Zero times a weight that is not finite is NaN: the token is dropped, as one of which π_old is not finite.
        engine = None if rollout_is_weights is None else (0 * rollout_is_weights).expand_as(old_log_prob)
        batch, report = drop_nonfinite(Batch(log_prob, old_log_prob, response_mask, None, advantages, behavior=engine))
        batch = dataclasses.replace(batch, advantage=None, behavior=None)
        mask = batch.support.to(batch.dtype)
        info = {} if config is None else config.global_batch_info
        reduce = lambda losses: agg_loss(losses, mask, loss_agg_mode, **info)  # noqa: E731
        weights = hosted.weights_of(reduce, batch.support, batch.dtype)
        outcome = hosted.evaluate(objective, batch, advantages, weights, importance=rollout_is_weights)
        prefix = "actor/geom/" if distils else "geom/"
        metrics = _verl_metrics(outcome, prefix, report.metrics())
        if metrics[f"{prefix}nonfinite_tokens"]:
            warnings.warn(report.message(), NonFiniteWarning, stacklevel=2)
        return outcome.loss, metrics

    loss.__name__ = f"geomalign_{name}"
    loss.__doc__ = inspect.getdoc(getattr(recipes, name, None))
    return loss


def _verl_metrics(outcome: Outcome, prefix: str, dropped: Mapping[str, Tensor]) -> dict[str, float]:
    """verl's names where it has one, ours under a prefix. Moved to the host together, once.

    verl's distillation cuts the six letters "actor/" off every name, so there the prefix begins with them.
    """
    found = hosted.host_metrics(outcome)
    clipped = hosted.clip_fraction(found)
    seen = {prefix + name.removeprefix("geom/"): x for name, x in found.items() if name != "geom/clip_fraction"}
    seen |= {prefix + name: count.to(outcome.loss) for name, count in dropped.items()}
    seen |= {"actor/ppo_kl": hosted.approximate_kl(outcome), "actor/pg_clipfrac": clipped}
    return hosted.numbers(seen)


def estimator(name: str) -> Callable[..., tuple[Tensor, Tensor]]:
    """verl's advantage estimator of an objective's sampling geometry, or of a sampling geometry by its class name.

    A response whose reward is not finite is in no group, has zero advantage, and is warned of.

    Rewards are summed over a response's tokens; `index` (verl's prompt uids) makes the groups, of any size and in any
    order. A group of one and a response without a token have zero advantage. Advantages and returns are the drive, the
    same for every token of a response.

    Every row counts as a response. An agent loop of verl may return several outputs per session; verl hands each of
    them on as a row (it takes a session once for its own `grpo` alone), and an estimator cannot see which rows belong
    together. Where `config.group_size` says how many sessions a prompt has, more rows than that are refused.

    Args:
        name: of a recipe, "objective", or Advantage, Escort, GroupAdvantage; hyper-parameters come from
            `config.hyperparameters` (section `algorithm`).

    Raises:
        ValueError: (of the estimator) a prompt has more rows with tokens than `config.group_size`; no response has a
            finite reward.

    >>> rewards = torch.tensor([[0.0, 1.0], [0.0, 0.0]])
    >>> advantages, returns = estimator("GroupAdvantage")(rewards, torch.ones(2, 2), index=["prompt", "prompt"])
    >>> advantages
    tensor([[ 0.5000,  0.5000],
            [-0.5000, -0.5000]])
    """

    def estimate(
        token_level_rewards: Tensor, response_mask: Tensor, config: Any = None, index: Any = None, **unused: Any
    ) -> tuple[Tensor, Tensor]:
        rows = hosted.outcomes(token_level_rewards, response_mask, index)
        _refuse_sessions(rows, None if config is None else config.get("group_size", None))
        rows, report = drop_nonfinite(rows)
        report.warn()
        drive = _drive(name, config, rows)
        if drive.ndim == 1:
            drive = drive[:, None]
        advantages = torch.where(rows.support, drive, 0)
        return advantages, advantages

    estimate.__name__ = f"geomalign_{name}"
    return estimate


def _drive(name: str, config: Any, batch: Batch) -> Tensor:
    if name in _GEOMETRIES:
        with torch.no_grad():
            return _GEOMETRIES[name](**dict(_hyperparameters(config))).drive(batch)
    return hosted.drive_of(objective_from(name, config), batch)


def _refuse_sessions(batch: Batch, sessions: int | None) -> None:
    """Padding that verl appends has a prompt of its own and no tokens: only rows with tokens are counted."""
    if sessions is None or not isinstance(batch.group, Tensor):
        return
    largest = int(torch.bincount(batch.group[batch.support.any(-1)]).amax()) if bool(batch.support.any()) else 0
    if largest > sessions:
        raise ValueError(
            f"a prompt has {largest} rows, but algorithm.group_size says {sessions} sessions: an agent loop returned "
            "several outputs for one of them, and each would count as a response of its own. Use verl's estimator "
            "`grpo`, which takes each session once, with a loss of geomalign; or have the agent loop return one output."
        )


@dataclasses.dataclass(frozen=True)
class Registered:
    """What `register` did.

    Args:
        losses: names of policy losses, with their prefix.
        estimators: names of advantage estimators, with their prefix.
        left_out: recipe → why verl cannot compute it.

    >>> Registered(("geomalign/opo",), ("geomalign/opo",), {"dpo": "it compares pairs"}).losses
    ('geomalign/opo',)
    """

    losses: tuple[str, ...]
    estimators: tuple[str, ...]
    left_out: Mapping[str, str]


def register() -> Registered:
    """Put every recipe that verl can run into its two registries. A second call changes nothing.

    ```py
    from geomalign.adapters.verl import register

    print(register().left_out)  # the recipes that verl cannot run, with the reasons
    ```
    """
    from verl.trainer.ppo.core_algos import (
        ADV_ESTIMATOR_REGISTRY,
        POLICY_LOSS_REGISTRY,
        register_adv_est,
        register_policy_loss,
    )

    reasons = {name: _first_reason(name) for name in recipes.names()}
    left_out = {name: reason for name, reason in reasons.items() if reason}
    losses = [PREFIX + name for name, reason in reasons.items() if not reason]
    estimators = [*losses, *(PREFIX + name for name in _GEOMETRIES)]
    for full in (*losses, PREFIX + NAMED):
        if full not in POLICY_LOSS_REGISTRY:
            register_policy_loss(full)(policy_loss(full.removeprefix(PREFIX)))
    for full in (*estimators, PREFIX + NAMED):
        if full not in ADV_ESTIMATOR_REGISTRY:
            register_adv_est(full)(estimator(full.removeprefix(PREFIX)))
    return Registered(tuple(losses), tuple(estimators), left_out)


def _first_reason(name: str) -> str | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UnboundedLossWarning)  # shown where it is used, not by `import verl`
            return why_not(recipes.get(name))
    except (TypeError, ValueError) as error:  # a recipe without defaults, or one that asks for something else
        return str(error)
