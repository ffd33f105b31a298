"""What a task is, how its prompts are split and drawn, and how a verifier that raises or hangs is contained."""

from __future__ import annotations

import contextlib
import math
import random
import signal
import threading
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, runtime_checkable

from geomalign._util.importing import told

#: One prompt in eight, chosen by its checksum, is kept for evaluation and never trained on.
HELD_OUT = 8


@dataclass(frozen=True)
class Problem:
    """A prompt and what is needed to verify a response to it.

    Args:
        prompt: as plain text; its checksum decides whether it is held out.
        answer: the true answer, as text; empty where the verifier needs none.
        level: of difficulty.
        messages: the prompt as a conversation, for models with a chat template: `{"role": …, "content": …}` each, with
            whatever else the template reads, such as `tool_calls`.
        row: whatever else the verifier needs.
        alternatives: answers that are right as well as each other, where a table's answer is a list; `answer` is the
            JSON of the list.
        template: keyword arguments of the chat template, such as `tools`.

    >>> Problem("3+8;", "11", level=1).answer
    '11'
    """

    prompt: str
    answer: str
    level: int
    messages: tuple[Mapping[str, Any], ...] = field(default=(), hash=False)
    row: Mapping[str, Any] = field(default_factory=dict, hash=False, repr=False)
    alternatives: tuple[str, ...] = ()
    template: Mapping[str, Any] = field(default_factory=dict, hash=False)


@runtime_checkable
class Task(Protocol):
    """What a task must offer to be trained on.

    >>> from geomalign.tasks import Chain
    >>> isinstance(Chain(), Task)
    True
    """

    @property
    def alphabet(self) -> str:
        """Every character that can occur in a prompt or in a teacher's response."""

    def problem(self, level: int, rng: random.Random) -> Problem:
        """A random problem of a level; harder levels have larger numbers."""

    def demonstration(self, problem: Problem, rng: random.Random, noisy: bool) -> str:
        """A teacher's response, careful or noisy; ValueError for a task that has none."""

    def reward(self, problem: Problem, response: str, ended: bool) -> float:
        """The reward of a response; `ended` says whether it was finished by the end token."""

    def max_response_length(self, level: int) -> int:
        """Length in characters of the longest careful response of a level, the end token included."""


def held_out(problem: Problem) -> bool:
    """Whether a prompt is kept for evaluation.

    >>> sum(held_out(Problem(str(i), "", 1)) for i in range(800))
    99
    """
    return zlib.crc32(problem.prompt.encode()) % HELD_OUT == 0


def draw(task: Task, level: int, rng: random.Random, evaluation: bool = False) -> Problem:
    """A random problem of the training part of a level, or of its evaluation part.

    Raises:
        ValueError: 10,000 draws found no prompt of that part.

    >>> from geomalign.tasks import Chain
    >>> held_out(draw(Chain(), 2, random.Random(0), evaluation=True))
    True
    """
    for _ in range(10_000):
        problem = task.problem(level, rng)
        if held_out(problem) == evaluation:
            return problem
    raise ValueError(
        f"level {level} has too few different prompts to keep some for evaluation: 10,000 draws found none."
    )


def evaluation_set(task: Task, level: int, count: int) -> list[Problem]:
    """The first `count` evaluation prompts of a level: the same for every run, and never trained on.

    >>> from geomalign.tasks import Chain
    >>> evaluation_set(Chain(), 2, 4)[:2] == evaluation_set(Chain(), 2, 2)
    True
    """
    rng = random.Random(f"evaluation/{level}")
    return [draw(task, level, rng, evaluation=True) for _ in range(count)]


class _Timeout(BaseException):
    """A reward took too long. Not an Exception, so that a verifier that catches those cannot swallow it."""


def score(
    task: Task,
    problems: Sequence[Problem],
    responses: Sequence[str],
    ended: Sequence[bool],
    timeout: float = 0.0,
    failed: Callable[[str], None] = lambda message: None,
) -> list[float]:
    """The reward of every response; NaN where the verifier raised, took too long or returned no finite number.

    Whatever the verifier raises costs its own response only, also `SystemExit`; Ctrl-C alone passes.

    Args:
        timeout: seconds for one response; 0 waits for ever. In the main thread of a Unix process an alarm ends the
            call, unless it never returns to Python; elsewhere the call is left to itself in a thread of its own.
        failed: is told of the first response without a reward: what the verifier raised or returned, and the row. A
            NaN that the verifier returns is its own verdict, and no failure.

    >>> from geomalign.tasks import Chain
    >>> score(Chain(), [Problem("3+8;", "11", 1)] * 2, ["3+8=11#11", "#12"], [True, True])
    [1.0, 0.0]
    """
    guarded = timeout > 0 and threading.current_thread() is threading.main_thread() and hasattr(signal, "setitimer")
    previous: Any = signal.signal(signal.SIGALRM, _alarm) if guarded else None
    rewards: list[float] = []
    first = ""
    try:
        for problem, response, end in zip(problems, responses, ended):
            seen, start = "", time.monotonic()
            try:
                if guarded:
                    signal.setitimer(signal.ITIMER_REAL, timeout)
                if guarded or timeout <= 0:
                    reward = _number(task.reward(problem, response, end))
                else:
                    reward = _number(_in_thread(partial(task.reward, problem, response, end), timeout))
                if guarded and time.monotonic() - start >= timeout:  # the verifier caught the alarm
                    raise _Timeout
            except KeyboardInterrupt:
                raise
            except _Timeout:
                reward, seen = math.nan, f"took longer than {timeout:g} s (reward_timeout)"
            except BaseException as error:  # a verifier may call exit(), or run tests that raise beside Exception
                reward, seen = math.nan, str(error) if isinstance(error, _NoNumber) else f"raised {told(error)}"
            finally:
                if guarded:
                    signal.setitimer(signal.ITIMER_REAL, 0.0)
            rewards.append(reward)
            if seen and not first:
                first = (
                    f"the verifier {seen} for the response {_shown(response)} to {_shown(problem.prompt)}, whose "
                    f"answer is {_shown(problem.answer)}. Responses without a reward are masked."
                )
    finally:
        if guarded:
            signal.signal(signal.SIGALRM, previous)
    if first:
        failed(first)
    return rewards


class _NoNumber(ValueError):
    """What a verifier returned is no reward."""


def _number(returned: Any) -> float:
    """What a verifier returned as a number, which texts are not, even where Python would read them."""
    if not isinstance(returned, (str, bytes, bytearray)):
        with contextlib.suppress(TypeError, ValueError, OverflowError):
            found = float(returned)
            if not math.isinf(found):
                return found
    raise _NoNumber(f"returned {_shown(returned)}, which is no finite number,")


def _shown(value: object, longest: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _in_thread(act: Callable[[], Any], timeout: float) -> Any:
    """`act()`, if it returns within `timeout` seconds; otherwise its thread is left running."""
    returned: list[Any] = []
    raised: list[BaseException] = []

    def work() -> None:
        try:
            returned.append(act())
        except BaseException as error:  # raised again where the caller waits
            raised.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(timeout)
    if raised:
        raise raised[0]
    if not returned:
        raise _Timeout
    return returned[0]


def _alarm(number: int, frame: object) -> None:
    raise _Timeout
