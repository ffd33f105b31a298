"""One optimiser step, and what is said of the steps on a rollout: figures by hand."""

from __future__ import annotations

import math
import subprocess
import sys
import time
import types
from typing import Any

import pytest
import torch
from torch import Tensor

import geomalign as ga
from geomalign.tasks.verifiers import mathematics, sandbox
from geomalign.training import from_pairs
from geomalign.training.step import OptimizerStep, largest_log_ratio, optimizer_step, step_metrics


def outcome(policy: Tensor | None = None) -> ga.Outcome:
    old = torch.zeros(2, 3)
    return ga.recipes.opo()(ga.Batch(old if policy is None else policy, old, reward=torch.tensor([1.0, 0.0])))


@pytest.mark.parametrize("constant", [math.inf, -math.inf, math.nan])
def test_a_loss_that_is_no_number_is_skipped_though_its_gradient_is_one(constant: float) -> None:
    parameter = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    optimizer = torch.optim.SGD([parameter], lr=0.1, momentum=0.9)
    done = optimizer_step([parameter.sum(), parameter.sum() + constant], optimizer, [parameter], clip_norm=1.0)
    assert done.skipped and math.isfinite(done.norm) and not math.isfinite(done.loss)
    assert parameter.tolist() == [3.0, 4.0] and parameter.grad is None and not optimizer.state


def test_a_gradient_that_is_no_number_is_skipped_though_its_loss_is_one() -> None:
    parameter = torch.nn.Parameter(torch.tensor([0.0, 4.0]))
    done = optimizer_step([parameter.sqrt().sum()], torch.optim.SGD([parameter], lr=0.1), [parameter], clip_norm=0)
    assert done.skipped and done.loss == 2.0 and parameter.tolist() == [0.0, 4.0]


@pytest.mark.parametrize("clip_norm, moved", [(0.0, 5.0), (10.0, 5.0), (1.0, 1.0)])
def test_a_gradient_is_cut_to_its_largest_norm(clip_norm: float, moved: float) -> None:
    parameter = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    parts = [(parameter**2).sum() / 4, (parameter**2).sum() / 4]
    done = optimizer_step(parts, torch.optim.SGD([parameter], lr=1.0), [parameter], clip_norm)
    assert (done.loss, done.norm, done.skipped) == (12.5, 5.0, False)
    assert float((parameter.detach() - torch.tensor([3.0, 4.0])).norm()) == pytest.approx(moved, rel=1e-5)


def test_a_skipped_update_is_in_no_mean() -> None:
    steps = [
        OptimizerStep(1.0, 2.0, False),
        OptimizerStep(50.0, math.inf, True),
        OptimizerStep(4.0, 6.0, False),
        OptimizerStep(70.0, 90.0, True),
    ]
    found = step_metrics(steps, [torch.zeros(())] * 4, outcome(), outcome())
    assert (found["loss"], found["grad_norm"], found["grad_norm_max"], found["skipped"]) == (2.5, 4.0, 6.0, 2.0)
    assert found["grad_per_range"] == pytest.approx(4.0 / found["drive_range"])


def test_of_skipped_updates_alone_what_is_finite_is_said() -> None:
    steps = [OptimizerStep(3.0, math.inf, True), OptimizerStep(5.0, math.inf, True)]
    found = step_metrics(steps, [torch.zeros(())], outcome(), outcome())
    assert found["loss"] == 4.0 and found["skipped"] == 2.0 and "grad_norm" not in found


def test_the_figures_of_a_rollout_by_hand() -> None:
    policy = torch.tensor([[0.1, 0.2, 0.0], [-0.3, 0.0, 0.1]])
    data = ga.Batch(policy, torch.zeros(2, 3), reward=torch.tensor([1.0, 0.0]))
    moved = outcome(policy)
    assert float(largest_log_ratio(moved)) == pytest.approx(0.3)
    found = step_metrics([OptimizerStep(1.0, 2.0, False)], [largest_log_ratio(moved)], outcome(), moved, data)
    total, drive = torch.tensor([0.3, -0.2]), ga.Escort(0.4).drive(data)
    expected = {
        "drive_range": drive.max() - drive.min(),
        "drive_std": drive.std(correction=0),
        "stiffness": 1 / drive.std(correction=0),
        "log_ratio_max": torch.tensor(0.3),
        "inactive": torch.tensor(0.0),
        "kl": (total.exp() * total - total.exp() + 1).mean(),
        "chi2": ((total.exp() - 1) ** 2).mean(),
        "ess": total.exp().sum() ** 2 / (2 * (2 * total).exp().sum()),
        "token_kl": (policy.exp() * policy - policy.exp() + 1).mean(),
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(float(value), rel=1e-9), name


@pytest.mark.parametrize("margin", [0.0, 0.5])
def test_a_pair_that_is_tied_is_not_ranked_rightly(margin: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The margins of the responses decide, whatever margin the objective asks for."""
    zero, chosen = torch.zeros(3, 1), torch.tensor([[0.7], [0.0], [-0.4]])
    objective = ga.Objective(unit=ga.Pair(margin=margin), sampling=ga.Label(0.1), optimization=ga.Logistic(0.1))
    anything: Any = types.SimpleNamespace(offline=None)
    run: Any = types.SimpleNamespace(objective=objective, policy=None, config=anything, stiffen=lambda drive: drive)
    monkeypatch.setattr(from_pairs, "_scored", lambda *given: (chosen, zero))
    batch = ga.PreferenceBatch(zero, zero, zero, zero)
    found = from_pairs._validate(run, chosen, batch, objective.drive(batch))  # type: ignore[arg-type]
    assert found["preference_accuracy_held_out"] == pytest.approx(1 / 3)
    assert found["margin_held_out"] == pytest.approx(0.1)
    softplus = torch.nn.functional.softplus(-0.1 * (chosen - margin)).mean()
    assert found["loss_held_out"] == pytest.approx(float(softplus), rel=1e-6)
    assert from_pairs._ahead(torch.tensor([0.1, 0.0, -0.1])).tolist() == [True, False, False]


# ---- a deadline is of the whole, not of each piece that arrives before it

DRIP = (
    "import sys, time\nfor _ in range(100):\n    sys.stdout.write('x')\n    sys.stdout.flush()\n    time.sleep(0.05)\n"
)


def test_a_program_that_speaks_all_the_time_is_ended_in_time() -> None:
    began = time.monotonic()
    assert sandbox.run(DRIP, ("pass",), limits=sandbox.Limits(seconds=0.6)).end == "timeout"
    assert time.monotonic() - began < 5


def test_an_answer_that_drips_is_not_waited_for() -> None:
    process = subprocess.Popen([sys.executable, "-c", DRIP], stdout=subprocess.PIPE, text=True)
    try:
        began = time.monotonic()
        with pytest.raises(TimeoutError, match=r"did not answer within 0\.6 s"):
            mathematics._line(process, 0.6)
        assert time.monotonic() - began < 5
    finally:
        process.kill()
        process.communicate()
