"""TRL's GRPO trainer with an objective in the place of its loss."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import torch
from torch import Tensor

from geomalign import distributed
from geomalign.adapters import hosted
from geomalign.adapters.trl import arguments
from geomalign.adapters.trl.shared import GeometryTrainer, kept_gradient
from geomalign.batch import Batch, Counts
from geomalign.control import Controller
from geomalign.nonfinite import NonFiniteWarning, drop_nonfinite
from geomalign.objective import BaseObjective, TermDrives

__all__ = ["GRPOGeometry"]

_COUNTS = ("tokens", "sequences", "pairs", "rows")


class GRPOGeometry(GeometryTrainer):
    """Mixin that makes a `trl.GRPOTrainer` minimise an objective.

    All other arguments are TRL's, and so are checkpoints, which also hold the controller's state. `loss_type`,
    `epsilon` and the other parameters of TRL's own loss have no influence on the gradient and are warned about.
    `top_entropy_quantile` and `off_policy_mask_threshold` drop what they drop in TRL from the loss, while means still
    divide by what the batch holds. TRL's importance weights of a rollout engine multiply the drive.

    Args:
        objective: of single responses, or its description, "opo alpha=0.4"; a term with `anchor="reference"` needs a
            non-zero `beta` in the `GRPOConfig`, which there only makes TRL score the reference and log `kl`.
        advantage: whose advantage drives it. "objective": its sampling geometry reads the (weighted) rewards.
            "trl": it reads TRL's advantages (`scale_rewards`, `multi_objective_aggregation`), as `Advantage()` does.
        controller: sets the stiffness from rollout to rollout: `ga.AdaptiveStiffness(0.02)`, or its description,
            "kl=0.02"; a new one for every run. Over several processes it measures what all of them saw.
        record: a file or folder to append what `geomalign audit` reads: log-probabilities, rewards and groups of every
            micro-batch, as JSON lines, one file per process.

    Raises:
        ValueError: what `recipes.get` raises, or arguments of TRL under which the objective cannot be computed.

    Warns:
        SupersededWarning: an argument of TRL's own loss was set.
        InactiveGeometryWarning: every step would be made where the policy is the old policy.
        UnfitObjectiveWarning: the objective takes the rewards for advantages.

    The recipes have the constants of the papers, TRL others: `"grpo"` and `"dapo"` train other weights here than TRL's
    `loss_type="grpo"` and `"dapo"` (the standard deviation plus 1e-6 and not 1e-4; DAPO's upper clip range 0.28 and not
    0.2). `"geomalign.adapters.trl.constants:grpo"` is the recipe with TRL's.

    ```py
    class Mine(GRPOGeometry, MyGRPOTrainer): ...

    trainer = Mine(model, reward_funcs, args=args, train_dataset=prompts, objective="opo", controller="kl=0.02")
    trainer.train()
    ```
    """

    def __init__(
        self,
        *args: Any,
        objective: BaseObjective | str,
        advantage: str = "objective",
        controller: Controller | str | None = None,
        record: str | None = None,
        **kwargs: Any,
    ) -> None:
        objective = arguments.resolved(objective, paired=False)
        if advantage not in ("objective", "trl"):
            raise ValueError(f"GeometryGRPOTrainer(advantage={advantage!r}): choose 'objective' or 'trl'.")
        super().__init__(*args, **kwargs)
        self._hold(objective, controller)
        self._geometry_advantage = advantage
        self._geometry_record = record
        self._geometry_seen: dict[str, Any] = {}
        arguments.check_grpo(objective, self.args, advantage)

    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> Tensor:
        rewards: Tensor = super()._calculate_rewards(*args, **kwargs)
        self._geometry_seen["rewards"] = rewards
        return rewards

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        output: dict[str, Any] = super()._generate_and_score_completions(inputs)
        return output | self._geometry_drive(output)

    def _geometry_drive(self, output: dict[str, Any]) -> dict[str, Tensor]:
        """What the loss will need of a rollout: the rows' drives, and how much the rollout of all ranks holds."""
        mask = _completion_mask(output)
        rows = mask.shape[0]
        mine = slice(self.accelerator.process_index * rows, (self.accelerator.process_index + 1) * rows)
        rewards: Tensor = self._geometry_seen["rewards"]
        training = self.model.training
        size = self.num_generations if training else self.num_generations_eval
        group = (torch.arange(len(rewards), device=rewards.device) // size)[mine]
        # As in TRL: a response that no reward function could score (all NaN) is in no group and has no drive; one that
        # the loss leaves out (mask_truncated_completions) still counts in its group's statistics.
        scored = ~rewards.isnan().all(1)[mine]
        known = (mask | ~mask.any(-1, keepdim=True)) & scored[:, None]
        reward = (rewards * self.reward_weights.to(rewards.device)).nansum(1)[mine]
        old = output.get("old_per_token_logps")
        batch = hosted.rollout(
            known,
            torch.float32 if old is None else old.dtype,
            old=old,
            reward=reward,
            advantage=output["advantages"] if self._geometry_advantage == "trl" else None,
            reference=output.get("ref_per_token_logps"),
            group=group,
            behavior=_behavior(output),
        )
        batch, report = drop_nonfinite(batch)
        dropped = known & ~batch.support
        lost = report.message()
        if lost:
            warnings.warn(lost, NonFiniteWarning, stacklevel=2)
        mask = mask & ~dropped
        try:
            drives = distributed.drive(self._geometry_sum, batch)
        except ValueError as error:
            if old is not None:
                raise
            raise ValueError(
                f"{error} TRL scores the policy that sampled only where it will differ from the one in training: with "
                "num_iterations > 1, or steps_per_generation > gradient_accumulation_steps."
            ) from error
        if self.controller is not None and training:
            self.controller.step()  # a rollout begins: the one before is over
        weight = output.get("importance_sampling_ratio")
        weighted = [_weighted(drive, weight) for drive in self._stiffened(TermDrives(drives))]
        counts = distributed.counts(dataclasses.replace(batch, mask=mask))
        extras = {f"geometry_drive_{k}": drive for k, drive in enumerate(weighted)}
        extras |= {f"geometry_{name}": count for name, count in zip(_COUNTS, counts.astuple(), strict=True)}
        if lost:
            extras["geometry_dropped"] = dropped
            if counts.tokens == 0:  # of all processes, so that all of them stop
                raise ValueError(f"{lost} Nothing is left to learn from: a policy, the engine or the reward failed.")
        if self._geometry_record:
            extras |= {"geometry_reward": reward, "geometry_group": group}
        return extras

    def _get_per_token_logps_and_entropies(self, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        log_probs, *others = super()._get_per_token_logps_and_entropies(*args, **kwargs)
        self._geometry_seen["log_probs"] = log_probs
        # TRL's own loss then has no gradient but that of an entropy bonus or a router loss, which are kept.
        return (log_probs.detach(), *others)

    def get_high_entropy_mask(self, *args: Any, **kwargs: Any) -> Tensor:
        kept: Tensor = super().get_high_entropy_mask(*args, **kwargs)
        self._geometry_seen.setdefault("kept", []).append(kept)
        return kept

    def get_off_policy_mask(self, *args: Any, **kwargs: Any) -> Tensor:
        kept: Tensor = super().get_off_policy_mask(*args, **kwargs)
        self._geometry_seen.setdefault("kept", []).append(kept)
        return kept

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Tensor:
        self._geometry_seen["ours"] = False
        loss: Tensor = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        if not self._geometry_seen["ours"]:
            raise ValueError(
                "TRL computed its loss without its log-probabilities, inside a fused kernel, so the objective never "
                "saw them. Set use_liger_kernel=False."
            )
        return loss

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        self._geometry_seen.pop("kept", None)
        theirs: Tensor = super()._compute_loss(model, inputs)
        self._geometry_seen["ours"] = True
        policy = self._geometry_seen.pop("log_probs")
        old = inputs.get("old_per_token_logps")
        mask = _completion_mask(inputs)
        for kept in self._geometry_seen.get("kept", []):
            mask = mask & (kept != 0)
        if "geometry_dropped" in inputs:
            mask = mask & ~inputs["geometry_dropped"]
        batch = Batch(
            policy, policy.detach() if old is None else old, mask, reference=inputs.get("ref_per_token_logps")
        )
        training = self.model.training
        # The rollout is used up in steps_per_generation micro-batches, of which one optimiser step takes a share.
        share = self.current_gradient_accumulation_steps / self.args.steps_per_generation if training else 1.0
        counts = Counts(*(inputs[f"geometry_{name}"] * share for name in _COUNTS))
        drives = TermDrives(inputs[f"geometry_drive_{k}"] for k in range(len(self.objective.terms)))
        outcome = self._geometry_outcome(batch, drives, counts)
        if self._geometry_record:
            _record(self, batch, inputs)
        # Gradients are averaged over processes, but the parts of a whole add up.
        return outcome.loss * self.accelerator.num_processes + kept_gradient(theirs)


def _completion_mask(inputs: dict[str, Any]) -> Tensor:
    mask: Tensor = inputs["completion_mask"] != 0
    return mask & (inputs["tool_mask"] != 0) if "tool_mask" in inputs else mask


def _behavior(output: dict[str, Any]) -> Tensor | None:
    """The rollout engine's log-probabilities; a token it could not score (NaN) is taken to agree with the trainer."""
    behavior: Tensor | None = output.get("sampling_per_token_logps")
    if behavior is None:
        return None
    agreeing = output.get("old_per_token_logps")
    return torch.where(behavior.isnan(), 0 if agreeing is None else agreeing, behavior)


def _weighted(drive: Tensor, weight: Tensor | None) -> Tensor:
    """The drive times TRL's importance weight `(row, 1)` or `(row, token)`."""
    if weight is None:
        return drive
    if drive.ndim == 1 and weight.shape[1] == 1:
        return drive * weight[:, 0]
    return (drive[:, None] if drive.ndim == 1 else drive) * weight


def _record(trainer: Any, batch: Batch, inputs: dict[str, Any]) -> None:
    from geomalign.audit import record

    if not trainer.model.training:
        return
    rows = dataclasses.replace(
        batch,
        reward=inputs["geometry_reward"],
        group=inputs["geometry_group"],
        behavior=inputs.get("sampling_per_token_logps"),
    )
    rollout = trainer._step // (trainer.args.steps_per_generation * trainer.num_iterations)
    step, rank = trainer.state.global_step, trainer.accelerator.process_index
    record(trainer._geometry_record, rows, rollout=rollout, step=step, rank=rank)
