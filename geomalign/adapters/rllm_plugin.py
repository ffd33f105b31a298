"""The entry point of group `rllm.losses`: importing this module registers geomalign's loss with rLLM."""

from rllm.trainer.algorithms.loss import register_loss

from geomalign.adapters.rllm import NAME, loss

register_loss(NAME)(loss)
