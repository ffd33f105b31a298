"""The names that trainers and their dumps give to the fields of a batch, in one table for audits and for losses."""

from __future__ import annotations

__all__ = ["COLUMN_ALIASES"]

COLUMN_ALIASES: dict[str, tuple[str, ...]] = {
    "policy": ("policy", "per_token_logps", "log_probs", "log_prob", "logps"),
    "old": ("old", "old_per_token_logps", "old_log_probs", "old_log_prob", "old_logps"),
    "reference": ("reference", "ref_per_token_logps", "ref_log_prob", "ref_log_probs", "ref_logps"),
    "behavior": ("behavior", "sampling_per_token_logps", "rollout_log_probs", "sampling_logps"),
    "mask": ("mask", "completion_mask", "response_mask", "action_mask", "loss_mask"),
    "advantage": ("advantage", "advantages"),
    "reward": ("reward", "score", "rewards", "token_level_scores"),
    "group": ("group", "uid", "index", "prompt", "input"),
    "chosen": ("chosen", "chosen_logps", "policy_chosen_logps"),
    "rejected": ("rejected", "rejected_logps", "policy_rejected_logps"),
    "reference_chosen": ("reference_chosen", "reference_chosen_logps", "ref_chosen_logps"),
    "reference_rejected": ("reference_rejected", "reference_rejected_logps", "ref_rejected_logps"),
    "chosen_mask": ("chosen_mask",),
    "rejected_mask": ("rejected_mask",),
    "rollout": ("rollout", "step"),
}
"""Field of `Batch` or `PreferenceBatch` (and a dump's `rollout`) → the names of its column, ours first. The first name
that is present counts.
"""
