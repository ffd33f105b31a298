"""Mathematical answers, compared by `math-verify` in a process of its own.

The time limits of `math-verify` are signals, which work in the main thread only and would cancel the alarm of
`geomalign.tasks.score`. And a response can make the comparison hang inside one instruction of Python, or take all
memory, by a tower of powers for example. A process can be ended from any thread.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import json
import os
import re
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from geomalign.tasks.task import Problem
from geomalign.tasks.verifiers.base import Verifier, needs_answer, plain
from geomalign.tasks.verifiers.notation import readings

#: Program of the process: for every line `{"answers", "responses"}` it writes `{"reward"}` or `{"error"}`, after a
#: first line that says that it is ready.
_SERVE = r"""
import json, logging, math, os, sys
logging.disable(logging.CRITICAL)
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
import math_verify
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
except (ImportError, ValueError, OSError):
    pass
print("{}", file=answers, flush=True)
def parse(text):
    return math_verify.parse(text, parsing_timeout=None)
def gold(plain):
    return parse(plain if "$" in plain or "\\boxed" in plain else f"${plain}$") or parse(plain)
def decimals(values):
    # Six significant digits of the smallest number; math-verify rounds to six decimals, where 1e-7 is 2e-7.
    sizes = [abs(x.evalf(15)) for x in values if getattr(x, "is_number", False) and x.is_real and x.is_finite]
    return 6 + max([math.floor(-math.log10(x)) for x in sizes if 1e-300 < x < 1], default=0)
for line in sys.stdin:
    asked = json.loads(line)
    try:
        golds = [gold(reading) for reading in asked["answers"]]
        if not all(golds):
            raise ValueError(f"math-verify cannot read the true answer {asked['answers'][0]!r}")
        said = [part for reading in asked["responses"] for part in parse(reading)]
        true = sum(golds, [])
        digits = decimals([*true, *said]) if said else 6
        exact = dict(float_rounding=digits, numeric_precision=digits + 9, timeout_seconds=None)
        found = {"reward": float(bool(said) and math_verify.verify(true, said, **exact))}
    except Exception as error:
        found = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(found), file=answers, flush=True)
"""


@dataclass(frozen=True)
class MathVerify(Verifier):
    """1 if `math-verify` finds the last mathematical expression of the response equal to the true answer, else 0.

    Both may be LaTeX or plain, with Unicode's signs (−5, ½, 10⁻⁵) and with 1e-05 for a number; an answer in `\\boxed{}`
    goes before others. Where the table's answer is a list, any of its items is right. A comparison that takes too long
    masks the response; a true answer that `math-verify` cannot read is refused when the table is read.

    Args:
        after: a marker such as `"####"`; where a text has it, only what follows its last occurrence is read.
        seconds: for one comparison. > 0, and below `rl.reward_timeout`.

    Raises:
        ValueError: math-verify is not installed.

    >>> MathVerify()("It is 0.5.", Problem("1/2?", "\\\\frac{1}{2}", 1))  # doctest: +SKIP
    1.0
    """

    after: str = ""
    seconds: float = 3.0

    def __post_init__(self) -> None:
        if importlib.util.find_spec("math_verify") is None:
            raise ValueError("math-verify is not installed: pip install 'geomalign[tasks]'.")
        _SERVER.start()

    def __call__(self, response: str, problem: Problem) -> float:
        said = self._behind(response)
        if any(_word(said) == _word(self._behind(answer)) for answer in problem.alternatives or (problem.answer,)):
            return 1.0
        return _SERVER.ask(self._true(problem), readings(said), self.seconds)

    def prepare(self, problems: Sequence[Problem]) -> None:
        needs_answer(problems, "math-verify", self.after)
        for problem in problems:
            if re.search(r"\d\s*[–—]\s*\d", problem.answer):
                raise ValueError(
                    f"the true answer {problem.answer!r} of the prompt {problem.prompt[:60]!r} has a dash between "
                    "numbers, which may be a range or a difference. Write [1, 4] or 1 - 4."
                )
            try:
                _SERVER.ask(self._true(problem), [], self.seconds)
            except RuntimeError as error:
                raise ValueError(f"{error}, of the prompt {problem.prompt[:60]!r}.") from None

    def _behind(self, text: str) -> str:
        return text.split(self.after)[-1] if self.after else text

    def _true(self, problem: Problem) -> list[str]:
        answers = problem.alternatives or (problem.answer,)
        return [reading for answer in answers for reading in readings(self._behind(answer), answer=True)]


def _word(text: str) -> str:
    """The text without white space around it and a final full stop; of words, the case is ignored."""
    text = plain(text).removesuffix(".")
    return text.casefold() if re.fullmatch(r"[A-Za-z ]{2,}", text) else text


class Server:
    """The process that compares. It is started when it is first needed, and again after it was ended; threads and
    forked processes can share it.

    >>> Server().ask(["1/2"], ["0.5"], seconds=3.0)  # doctest: +SKIP
    1.0
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._owner = 0
        self._lock = threading.Lock()
        atexit.register(self.stop)

    def start(self, seconds: float = 120.0) -> None:
        """Start the process, and wait until it is ready.

        Raises:
            RuntimeError: the process ended at once.
            TimeoutError: it was not ready in time.
        """
        with self._lock:
            self._running(seconds)

    def ask(self, answers: Sequence[str], responses: Sequence[str], seconds: float) -> float:
        """The reward of a response, 0 or 1, by the readings of the true answer and of the response.

        Raises:
            RuntimeError: the comparison raised, or the process ended during it.
            TimeoutError: the comparison took too long.
        """
        with self._lock:
            process = self._running(120.0)
            try:
                assert process.stdin is not None
                process.stdin.write(json.dumps({"answers": list(answers), "responses": list(responses)}) + "\n")
                process.stdin.flush()
                found = json.loads(_line(process, seconds))
            except BaseException:  # the alarm of the reward's time limit too
                self.stop()
                raise
        if "error" in found:
            raise RuntimeError(found["error"])
        return float(found["reward"])

    def stop(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None and self._owner == os.getpid():
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()

    def _running(self, seconds: float) -> subprocess.Popen[str]:
        if self._owner != os.getpid():  # after a fork it is the parent's
            self._process, self._owner = None, os.getpid()
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _SERVE],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                encoding="utf-8",
                start_new_session=True,  # Ctrl-C is the trainer's
            )
            try:
                _line(self._process, seconds)
            except BaseException:
                self.stop()
                raise
        return self._process


def _line(process: subprocess.Popen[str], seconds: float) -> str:
    """The next line that a process writes."""
    assert process.stdout is not None
    deadline = time.monotonic() + seconds
    text = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while not text.endswith(b"\n"):
            if not selector.select(max(deadline - time.monotonic(), 0)):
                raise TimeoutError(f"math-verify did not answer within {seconds:g} s")
            chunk = os.read(process.stdout.fileno(), 1 << 16)
            if not chunk:
                raise RuntimeError("the process of math-verify ended: out of memory, or its import failed")
            text += chunk
    return text.decode()


_SERVER = Server()
