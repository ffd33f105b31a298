"""What a task is, how its prompts are split and drawn, and how verifiers that misbehave are contained."""

from __future__ import annotations

import contextlib
import math
import random
import signal
import threading
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, runtime_checkable

#: Every eighth prompt, by its checksum, is kept for evaluation and never trained on.
HELD_OUT = 8


@dataclass(frozen=True)
class Problem:
    """A prompt and what verifies a response to it.

    Args:
        prompt: as plain text; its checksum decides whether it is held out.
        answer: the true one, as text; empty where the verifier needs none.
        tier: of difficulty.
        messages: the prompt as a conversation, `{"role": …, "content": …}` each, for models with a chat template.
        row: whatever else the verifier needs.
    """

    prompt: str
    answer: str
    tier: int
    messages: tuple[Mapping[str, str], ...] = field(default=(), hash=False)
    row: Mapping[str, Any] = field(default_factory=dict, hash=False, repr=False)


@runtime_checkable
class Task(Protocol):
    """What a task must offer to be trained on."""

    @property
    def alphabet(self) -> str:
        """Every character that a prompt or a teacher's response can have."""

    def problem(self, tier: int, rng: random.Random) -> Problem:
        """A random problem of a tier; harder tiers have larger numbers."""

    def demonstration(self, problem: Problem, rng: random.Random, lazy: bool) -> str:
        """A teacher's response, careful or lazy; ValueError for a task that has none."""

    def reward(self, problem: Problem, response: str, ended: bool) -> float:
        """What a response is worth; `ended` says whether the end token came."""

    def longest(self, tier: int) -> int:
        """Length in characters of the longest careful response of a tier, the end token included."""


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
        timeout: seconds for one response; 0 waits for ever. In a Unix main thread an alarm ends the call, unless it
            never returns to Python; elsewhere the call is left to itself in a thread of its own.
    """
    guarded = timeout > 0 and threading.current_thread() is threading.main_thread() and hasattr(signal, "setitimer")
    previous: Any = signal.signal(signal.SIGALRM, _alarm) if guarded else None
    rewards: list[float] = []
    try:
        for problem, response, end in zip(problems, responses, ended):
            try:
                if guarded:
                    signal.setitimer(signal.ITIMER_REAL, timeout)
                if guarded or timeout <= 0:
                    reward = float(task.reward(problem, response, end))
                else:
                    reward = float(_in_thread(partial(task.reward, problem, response, end), timeout))
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


def _in_thread(act: Callable[[], float], timeout: float) -> float:
    """`act()`, if it returns within `timeout` seconds; else its thread goes on alone."""
    returned: list[float] = []

    def work() -> None:
        with contextlib.suppress(Exception):
            returned.append(act())

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(timeout)
    if not returned:
        raise _Timeout
    return returned[0]


def _alarm(number: int, frame: object) -> None:
    raise _Timeout
