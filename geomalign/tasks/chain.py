"""The demo's task: sums in writing, with a careful and a lazy teacher."""

from __future__ import annotations

import random
from dataclasses import dataclass

from geomalign.tasks.task import Problem


@dataclass(frozen=True)
class Chain:
    """Sums and differences of one-digit numbers, worked through from left to right.

    Tier L has L + 1 terms: `3+8-4+7;` is of tier 3, and its careful working is `3+8=11-4=7+7=14#14`. The reward is 1 if
    the response ended and what follows its last `#` is the true value, else 0: the working itself is not rewarded.

    The lazy teacher gives up before each step with probability `give_up` and then writes a guess, the value so far
    changed by a random amount of the size the missing terms have; and each of its steps slips by one with probability
    `slip`.

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
