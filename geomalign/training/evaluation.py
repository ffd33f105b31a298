"""training.evaluation"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from geomalign import distributed
from geomalign.tasks import Problem, Task, evaluation_set, score
from geomalign.training.config.settings import TrainConfig
from geomalign.training.generation import sample
from geomalign.training.policy import Policy


def evaluate(config: TrainConfig, policy: Policy, task: Task, prompts: int, together: bool = False) -> dict[str, float]:
    """Greedy accuracy on every tier, and its means over those trained on, those only taught, and those never seen.

    Args:
        together: whether all ranks take part, each with its share of the prompts.
    """
    sets = {tier: evaluation_set(task, tier, prompts) for tier in config.task.eval_tiers}
    mine = distributed.share(prompts) if together else slice(None)
    right = torch.tensor([solved(policy, task, sets[tier][mine], config.rl.reward_timeout) for tier in sets])
    if together:
        right = distributed.summed(right)
    scores = {tier: count / len(sets[tier]) for tier, count in zip(sets, right.tolist())}
    out = {f"accuracy/{tier}": value for tier, value in scores.items()}
    for name, kind in (("accuracy_in", "in"), ("accuracy_out", "harder"), ("accuracy_unseen", "unseen")):
        values = [scores[tier] for tier, what in config.kinds().items() if what == kind]
        if values:
            out[name] = sum(values) / len(values)
    return out


def solved(policy: Policy, task: Task, problems: Sequence[Problem], timeout: float = 0.0, rows: int = 512) -> int:
    """Number of the problems whose greedy response the task rewards with at least 1; a response that cannot be
    verified counts as wrong.

    Args:
        rows: most rows at once.
    """
    right = 0
    for start in range(0, len(problems), rows):
        part = problems[start : start + rows]
        longest = max(task.longest(tier) for tier in {problem.tier for problem in part})
        out = sample(policy, [policy.ask(problem) for problem in part], temperature=0.0, max_new_tokens=longest)
        rewards = score(task, part, out.texts(policy), out.ended.tolist(), timeout)
        right += sum(reward >= 1.0 for reward in rewards)
    return right
