"""TRL: `_compute_loss` of GRPOTrainer, RLOOTrainer and DPOTrainer, and the pairwise losses of its experimental
trainers.
"""

from __future__ import annotations

import collections
import dataclasses
import inspect
import tempfile
from typing import Any

import torch
from torch import Tensor

from geomalign.batch import Batch, PreferenceBatch
from geomalign.laws.comparison import Loss
from tests.parity.implementations.base import ReferenceImplementation, padded, two_word_logit

__all__ = ["TRL"]


class TRL(ReferenceImplementation):
    """TRL's trainers without their models: the object is made without `__init__`, with the attributes that `__init__`
    derives from the (real) configuration, and its `_compute_loss` is called with log-probabilities in place of a
    forward pass."""

    name = "trl"
    package = "trl"

    def loss(self, method: str, **options: Any) -> Loss:
        return {
            "GRPOTrainer": self._grpo,
            "RLOOTrainer": self._rloo,
            "GMPOTrainer": self._gmpo,
            "DPOTrainer": self._dpo,
            "CPOTrainer": self._cpo,
            "ORPOTrainer": self._orpo,
            "KTOTrainer": self._kto,
            "A2POTrainer": self._a2po,
            "dft_loss": self._dft,
        }[method](**options)

    def _rollout_trainer(self, trainer_class: type, config_class: type, options: dict[str, Any]) -> Any:
        args = config_class(
            output_dir=tempfile.gettempdir(),
            report_to=[],
            per_device_train_batch_size=2,
            num_generations=2,
            **_CPU,
            **options,
        )
        trainer = _bare(trainer_class, args)
        trainer.loss_type = getattr(args, "loss_type", None)
        trainer.epsilon_low = args.epsilon
        trainer.epsilon_high = args.epsilon if args.epsilon_high is None else args.epsilon_high
        trainer.importance_sampling_level = getattr(args, "importance_sampling_level", "token")
        trainer.off_policy_mask_threshold = getattr(args, "off_policy_mask_threshold", None)
        trainer.top_entropy_quantile = getattr(args, "top_entropy_quantile", 1.0)
        trainer.max_completion_length = args.max_completion_length
        trainer.vllm_importance_sampling_correction = getattr(args, "vllm_importance_sampling_correction", False)
        trainer.use_vllm = False
        trainer.current_gradient_accumulation_steps = 1
        trainer._entropy_bonus_enabled = trainer.use_adaptive_entropy = False
        return trainer

    def _grpo(self, behavior: bool = False, **options: Any) -> Loss:
        """`behavior`: feed importance ratios of the rollout engine, as TRL does under vLLM."""
        from trl import GRPOConfig, GRPOTrainer

        return self._rollout_loss(GRPOTrainer, GRPOConfig, behavior, options)

    def _gmpo(self, **options: Any) -> Loss:
        from trl.experimental.gmpo import GMPOConfig, GMPOTrainer

        return self._rollout_loss(GMPOTrainer, GMPOConfig, False, options)

    def _rollout_loss(self, trainer_class: type, config_class: type, behavior: bool, options: dict[str, Any]) -> Loss:
        trainer = self._rollout_trainer(trainer_class, config_class, options)

        def loss(batch: Any) -> Tensor:
            assert isinstance(batch, Batch)
            inputs = _rollout_inputs(batch)
            assert batch.old is not None
            inputs["old_per_token_logps"] = batch.old
            if batch.reference is not None:
                inputs["ref_per_token_logps"] = batch.reference
            if behavior:
                assert batch.behavior is not None
                trainer.use_vllm = trainer.vllm_importance_sampling_correction = True
                inputs["importance_sampling_ratio"] = torch.exp(batch.old - batch.behavior).clamp(max=2.0)
            _answer_with(trainer, batch.policy)
            return trainer._compute_loss(_Training(), inputs)

        return loss

    def _rloo(self, **options: Any) -> Loss:
        from trl import RLOOConfig, RLOOTrainer

        trainer = self._rollout_trainer(RLOOTrainer, RLOOConfig, options)

        def loss(batch: Any) -> Tensor:
            assert isinstance(batch, Batch) and batch.old is not None
            inputs = _rollout_inputs(batch)
            inputs["old_logps"] = padded(batch.old, batch.support).sum(1)
            _answer_with(trainer, batch.policy)
            return trainer._compute_loss(_Training(), inputs)

        return loss

    def _dpo(self, **options: Any) -> Loss:
        from trl import DPOConfig, DPOTrainer

        args = DPOConfig(output_dir=tempfile.gettempdir(), report_to=[], **_CPU, **options)

        def loss(batch: Any) -> Tensor:
            assert isinstance(batch, PreferenceBatch)
            rows = batch.rows
            trainer = _bare(DPOTrainer, args)
            trainer.loss_types = [args.loss_type] if isinstance(args.loss_type, str) else list(args.loss_type)
            trainer.loss_weights = args.loss_weights or [1.0] * len(trainer.loss_types)
            trainer.beta, trainer.label_smoothing = args.beta, args.label_smoothing
            trainer.f_divergence_type = getattr(args.f_divergence_type, "value", args.f_divergence_type)
            trainer.f_alpha_divergence_coef = args.f_alpha_divergence_coef
            trainer.ld_alpha, trainer.use_weighting = args.ld_alpha, args.use_weighting
            trainer.precompute_ref_logps = True
            inputs = _completion_inputs(rows)
            assert rows.reference is not None
            reference = padded(rows.reference, rows.support).sum(1)
            inputs["ref_chosen_logps"], inputs["ref_rejected_logps"] = reference.chunk(2)
            return trainer._compute_loss(_TwoWords(rows.policy, rows.support), inputs, False)

        return loss

    def _cpo(self, **options: Any) -> Loss:
        from trl.experimental.cpo import CPOConfig, CPOTrainer

        args = CPOConfig(output_dir=tempfile.gettempdir(), report_to=[], **_CPU, **options)

        def loss(batch: Any) -> Tensor:
            assert isinstance(batch, PreferenceBatch)
            trainer = _bare(CPOTrainer, args)
            trainer.beta, trainer.label_smoothing, trainer.loss_type = args.beta, args.label_smoothing, args.loss_type
            trainer.cpo_alpha, trainer.simpo_gamma = args.cpo_alpha, args.simpo_gamma
            trainer.alpha = getattr(args, "alpha", 0.0)
            trainer.label_pad_token_id, trainer.is_encoder_decoder = -100, False
            value, _ = trainer.get_batch_loss_metrics(*_concatenated(trainer, batch))
            return value

        return loss

    def _orpo(self, **options: Any) -> Loss:
        from trl.experimental.orpo import ORPOConfig, ORPOTrainer

        args = ORPOConfig(output_dir=tempfile.gettempdir(), report_to=[], **_CPU, **options)

        def loss(batch: Any) -> Tensor:
            assert isinstance(batch, PreferenceBatch)
            trainer = _bare(ORPOTrainer, args)
            trainer.beta, trainer.label_pad_token_id, trainer.is_encoder_decoder = args.beta, -100, False
            value, _ = trainer.get_batch_loss_metrics(*_concatenated(trainer, batch))
            return value

        return loss

    def _a2po(self, **options: Any) -> Loss:
        """The batch's `advantage` stands for r − V*, which the trainer takes as two tensors."""
        from trl.experimental.a2po import A2POConfig, A2POTrainer

        args = A2POConfig(output_dir=tempfile.gettempdir(), report_to=[], **_CPU, **options)

        def loss(batch: Any) -> Tensor:
            rows = batch.rows
            assert rows.reference is not None and rows.advantage is not None
            trainer = _bare(A2POTrainer, args)
            trainer._get_sequence_logps = lambda *args: padded(rows.policy, rows.support).sum(1)
            inputs = _completion_inputs(rows) | {"logits_to_keep": rows.policy.shape[1]}
            inputs |= {
                "ref_logps": padded(rows.reference, rows.support).sum(1),
                "rewards": rows.advantage,
                "v_star": torch.zeros(()),
            }
            return trainer.compute_loss(_Training(), inputs)

        return loss

    def _dft(self) -> Loss:
        """The function that SFTTrainer hands to its base class for `loss_type="dft"`."""
        from trl.trainer.sft_trainer import dft_loss

        def loss(batch: Any) -> Tensor:
            rows = batch.rows
            inputs = _completion_inputs(rows)
            labels = inputs["input_ids"].masked_fill(inputs["completion_mask"] == 0, -100)
            return dft_loss(_TwoWords(rows.policy, rows.support), labels)

        return loss

    def _kto(self, **options: Any) -> Loss:
        """Rows of a `Batch` whose reward is positive are desirable. `calculate_KL` is off: the z₀ of KTO is given by
        the caller's batch.
        """
        from trl import KTOConfig, KTOTrainer

        args = KTOConfig(output_dir=tempfile.gettempdir(), report_to=[], **_CPU, **options)

        def loss(batch: Any) -> Tensor:
            rows = batch.rows
            trainer = _bare(KTOTrainer, args)
            trainer.beta, trainer.loss_type = args.beta, args.loss_type
            trainer.desirable_weight, trainer.undesirable_weight = args.desirable_weight, args.undesirable_weight
            trainer.precompute_ref_logps, trainer.calculate_KL = True, False
            inputs = _completion_inputs(rows)
            assert rows.reference is not None and rows.reward is not None
            inputs["ref_logps"] = padded(rows.reference, rows.support).sum(1)
            inputs["label"] = rows.reward > 0
            trainer._compute_kl_logps = lambda model, batch: None
            return trainer._compute_loss(_TwoWords(rows.policy, rows.support), inputs, False)

        return loss


