"""Greedy accuracy of a policy on the prompts of a task that are kept for evaluation."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from geomalign import distributed
from geomalign.tasks import Problem, Task, evaluation_set, score
from geomalign.training.config.settings import TrainConfig
from geomalign.training.generation import sample
from geomalign.training.policy import Policy

#: The means over levels, each with the kind of level (`TrainConfig.kinds`) that it averages.
MEANS = {"accuracy_in": "in", "accuracy_out": "harder", "accuracy_unseen": "unseen"}


def evaluate(config: TrainConfig, policy: Policy, task: Task, prompts: int, together: bool = False) -> dict[str, float]:
    """Greedy accuracy at every difficulty level, and its means over levels of one kind.

    Args:
        prompts: per level. ≥ 1.
        together: whether all processes take part, each with its share of the prompts.

    Returns:
        `accuracy/LEVEL` for every level in `config.task.eval_levels`; `accuracy_in` (levels trained on),
        `accuracy_out` (levels of the warm start only) and `accuracy_unseen`, where there are such levels.

    >>> from geomalign.training.policy import Placement, build
    >>> from geomalign.tasks import Chain
    >>> from geomalign.training import ModelConfig, TrainConfig
    >>> config = TrainConfig(model=ModelConfig(hidden=16, layers=1, heads=2, intermediate=16))
    >>> policy = build(config.model, Chain().alphabet, seed=0, placement=Placement())
    >>> sorted(evaluate(config, policy, Chain(), prompts=1))[-3:]
    ['accuracy_in', 'accuracy_out', 'accuracy_unseen']
    """
    sets = {level: evaluation_set(task, level, prompts) for level in config.task.eval_levels}
    mine = distributed.share(prompts) if together else slice(None)
    counts = [count_solved(policy, task, sets[level][mine], config.rl.reward_timeout) for level in sets]
    right = distributed.summed(torch.tensor(counts)) if together else torch.tensor(counts)
    scores = {level: count / len(sets[level]) for level, count in zip(sets, right.tolist())}
    out = {f"accuracy/{level}": value for level, value in scores.items()}
    for name, kind in MEANS.items():
        values = [scores[level] for level, found in config.kinds().items() if found == kind]
        if values:
            out[name] = sum(values) / len(values)
    return out


def count_solved(policy: Policy, task: Task, problems: Sequence[Problem], timeout: float = 0.0, rows: int = 512) -> int:
    """Number of problems whose greedy response the task rewards with at least 1.

    A response that cannot be verified counts as wrong.

    Args:
        timeout: seconds for the verification of one response; 0 waits for ever.
        rows: most rows at once.

    >>> from geomalign.training import ModelConfig
    >>> from geomalign.training.policy import Placement, build
    >>> from geomalign.tasks import Chain
    >>> small = ModelConfig(hidden=16, layers=1, heads=2, intermediate=16)
    >>> policy = build(small, Chain().alphabet, seed=0, placement=Placement())
    >>> count_solved(policy, Chain(), evaluation_set(Chain(), 1, 2)) <= 2
    True
    """
    right = 0
    for start in range(0, len(problems), rows):
        part = problems[start : start + rows]
        longest = max(task.max_response_length(level) for level in {problem.level for problem in part})
        out = sample(policy, [policy.ask(problem) for problem in part], temperature=0.0, max_new_tokens=longest)
        rewards = score(task, part, out.texts(policy), out.ended.tolist(), timeout)
        right += sum(reward >= 1.0 for reward in rewards)
    return right
