"""The harness of the benchmark: what it counts, what it refuses, and that its page is made of its records."""

import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.bench import report
from tests.bench.measure import Compiled, alternate, disagreement, peak
from tests.bench.targets import TARGETS, Records, Target, faster

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "results" / "performance"


def eager(graph: Any, inputs: Any) -> Any:
    return graph


def case(**seconds: list[float]) -> dict[str, Any]:
    methods = {name: {"cpu": times, "wall": times} for name, times in seconds.items()}
    return {"case": "c", "threads": 1, "size": {}, "methods": methods}


def test_the_page_is_made_of_the_records() -> None:
    whole = json.loads((PAGE / "records.json").read_text(encoding="utf-8"))
    again = "run `make bench` and commit docs/results/performance"
    assert (PAGE / "index.md").read_text(encoding="utf-8") == report.markdown(whole), again


def test_every_target_was_measured() -> None:
    records = Records(json.loads((PAGE / "records.json").read_text(encoding="utf-8"))["records"])
    assert [t.what for t in TARGETS if t.find(records) is None] == []


def test_methods_take_turns_in_both_orders() -> None:
    order: list[str] = []
    found = alternate({name: lambda name=name: order.append(name) for name in "ab"}, 0.0, (4, 4))  # type: ignore[misc]
    assert all(len(times) == 4 for method in found.values() for times in method.values())
    # One call of each to count repetitions, then ab, ba, ab, ba; two turns of one method that meet look like one.
    assert "".join(name for name, _ in itertools.groupby(order)) == "abababa"


def test_a_ratio_is_taken_round_by_round() -> None:
    figure = faster(case(ours=[1.0, 10.0, 2.0], peer=[2.0, 20.0, 6.0]), "ours", "peer")
    assert (figure.value, figure.low, figure.high) == (2.0, 2.0, 2.5)


@pytest.mark.parametrize(("most", "met"), [(False, True), (True, False)])
def test_a_target_is_a_least_or_a_most(most: bool, met: bool) -> None:
    figure = faster(case(ours=[1.0], peer=[3.0]), "ours", "peer")
    assert Target("w", "p", lambda records: None, 2.0, most=most).met(figure) is met


def test_one_graph_per_shape_is_counted() -> None:
    double = Compiled(lambda x: 2 * x, "double", eager)
    for size in (2, 3, 2):
        assert torch.equal(double(torch.ones(size)), torch.full((size,), 2.0))
    assert double.graphs == 2


def test_a_recompilation_for_a_known_shape_fails() -> None:
    settings = {"scale": 1}
    scaled = Compiled(lambda x: settings["scale"] * x, "scaled", eager)
    scaled(torch.ones(2))
    settings["scale"] = 2
    with pytest.raises(RuntimeError, match="scaled was compiled 2 times for 1 shapes"):
        scaled(torch.ones(2))


def test_a_graph_break_fails() -> None:
    def broken(x: torch.Tensor) -> torch.Tensor:
        torch._dynamo.graph_break()
        return 2 * x

    with pytest.raises(Exception, match="graph_break"):
        Compiled(broken, "broken", eager)(torch.ones(2))


def test_the_peak_is_what_a_call_takes_at_most() -> None:
    def call() -> torch.Tensor:
        first = torch.ones(2**24, dtype=torch.float32)  # 64 MiB, more than the allocator ever keeps
        second = first + 1
        return second[:1].clone()

    assert 120 < peak(call) < 150


def test_methods_that_disagree_are_found() -> None:
    found = disagreement({"a": lambda: (torch.ones(2),), "b": lambda: (torch.tensor([1.0, 2.0]),)})
    assert found["a"] == 0.0 and found["b"] == pytest.approx(0.5**0.5)


@pytest.mark.slow
def test_the_benchmark_runs_from_end_to_end(tmp_path: Path) -> None:
    out = tmp_path / "records.json"
    command = [sys.executable, "-m", "tests.bench", "run", "--preset", "quick", "--out", str(out)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=900)
    whole = json.loads(out.read_text(encoding="utf-8"))
    assert {"objective", "projection", "head"} <= {record["part"] for record in whole["records"]}
    report.write(whole, tmp_path)
    assert (tmp_path / "tokens.png").exists() and (tmp_path / "groups.png").exists()


def test_the_benchmark_is_not_run_without_its_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.bench import __main__ as program

    monkeypatch.setattr(program, "_version", lambda name: None)
    with pytest.raises(SystemExit):
        program.main(["run", "--preset", "short"])
