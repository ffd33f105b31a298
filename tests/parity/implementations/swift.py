"""ms-swift: the loss of its GRPO trainer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from geomalign.batch import Batch
from geomalign.laws.comparison import Loss
from tests.parity.implementations.base import ReferenceImplementation, excerpt, padded

__all__ = ["Swift"]


class Swift(ReferenceImplementation):
    """The methods of ms-swift's GRPO trainer that compute the loss, without the datasets and models that it imports."""

    name = "swift"
    package = "ms-swift"

    def loss(self, method: str, **options: Any) -> Loss:
        """`method` is the trainer's `loss_type`. Groups are handed over one by one where it needs them of one size."""
        methods = _methods()

        def whole(batch: Batch, size: int) -> Tensor:
            assert batch.advantage is not None and batch.old is not None
            advantage = batch.advantage if batch.advantage.ndim == 2 else batch.advantage[:, None]
            given = SimpleNamespace(
                completion_mask=batch.support,
                truncated_mask=torch.zeros(batch.size, dtype=torch.bool),
                advantages=advantage.expand(batch.policy.shape),
                old_per_token_logps=padded(batch.old, batch.support),
                ref_per_token_logps=None,
                rollout_per_token_logps=None,
                teacher_per_token_logps=None,
                num_items_in_batch=batch.support.sum().clamp(min=1),
            )
            log_probs = padded(batch.policy, batch.support)
            trainer = _trainer(methods, log_probs, loss_type=method, num_generations=size, **options)
            loss, _ = methods["_compute_loss_and_metrics"](trainer, None, {}, given)
            return loss

        def by_groups(batch: Any) -> Tensor:
            assert isinstance(batch, Batch) and batch.group is not None
            groups = [batch[batch.group == g] for g in torch.as_tensor(batch.group).unique()]
            return torch.stack([whole(part, part.size) * part.size / batch.size for part in groups]).sum()

        return by_groups if method == "real" else lambda batch: whole(batch, batch.size)


def _trainer(methods: dict[str, Any], log_probs: Tensor, *, delta: float | None = None, **options: Any) -> Any:
    """What the methods read of their trainer, at its defaults."""
    trainer = SimpleNamespace(
        model=SimpleNamespace(training=False),
        args=SimpleNamespace(delta=delta, log_entropy=False, top_entropy_quantile=1.0),
        accelerator=SimpleNamespace(gather_for_metrics=lambda x: x, num_processes=1),
        compute_entropy=False,
        overlong_filter=False,
        beta=0.0,
        kl_in_reward=False,
        rollout_importance_sampling_mode=None,
        log_rollout_offpolicy_metrics=False,
        disable_rollout_importance_sampling=False,
        importance_sampling_level="token",
        off_policy_sequence_mask_delta=None,
        sdar_loss_coef=0.0,
        chord_sft_iterator=None,
        _has_teacher=False,
        epsilon_low=0.2,
        epsilon_high=0.2,
        tau_pos=1.0,
        tau_neg=1.05,
        real_tau=0.5,
        fipo_gamma=2 ** (-1 / 32),
        fipo_clip_range=0.2,
        fipo_clip_high_only=True,
        fipo_safety_threshold=4.0,
        _undo_gradient_accumulation_scaling=lambda loss: loss,
        _get_per_token_logps_and_entropies=lambda *args, **kwargs: (log_probs, None),
    )
    vars(trainer).update(options)
    trainer._compute_fipo_influence = lambda *given: methods["_compute_fipo_influence"](trainer, *given)
    return trainer


def _methods() -> dict[str, Any]:
    given = {
        "torch": torch,
        "gather_object": lambda x: x,
        "nanmin": lambda x: x[~x.isnan()].min(),
        "nanmax": lambda x: x[~x.isnan()].max(),
    }
    names = ("_compute_loss_and_metrics", "_compute_fipo_influence", "WINDOW_NORMALIZED_LOSS_TYPES")
    return excerpt("swift", "rlhf_trainers/grpo_trainer.py", names, given)