_CPU = {"use_cpu": True, "bf16": False}


class _Training:
    """Stands for a model where the trainer only asks whether it trains."""

    training = True


def _bare(trainer_class: type, args: Any) -> Any:
    from accelerate import Accelerator

    trainer: Any = object.__new__(trainer_class)
    trainer.args = args
    trainer.accelerator = Accelerator(cpu=True)  # a new configuration resets the state of an older one
    trainer.model = _Training()
    trainer.beta = getattr(args, "beta", None)
    trainer.aux_loss_enabled = False
    trainer._metrics = {"train": collections.defaultdict(list), "eval": collections.defaultdict(list)}
    trainer._total_train_tokens, trainer._tp_size = 0, 1
    trainer.ref_model = None
    return trainer


def _answer_with(trainer: Any, log_probs: Tensor) -> None:
    """Let the trainer's one forward pass return `log_probs`; releases from 1.7 expect an auxiliary loss as well."""
    three = "compute_aux_loss" in inspect.signature(type(trainer)._get_per_token_logps_and_entropies).parameters
    entropies = torch.zeros_like(log_probs)
    answer = (log_probs, entropies, None) if three else (log_probs, entropies)
    trainer._get_per_token_logps_and_entropies = lambda *args, **kwargs: answer


def _rollout_inputs(batch: Batch) -> dict[str, Any]:
    mask = batch.support.long()
    assert batch.advantage is not None
    return {
        "prompt_ids": torch.zeros(batch.size, 1, dtype=torch.long),
        "prompt_mask": torch.ones(batch.size, 1, dtype=torch.long),
        "completion_ids": torch.zeros_like(mask),
        "completion_mask": mask,
        "advantages": batch.advantage,
        "num_items_in_batch": mask.sum(),
    }


