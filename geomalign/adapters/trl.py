"""TRL: `GeometryGRPOTrainer(objective=…)` and `GeometryDPOTrainer(objective=…)`, drop-in for TRL's trainers.

```python
from geomalign.adapters.trl import GeometryGRPOTrainer

trainer = GeometryGRPOTrainer(model, reward_funcs, args=GRPOConfig(…), train_dataset=…, objective=ga.recipes.opo())
```

TRL generates, scores, logs and saves as always and even evaluates its own loss, for its metrics; the gradient is the
objective's. The drive is computed once a rollout, where the groups of all ranks are whole (TRL shuffles completions
before the loss), and the loss sees only tensors. An entropy bonus and a router loss, where TRL adds them, are kept.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from geomalign import distributed
from geomalign.adapters import trl_arguments as arguments
from geomalign.batch import Batch, Counts, PreferenceBatch
from geomalign.control import Controller
from geomalign.objective import BaseObjective, Outcome, TermDrives, metrics

__all__ = ["DPOGeometry", "GRPOGeometry", "GeometryDPOTrainer", "GeometryGRPOTrainer"]  # noqa: F822 (see __getattr__)

_STATE = "geometry.pt"
_COUNTS = tuple(f.name for f in dataclasses.fields(Counts))


class _Continued:
    """What a checkpoint holds of a controller, beside what the host saves."""

    objective: BaseObjective
    controller: Controller | None = None

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)  # type: ignore[misc]
        args, step = self.args, self.state.global_step  # type: ignore[attr-defined]
        if self.controller is not None and args.should_save:
            torch.save(self.controller.state_dict(), Path(args.output_dir, f"checkpoint-{step}", _STATE))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)  # type: ignore[misc]
        if self.controller is not None and checkpoint is not None:
            path = Path(checkpoint, _STATE)
            if not path.exists():
                raise ValueError(
                    f"{checkpoint} has no {_STATE}: it was saved without a controller. Resume without one, or "
                    "start a new run from the checkpoint's model."
                )
            self.controller.load_state_dict(torch.load(path, weights_only=True))


class GRPOGeometry(_Continued):
    """Mixin that makes a `trl.GRPOTrainer` minimise an objective: `class Mine(GRPOGeometry, MyGRPOTrainer)`.

    Args:
        objective: of single responses; a term with `anchor="reference"` needs a non-zero `beta` in the `GRPOConfig`,
            which there only makes TRL score the reference and log `kl`.
        advantage: whose advantage drives it. "objective": its sampling geometry reads the (weighted) rewards.
            "trl": it reads TRL's advantages (`scale_rewards`, `multi_objective_aggregation`), as `Advantage()` does.
        controller: sets the stiffness from rollout to rollout, such as `ga.AdaptiveStiffness(0.02)`; a new one for
            every run. Over several processes it sums what they saw by itself.
        record: a file or folder to append what `geomalign audit` reads: log-probabilities, rewards and groups of every
            micro-batch, as JSON lines, one file a process.

    All other arguments are TRL's, and so are checkpoints, which also hold the controller's state. `loss_type`,
    `epsilon` and the other
    parameters of TRL's own loss have no influence on the gradient and are warned about. `top_entropy_quantile` and
    `off_policy_mask_threshold` drop what they drop in TRL from the loss, while means still divide by what the batch
    holds. TRL's importance weights of a rollout engine multiply the drive.
    """

    objective: BaseObjective

    def __init__(
        self,
        *args: Any,
        objective: BaseObjective,
        advantage: str = "objective",
        controller: Controller | None = None,
        record: str | None = None,
        **kwargs: Any,
    ) -> None:
        arguments.check_objective(objective, paired=False)
        if advantage not in ("objective", "trl"):
            raise ValueError(f"GeometryGRPOTrainer(advantage={advantage!r}): choose 'objective' or 'trl'.")
        super().__init__(*args, **kwargs)
        self.objective = objective
        self.controller = controller
        self._geometry_advantage = advantage
        self._geometry_record = record
        self._geometry_seen: dict[str, Any] = {}
        arguments.check_grpo(objective, self.args, advantage)  # type: ignore[attr-defined]

    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> Tensor:
        rewards: Tensor = super()._calculate_rewards(*args, **kwargs)  # type: ignore[misc]
        self._geometry_seen["rewards"] = rewards
        return rewards

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        output: dict[str, Any] = super()._generate_and_score_completions(inputs)  # type: ignore[misc]
        return output | self._geometry_drive(output)

    def _geometry_drive(self, output: dict[str, Any]) -> dict[str, Tensor]:
        """What the loss will need of a rollout: the rows' drives, and how much the rollout of all ranks holds."""
        mask = _completion_mask(output)
        rows = mask.shape[0]
        mine = slice(self.accelerator.process_index * rows, (self.accelerator.process_index + 1) * rows)  # type: ignore[attr-defined]
        rewards: Tensor = self._geometry_seen["rewards"]
        training = self.model.training  # type: ignore[attr-defined]
        size = self.num_generations if training else self.num_generations_eval  # type: ignore[attr-defined]
        group = (torch.arange(len(rewards), device=rewards.device) // size)[mine]
        # As in TRL: a response that no reward function could score (all NaN) is in no group and has no drive; one that
        # the loss leaves out (mask_truncated_completions) still counts in its group's statistics.
        scored = ~rewards.isnan().all(1)[mine]
        known = (mask | ~mask.any(-1, keepdim=True)) & scored[:, None]
        reward = (rewards * self.reward_weights.to(rewards.device)).nansum(1)[mine]  # type: ignore[attr-defined]
        old = output.get("old_per_token_logps")
        batch = Batch(
            policy=torch.zeros(mask.shape, dtype=torch.float32, device=mask.device) if old is None else old,
            old=old,
            mask=known,
            reward=reward,
            advantage=output["advantages"] if self._geometry_advantage == "trl" else None,
            reference=output.get("ref_per_token_logps"),
            group=group,
            behavior=_behavior(output),
        )
        try:
            drive = distributed.drive(self.objective, batch)
        except ValueError as error:
            if old is not None:
                raise
            raise ValueError(
                f"{error} TRL scores the rollout policy only where it will differ from the policy: with "
                "num_iterations > 1, or steps_per_generation > gradient_accumulation_steps."
            ) from error
        if self.controller is not None:
            if training:
                self.controller.step()  # a rollout begins: the one before is over
            drive = self.controller.stiffen(self.objective, drive)
        weight = output.get("importance_sampling_ratio")
        self._geometry_summed = isinstance(drive, TermDrives)
        drives = [_weighted(g, weight) for g in (drive if isinstance(drive, TermDrives) else [drive])]
        counts = distributed.counts(Batch(batch.policy, None, mask))
        extras = {f"geometry_drive_{k}": g for k, g in enumerate(drives)}
        extras |= {f"geometry_{name}": count for name, count in zip(_COUNTS, counts.astuple(), strict=True)}
        if self._geometry_record:
            extras |= {"geometry_reward": reward, "geometry_group": group}
        return extras

    def _get_per_token_logps_and_entropies(self, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        log_probs, *others = super()._get_per_token_logps_and_entropies(*args, **kwargs)  # type: ignore[misc]
        self._geometry_seen["log_probs"] = log_probs
        # TRL's own loss then has no gradient but that of an entropy bonus or a router loss, which are kept.
        return (log_probs.detach(), *others)

    def get_high_entropy_mask(self, *args: Any, **kwargs: Any) -> Tensor:
        kept: Tensor = super().get_high_entropy_mask(*args, **kwargs)  # type: ignore[misc]
        self._geometry_seen.setdefault("kept", []).append(kept)
        return kept

    def get_off_policy_mask(self, *args: Any, **kwargs: Any) -> Tensor:
        kept: Tensor = super().get_off_policy_mask(*args, **kwargs)  # type: ignore[misc]
        self._geometry_seen.setdefault("kept", []).append(kept)
        return kept

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Tensor:
        self._geometry_seen["ours"] = False
        loss: Tensor = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)  # type: ignore[misc]
        if not self._geometry_seen["ours"]:
            raise ValueError(
                "TRL computed its loss without its log-probabilities, inside a fused kernel, so the objective never "
                "saw them. Set use_liger_kernel=False."
            )
        return loss

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        self._geometry_seen.pop("kept", None)
        theirs: Tensor = super()._compute_loss(model, inputs)  # type: ignore[misc]
        self._geometry_seen["ours"] = True
        policy = self._geometry_seen.pop("log_probs")
        old = inputs.get("old_per_token_logps")
        mask = _completion_mask(inputs)
        for kept in self._geometry_seen.get("kept", []):
            mask = mask & (kept != 0)
        batch = Batch(
            policy, policy.detach() if old is None else old, mask, reference=inputs.get("ref_per_token_logps")
        )
        training = self.model.training  # type: ignore[attr-defined]
        # The rollout is used up in steps_per_generation micro-batches, of which one optimiser step takes a share.
        share = self.current_gradient_accumulation_steps / self.args.steps_per_generation if training else 1.0  # type: ignore[attr-defined]
        counts = Counts(*(inputs[f"geometry_{name}"] * share for name in _COUNTS))
        drives = [inputs[f"geometry_drive_{k}"] for k in range(len(self.objective.terms))]
        drive = TermDrives(drives) if self._geometry_summed else drives[0]
        outcome = self.objective(batch, drive, counts)
        if self.controller is not None and training:
            self.controller.observe(outcome)
        _log(self, outcome)
        if self._geometry_record:
            _record(self, batch, inputs)
        # Gradients are averaged over processes, but the parts of a whole add up.
        return outcome.loss * self.accelerator.num_processes + _kept_gradient(theirs)  # type: ignore[attr-defined]


class DPOGeometry(_Continued):
    """Mixin that makes a `trl.DPOTrainer` minimise an objective: `class Mine(DPOGeometry, MyDPOTrainer)`.

    Args:
        objective: of pairs, or of single responses with labels; its reference is TRL's reference model (or its
            precomputed log-probabilities, of which only the sums over responses exist and are spread over the tokens).
        controller: sets the stiffness from one optimiser step to the next; a new one for every run.

    All other arguments are TRL's. `loss_type`, `beta` and the other parameters of TRL's own loss have no influence on
    the gradient, only on TRL's metrics (`rewards/…` are β Δ), and are warned about. The mean is over all pairs of an
    optimiser step: also with an uneven last micro-batch, where TRL averages means.
    """

    objective: BaseObjective

    def __init__(
        self, *args: Any, objective: BaseObjective, controller: Controller | None = None, **kwargs: Any
    ) -> None:
        arguments.check_objective(objective, paired=True)
        super().__init__(*args, **kwargs)
        self.objective, self.controller = objective, controller
        self._geometry_counts: Counts | None = None
        self._geometry_completion_mask: Tensor | None = None
        arguments.check_dpo(self.args)  # type: ignore[attr-defined]

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        samples = super().get_batch_samples(*args, **kwargs)  # type: ignore[misc]
        if self.controller is not None:
            self.controller.step()  # without rollouts, an optimiser step is what a controller counts
        device = self.accelerator.device  # type: ignore[attr-defined]
        masks = [_pair_masks(batch["completion_mask"][:, 1:].to(device)) for batch in samples[0]]
        parts = [PreferenceBatch(x.float(), y.float(), None, None, x, y).counts() for x, y in masks]
        if parts:
            counts = torch.stack([torch.stack(part.astuple()) for part in parts]).sum(0)
            self._geometry_counts = Counts(*self.accelerator.reduce(counts, "sum").unbind())  # type: ignore[attr-defined]
        return samples

    def _truncate_inputs(self, *args: Any) -> tuple[Tensor, Tensor, Tensor]:
        truncated: tuple[Tensor, Tensor, Tensor] = super()._truncate_inputs(*args)  # type: ignore[misc]
        self._geometry_completion_mask = truncated[2]
        return truncated

    def _compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool) -> Any:
        self._geometry_completion_mask = inputs["completion_mask"]
        with _forwards(model, self.model, self.ref_model) as seen:  # type: ignore[attr-defined]
            theirs = super()._compute_loss(model, inputs, return_outputs)  # type: ignore[misc]
        mask = self._geometry_completion_mask[:, 1:] != 0
        policy = next((k for k, forward in enumerate(seen) if forward.module is model), None)
        if policy is None:
            raise ValueError(
                "TRL computed its loss without calling the model, inside a fused kernel, so the objective never saw "
                "its log-probabilities. Set use_liger_kernel=False."
            )
        chosen, rejected = _token_log_probs(seen[policy], mask).chunk(2)
        masks = _pair_masks(mask)
        if "ref_chosen_logps" in inputs:
            sums = (inputs["ref_chosen_logps"], inputs["ref_rejected_logps"])
            reference = tuple(_spread(x, side) for x, side in zip(sums, masks, strict=True))
        else:
            with torch.no_grad():
                reference = _token_log_probs(seen[policy + 1], mask).chunk(2)
        batch = PreferenceBatch(chosen, rejected, reference[0], reference[1], masks[0], masks[1])
        training = self.model.training  # type: ignore[attr-defined]
        drive = self.objective.drive(batch)
        if self.controller is not None:
            drive = self.controller.stiffen(self.objective, drive)
        outcome = self.objective(batch, drive, self._geometry_counts if training else None)
        if self.controller is not None and training:
            self.controller.observe(outcome)
        _log(self, outcome)
        loss = outcome.loss
        if self.model.training:  # type: ignore[attr-defined]
            # The Trainer averages micro-batches and processes, but the parts of a whole add up.
            loss = loss * (self.accelerator.num_processes * self.current_gradient_accumulation_steps)  # type: ignore[attr-defined]
        if return_outputs:
            return loss + _kept_gradient(theirs[0]), theirs[1]
        return loss + _kept_gradient(theirs)


