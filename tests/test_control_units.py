"""Controllers by hand: the rule and its bounds, what is measured, what a schedule is asked for, and what is refused."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor

import geomalign as ga
from geomalign import distributed
from geomalign.control import Geometric, controller_of
from geomalign.control.base import across_processes

OBJECTIVE = ga.Objective(unit=ga.Token(), sampling=ga.Advantage(), optimization=ga.ChiSquare())
MASK = torch.tensor([[True, True], [True, False], [False, False]])


def tokens(*log_ratio: float, mask: Tensor | None = None) -> ga.Outcome:
    """The outcome of rows of tokens, all in one row without a mask."""
    x = torch.tensor(log_ratio).reshape(1 if mask is None else len(mask), -1)
    return OBJECTIVE(ga.Batch(x - 5, torch.full_like(x, -5.0), mask, advantage=torch.ones(len(x))))


def moved(controller: ga.Controller, *seen: ga.Outcome) -> float:
    """log μ after a rollout less that before it."""
    before = controller.stiffness
    for outcome in seen:
        controller.observe(outcome)
    controller.step()
    return float((controller.stiffness / before).log())


def test_the_defaults_of_an_adaptive_stiffness() -> None:
    made = ga.AdaptiveStiffness(0.02)
    assert repr(made) == "AdaptiveStiffness(0.02, KullbackLeibler(), rate=0.2, initial=1.0, low=0.0001, high=10000.0)"
    assert made.stiffness.dtype == torch.float64 and float(made.stiffness) == 1.0
    readings = made.readings()
    assert list(readings) == ["divergence", "over_target", "stiffness"]
    assert readings["divergence"].isnan() and readings["over_target"].isnan() and float(readings["stiffness"]) == 1.0


@pytest.mark.parametrize(
    ("share", "change"), [(0.0, -1.0), (0.25, -0.75), (1.0, 0.0), (1.3, 0.3), (1.9, 0.9), (2.2, 1.0), (7.0, 1.0)]
)
@pytest.mark.parametrize("rate", [0.2, 0.7])
def test_the_stiffness_moves_by_the_clipped_excess(share: float, change: float, rate: float) -> None:
    """One token at Δ is measured by ψ(e^Δ) = e^Δ − 1 − Δ, the reverse KL; the target is a share of it."""
    x = 0.3 if share else 0.0
    size = math.expm1(0.3) - 0.3
    controller = ga.AdaptiveStiffness(size / (share or 1.0), ga.ReverseKullbackLeibler(), rate=rate, initial=3.0)
    assert moved(controller, tokens(x)) == pytest.approx(rate * change, abs=1e-12)
    readings = {name: float(value) for name, value in controller.readings().items()}
    assert readings == pytest.approx(
        {"divergence": size if share else 0.0, "over_target": share, "stiffness": 3.0}, abs=1e-12
    )


def test_every_event_of_a_rollout_counts_once_and_masked_ones_do_not() -> None:
    """Three tokens of three rows, and a further one in another micro-batch."""
    divergence, x = ga.PearsonChiSquare(), torch.tensor([0.3, -0.1, 0.05, 0.7])
    controller = ga.AdaptiveStiffness(0.1, divergence)
    moved(controller, tokens(0.3, -0.1, 0.05, 9.0, 9.0, 9.0, mask=MASK), tokens(0.7))
    expected = float(divergence.generator(x.exp()).mean())
    assert float(controller.readings()["divergence"]) == pytest.approx(expected)
    moved(controller, tokens(0.2))  # the sum begins anew
    assert float(controller.readings()["divergence"]) == pytest.approx(
        float(divergence.generator(torch.tensor(0.2).exp()))
    )


def test_both_responses_of_a_pair_are_measured() -> None:
    pairs = ga.PreferenceBatch(
        *(torch.tensor([[x], [y]]) for x, y in ((0.3, 0.1), (-0.2, 0.4), (0.0, 0.0), (0.0, 0.0)))
    )
    controller = ga.AdaptiveStiffness(0.1, ga.PearsonChiSquare())
    moved(controller, ga.recipes.ipo(normalize="sum")(pairs))
    expected = ga.PearsonChiSquare().generator(torch.tensor([0.3, 0.1, -0.2, 0.4]).exp()).mean()
    assert float(controller.readings()["divergence"]) == pytest.approx(float(expected))


@pytest.mark.parametrize(("x", "bound"), [(0.0, 0.9), (3.0, 1.2)])
def test_the_stiffness_stays_within_its_bounds(x: float, bound: float) -> None:
    controller = ga.AdaptiveStiffness(0.01, rate=0.15, low=0.9, high=1.2)
    for _ in range(3):
        moved(controller, tokens(x))
    assert float(controller.stiffness) == pytest.approx(bound, rel=1e-12)
    assert float(controller.readings()["stiffness"]) == pytest.approx(bound, rel=1e-12)


@pytest.mark.parametrize("empty", [False, True])
def test_a_rollout_without_an_event_leaves_every_reading(empty: bool) -> None:
    """Nothing observed, or rows without a token."""
    nobody = [tokens(1.0, 1.0, mask=torch.zeros(1, 2, dtype=torch.bool))] if empty else []
    controller = ga.AdaptiveStiffness(1.0, rate=0.5)
    assert moved(controller, *nobody) == 0.0 and controller.readings()["divergence"].isnan()
    assert moved(controller, tokens(0.0)) == pytest.approx(-0.5)
    before = controller.readings()
    assert moved(controller, *nobody) == 0.0
    assert controller.readings() == before and float(before["stiffness"]) == 1.0 and float(before["divergence"]) == 0.0


def test_a_checkpoint_of_an_adaptive_stiffness_has_four_numbers_on_the_cpu() -> None:
    controller = ga.AdaptiveStiffness(0.05, rate=0.5, initial=2.0)
    moved(controller, tokens(0.0))
    controller.observe(tokens(0.4))
    state = controller.state_dict()
    penalty = float(ga.KullbackLeibler().penalty(torch.tensor(0.4)))
    assert list(state) == ["log_mu", "used", "sum", "measured"] and all(x.device.type == "cpu" for x in state.values())
    assert float(state["log_mu"]) == pytest.approx(math.log(2) - 0.5)
    assert float(state["used"]) == pytest.approx(math.log(2)) and float(state["measured"]) == 0.0
    assert state["sum"].tolist() == pytest.approx([penalty, 1.0])
    other = ga.AdaptiveStiffness(0.05, rate=0.5)
    other.load_state_dict(state)
    assert other.readings() == controller.readings() and other.stiffness == controller.stiffness
    assert moved(other) == moved(controller) != 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"target": 0.0}, "AdaptiveStiffness(target=0.0): a positive number."),
        ({"rate": -0.1}, "AdaptiveStiffness(rate=-0.1): a positive number."),
        ({"low": 0}, "AdaptiveStiffness(low=0): a positive number."),
    ],
)
def test_an_adaptive_stiffness_names_what_it_refuses(given: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError) as refused:
        ga.AdaptiveStiffness(**{"target": 0.1, **given})
    assert str(refused.value) == message


@pytest.mark.parametrize(("initial", "fine"), [(0.4, False), (0.5, True), (1.0, True), (2.0, True), (2.1, False)])
def test_the_initial_stiffness_is_between_the_bounds(initial: float, fine: bool) -> None:
    if fine:
        assert float(ga.AdaptiveStiffness(0.1, initial=initial, low=0.5, high=2.0).stiffness) == pytest.approx(initial)
        return
    with pytest.raises(ValueError, match=rf"AdaptiveStiffness\(initial={initial}\): .*between `low` and `high`"):
        ga.AdaptiveStiffness(0.1, initial=initial, low=0.5, high=2.0)


def test_what_cannot_be_measured_is_refused_and_a_schedule_measures_nothing() -> None:
    free = dataclasses.replace(OBJECTIVE, anchor=None, optimization=ga.Flat())
    with pytest.raises(ValueError, match=r"this objective reads log π itself \(anchor=None\)"):
        ga.AdaptiveStiffness(0.1).check(free)
    ga.AdaptiveStiffness(0.1).check(OBJECTIVE)
    ga.Annealed(Geometric(1.0, 2.0), 2).check(free)


# ---- schedules


@pytest.mark.parametrize(
    ("rollouts", "asked"),
    [(1, [0.0, 1.0, 1.0]), (2, [0.0, 1.0, 1.0]), (3, [0.0, 0.5, 1.0, 1.0]), (5, [0.0, 0.25, 0.5])],
)
def test_the_progress_of_a_schedule_is_zero_at_the_first_and_one_at_the_last_rollout(
    rollouts: int, asked: list[float]
) -> None:
    controller, seen = ga.Annealed(lambda progress: 2.0 + progress, rollouts), []
    assert float(controller.readings()["stiffness"]) == 2.0, "that of the coming rollout before there was any"
    for _ in asked:
        seen.append(float(controller.stiffness) - 2)
        moved(controller, tokens(0.0))
        assert float(controller.readings()["stiffness"]) == seen[-1] + 2
    assert seen == pytest.approx(asked) and controller.stiffness.dtype == torch.float64


def test_a_schedule_moves_on_only_after_a_rollout_that_was_seen() -> None:
    controller = ga.Annealed(Geometric(1.0, 16.0), 5)
    assert controller.state_dict() == {"done": 0, "seen": False, "used": 1.0}
    controller.step()
    assert controller.state_dict() == {"done": 0, "seen": False, "used": 1.0}
    controller.observe(tokens(0.0))
    assert controller.state_dict() == {"done": 0, "seen": True, "used": 1.0}
    controller.step()
    controller.step()
    assert controller.state_dict() == {"done": 1, "seen": False, "used": 1.0} and float(controller.stiffness) == 2.0
    other = ga.Annealed(Geometric(1.0, 16.0), 5)
    other.load_state_dict({"done": 2, "seen": True, "used": 7.0})
    assert float(other.readings()["stiffness"]) == 7.0 and float(other.stiffness) == 4.0
    other.step()
    assert other.state_dict() == {"done": 3, "seen": False, "used": 4.0}


@pytest.mark.parametrize(
    ("schedule", "rollouts", "message"),
    [
        (lambda progress: progress, 3, "Annealed(schedule(0)=0.0): a positive number, the stiffness of the first"),
        (lambda progress: 1 - progress, 3, "Annealed(schedule(1)=0.0): a positive number, the stiffness of the last"),
        (lambda progress: 1.0, 0, "Annealed(rollouts=0): an integer ≥ 1, the number of rollouts"),
        (lambda progress: 1.0, 1.5, "Annealed(rollouts=1.5): an integer ≥ 1, the number of rollouts"),
    ],
)  # fmt: skip
def test_a_schedule_names_what_it_refuses(schedule, rollouts: float, message: str) -> None:
    with pytest.raises(ValueError) as refused:
        ga.Annealed(schedule, rollouts)  # type: ignore[arg-type]
    assert str(refused.value).startswith(message)


@pytest.mark.parametrize(("start", "stop"), [(2.0, 32.0), (32.0, 2.0)])
def test_a_geometric_schedule_moves_by_equal_factors(start: float, stop: float) -> None:
    found = [Geometric(start, stop)(k / 4) for k in range(5)]
    assert found == pytest.approx([2.0, 4.0, 8.0, 16.0, 32.0][:: 1 if start < stop else -1])
    for given in ((0.0, stop), (start, -1.0)):
        with pytest.raises(ValueError, match=rf"Geometric\({'start=0.0' if given[0] == 0 else 'stop=-1.0'}\)"):
            Geometric(*given)


# ---- what is divided, and a controller in one line


@pytest.mark.parametrize(
    ("objective", "rest"),
    [
        (ga.recipes.dpo(beta=0.4), 0.2),
        (ga.recipes.ipo(tau=0.5), 0.0),
        (OBJECTIVE, 0.0),
        (dataclasses.replace(OBJECTIVE, anchor=None, optimization=ga.Flat()), 0.0),
        (dataclasses.replace(OBJECTIVE, optimization=ga.Logistic(2.0)), 1.0),
    ],
    ids=["dpo", "ipo", "square", "no anchor", "logistic"],
)
def test_only_what_exceeds_the_slope_at_the_anchor_is_divided(objective: ga.Objective, rest: float) -> None:
    """φ'(0) of −log σ is half of β."""
    drive = torch.tensor([1.5, -0.5, 0.1])
    found = ga.AdaptiveStiffness(0.1, initial=4.0).stiffen(objective, drive)
    torch.testing.assert_close(found, rest + (drive - rest) / 4)
    terms = ga.Annealed(lambda progress: 4.0, 2).stiffen(objective, ga.TermDrives((drive,)))
    assert isinstance(terms, ga.TermDrives) and len(terms) == 1
    torch.testing.assert_close(next(iter(terms)), found)


