"""verl: the policy losses of `POLICY_LOSS_REGISTRY`, `kl_penalty` under `agg_loss`, and the advantage estimators."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from geomalign.batch import Batch
from geomalign.laws.comparison import Loss
from tests.parity.implementations.base import Estimator, ReferenceImplementation

__all__ = ["Verl"]


class Verl(ReferenceImplementation):
    """verl's registries, called as its worker calls them, with an `ActorConfig` of its own."""

    name = "verl"
    package = "verl"

    def loss(self, method: str, **options: Any) -> Loss:
        return self._kl(**options) if method == "kl_penalty" else self._policy_loss(method, **options)

    def _policy_loss(self, mode: str, *, behavior: bool = False, **options: Any) -> Loss:
        """`behavior`: feed truncated importance weights of the rollout engine, as verl's rollout correction does."""
        from verl.trainer.ppo.core_algos import get_policy_loss_fn

        config = _actor_config(mode, options)
        function = get_policy_loss_fn(mode)

        def loss(batch: Any) -> Tensor:
            assert isinstance(batch, Batch) and batch.old is not None
            weights = None
            if behavior:
                assert batch.behavior is not None
                weights = torch.exp(batch.old - batch.behavior).clamp(max=2.0)
            value, _ = function(
                old_log_prob=batch.old,
                log_prob=batch.policy,
                advantages=_per_token(batch),
                response_mask=batch.support.to(batch.policy.dtype),
                loss_agg_mode=config.loss_agg_mode,
                config=config,
                rollout_is_weights=weights,
            )
            return value

        return loss

    def _kl(self, kl_loss_type: str, loss_agg_mode: str = "token-mean") -> Loss:
        from verl.trainer.ppo.core_algos import agg_loss, kl_penalty

        def loss(batch: Any) -> Tensor:
            penalty = kl_penalty(batch.policy, batch.reference, kl_loss_type)
            return agg_loss(penalty, batch.support.to(penalty.dtype), loss_agg_mode)

        return loss

    def estimator(self, method: str, **options: Any) -> Estimator:
        """Rewards are put on the last token, as verl's reward managers do; `algo` options go into an `AlgoConfig`.

        `several`: three rewards, the `columns` of the batch's one, which verl reads by name.
        """
        from verl.trainer.config import AlgoConfig
        from verl.trainer.ppo.core_algos import get_adv_estimator_fn

        function = get_adv_estimator_fn(method)
        algo, several = options.pop("algo", {}), options.pop("several", False)

        def advantages(batch: Batch) -> Tensor:
            mask = batch.support.to(batch.policy.dtype)
            assert batch.reward is not None and batch.group is not None
            position = torch.arange(mask.shape[1])
            last = (mask * position).argmax(1)
            rewards = torch.where(position == last[:, None], batch.reward[:, None], 0)
            named: dict[str, Any] = {}
            if several:
                found = {f"reward_{k}": column.numpy() for k, column in enumerate(columns(batch).unbind(-1))}
                named["gdpo_reward_keys"] = list(found)
                # The prompt is one token, whose mask stands before the response's.
                whole = torch.cat([torch.ones_like(mask[:, :1]), mask], 1).long()
                options.update(non_tensor_batch=found, batch={"prompts": whole[:, :1], "attention_mask": whole})
            value, _ = function(
                token_level_rewards=rewards,
                response_mask=mask,
                index=batch.group.numpy(),
                config=AlgoConfig(**algo, **named),
                **options,
            )
            return value

        return advantages


def columns(batch: Batch) -> Tensor:
    """Three rewards of one: as it is, whether it is positive, and its cube."""
    reward = batch.require("reward", "columns")
    return torch.stack([reward, (reward > 0).to(reward.dtype), reward**3], 1)


def _per_token(batch: Batch) -> Tensor:
    assert batch.advantage is not None
    advantage = batch.advantage if batch.advantage.ndim == 2 else batch.advantage[:, None].expand(batch.policy.shape)
    return torch.where(batch.support, advantage, 0)


def _actor_config(mode: str, options: dict[str, Any]) -> Any:
    from verl.workers.config import ActorConfig, PolicyLossConfig

    options = dict(options)
    policy_loss = PolicyLossConfig(loss_mode=mode, **options.pop("policy_loss", {}))
    config = ActorConfig(
        strategy="fsdp", rollout_n=4, ppo_micro_batch_size_per_gpu=4, policy_loss=policy_loss, **options
    )
    config.global_batch_info["loss_scale_factor"] = config.loss_scale_factor
    return config