def _completion_inputs(rows: Batch) -> dict[str, Any]:
    """One prompt token, then the completion."""
    prompt = torch.zeros(rows.size, 1, dtype=torch.long)
    completion = rows.support.long()
    return {
        "input_ids": torch.cat([prompt, torch.zeros_like(completion)], 1),
        "attention_mask": torch.cat([prompt + 1, completion], 1),
        "completion_mask": torch.cat([prompt, completion], 1),
    }


@dataclasses.dataclass
class _Output:
    """What both generations of TRL's trainers read of a model: logits, or the outputs of a fused head."""

    logits: Tensor
    log_probs: Tensor
    entropy: Tensor
    mean_logits: Tensor
    is_top1: Tensor
    log_sum_sq_probs: Tensor
    loss: Tensor | None = None

    def __getitem__(self, name: str) -> Tensor:
        return getattr(self, name)


class _TwoWords:
    """A model with a vocabulary of two words that gives the tokens of a batch (word 0) exactly the log-probabilities
    asked for.
    """

    training = True

    def __init__(self, log_probs: Tensor, mask: Tensor):
        logit = two_word_logit(log_probs)
        logits = torch.stack([logit, torch.zeros_like(logit)], -1)
        # Position t predicts token t + 1; what the last position says is read by nobody.
        self.logits = torch.cat([logits, torch.zeros_like(logits[:, :1])], 1)
        self.log_probs = padded(log_probs, mask)

    def __call__(self, *args: Any, **kwargs: Any) -> _Output:
        both = torch.log_softmax(self.logits[:, :-1], -1)
        return _Output(
            self.logits,
            self.log_probs,
            entropy=-(both.exp() * both).sum(-1).detach(),
            mean_logits=self.logits[:, :-1].mean(-1).detach(),
            is_top1=self.logits[:, :-1, 0].detach() > 0,
            log_sum_sq_probs=torch.logsumexp(2 * both, -1).detach(),
        )


def _concatenated(trainer: Any, batch: PreferenceBatch) -> tuple[_TwoWords, dict[str, Any]]:
    """Model and inputs for the experimental trainers, which read labels (−100 where there is none) of prompt and
    completion.
    """
    rows = batch.rows
    inputs = _completion_inputs(rows)
    labels = inputs["input_ids"].masked_fill(inputs["completion_mask"] == 0, -100)
    sides = dict(
        zip(
            ("chosen", "rejected"), zip(*(inputs[k].chunk(2) for k in ("input_ids", "attention_mask")), labels.chunk(2))
        )
    )
    features = {
        "prompt_input_ids": inputs["input_ids"][: batch.size, :1],
        "prompt_attention_mask": inputs["attention_mask"][: batch.size, :1],
    }
    for side, (ids, attention, label) in sides.items():
        features |= {f"{side}_input_ids": ids, f"{side}_attention_mask": attention, f"{side}_labels": label}
    trainer.padding_value = trainer.pad_token_id = 0
    return _TwoWords(rows.policy, rows.support), features
