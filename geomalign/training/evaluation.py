"""Greedy accuracy and mean reward of a policy on the prompts of a task that are kept for evaluation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

from geomalign import distributed
from geomalign.tasks import Problem, Task, evaluation_set, score
from geomalign.training.config.settings import TrainConfig
from geomalign.training.generation import sample
from geomalign.training.policy import Policy

#: A response whose reward is at least this counts as right.
SOLVED = 1.0
#: The means over levels, each with the kind of level (`TrainConfig.kinds`) that it averages.
MEANS = {"in": "in", "out": "harder", "unseen": "unseen"}
#: How the names of what `evaluate` measures begin.
MEASURED = ("accuracy", "greedy_reward")


def evaluate(
    config: TrainConfig,
    policy: Policy,
    task: Task,
    prompts: int,
    together: bool = False,
    failed: Callable[[str], None] = lambda message: None,
) -> dict[str, float]:
    """Accuracy and mean reward of greedy responses at every difficulty level, and their means over levels of one kind.

    accuracy = share of responses with a reward ≥ 1;  greedy reward = mean over those that have a reward.

    Where rewards are 0 or 1 the two are equal, unless a response could not be verified: it is wrong, and has no reward.

    Args:
        prompts: per level. ≥ 1.
        together: whether all processes take part, each with its share of the prompts.
        failed: as of `geomalign.tasks.score`, called once.

    Returns:
        `accuracy/LEVEL` for every level in `config.task.eval_levels`; `accuracy_in` (levels trained on),
        `accuracy_out` (levels of the warm start only) and `accuracy_unseen`, where there are such levels; the same of
        `greedy_reward`, without the levels where no response has a reward.

    >>> from geomalign.training.policy import Placement, build
    >>> from geomalign.tasks import Chain
    >>> from geomalign.training import ModelConfig, TrainConfig
    >>> config = TrainConfig(model=ModelConfig(hidden=16, layers=1, heads=2, intermediate=16))
    >>> policy = build(config.model, Chain().alphabet, seed=0, placement=Placement())
    >>> sorted(evaluate(config, policy, Chain(), prompts=1))[3:7]
    ['accuracy_in', 'accuracy_out', 'accuracy_unseen', 'greedy_reward/3']
    """
    sets = {level: evaluation_set(task, level, prompts) for level in config.task.eval_levels}
    mine = distributed.share(prompts) if together else slice(None)
    told: list[str] = []

    def first(message: str) -> None:
        if not told:
            failed(message)
        told.append(message)

    timeout, sums = config.rl.reward_timeout, []
    for problems in sets.values():
        rewards = greedy_rewards(policy, task, problems[mine], timeout, failed=first)
        known = [reward for reward in rewards if not math.isnan(reward)]
        sums.append((sum(reward >= SOLVED for reward in known), sum(known), len(known)))
    counted = torch.tensor(sums, dtype=torch.float64)
    rows = (distributed.summed(counted) if together else counted).tolist()
    found: dict[str, dict[int, float]] = {
        "accuracy": {level: right / len(sets[level]) for level, (right, _, _) in zip(sets, rows)},
        "greedy_reward": {level: total / known for level, (_, total, known) in zip(sets, rows) if known},
    }
    out: dict[str, float] = {}
    for name, values in found.items():
        out |= {f"{name}/{level}": value for level, value in values.items()}
        for mean, kind in MEANS.items():
            chosen = [values[level] for level, of in config.kinds().items() if of == kind and level in values]
            if chosen:
                out[f"{name}_{mean}"] = sum(chosen) / len(chosen)
    return out


def count_solved(
    policy: Policy,
    task: Task,
    problems: Sequence[Problem],
    timeout: float = 0.0,
    rows: int = 512,
    failed: Callable[[str], None] = lambda message: None,
) -> int:
    """Number of problems whose greedy response the task rewards with at least `SOLVED`, which is 1.

    A response that cannot be verified counts as wrong. Arguments are those of `greedy_rewards`.

    >>> from geomalign.training import ModelConfig
    >>> from geomalign.training.policy import Placement, build
    >>> from geomalign.tasks import Chain
    >>> small = ModelConfig(hidden=16, layers=1, heads=2, intermediate=16)
    >>> policy = build(small, Chain().alphabet, seed=0, placement=Placement())
    >>> count_solved(policy, Chain(), evaluation_set(Chain(), 1, 2)) <= 2
    True
    """
    return sum(reward >= SOLVED for reward in greedy_rewards(policy, task, problems, timeout, rows, failed))


def greedy_rewards(
    policy: Policy,
    task: Task,
    problems: Sequence[Problem],
    timeout: float = 0.0,
    rows: int = 512,
    failed: Callable[[str], None] = lambda message: None,
) -> list[float]:
    """The reward of the greedy response to each problem; NaN where it cannot be verified.

    Args:
        timeout: seconds for the verification of one response; 0 waits for ever.
        rows: most rows at once.
        failed: as of `geomalign.tasks.score`.

    Returns:
        the rewards, in no order of the problems: prompts that leave little room for a response are answered last.
    """
    found: list[float] = []
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
            found += score(task, asked, out.texts(policy), out.ended.tolist(), timeout, failed)
    return found
