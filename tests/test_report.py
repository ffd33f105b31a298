"""The report says what the data carries, and nothing more."""

import csv
import itertools
import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from synthetic import comparison

from geomalign import report


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = comparison(tmp_path_factory.mktemp("comparison"))
    report.write(directory)
    return directory


def text(directory: Path) -> str:
    """The report without its figures."""
    return report.markdown(report.read(directory), {})


def test_interval_is_students() -> None:
    values = np.array([0.91, 0.97, 0.99])
    mean, half = report.interval(values)
    low, high = stats.t.interval(0.95, 2, loc=values.mean(), scale=stats.sem(values))
    assert mean - half == pytest.approx(low) and mean + half == pytest.approx(high)


def test_one_value_has_no_interval() -> None:
    assert math.isnan(report.interval(np.array([0.5]))[1])


def test_every_file_that_the_report_points_to_exists(written: Path) -> None:
    targets = re.findall(r"\]\(([^)]+)\)", (written / "report.md").read_text(encoding="utf-8"))
    assert {"figures/step-size.png", "finals.csv", "metrics.csv", "metrics.jsonl"} <= set(targets)
    for target in targets:
        assert (written / target).stat().st_size > 0, target


def test_records_hold_every_step_of_every_run(written: Path) -> None:
    lines = [json.loads(line) for line in (written / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == 24 * 61
    with (written / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(lines)
    assert float(rows[7]["grad_norm"]) == lines[7]["grad_norm"] and rows[0]["reward"] == ""
    with (written / "finals.csv").open(newline="") as file:
        assert {row["run"] for row in csv.DictReader(file)} == {line["run"] for line in lines}


def test_slots_of_every_objective_and_term_are_named(written: Path) -> None:
    table = text(written).split("## Objectives")[1].split("As formulas")[0]
    for label in ("opo", "gspo", "grpo", "dapo"):
        assert re.search(rf"\| {label} +(1× )?\| `MeanSequence\(\)` \|", table), label
    assert "+ 0.04×" in table and "ReverseKL(beta=1.0)" in table and "reference" in table


def test_how_settings_were_found_is_told(tmp_path: Path) -> None:
    directory = comparison(tmp_path)
    assert "How their options were chosen" not in text(directory)
    summary = json.loads((directory / "summary.json").read_text(encoding="utf-8"))
    summary["config"] = {"objectives": [{"name": "opo", "label": "", "tuning": "swept on seed 0"}, {"name": "grpo"}]}
    (directory / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    assert "How their options were chosen: opo: swept on seed 0.\n" in text(directory)


def test_a_controller_is_told_beside_the_slots(tmp_path: Path) -> None:
    results = report.read(comparison(tmp_path, labels=("a", "b"), rates=(1e-4,), seeds=(0,)))
    assert "controller" not in report.markdown(results, {})
    results.of("b")[0].summary.update(controller="AdaptiveStiffness(0.02)")  # type: ignore[attr-defined]
    assert "by which the drive is divided: `AdaptiveStiffness(0.02)` for b." in report.markdown(results, {})


def test_numbers_in_the_table_are_those_of_the_runs(written: Path) -> None:
    runs = [json.loads(path.read_text()) for path in (written / "runs").glob("opo-r0.0002-*/summary.json")]
    mean, half = report.interval(np.array([run["final"]["accuracy_in"] for run in runs]))
    table = text(written).split("Step size 2e-4:")[1]
    assert f"| opo | {100 * mean:.1f} ± {100 * half:.1f} |" in table


def test_a_large_consistent_difference_is_claimed(written: Path) -> None:
    findings = text(written).split("## Findings")[1].split("## Objectives")[0]
    claimed = findings.split("Without the correction")[0]
    assert re.search(r"\| 2e-4 \| level 3 \(trained on\) \| opo \| dapo \|", claimed)
    assert not re.search(r"\| 5e-5 \|", claimed)


def test_every_accuracy_is_named_by_the_levels_it_is_of(written: Path) -> None:
    results = report.read(written)
    for key, name in [
        ("accuracy_in", "level 3 (trained on)"),
        ("accuracy_out", "level 4 (only in the warm start)"),
        ("accuracy_unseen", "level 6 (never seen)"),
    ]:
        assert results.level_names(key) == name and name in text(written)
        assert all(run.final(key) == run.final(f"accuracy/{name.split()[1]}") for run in results.runs)


def test_noise_is_not_claimed(tmp_path: Path) -> None:
    """Objectives that share one mean: their scatter must not become a sentence."""
    directory = comparison(tmp_path, labels=("a", "b", "c", "d"), rates=(1e-4,), scatter=0.2)
    assert "no difference is significant at the 5 % level" in text(directory)


def test_a_difference_equal_on_every_seed_is_no_certainty(tmp_path: Path) -> None:
    results = report.read(comparison(tmp_path, labels=("a", "b"), rates=(1e-4,), seeds=(0, 1)))
    for run in results.runs:
        run.summary["final"]["accuracy_in"] = 0.5 if run.label == "a" else 0.6  # type: ignore[index]
    (difference,) = report.differences(results, ["accuracy_in"])
    assert difference.adjusted == 1.0 and not difference.excludes_zero


def test_the_rounding_of_a_subtraction_is_no_spread(tmp_path: Path) -> None:
    """0.2 − 0.1 and 0.9 − 0.8 differ in the last bits; Student's p of that would be 1e-15."""
    results = report.read(comparison(tmp_path, labels=("a", "b"), rates=(1e-4, 2e-4), seeds=(0, 1)))
    for run in results.runs:
        level = (0.1, 0.8)[run.seed] + 0.1 * (run.label == "a") + 0.1 * (run.rate > 1e-4)
        run.summary["final"]["accuracy_in"] = level  # type: ignore[index]
    assert 0.2 - 0.1 != 0.9 - 0.8
    for difference in report.differences(results, ["accuracy_in"]):
        assert difference.adjusted == 1.0 and not difference.excludes_zero
    assert "a +10.0 on every seed, which gives no interval" in report.markdown(results, {})


def test_objectives_without_two_common_seeds_are_not_compared(tmp_path: Path) -> None:
    directory = comparison(tmp_path, labels=("a", "b"), rates=(1e-4,), seeds=(0, 1, 2, 3))
    for name in ("a-r0.0001-s0", "a-r0.0001-s1", "b-r0.0001-s2", "b-r0.0001-s3"):
        shutil.rmtree(directory / "runs" / name)
    findings = text(directory).split("## Findings")[1].split("##")[0]
    assert "none are compared" in findings and "Holm" not in findings


def test_one_objective_at_one_step_size_is_not_compared(tmp_path: Path) -> None:
    assert "there is nothing to compare" in text(comparison(tmp_path, labels=("a",), rates=(1e-4,)))


def test_holms_correction_orders_and_bounds(tmp_path: Path) -> None:
    found = report.differences(report.read(comparison(tmp_path)), ["accuracy_in", "accuracy_out"])
    ranked = sorted(found, key=lambda d: d.p)
    assert ranked[0].adjusted == pytest.approx(min(1.0, len(found) * ranked[0].p))
    assert all(a.adjusted <= b.adjusted <= 1 for a, b in itertools.pairwise(ranked))
    assert all(d.adjusted >= d.p for d in found)


def test_one_seed_makes_no_claim(tmp_path: Path) -> None:
    directory = comparison(tmp_path, seeds=(0,))
    assert (
        "There is one seed, so there are no intervals" in text(directory)
        and "±" not in text(directory).split("## Final numbers")[1]
    )


def test_inactive_geometry_is_warned_of(tmp_path: Path) -> None:
    directory = comparison(tmp_path, labels=("opo", "grpo"), rates=(5e-5,), inactive=0.9)
    assert "Geometry inactive: 90% of the updates of opo" in text(directory)


def test_failed_and_missing_runs_are_named(tmp_path: Path) -> None:
    directory = comparison(tmp_path, labels=("opo", "grpo"), rates=(5e-5,))
    shutil.rmtree(directory / "runs" / "grpo-r5e-05-s2")
    top = json.loads((directory / "summary.json").read_text())
    top["runs"] = [run for run in top["runs"] if run["name"] != "grpo-r5e-05-s2"]
    top["failed"] = {"grpo-r5e-05-s2": "ValueError: no"}
    (directory / "summary.json").write_text(json.dumps(top))
    assert "Run grpo-r5e-05-s2 failed" in text(directory) and "seeds are missing for grpo at 5e-5" in text(
        directory
    ).replace("Seeds", "seeds")


def with_config(directory: Path, **config: object) -> Path:
    """The comparison with this configuration in its summary."""
    top = json.loads((directory / "summary.json").read_text(encoding="utf-8"))
    (directory / "summary.json").write_text(json.dumps({**top, "config": config}), encoding="utf-8")
    return directory


@pytest.mark.parametrize("lost", [("b",), ("a", "b")], ids=["the objective of one run", "runs of both"])
def test_an_unfinished_comparison_says_what_is_missing(tmp_path: Path, lost: tuple[str, ...]) -> None:
    directory = comparison(tmp_path, labels=("a", "b"), rates=(1e-4,), seeds=(0, 1))
    (directory / "summary.json").unlink()
    names = [f"{label}-r0.0001-s1" for label in lost] + ["b-r0.0001-s0"]
    for name in names:
        shutil.rmtree(directory / "runs" / name)
    plan = {"objectives": [{"name": "a"}, {"name": "b"}], "rates": [1e-4], "seeds": [0, 1]}
    (directory / "config.json").write_text(json.dumps(plan), encoding="utf-8")
    found = text(directory)
    assert f"{4 - len(names)} of 4 runs: " in found
    warning = next(line for line in found.splitlines() if "comparison is unfinished" in line)
    assert all(name in warning for name in names) and "a-r0.0001-s0" not in warning


def test_an_inactive_run_is_warned_of_once(tmp_path: Path) -> None:
    directory = comparison(tmp_path, labels=("opo", "grpo"), rates=(5e-5,), inactive=1.0)
    top = json.loads((directory / "summary.json").read_text())
    names = ["opo-r5e-05-s0", "elsewhere"]
    top["warnings"] = [f"{name}: geometry inactive: every update" for name in names]
    (directory / "summary.json").write_text(json.dumps(top))
    warnings = [line for line in text(directory).splitlines() if "inactive" in line]
    assert len(warnings) == 3 and "elsewhere" in warnings[2].lower()


def test_of_a_given_model_nobody_knows_what_it_has_seen(tmp_path: Path) -> None:
    directory = comparison(tmp_path, labels=("opo",), rates=(5e-5,))
    results = report.read(with_config(directory, run={"model": {"path": "a-model"}}))
    assert results.level_names("accuracy_unseen") == "level 6 (not trained on here)"
    assert "never seen" not in text(directory)


def test_a_single_run_names_its_levels(tmp_path: Path) -> None:
    directory = comparison(tmp_path / "many", labels=("opo",), rates=(5e-5,), seeds=(0,))
    single = shutil.copytree(directory / "runs" / "opo-r5e-05-s0", tmp_path / "one")
    (single / "config.json").write_text(json.dumps({"model": {"path": "a-model"}}), encoding="utf-8")
    found = text(single)
    assert "6.0% on level 3 (trained on)" in found and "level 6 (not trained on here)" in found
    assert found.splitlines()[2].startswith("1 run: 1 objective × 1 step size × 1 seed, 60 iterations each")


def test_offline_runs_are_as_long_as_their_pairs(tmp_path: Path) -> None:
    results = report.read(comparison(tmp_path, labels=("dpo",), rates=(5e-5,), seeds=(0, 1)))
    for run in results.runs:
        run.summary.update(mode="offline", iterations=40 + run.seed)  # type: ignore[attr-defined]
    assert "40 to 41 optimiser steps each" in report.markdown(results, {})


def test_every_figure_that_is_drawn_is_shown(written: Path) -> None:
    from geomalign.report.figures import FIGURES

    names = {"step-size", "time", *(name for name, *_ in FIGURES)}
    shown = report.markdown(report.read(written), {name: (f"figures/{name}.png", "") for name in names})
    assert all(f"(figures/{name}.png)" in shown for name in names)


def test_evaluations_say_on_how_many_prompts(tmp_path: Path) -> None:
    directory = comparison(tmp_path, labels=("opo",), rates=(5e-5,), seeds=(0,), iterations=2)
    task = {"eval_prompts": 512, "eval_interim_prompts": 128}
    report.write(with_config(directory, run={"task": task}))
    learning = (directory / "report.md").read_text(encoding="utf-8").split("## Learning")[1]
    assert (
        "on 512 prompts per level before training and at the end, and on the first 128 of them in between" in learning
    )


def test_values_that_were_not_measured_are_left_out(tmp_path: Path) -> None:
    directory = comparison(tmp_path, labels=("opo",), rates=(5e-5,), seeds=(0, 1))
    for path in directory.glob("runs/*/metrics.jsonl"):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        for line in lines:
            line.pop("entropy", None)
            line["kl"] = math.nan
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for path in directory.glob("runs/*/summary.json"):
        summary = json.loads(path.read_text())
        summary["final"].pop("entropy"), summary["final"].update(kl=math.nan)
        path.write_text(json.dumps(summary))
    (directory / "summary.json").unlink()  # an unfinished comparison has none
    table = text(directory).split("## Final numbers")[1]
    assert "| entropy |" not in table and "nan" not in table


@pytest.mark.parametrize("graded", [False, True])
def test_mean_rewards_are_shown_where_they_say_more_than_accuracies(graded: bool, tmp_path: Path) -> None:
    directory = comparison(tmp_path, labels=("opo",), rates=(5e-5,), seeds=(0, 1), iterations=20)
    (directory / "summary.json").unlink()

    def measured(row: dict[str, float]) -> None:
        accuracies = [key for key in row if key.startswith("accuracy")]
        row.update({key.replace("accuracy", "greedy_reward"): row[key] + 0.3 * graded for key in accuracies})

    for run in directory.glob("runs/*"):
        summary, lines = json.loads((run / "summary.json").read_text()), (run / "metrics.jsonl").read_text()
        rows = [json.loads(line) for line in lines.splitlines()]
        for row in (summary["final"], *rows):
            measured(row)
        (run / "summary.json").write_text(json.dumps(summary))
        (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    told = text(directory)
    assert ("level 3, reward" in told) is graded
    assert "greedy response has a reward of at least 1" in " ".join(told.split())


def test_figures_come_in_the_formats_that_are_asked_for(tmp_path: Path) -> None:
    """The report shows the first; equal data give equal PDF files."""
    for name in "ab":
        report.write(
            comparison(tmp_path / name, labels=("opo",), rates=(5e-5,), seeds=(0,), iterations=2), ["pdf", "svg"]
        )
    one, two = (sorted((tmp_path / name / "figures").iterdir()) for name in "ab")
    assert {path.suffix for path in one} == {".pdf", ".svg"} and len({path.stem for path in one}) == len(one) / 2
    assert [path.read_bytes() for path in one if path.suffix == ".pdf"] == [
        path.read_bytes() for path in two if path.suffix == ".pdf"
    ]
    assert next(path for path in one if path.suffix == ".pdf").read_bytes()[:5] == b"%PDF-"
    assert "(figures/learning.pdf)" in (tmp_path / "a" / "report.md").read_text(encoding="utf-8")


def test_a_single_run_has_a_report_too(tmp_path: Path) -> None:
    directory = comparison(tmp_path / "many", labels=("opo",), rates=(5e-5,), seeds=(0,))
    single = shutil.copytree(directory / "runs" / "opo-r5e-05-s0", tmp_path / "one")
    before = (single / "metrics.jsonl").read_bytes()
    assert report.write(single).read_text(encoding="utf-8").startswith("# Training with opo")
    assert (single / "metrics.jsonl").read_bytes() == before, "the run's own, in which its checkpoint says where it is"
    assert (single / "metrics.csv").read_text(encoding="utf-8").startswith("run,label,rate,seed,step")


def test_nothing_finished_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no finished run"):
        report.write(tmp_path)


def test_equal_data_gives_equal_bytes(tmp_path: Path) -> None:
    first, second = (comparison(tmp_path / name, labels=("opo",), rates=(5e-5,), iterations=2) for name in "ab")
    for directory in (first, second):
        report.write(directory)
    assert (first / "report.md").read_bytes() == (second / "report.md").read_bytes()
    for figure in (first / "figures").iterdir():
        assert figure.read_bytes() == (second / "figures" / figure.name).read_bytes(), figure.name


def test_holms_correction_is_a_step_down_and_not_bonferronis(tmp_path: Path) -> None:
    """The smallest of m values counts m times, the next m − 1 times, the largest once; the results are in order."""
    found = report.differences(report.read(comparison(tmp_path)), ["accuracy_in", "accuracy_out"])
    assert len(found) > 2 and len({d.p for d in found}) == len(found)
    before = 0.0
    for place, difference in enumerate(sorted(found, key=lambda d: d.p)):
        before = max(before, min(1.0, (len(found) - place) * difference.p))
        assert difference.adjusted == pytest.approx(before, rel=1e-12)
    assert any(d.adjusted < min(1.0, len(found) * d.p) - 1e-9 for d in found)