def test_controllers_of_two_kinds_are_never_equal() -> None:
    one, other = ga.AdaptiveStiffness(0.1), ga.Annealed(Geometric(1.0, 2.0), 3)
    assert one != other and one != repr(one) and {one, ga.AdaptiveStiffness(0.1)} == {one}
    assert one != ga.AdaptiveStiffness(0.2) and other != ga.Annealed(Geometric(1.0, 2.0), 4)


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_what_processes_have_seen_adds_up(processes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the k-th process it is k times as much; alone nothing is exchanged."""

    def everyone(x: Tensor) -> list[Tensor]:
        assert processes > 1
        return [k * x for k in range(1, processes + 1)]

    monkeypatch.setattr(distributed, "world_size", lambda: processes)
    monkeypatch.setattr(distributed, "everyone", everyone)
    total = processes * (processes + 1) / 2
    assert torch.equal(across_processes(torch.tensor([1.0, 2.0])), total * torch.tensor([1.0, 2.0]))
    controller = ga.AdaptiveStiffness(0.05)
    moved(controller, tokens(0.3, 0.1))
    expected = ga.KullbackLeibler().penalty(torch.tensor([0.3, 0.1])).mean()
    assert float(controller.readings()["divergence"]) == pytest.approx(float(expected))


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("kl=0.02", ga.AdaptiveStiffness(0.02)),
        (
            "rate=0.3 chi2=0.05 initial=2 low=0.5 high=3",
            ga.AdaptiveStiffness(0.05, ga.PearsonChiSquare(), rate=0.3, initial=2, low=0.5, high=3),
        ),
        ("rollouts=7 anneal=4:0.5", ga.Annealed(Geometric(4.0, 0.5), 7)),
    ],
)
def test_a_controller_in_one_line(text: str, made: ga.Controller) -> None:
    assert controller_of(text) == made


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kl", "'kl' is not key=value; write \"kl=0.02\", \"chi2=0.05 rate=0.1\" or \"anneal=1:10 rollouts=100\"."),
        ("anneal=1:10 rollouts=3 rate=1 low=2", "'rate', 'low' is no option of anneal, which takes rollouts."),
        ("anneal=1:2:3 rollouts=5", "anneal=1:2:3: a start and an end, as in anneal=1:10."),
        ("anneal=1:0 rollouts=5", "Geometric(stop=0.0): a positive number."),
        ("kl=1 anneal=1:2", "kl and anneal are 2 controllers, and a run has one"),
    ],
)  # fmt: skip
def test_a_line_that_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError) as refused:
        controller_of(text)
    assert str(refused.value).startswith(f"control {text!r}: {said}")