@functools.cache
def _trainer(name: str) -> type:
    """The trainer class, made when TRL is first needed."""
    import trl

    mixin, host = {
        "GeometryGRPOTrainer": (GRPOGeometry, trl.GRPOTrainer),
        "GeometryDPOTrainer": (DPOGeometry, trl.DPOTrainer),
    }[name]
    return type(name, (mixin, host), {"__module__": __name__, "__doc__": mixin.__doc__})


def __getattr__(name: str) -> Any:
    if name in ("GeometryGRPOTrainer", "GeometryDPOTrainer"):
        return _trainer(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class _Forward(NamedTuple):
    module: Any
    inputs: dict[str, Any]
    outputs: dict[str, Any]


@contextlib.contextmanager
def _forwards(policy: Any, *others: Any) -> Iterator[list[_Forward]]:
    """Every forward pass of these modules, in order; the policy's log-probabilities leave it without gradient."""
    seen: list[_Forward] = []

    def hook(module: Any, args: Any, kwargs: dict[str, Any], output: Any) -> Any:
        seen.append(_Forward(module, kwargs, dict(output)))
        if module is not policy:
            return None
        detached = {k: v.detach() for k, v in output.items() if k in ("logits", "log_probs") and v is not None}
        return type(output)(**{**output, **detached})

    modules = {id(module): module for module in (policy, *others) if module is not None}
    handles = [module.register_forward_hook(hook, with_kwargs=True) for module in modules.values()]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _token_log_probs(forward: _Forward, mask: Tensor) -> Tensor:
    """`(row, token)` of a forward pass: TRL ≥ 1.15 fuses them with the head, before it gave logits."""
    if forward.outputs.get("log_probs") is not None:
        log_probs: Tensor = forward.outputs["log_probs"]
        return log_probs[:, -mask.shape[1] :]
    from trl.trainer.utils import selective_log_softmax

    selected: Tensor = selective_log_softmax(forward.outputs["logits"][:, :-1], forward.inputs["input_ids"][:, 1:])
    return selected


def _pair_masks(mask: Tensor) -> tuple[Tensor, Tensor]:
    chosen, rejected = (mask != 0).chunk(2)
    return chosen, rejected


def _spread(sums: Tensor, mask: Tensor) -> Tensor:
    """Sums over responses as equal shares of their tokens: sums and means over tokens are then exact."""
    return torch.where(mask, (sums / mask.sum(-1).clamp(min=1))[:, None], 0)


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


def _kept_gradient(theirs: Tensor) -> Tensor | float:
    """Zero, with the gradient of what TRL adds to its loss besides the policy's term."""
    return theirs - theirs.detach() if theirs.requires_grad else 0.0


def _log(trainer: Any, outcome: Outcome) -> None:
    """Our metrics beside the host's, under `geom/`: one transfer, and over processes the mean (or the extreme)."""
    values = {name: value for name, value in metrics(outcome).items() if name != "loss"}
    if trainer.controller is not None:
        values |= {f"controller/{name}": value for name, value in trainer.controller.readings().items()}
    stacked = torch.stack([value.to(outcome.loss) for value in values.values()])
    table = trainer.accelerator.gather(stacked[None]).T.tolist()
    mode = "train" if trainer.model.training else "eval"
    for name, row in zip(values, table, strict=True):
        finite = [x for x in row if math.isfinite(x)]
        if finite:
            extreme = {"min": min, "max": max}.get(name.rsplit("_", 1)[-1])
            value = extreme(finite) if extreme else sum(finite) / len(finite)
            trainer._metrics[mode][f"geom/{name}"].append(value)


def _record(trainer: Any, batch: Batch, inputs: dict[str, Any]) -> None:
    from geomalign.audit.dump import record

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
