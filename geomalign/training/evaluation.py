"""Greedy accuracy of a policy on the prompts of a task that are kept for evaluation."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from geomalign import distributed
from geomalign.tasks import Problem, Task, evaluation_set, score
from geomalign.training.config.settings import TrainConfig
from geomalign.training.generation import sample
from geomalign.training.policy import Policy

#: The means over levels, each with the kind of level (`TrainConfig.kinds`) that it averages.
MEANS = {"accuracy_in": "in", "accuracy_out": "harder", "accuracy_unseen": "unseen"}


def evaluate(
    config: TrainConfig,
    policy: Policy,
    task: Task,
    prompts: int,
    together: bool = False,
    failed: Callable[[str], None] = lambda message: None,
) -> dict[str, float]:
    """Greedy accuracy at every difficulty level, and its means over levels of one kind.

    Args:
        prompts: per level. ≥ 1.
        together: whether all processes take part, each with its share of the prompts.
        failed: as of `geomalign.tasks.score`, called once.

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
    told: list[str] = []

    def first(message: str) -> None:
        if not told:
            failed(message)
        told.append(message)

    counts = [count_solved(policy, task, sets[level][mine], config.rl.reward_timeout, failed=first) for level in sets]
    right = distributed.summed(torch.tensor(counts)) if together else torch.tensor(counts)
    scores = {level: count / len(sets[level]) for level, count in zip(sets, right.tolist())}
    out = {f"accuracy/{level}": value for level, value in scores.items()}
    for name, kind in MEANS.items():
        values = [scores[level] for level, found in config.kinds().items() if found == kind]
        if values:
            out[name] = sum(values) / len(values)
    return out


def count_solved(
    policy: Policy,
    task: Task,
    problems: Sequence[Problem],
    timeout: float = 0.0,
    rows: int = 512,
    failed: Callable[[str], None] = lambda message: None,
) -> int:
    """Number of problems whose greedy response the task rewards with at least 1.

    A response that cannot be verified counts as wrong, and so does one that reaches the end of the model's positions.

    Args:
        timeout: seconds for the verification of one response; 0 waits for ever.
        rows: most rows at once.
        failed: as of `geomalign.tasks.score`.

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
        texts = [policy.ask(problem) for problem in part]
        rooms = [policy.positions - len(tokens) + 1 for tokens in policy.prompt_tokens(texts)]
        # Prompts that leave less room than that are answered apart, so that they shorten no other response.
        for fits in (True, False):
            chosen = [i for i, room in enumerate(rooms) if (room >= longest) is fits]
            if not chosen:
                continue
            length = longest if fits else max(min(rooms[i] for i in chosen), 1)
            out = sample(policy, [texts[i] for i in chosen], temperature=0.0, max_new_tokens=length)
            asked = [part[i] for i in chosen]
            rewards = score(task, asked, out.texts(policy), out.ended.tolist(), timeout, failed)
            right += sum(reward >= 1.0 for reward in rewards)
    return right
