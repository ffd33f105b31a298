"""TRL's DPO trainer with an objective in the place of its loss."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from geomalign import distributed
from geomalign.adapters.trl import arguments
from geomalign.adapters.trl.shared import GeometryTrainer, kept_gradient
from geomalign.batch import Counts, PreferenceBatch
from geomalign.control import Controller
from geomalign.objective import BaseObjective, TermDrives

__all__ = ["DPOGeometry"]


class DPOGeometry(GeometryTrainer):
    """Mixin that makes a `trl.DPOTrainer` minimise an objective.

    All other arguments are TRL's. `loss_type`, `beta` and the other parameters of TRL's own loss have no influence on
    the gradient, only on TRL's metrics (`rewards/…` are β Δ), and are warned about. The mean is over all pairs of an
    optimiser step: also with an uneven last micro-batch, where TRL averages means.

    Args:
        objective: of pairs, or of single responses with labels, or its description, "chi_po beta=0.1"; its reference is
            TRL's reference model (or its precomputed log-probabilities, of which only the sums over responses exist and
            are spread over the tokens).
        controller: sets the stiffness from one optimiser step to the next: a `ga.Controller`, or its description,
            "anneal=1:10 rollouts=100"; a new one for every run.

    Raises:
        ValueError: what `recipes.get` raises, or arguments of TRL under which the objective cannot be computed.

    Warns:
        SupersededWarning: an argument of TRL's own loss was set.
        UnfitObjectiveWarning: the objective is one of sampled responses with rewards, or sorts the pairs of a step that
            is computed in parts.

    ```py
    class Mine(DPOGeometry, MyDPOTrainer): ...

    trainer = Mine(model, args=args, train_dataset=pairs, objective="chi_po beta=0.1")
    trainer.train()
    ```
    """

    def __init__(
        self,
        *args: Any,
        objective: BaseObjective | str,
        controller: Controller | str | None = None,
        **kwargs: Any,
    ) -> None:
        objective = arguments.resolved(objective, paired=True)
        super().__init__(*args, **kwargs)
        self._hold(objective, controller)
        self._geometry_counts: Counts | None = None
        self._geometry_completion_mask: Tensor | None = None
        arguments.check_dpo(objective, self.args, self.accelerator.num_processes)

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        samples = super().get_batch_samples(*args, **kwargs)
        if self.controller is not None:
            self.controller.step()  # without rollouts, an optimiser step is what a controller counts
        parts = [_counts(batch["completion_mask"][:, 1:].to(self.accelerator.device)) for batch in samples[0]]
        if parts:
            self._geometry_counts = Counts(*distributed.summed(torch.stack(parts).sum(0)).unbind())
        return samples

    def _truncate_inputs(self, *args: Any) -> tuple[Tensor, Tensor, Tensor]:
        truncated: tuple[Tensor, Tensor, Tensor] = super()._truncate_inputs(*args)
        self._geometry_completion_mask = truncated[2]
        return truncated

    def _compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool) -> Any:
        self._geometry_completion_mask = inputs["completion_mask"]
        with _forwards(model, self.model, self.ref_model) as seen:
            theirs = super()._compute_loss(model, inputs, return_outputs)
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
        training = self.model.training
        # A drive may be solved from all pairs (`TrustRegion`): then from those of all processes.
        drives = self._stiffened(TermDrives(distributed.drive(self._geometry_sum, batch)))
        outcome = self._geometry_outcome(batch, drives, self._geometry_counts if training else None)
        loss = outcome.loss
        if training:
            # The Trainer averages micro-batches and processes, but the parts of a whole add up.
            loss = loss * (self.accelerator.num_processes * self.current_gradient_accumulation_steps)
        if return_outputs:
            return loss + kept_gradient(theirs[0]), theirs[1]
        return loss + kept_gradient(theirs)


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


def _counts(mask: Tensor) -> Tensor:
    """The fields of `Counts` of a micro-batch, from the masks of its chosen and then its rejected responses."""
    rows = (mask != 0).any(-1)
    chosen, rejected = rows.chunk(2)
    return torch.stack(
        [(mask != 0).sum(), rows.sum(), (chosen & rejected).sum(), torch.full_like(rows.sum(), len(rows))]
    )


def _spread(sums: Tensor, mask: Tensor) -> Tensor:
    """Sums over responses as equal shares of their tokens: sums and means over tokens are then exact."""
    return torch.where(mask, (sums / mask.sum(-1).clamp(min=1))[:, None], 0)
