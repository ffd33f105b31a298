"""The demo's task: sums worked through in writing, with a careful and a noisy teacher."""

from __future__ import annotations

import random
from dataclasses import dataclass

from geomalign._util.check import check
from geomalign.tasks.task import Problem


@dataclass(frozen=True)
class Chain:
    """Sums and differences of one-digit numbers, worked through from left to right.

    A problem of level L has L + 1 terms: `3+8-4+7;` is of level 3, and its careful working is `3+8=11-4=7+7=14#14`.
    The reward is 1 if the response ended and what follows its last `#` is the true value, else 0; the working itself
    is not rewarded.

    The noisy teacher skips the remaining steps with probability `skip_probability` before each step. It then writes a
    guess: the value so far, changed by a random amount as large as the missing terms can be. Each step that it does
    write is wrong by one with probability `slip`.

    Args:
        largest: largest digit among the terms, in 1, …, 9; with fewer digits there are fewer sums to learn.
        skip_probability: in [0, 1].
        slip: in [0, 1].

    Raises:
        ValueError: a value is out of its range, or a level below 1 is asked for.

    >>> Chain().demonstration(Problem("3+8-4+7;", "14", level=3), random.Random(0), noisy=False)
    '3+8=11-4=7+7=14#14'
    """

    largest: int = 9
    skip_probability: float = 0.55
    slip: float = 0.05

    def __post_init__(self) -> None:
        check(1 <= self.largest <= 9, f"Chain: largest={self.largest}; terms have one digit, so it is in 1, …, 9.")
        check(
            0 <= self.skip_probability <= 1 and 0 <= self.slip <= 1,
            f"Chain: skip_probability={self.skip_probability} and slip={self.slip} are probabilities, in [0, 1].",
        )

    @property
    def alphabet(self) -> str:
        return "0123456789+-=;#"

    def problem(self, level: int, rng: random.Random) -> Problem:
        check(level >= 1, f"Chain has levels 1, 2, …; level {level} was asked for.")
        digits = [str(rng.randrange(self.largest + 1)) for _ in range(level + 1)]
        terms = [digits[0], *(rng.choice("+-") + digit for digit in digits[1:])]
        return Problem("".join(terms) + ";", str(sum(int(term) for term in terms)), level)

    def demonstration(self, problem: Problem, rng: random.Random, noisy: bool) -> str:
        text = problem.prompt.rstrip(";")
        first, steps = text[0], [text[i : i + 2] for i in range(1, len(text), 2)]
        value, working = int(first), first
        for done, step in enumerate(steps):
            if noisy and rng.random() < self.skip_probability:
                guess = value + sum(rng.choice((-1, 1)) * rng.randrange(self.largest + 1) for _ in steps[done:])
                return (working if done else "") + f"#{guess}"
            value += int(step)
            if noisy and rng.random() < self.slip:
                value += rng.choice((-1, 1))
            working += f"{step}={value}"
        return f"{working}#{value}"

    def reward(self, problem: Problem, response: str, ended: bool) -> float:
        return float(ended and "#" in response and response.rsplit("#", 1)[1] == problem.answer)

    def max_response_length(self, level: int) -> int:
        # The first digit; per step an operation, its digit, "=" and a value of up to three characters; then "#", an
        # answer of up to three characters, and the end token.
        return 1 + 6 * level + 5
