"""Tasks: the teachers, the verifier, the split, and verifiers that misbehave."""

import contextlib
import math
import random
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from geomalign.tasks import Chain, Problem, build, draw, evaluation_set, held_out, score
from geomalign.tasks.config import TaskConfig


def test_the_example_of_the_documentation() -> None:
    problem = Problem("3+8-4+7;", "14", 3)
    assert Chain().demonstration(problem, random.Random(0), noisy=False) == "3+8=11-4=7+7=14#14"


@pytest.mark.parametrize("level", range(1, 9))
def test_a_careful_working_is_right_and_fits(level: int) -> None:
    task, rng = Chain(), random.Random(level)
    for _ in range(300):
        problem = task.problem(level, rng)
        working = task.demonstration(problem, rng, noisy=False)
        assert problem.answer == str(eval(problem.prompt[:-1]))
        assert task.reward(problem, working, True) == 1.0
        assert len(working) + 1 <= task.max_response_length(level)
        assert set(problem.prompt + working) <= set(task.alphabet)
        for step in working.split("#")[0].split("=")[:-1]:
            assert eval(step) is not None


def test_max_response_length_is_reached_by_the_worst_case() -> None:
    prompt = "0" + "-9" * 8 + ";"
    working = Chain().demonstration(Problem(prompt, "-72", 8), random.Random(0), noisy=False)
    assert len(working) + 1 <= Chain().max_response_length(8) <= len(working) + 4


@pytest.mark.parametrize(
    "response, ended, reward",
    [
        ("3+4=7#7", True, 1.0),
        ("#7", True, 1.0),
        ("3+4=7#7", False, 0.0),
        ("3+4=7", True, 0.0),
        ("3+4=7#07", True, 0.0),
        ("#7#8", True, 0.0),
        ("#8#7", True, 1.0),
        ("", True, 0.0),
        ("#7 ", True, 0.0),
    ],
)
def test_the_verifier_is_exact(response: str, ended: bool, reward: float) -> None:
    assert Chain().reward(Problem("3+4;", "7", 1), response, ended) == reward


def test_the_noisy_teacher_skips_the_working_as_often_as_it_says() -> None:
    """Four terms are three steps, so a whole working survives with (1 − 0.55)³, and is right with (1 − 0.05)³ of that
    or by luck.
    """
    task, rng = Chain(), random.Random(0)
    problems = [task.problem(3, rng) for _ in range(8000)]
    whole = [task.demonstration(problem, rng, noisy=True) for problem in problems]
    complete = [text for text in whole if text.count("=") == 3]
    assert len(complete) / len(whole) == pytest.approx(0.45**3, abs=0.01)
    assert sum(text.startswith("#") for text in whole) / len(whole) == pytest.approx(0.55, abs=0.02)
    right = [task.reward(p, text, True) for p, text in zip(problems, whole) if text.count("=") == 3]
    assert sum(right) / len(right) == pytest.approx(0.95**3, abs=0.04)


def test_evaluation_prompts_are_never_trained_on() -> None:
    task, rng = Chain(), random.Random(0)
    assert all(held_out(problem) for problem in evaluation_set(task, 3, 200))
    assert not any(held_out(draw(task, 1, rng)) for _ in range(500))
    assert evaluation_set(task, 3, 20) == evaluation_set(task, 3, 50)[:20]


def test_options_and_refusals() -> None:
    task = build(TaskConfig(options={"largest": 3}))
    assert set("".join(task.problem(4, random.Random(i)).prompt for i in range(50))) <= set("0123+-;")
    with pytest.raises(ValueError, match=r"largest=12.*1, …, 9"):
        Chain(largest=12)
    with pytest.raises(ValueError, match="probabilities"):
        Chain(slip=1.5)
    with pytest.raises(ValueError, match=r"no task 'chains'"):
        build(TaskConfig(name="chains"))
    with pytest.raises(ValueError, match="could not be built"):
        build(TaskConfig(options={"larges": 3}))
    with pytest.raises(ValueError, match="level 0"):
        Chain().problem(0, random.Random())


def test_a_task_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my_tasks_a.py").write_text(
        "from geomalign.tasks import Problem\n"
        "class Echo:\n"
        "    alphabet = 'ab'\n"
        "    def problem(self, level, rng): return Problem('a' * level, 'a' * level, level)\n"
        "    def demonstration(self, problem, rng, noisy): return problem.answer\n"
        "    def reward(self, problem, response, ended): return float(response == problem.answer)\n"
        "    def max_response_length(self, level): return level + 1\n"
        "class Empty: pass\n"
    )
    assert build(TaskConfig(name="my_tasks_a:Echo")).problem(2, random.Random()).prompt == "aa"
    with pytest.raises(ValueError, match="without the methods"):
        build(TaskConfig(name="my_tasks_a:Empty"))
    with pytest.raises(ValueError, match="has no 'Ecco'"):
        build(TaskConfig(name="my_tasks_a:Ecco"))
    with pytest.raises(ValueError, match="no module 'my_tasks_b'"):
        build(TaskConfig(name="my_tasks_b:Echo"))


@dataclass(frozen=True)
class Moody(Chain):
    """A task whose verifier does what the response says."""

    def reward(self, problem: Problem, response: str, ended: bool) -> float:
        actions: dict[str, Callable[[], float]] = {
            "fine": lambda: 1.0,
            "raise": lambda: 1 / 0,
            "nan": lambda: math.nan,
            "infinite": lambda: math.inf,
            "none": lambda: None,  # type: ignore[dict-item,return-value]
            "hang": _hang,
        }
        return actions[response]()


def _hang() -> float:
    while True:
        with contextlib.suppress(Exception):  # a verifier that swallows whatever it is interrupted with
            time.sleep(10)


def test_a_verifier_that_misbehaves_costs_its_own_sample_only() -> None:
    before = signal.getsignal(signal.SIGALRM)
    responses = ["fine", "raise", "hang", "fine", "nan", "infinite", "none", "fine"]
    began = time.monotonic()
    rewards = score(Moody(), [Problem("1+1;", "2", 1)] * 8, responses, [True] * 8, timeout=0.2)
    assert time.monotonic() - began < 5
    assert [math.isnan(reward) for reward in rewards] == [False, True, True, False, True, True, True, False]
    assert signal.getsignal(signal.SIGALRM) == before


def test_a_verifier_that_hangs_is_left_alone_outside_the_main_thread_too() -> None:
    """No alarm can be had in a worker thread; the sample is masked all the same, and the rest is verified."""
    found: list[float] = []
    responses = ["fine", "raise", "hang", "none", "fine"]
    problems = [Problem("1+1;", "2", 1)] * 5
    thread = threading.Thread(target=lambda: found.extend(score(Moody(), problems, responses, [True] * 5, timeout=0.2)))
    thread.start()
    thread.join(30)
    assert [math.isnan(reward) for reward in found] == [False, True, True, True, False]
