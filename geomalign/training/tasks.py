"""Tasks with a verifiable reward, in tiers of difficulty, with a teacher for the warm start."""

from __future__ import annotations

import math
import random
import signal
import threading
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from geomalign.training.config import TaskConfig, imported

#: Every eighth prompt, by its checksum, is kept for evaluation and never trained on.
HELD_OUT = 8


@dataclass(frozen=True)
class Problem:
    """A prompt and what verifies a response to it."""

    prompt: str
    answer: str
    tier: int


@runtime_checkable
class Task(Protocol):
    """What a task must offer to be trained on."""

    @property
    def alphabet(self) -> str:
        """Every character that a prompt or a teacher's response can have."""

    def problem(self, tier: int, rng: random.Random) -> Problem:
        """A random problem of a tier; harder tiers have larger numbers."""

    def demonstration(self, problem: Problem, rng: random.Random, lazy: bool) -> str:
        """A teacher's response, careful or lazy."""

    def reward(self, problem: Problem, response: str, ended: bool) -> float:
        """What a response is worth; `ended` says whether the end token came."""

    def longest(self, tier: int) -> int:
        """Length in characters of the longest careful response of a tier, the end token included."""


@dataclass(frozen=True)
class Chain:
    """Sums and differences of one-digit numbers, worked through from left to right.

    Tier L has L + 1 terms: `3+8-4+7;` is of tier 3, and its careful working is `3+8=11-4=7+7=14#14`. The reward is 1
    if the response ended and
    what follows its last `#` is the true value, else 0: the working itself is not rewarded.

    The lazy teacher gives up before each step with probability `give_up` and then writes a guess, the value so far
    changed by a random
    amount of the size the missing terms have; and each of its steps slips by one with probability `slip`.

    Args:
        largest: largest digit among the terms, in 1, …, 9; fewer digits are fewer facts to learn.
        give_up: in [0, 1].
        slip: in [0, 1].
    """

    largest: int = 9
    give_up: float = 0.55
    slip: float = 0.05

    def __post_init__(self) -> None:
        if not 1 <= self.largest <= 9:
            raise ValueError(f"Chain: largest={self.largest}; terms have one digit, so it is in 1, …, 9.")
        if not (0 <= self.give_up <= 1 and 0 <= self.slip <= 1):
            raise ValueError(f"Chain: give_up={self.give_up} and slip={self.slip} are probabilities, in [0, 1].")

    @property
    def alphabet(self) -> str:
        return "0123456789+-=;#"

    def problem(self, tier: int, rng: random.Random) -> Problem:
        if tier < 1:
            raise ValueError(f"Chain has tiers 1, 2, …; tier {tier} was asked for.")
        digits = [str(rng.randrange(self.largest + 1)) for _ in range(tier + 1)]
        terms = [digits[0], *(rng.choice("+-") + digit for digit in digits[1:])]
        return Problem("".join(terms) + ";", str(sum(int(term) for term in terms)), tier)

    def demonstration(self, problem: Problem, rng: random.Random, lazy: bool) -> str:
        text = problem.prompt.rstrip(";")
        first, steps = text[0], [text[i : i + 2] for i in range(1, len(text), 2)]
        value, working = int(first), first
        for done, step in enumerate(steps):
            if lazy and rng.random() < self.give_up:
                guess = value + sum(rng.choice((-1, 1)) * rng.randrange(self.largest + 1) for _ in steps[done:])
                return (working if done else "") + f"#{guess}"
            value += int(step)
            if lazy and rng.random() < self.slip:
                value += rng.choice((-1, 1))
            working += f"{step}={value}"
        return f"{working}#{value}"

    def reward(self, problem: Problem, response: str, ended: bool) -> float:
        return float(ended and "#" in response and response.rsplit("#", 1)[1] == problem.answer)

    def longest(self, tier: int) -> int:
        # The first term; per step an operation, its digit, "=" and up to two digits with a sign; "#", the answer, the
        # end.
        return 1 + 6 * tier + 5


def build(config: TaskConfig) -> Task:
    """The task a configuration names.

    Raises:
        ValueError: for an unknown task, options it does not take, or an object that is no task.
    """
    if config.name != "chain" and ":" not in config.name:
        raise ValueError(f"there is no task {config.name!r}; there is 'chain', and 'my_module:MyTask' for your own.")
    kind = Chain if config.name == "chain" else imported(config.name)
    try:
        task = kind(**config.options)
    except TypeError as error:
        raise ValueError(f"task {config.name!r} could not be built with {config.options}: {error}") from error
    if not isinstance(task, Task):
        raise ValueError(
            f"task {config.name!r} is a {type(task).__name__} without the methods of geomalign.training.tasks.Task."
        )
    return task


def held_out(problem: Problem) -> bool:
    """Whether a prompt is kept for evaluation."""
    return zlib.crc32(problem.prompt.encode()) % HELD_OUT == 0


def draw(task: Task, tier: int, rng: random.Random, evaluation: bool = False) -> Problem:
    """A random problem of the training or of the evaluation part of a tier."""
    for _ in range(10_000):
        problem = task.problem(tier, rng)
        if held_out(problem) == evaluation:
            return problem
    raise ValueError(f"tier {tier} has too few different prompts to keep some for evaluation: 10,000 draws found none.")


def evaluation_set(task: Task, tier: int, count: int) -> list[Problem]:
    """The first `count` evaluation prompts of a tier: the same for every run, and never trained on."""
    rng = random.Random(f"evaluation/{tier}")
    return [draw(task, tier, rng, evaluation=True) for _ in range(count)]


# ---------------------------------------------------------------------- rewards that misbehave


class _Timeout(BaseException):
    pass


def score(
    task: Task, problems: Sequence[Problem], responses: Sequence[str], ended: Sequence[bool], timeout: float = 0.0
) -> list[float]:
    """The reward of every response; NaN where the verifier raised, hung or was not finite.

    Args:
        timeout: seconds for one response; 0 waits for ever. It needs a Unix main thread (elsewhere it is not
            applied), and cannot interrupt
            a call that never returns to Python.
    """
    guarded = timeout > 0 and threading.current_thread() is threading.main_thread() and hasattr(signal, "setitimer")
    previous: Any = signal.signal(signal.SIGALRM, _alarm) if guarded else None
    rewards: list[float] = []
    try:
        for problem, response, end in zip(problems, responses, ended):
            try:
                if guarded:
                    signal.setitimer(signal.ITIMER_REAL, timeout)
                reward = float(task.reward(problem, response, end))
            except (Exception, _Timeout):
                reward = math.nan
            finally:
                if guarded:
                    signal.setitimer(signal.ITIMER_REAL, 0.0)
            rewards.append(reward if math.isfinite(reward) else math.nan)
    finally:
        if guarded:
            signal.signal(signal.SIGALRM, previous)
    return rewards


def _alarm(number: int, frame: object) -> None:
    raise _Timeout
