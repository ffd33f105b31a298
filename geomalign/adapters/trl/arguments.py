"""TRL's arguments that mean something else under an objective: refused at construction, or warned about."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator
from typing import Any

import torch

from geomalign import recipes
from geomalign._util.types import Locality
from geomalign.adapters.hosted import cut_groups
from geomalign.batch import PreferenceBatch
from geomalign.objective import BaseObjective, Objective, gradient_at_anchor
from geomalign.sampling import Advantage, SamplingGeometry, TruncatedImportance

__all__ = [
    "InactiveGeometryWarning",
    "SupersededWarning",
    "UnfitObjectiveWarning",
    "check_dpo",
    "check_grpo",
    "resolved",
]

_SUPERSEDED_GRPO = (
    "loss_type",
    "epsilon",
    "epsilon_high",
    "delta",
    "importance_sampling_level",
    "use_bias_correction_kl",
    "sapo_temperature_pos",
    "sapo_temperature_neg",
    "vespo_k_pos",
    "vespo_k_neg",
    "vespo_lambda_pos",
    "vespo_lambda_neg",
)
_SUPERSEDED_REWARDS = ("scale_rewards", "multi_objective_aggregation")
_SUPERSEDED_DPO = (
    "loss_type",
    "loss_weights",
    "beta",
    "label_smoothing",
    "f_divergence_type",
    "f_alpha_divergence_coef",
    "use_weighting",
    "discopop_tau",
)


class SupersededWarning(UserWarning):
    """An argument of TRL's own loss was set; the objective decides instead.

    ```py
    warnings.filterwarnings("ignore", category=SupersededWarning)
    ```
    """


class InactiveGeometryWarning(UserWarning):
    """Every step is made where the policy is the old policy, so that objectives of one drive have one gradient, up to
    the slope of their charts.

    ```py
    warnings.filterwarnings("error", category=InactiveGeometryWarning)  # stop instead of training without effect
    ```
    """


class UnfitObjectiveWarning(UserWarning):
    """The objective takes what the trainer has for something else, such as rewards for advantages.

    ```py
    warnings.filterwarnings("error", category=UnfitObjectiveWarning)  # stop instead
    ```
    """


def _samplings(objective: BaseObjective) -> Iterator[tuple[SamplingGeometry, Objective]]:
    """The sampling geometries of an objective and those they wrap, each with its term."""
    for _, term in objective.terms:
        sampling: Any = term.sampling
        while isinstance(sampling, SamplingGeometry):
            yield sampling, term
            sampling = getattr(sampling, "of", None)


def resolved(objective: BaseObjective | str, *, paired: bool) -> BaseObjective:
    """The objective that a trainer was given, as itself or as a description.

    Args:
        objective: it, or what `recipes.get` reads.
        paired: whether the trainer's data are pairs.

    Raises:
        ValueError: what `recipes.get` raises, what is no objective, or one of pairs where TRL samples single responses.

    >>> resolved("dpo beta=0.3", paired=True).optimization
    Logistic(beta=0.3)
    """
    if isinstance(objective, str):
        objective = recipes.get(objective)
    if not isinstance(objective, BaseObjective):
        raise ValueError(
            f"objective={objective!r} is not an objective. Pass one, such as ga.recipes.opo(alpha=0.4), or its "
            "description, 'opo alpha=0.4'."
        )
    if not paired and objective.paired:
        raise ValueError("this objective compares pairs, but GRPO samples single responses: use GeometryDPOTrainer.")
    if not paired and (cut := cut_groups(objective, "TRL")):
        raise ValueError(f"{cut}.")
    return objective


def check_grpo(objective: BaseObjective, args: Any, advantage: str) -> None:
    """Refuse, or warn about, arguments of TRL that would do something else than they say; at construction.

    Args:
        objective: of single responses.
        args: a `trl.GRPOConfig`.
        advantage: "objective" or "trl", as of `GRPOGeometry`.

    Raises:
        ValueError: the objective cannot be computed under these arguments.

    ```py
    check_grpo(ga.recipes.opo(), GRPOConfig(num_iterations=2), "objective")
    ```
    """
    by_tokens, referenced = objective.per_token, objective.needs_reference
    if not objective.driven:
        raise ValueError(
            "no term of this objective is driven by rewards: it draws the policy to its reference, which in TRL "
            "is the model that training starts from, so there is nothing to learn. Add it to an objective that is "
            "driven."
        )
    # What measures from the reference reads rewards as labels of responses, as KTO does.
    advantages = any(isinstance(s, Advantage) and term.anchor != "reference" for s, term in _samplings(objective))
    if advantage == "objective" and advantages:
        warnings.warn(
            "the objective reads advantages, and TRL has rewards: they are taken as they are, as in "
            'REINFORCE. Pass advantage="trl" for TRL\'s advantages, or an objective that makes them from rewards, '
            "such as grpo or rloo.",
            UnfitObjectiveWarning,
            stacklevel=3,
        )
    if referenced and args.beta == 0:
        raise ValueError(
            "a term of the objective is measured from the reference policy, which TRL scores only if beta is not zero: "
            "set GRPOConfig(beta=0.04). The value has no influence; the objective's own coefficient is the strength."
        )
    if args.beta != 0 and not referenced:
        warnings.warn(
            f"beta={args.beta}: TRL scores a reference and logs `kl`, but no term of the objective measures from it: "
            'nothing draws the policy to it. Add one, such as 0.04 * ga.kl_penalty("k3") or that of '
            "ga.recipes.grpo(beta=…), or set beta=0 to save the forward pass.",
            SupersededWarning,
            stacklevel=3,
        )
    if getattr(args, "top_entropy_quantile", 1.0) < 1.0 and not by_tokens:
        raise ValueError(
            f"top_entropy_quantile={args.top_entropy_quantile} drops single tokens, but an event of this objective is "
            "a whole response. Use a unit of tokens, or top_entropy_quantile=1.0."
        )
    if args.use_vllm and getattr(args, "vllm_importance_sampling_correction", False):
        mode = getattr(args, "vllm_importance_sampling_mode", "token")
        if any(isinstance(sampling, TruncatedImportance) for sampling, _ in _samplings(objective)):
            raise ValueError(
                "both TRL (vllm_importance_sampling_correction=True) and the objective (TruncatedImportance) would "
                "weigh by the engine's probabilities: turn one off."
            )
        if not by_tokens and mode.startswith("token"):
            raise ValueError(
                f"vllm_importance_sampling_mode={mode!r} weighs single tokens, but an event of this objective is a "
                "whole response: choose a sequence mode."
            )
    _warn_superseded(args, _SUPERSEDED_GRPO + (_SUPERSEDED_REWARDS if advantage == "objective" else ()))
    at_anchor = args.num_iterations == 1 and args.gradient_accumulation_steps % args.steps_per_generation == 0
    if at_anchor and objective.needs_old:
        warnings.warn(
            "geometry inactive: with num_iterations=1 and steps_per_generation <= gradient_accumulation_steps every "
            "step is made where the policy equals the one that sampled, so the gradient is "
            f"{gradient_at_anchor(objective)}, and no potential matters. Set num_iterations > 1, or "
            "steps_per_generation to a larger multiple of gradient_accumulation_steps "
            f"({args.gradient_accumulation_steps}).",
            InactiveGeometryWarning,
            stacklevel=3,
        )


def check_dpo(objective: BaseObjective, args: Any, processes: int = 1) -> None:
    """The same of a `DPOConfig`.

    Args:
        objective: as it was given to the trainer.
        args: a `trl.DPOConfig`.
        processes: that share an optimiser step.

    Raises:
        ValueError: the objective cannot be computed under these arguments.

    ```py
    check_dpo(ga.recipes.dpo(), DPOConfig())
    ```
    """
    if not objective.paired and not objective.driven:
        raise ValueError(
            "no term of this objective is driven by which response is preferred: chosen and rejected responses alike "
            "are drawn to the reference. Use an objective of pairs, such as dpo, or of labels, such as kto."
        )
    if not objective.paired and not objective.needs_reference:
        warnings.warn(
            "the objective reads the rewards of sampled responses, and DPOTrainer has pairs: each becomes a group of "
            "two, with the rewards +1 and −1, and the reference stands for the policy that sampled them. Use "
            "GeometryGRPOTrainer, an objective of pairs, such as dpo, or of labels, such as kto.",
            UnfitObjectiveWarning,
            stacklevel=3,
        )
    parts = args.gradient_accumulation_steps * processes
    # Pairs that are sorted are compared with each other; a drive alone is gathered from all processes.
    if objective.locality >= Locality.BATCH and parts > 1:
        warnings.warn(
            f"the objective sorts the pairs of a step, and each of the {parts} micro-batches of a step is sorted by "
            "itself. Use gradient_accumulation_steps=1 and one process for the loss of the whole step.",
            UnfitObjectiveWarning,
            stacklevel=3,
        )
    if getattr(args, "ld_alpha", None) is not None:
        raise ValueError(f"ld_alpha={args.ld_alpha} re-weights log-probabilities inside TRL's loss: leave it None.")
    if getattr(args, "padding_free", False):
        raise ValueError("padding_free=True flattens the pairs into one row: set it to False.")
    if args.gradient_accumulation_steps > 1 and not _single_pairs(objective):
        warnings.warn(
            f"the drive of a pair depends on the other pairs, and each of gradient_accumulation_steps = "
            f"{args.gradient_accumulation_steps} micro-batches has its own (those of all processes are one). Use "
            "gradient_accumulation_steps=1 for the drive of the whole step.",
            UnfitObjectiveWarning,
            stacklevel=3,
        )
    _warn_superseded(args, _SUPERSEDED_DPO)


def _single_pairs(objective: BaseObjective) -> bool:
    """Whether the drive of a pair is the same without the other pairs."""
    generator = torch.Generator().manual_seed(0)
    chosen, rejected, *reference = -torch.rand(4, 3, 2, generator=generator, dtype=torch.float64)
    mask = torch.tensor([[1, 1], [1, 0], [1, 1]])
    pairs = PreferenceBatch(chosen, rejected, *reference, chosen_mask=mask, margin=chosen[:, 0])  # type: ignore[misc]
    try:
        return all(
            torch.equal(term.drive(pairs)[k : k + 1], term.drive(pairs[k : k + 1]))
            for _, term in objective.terms
            for k in range(pairs.size)
        )
    except ValueError:  # it is driven by something else, and its first step says by what
        return True


def _warn_superseded(args: Any, names: tuple[str, ...]) -> None:
    fields = {f.name: f for f in dataclasses.fields(args)}
    changed = [name for name in names if name in fields and _was_set(fields[name], getattr(args, name))]
    if changed:
        given = ", ".join(f"{name}={getattr(args, name)!r}" for name in changed)
        warnings.warn(
            f"{given}: parameters of TRL's own loss, which the objective replaces; they only show in TRL's metrics. "
            "Set their counterparts in the objective.",
            SupersededWarning,
            stacklevel=4,
        )


def _was_set(field: dataclasses.Field[Any], value: Any) -> bool:
    default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
    return bool(value != default and [value] != default and value is not None)
