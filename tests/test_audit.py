"""An audit says of a dump what was put into it, whatever the dump calls its columns."""

import contextlib
import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

import geomalign as ga
from geomalign import plotting
from geomalign.audit import Audit, audit, columns, read, record
from geomalign.audit.rows import as_batch


def rollouts(scale: float, steps: int = 3, groups: int = 16, size: int = 8) -> list[ga.Batch]:
    """Responses of 1 to 12 tokens; Δ is normal with standard deviation `scale`; half the groups have equal rewards."""
    result = []
    for _ in range(steps):
        rows = groups * size
        mask = torch.arange(12) < torch.randint(1, 13, (rows, 1))
        old = -torch.rand(rows, 12)
        group = torch.arange(groups).repeat_interleave(size)
        reward = torch.where(group % 2 == 0, torch.randint(2, (rows,)), 1).double()
        policy = old + scale * torch.randn(rows, 12)
        result.append(ga.Batch(policy, old, mask, reward=reward, group=group, behavior=old + 0.01))
    return result


@pytest.fixture
def dump(tmp_path: Path) -> Path:
    for k, batch in enumerate(rollouts(0.2)):
        record(tmp_path / "run", batch, rollout=k, step=k)
    return tmp_path / "run"


def test_facts_are_those_of_the_rows(dump: Path) -> None:
    found = audit(dump)
    assert found.facts["responses"] == 3 * 16 * 8
    assert found.facts["rollouts"] == 3
    assert found.facts["prompts"] == 3 * 16
    assert found.facts["tokens_at_the_anchor"] < 0.01
    assert found.facts["log_ratio_abs_quantile_0.5"] == pytest.approx(0.2 * 0.6745, rel=0.1)
    # Of normal Δ with sd σ: E[(t−1)²] under the anchor's samples, and KL(π_k‖π) ≈ E[t − 1 − Δ].
    s = 0.2**2
    assert found.facts["kl_reverse"] == pytest.approx(math.exp(s / 2) - 1, rel=0.15)
    assert found.facts["chi2"] == pytest.approx(math.exp(2 * s) - 2 * math.exp(s / 2) + 1, rel=0.15)
    assert found.facts["ess"] == pytest.approx(math.exp(s - 2 * s), rel=0.02)
    assert found.facts["responses_in_groups_of_equal_rewards"] == pytest.approx(0.5, abs=0.02)
    assert found.facts["engine_log_ratio_abs_mean"] == pytest.approx(0.01, rel=1e-3)


def test_an_engine_that_truncates_is_told_from_one_that_is_noisy(tmp_path: Path) -> None:
    """Its log-probabilities are too large by −log of the kept mass; noise has a mean ratio of one."""
    said = {}
    for name, mass, noise in (("top_p", 0.895, 0.05), ("noisy", 1.0, 0.05)):
        for k, batch in enumerate(rollouts(0.2)):
            unbiased = batch.old + noise * torch.randn_like(batch.old) + 0.5 * noise**2
            moved = dataclasses.replace(batch, behavior=unbiased - math.log(mass))
            record(tmp_path / name, moved, rollout=k, step=k)
        found = audit(tmp_path / name)
        assert found.facts["engine_ratio_mean"] == pytest.approx(mass, abs=0.01)
        said[name] = "\n".join(found.advice)
    assert "has the mean 0.89" in said["top_p"] and "It truncates (top-p, top-k)" in said["top_p"]
    assert "truncates" not in said["noisy"]


def test_the_metrics_of_a_run_are_no_dump(tmp_path: Path) -> None:
    rows = [{"step": 0, "accuracy": 0.5}, {"step": 1, "reward": 0.5, "kl": 0.1, "time/step": 1.0}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for place in (tmp_path, tmp_path / "metrics.jsonl"):
        with pytest.raises(
            ValueError, match=r"metrics\.jsonl is a metrics file of `geomalign train` \(one row per step"
        ):
            audit(place)


def test_suggested_stiffness_meets_its_radius(dump: Path) -> None:
    found = audit(dump, radius=0.02)
    for radius, mu in found.stiffness.items():
        assert float(((found.drive / mu) ** 2).mean()) == pytest.approx(radius, rel=1e-6)
    assert any("μ ≈" in sentence and "0.02" in sentence for sentence in found.advice)


def test_objectives_are_judged_by_their_gradient(dump: Path) -> None:
    objectives = {
        "tight": ga.recipes.ppo(epsilon=1e-3),
        "loose": ga.recipes.ppo(epsilon=10.0),
        "stiff": ga.recipes.opo(mu=100.0),
    }
    found = audit(dump, objectives=objectives).objectives
    assert found["tight"]["clipped"] > 0.3 > found["loose"]["clipped"] == 0
    # Half of the tokens with a drive have moved the way it pulls, beyond so narrow a clip.
    assert found["tight"]["tokens_without_gradient"] == pytest.approx(0.5, abs=0.05)
    assert found["loose"]["cosine_with_at_anchor"] > 0.9
    assert found["stiff"]["gradient_against_at_anchor"] > 1 > found["stiff"]["cosine_with_at_anchor"]
    assert found["stiff"]["stiffness_over_sd_of_drive"] > 100


def test_on_policy_runs_are_called_inactive(tmp_path: Path) -> None:
    record(tmp_path / "run.jsonl", rollouts(0.0, steps=1)[0])
    found = audit(tmp_path / "run.jsonl")
    assert found.facts["tokens_at_the_anchor"] == 1.0
    assert found.advice[0].startswith("Geometry inactive: 100%")
    assert found.objectives["grpo"]["gradient_against_at_anchor"] == pytest.approx(1.0)


def test_other_names_for_the_same_columns(tmp_path: Path) -> None:
    """verl's names, a mask, an engine that could not score a token, and rollouts told apart by step."""
    rows = [
        {
            "uid": f"q{k // 4}",
            "step": step,
            "score": float(k % 2),
            "old_log_probs": [-1.0, -2.0, -3.0],
            "log_probs": [-1.1, -2.0, -9.0],
            "rollout_log_probs": [-1.0, None, -3.0],
            "response_mask": [1, 1, 0],
        }
        for step in (1, 2)
        for k in range(8)
    ]
    path = tmp_path / "dump.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    found = audit(path)
    assert (found.facts["prompts"], found.facts["rollouts"], found.facts["tokens"]) == (4, 2, 16)
    assert found.facts["log_ratio_abs_max"] == pytest.approx(0.1)
    assert found.facts["sd_of_centred_reward"] == pytest.approx(0.5)


def test_verl_generations(tmp_path: Path) -> None:
    """`rollout_data_dir`: texts and scores, one file per step; the columns that verl 0.9 writes."""
    for step in (1, 2):
        rows = [
            {"input": f"prompt {k // 2}", "output": "…", "gts": "7", "score": float(k == 0), "step": step, "acc": 0.5}
            for k in range(4)
        ]
        (tmp_path / f"{step}.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    found = audit(tmp_path)
    assert (found.facts["responses"], found.facts["rollouts"], found.facts["prompts"]) == (8, 2, 4)
    assert found.facts["responses_in_groups_of_equal_rewards"] == 0.5
    assert found.facts["reward_mean"] == 0.25
    assert not found.objectives


def parquet(path: Path, table: dict[str, list[Any]]) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="parquet needs pyarrow: pip install geomalign[tasks]")
    writer = pytest.importorskip("pyarrow.parquet")
    path.parent.mkdir(parents=True, exist_ok=True)
    writer.write_table(pyarrow.table(table), path)


def test_parquet_holds_what_json_lines_hold(dump: Path, tmp_path: Path) -> None:
    """The same rows in both formats make the same report: lists of tokens, numbers, ragged rows."""
    rows = read(dump)
    parquet(tmp_path / "other" / "rows.parquet", {name: [row[name] for row in rows] for name in rows[0]})
    assert audit(tmp_path / "other").to_json().replace(str(tmp_path / "other"), "") == audit(dump).to_json().replace(
        str(dump), ""
    )


def completions(step: int, first: list[float | None], second: list[float | None], **more: Any) -> dict[str, Any]:
    """TRL's table of one step: one column per reward function, here one whose name is also one of ours."""
    size = len(first)
    table = {"step": [step] * size, "prompt": [f"p{k // 2}" for k in range(size)], "completion": ["…"] * size}
    sums = [(a or 0.0) + (b or 0.0) for a, b in zip(first, second)]
    pairs = torch.tensor(sums, dtype=torch.float32).view(-1, 2)
    advantage = (pairs - pairs.mean(-1, keepdim=True)) / (pairs.std(-1, keepdim=True) + 1e-4)
    return table | {"reward": first, "format": second} | more | {"advantage": advantage.flatten().tolist()}


def test_trl_completions(tmp_path: Path) -> None:
    """`completions_*.parquet`: reward functions are summed, whatever their names; the advantage is none of them."""
    folder = tmp_path / "completions"
    parquet(folder / "completions_00001.parquet", completions(1, [1.0, 0.0, 1.0, 1.0], [0.5, 0.0, 0.5, 0.5]))
    found = audit(folder)
    assert found.facts["reward_mean"] == pytest.approx(4.5 / 4)
    assert found.facts["responses_in_groups_of_equal_rewards"] == 0.5
    assert found.advice[0].startswith("No log-probabilities") and "record=" in found.advice[0]
    weighed = audit(folder, rewards={"reward": 2.0, "format": -1.0})
    assert weighed.facts["reward_mean"] == pytest.approx((2 * 3 - 1.5) / 4)
    for named in ({"accuracy": 1.0}, {"reward": 1.0, "accuracy": 1.0}):
        with pytest.raises(ValueError, match="no rewards in the columns accuracy; there are"):
            audit(folder, rewards=named)


def test_trl_rewards_that_are_missing(tmp_path: Path) -> None:
    """A function that cannot score a response leaves a hole; a response that none could score is in no group."""
    path = tmp_path / "completions_00001.parquet"
    parquet(path, completions(1, [1.0, None, 0.0, 4.0], [None, None, 0.5, None]))
    found = audit(path)
    assert found.facts["reward_mean"] == pytest.approx((1.0 + 0.5 + 4.0) / 3)
    assert found.facts["sd_of_centred_reward"] == pytest.approx(math.sqrt(2 * 1.75**2 / 3))


def test_trl_repeats_the_table_of_a_rollout(tmp_path: Path) -> None:
    """With two steps per rollout the same rows come twice, under another step."""
    for step, best in ((1, 1.0), (2, 1.0), (3, 2.0), (4, 2.0)):
        parquet(tmp_path / f"completions_{step:05d}.parquet", completions(step, [best, 0.0], [0.0, 0.0]))
    found = audit(tmp_path)
    assert (found.facts["rollouts"], found.facts["responses"], found.facts["reward_mean"]) == (2, 4, 0.75)


def test_equal_rewards_have_no_number_to_print(tmp_path: Path) -> None:
    """Without a spread of the drive there is no stiffness relative to it: a dash, where a number is not finite."""
    old = -torch.rand(8, 5)
    record(tmp_path / "run", ga.Batch(old + 0.1 * torch.randn(8, 5), old, reward=torch.ones(8)))
    found = audit(tmp_path / "run")
    assert math.isnan(found.objectives["grpo"]["stiffness_over_sd_of_drive"])
    assert "| – |" in found.text()


def test_objectives_of_pairs_are_refused(dump: Path) -> None:
    with pytest.raises(ValueError, match="mine compares pairs"):
        audit(dump, objectives={"mine": ga.recipes.dpo()})


def test_a_broken_parquet_file_says_so(tmp_path: Path) -> None:
    parquet(tmp_path / "whole.parquet", {"reward": [1.0, 0.0]})
    (tmp_path / "half.parquet").write_bytes((tmp_path / "whole.parquet").read_bytes()[:40])
    with pytest.raises(ValueError, match=r"half\.parquet is no parquet file: .* without its end"):
        audit(tmp_path / "half.parquet")


def test_files_are_read_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    """verl names its files after the step: 2 comes before 10."""
    for step in (1, 2, 10):
        row = {"input": "p", "output": "…", "score": float(step), "step": step}
        (tmp_path / f"{step}.jsonl").write_text(json.dumps(row))
    assert [row["reward"] for row in read(tmp_path)] == [1.0, 2.0, 10.0]


def test_report_and_figure(dump: Path, tmp_path: Path) -> None:
    found = audit(dump)
    text = found.text()
    assert "| kl reverse |" in text and "| grpo |" in text and "| E[u²] | TV at most | μ |" in text
    again = json.loads(found.to_json())
    assert again["facts"] == found.facts and again["objectives"] == found.objectives
    png = found.figure(tmp_path / "audit.png")
    assert png.read_bytes().startswith(b"\x89PNG") and png.stat().st_size > 5_000


def test_a_figure_without_log_probabilities(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    path.write_text('{"prompt": "a", "score": 1.0}\n{"prompt": "a", "score": 0.0}\n')
    found = audit(path)
    assert isinstance(found, Audit) and not found.log_ratio.numel()
    assert found.figure(tmp_path / "audit.png").exists()


def test_nan_rewards_and_empty_rows_are_left_out(tmp_path: Path) -> None:
    rows = [
        {"policy": [-1.0], "old": [-1.0], "reward": 1.0, "group": 0},
        {"policy": [-1.0], "old": [-1.0], "reward": 0.0, "group": 0},
        {"policy": [-5.0], "old": [-1.0], "reward": float("nan"), "group": 0},
        {"policy": [], "old": [], "reward": 9.0, "group": 0},
    ]
    path = tmp_path / "dump.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    found = audit(path)
    assert found.facts["reward_mean"] == 0.5 and found.facts["log_ratio_abs_max"] == 0.0


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("", "no rows in"),
        ('{"policy": [-1.0]\n', "line 1 of .* is no JSON"),
        ("[1, 2]\n", "is a list, not an object"),
        (
            '{"text": "hello"}\n',
            "neither rewards nor log-probabilities among the columns rollout, text|among the columns",
        ),
        ('{"old": [-1.0], "reward": 1.0}\n', "`old` but no `policy`"),
        (
            '{"policy": [-1.0, -2.0], "old": [-1.0], "reward": 1.0}\n',
            r"row 1 of .*dump\.jsonl has 2 tokens in `policy` but 1 in `old`",
        ),
    ],
)
def test_what_cannot_be_read_says_why(tmp_path: Path, lines: str, message: str) -> None:
    path = tmp_path / "dump.jsonl"
    path.write_text(lines)
    with pytest.raises(ValueError, match=message):
        audit(path)
    with pytest.raises(ValueError, match="there is no file"):
        read(tmp_path / "absent.jsonl")


def test_ranks_write_apart(tmp_path: Path) -> None:
    for rank in (0, 1):
        record(tmp_path / "out", rollouts(0.1, steps=1)[0], rank=rank)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["rollouts.1.jsonl", "rollouts.jsonl"]
    assert audit(tmp_path / "out").facts["responses"] == 2 * 16 * 8


# ---------------------------------------------------------------------- dumps as strangers have them

ROW = {"policy": [-1.0, -2.0], "old": [-1.1, -1.9], "reward": 0.0}


def dumped(tmp_path: Path, rows: list[dict[str, Any]], name: str = "dump.jsonl") -> Path:
    path = tmp_path / name
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def rewarded(*rewards: Any, **more: Any) -> list[dict[str, Any]]:
    """Rows in groups of two with these rewards."""
    return [{**ROW, "group": index // 2, "reward": reward, **more} for index, reward in enumerate(rewards)]


def test_a_dead_run_has_a_report(tmp_path: Path) -> None:
    """All rewards are equal, so that nothing pulls: the report says so, and JSON holds no NaN."""
    found = audit(dumped(tmp_path, rewarded(0.0, 0.0, 0.0, 0.0)))
    assert found.facts["responses_in_groups_of_equal_rewards"] == 1.0 and found.facts["sd_of_centred_reward"] == 0.0
    assert any(sentence.startswith("100% of the responses are in groups of equal rewards") for sentence in found.advice)
    assert not any("Suggested stiffness" in sentence for sentence in found.advice)
    assert "| – |" in found.text() and "nan" not in found.text()

    def refuse(word: str) -> None:
        raise AssertionError(word)

    again = json.loads(found.to_json(), parse_constant=refuse)
    assert again["objectives"]["grpo"]["stiffness_over_sd_of_drive"] is None
    assert found.figure(tmp_path / "dead.png").exists()


@pytest.mark.parametrize("value", [-math.inf, math.nan, None])
@pytest.mark.parametrize("column", ["policy", "old"])
def test_a_token_without_a_log_probability_is_left_out_and_counted(column: str, value: Any, tmp_path: Path) -> None:
    rows = rewarded(0.0, 1.0, 0.0, 1.0)
    whole = audit(dumped(tmp_path, rows))
    rows[0] = {**rows[0], column: [-1.0, value]}
    found = audit(dumped(tmp_path, rows))
    assert (whole.facts["tokens"], found.facts["tokens"], found.facts["tokens_left_out"]) == (8, 7, 1)
    assert math.isfinite(found.facts["kl"]) and found.facts["log_ratio_abs_max"] == pytest.approx(0.1)
    assert any("1 tokens are left out" in sentence for sentence in found.advice)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, None])
def test_a_reward_that_is_no_number_is_left_out_and_counted(value: Any, tmp_path: Path) -> None:
    found = audit(dumped(tmp_path, rewarded(0.0, 1.0, value, 4.0)))
    assert found.facts["rewards_left_out"] == 1 and found.facts["reward_mean"] == pytest.approx(5 / 3)
    assert any("1 of 4 responses are left out: their reward is missing, NaN or infinite" in s for s in found.advice)
    assert found.drive.isfinite().all() and found.drive.tolist()[-1] == 0.0  # alone in its group
    unknown = audit(dumped(tmp_path, rewarded(value, value)))  # where no reward is known, the steps still are
    assert "reward_mean" not in unknown.facts and unknown.facts["tokens"] == 4


def test_rewards_of_every_shape(tmp_path: Path) -> None:
    """A truth value is 0 or 1, a list is one number per token."""
    assert audit(dumped(tmp_path, rewarded(True, False))).facts["reward_mean"] == 0.5
    assert audit(dumped(tmp_path, rewarded([0.0, 1.0], [0.0, 0.0]))).facts["reward_mean"] == 0.5
    assert audit(dumped(tmp_path, rewarded(0.1, 0.1))).facts["reward_mean"] == 0.1  # in float64
    assert audit(dumped(tmp_path, rewarded(10**400, 1.0))).facts["rewards_left_out"] == 1
    found = audit(dumped(tmp_path, rewarded(0.0, 1.0, score=7.0)))
    assert any("`reward` was read from `reward`, and not from `score`" in sentence for sentence in found.advice)
    for options in ({"rewards": {"reward": math.nan}}, {"radius": 0.0}):
        with pytest.raises(ValueError, match=r"audit\((reward=nan|radius=0\.0)\): a (finite|positive) number"):
            audit(tmp_path / "dump.jsonl", **options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mask": [1, 1, 0]}, r"row 2 of .*dump\.jsonl has 2 tokens but 3 entries in its mask"),
        ({"mask": [1]}, "has 2 tokens but 1 entries in its mask"),
        ({"mask": [1, 2]}, r"row 2 of .*, column 'mask' holds 2: a mask is of 0 and 1"),
        ({"mask": ["1", "0"]}, "column 'mask' holds '1'"),
        ({"policy": None}, r"row 2 of .*dump\.jsonl has no policy, and other rows have"),
        ({"group": None}, r"row 2 of .*dump\.jsonl has no group, and other rows have"),
        ({"policy": [[-1.0, -2.0]], "old": [[-1.0, -2.0]], "mask": [1]}, "column 'policy' holds the list"),
        ({"policy": ["-1.0", -2.0]}, r"row 2 of .*, column 'policy' holds the str '-1\.0', and a number is expected"),
        ({"reward": "1.0"}, r"row 2 of .*, column 'reward' holds the str '1\.0', and a number is expected"),
        ({"reward": {"score": 1.0}}, r"row 2 of .*, column 'reward' holds the dict .*--reward NAME"),
    ],
)
def test_a_row_that_is_none_is_named(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    rows = rewarded(0.0, 1.0, mask=[1, 1])
    rows[1] |= change
    with pytest.raises(ValueError, match=message):
        audit(dumped(tmp_path, rows))


@pytest.mark.parametrize("change", [{"policy": [], "old": []}, {"mask": [0, 0]}])
def test_responses_without_a_token(change: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no response of .* has a token that counts: of 4, .* empty or masked"):
        audit(dumped(tmp_path, rewarded(0.0, 1.0, 0.0, 1.0, **change)))


def test_probabilities_are_no_log_probabilities(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`policy` holds no number below 0 and some above, up to 0\.9"):
        audit(dumped(tmp_path, rewarded(0.0, 1.0, policy=[0.9, 0.2])))
    found = audit(dumped(tmp_path, rewarded(0.0, 1.0, policy=[-0.9, 0.2])))
    assert any(sentence.startswith("2 log-probabilities are above 0.1") for sentence in found.advice)


def test_numbers_without_a_name_are_no_rewards(tmp_path: Path) -> None:
    rows = [{"prompt": "q", "response_length": n, "accuracy": n / 100, "temperature": 1.0} for n in (10, 100)]
    with pytest.raises(ValueError, match=r"neither rewards .*columns accuracy, prompt, response_length.*--reward NAME"):
        audit(dumped(tmp_path, rows))
    found = audit(dumped(tmp_path, rows), rewards={"accuracy": 1.0})
    assert found.facts["reward_mean"] == pytest.approx(0.55)
    assert any("reward from `accuracy`" in sentence for sentence in found.advice)


# ---------------------------------------------------------------------- what TRL and verl write


def trl(path: Path, scale: str, rewards: dict[str, list[float]], extra: dict[str, list[Any]], step: int = 1) -> None:
    """TRL 1.16's table of one step with groups of four, `scale_rewards=` and columns of `log_extra`."""
    sums = torch.tensor(list(rewards.values()), dtype=torch.float32).sum(0).view(-1, 4)
    spread = {"group": sums.std(-1, keepdim=True), "batch": sums.std(), "none": torch.tensor(1 - 1e-4)}[scale]
    advantage = (sums - sums.mean(-1, keepdim=True)) / (spread + 1e-4)
    size = sums.numel()
    table: dict[str, list[Any]] = {
        "step": [step] * size,
        "prompt": [[{"role": "user", "content": f"p{k // 4}"}] for k in range(size)],
        "completion": [[{"role": "assistant", "content": "…"}] for _ in range(size)],
    }
    parquet(
        path / f"completions_{step:05d}.parquet", table | rewards | extra | {"advantage": advantage.flatten().tolist()}
    )


ACCURACY, FORMAT = [1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0], [0.5, 0.5, 0.0, 0.0, 0.5, 0.5, 0.5, 0.5]
LENGTHS, ENTROPY = [5, 133, 20, 7, 9, 8, 30, 41], [0.31, 0.2, 0.25, 0.4, 0.1, 0.9, 0.7, 0.3]


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_the_reward_functions_of_trl_are_told_by_its_advantages(scale: str, tmp_path: Path) -> None:
    trl(tmp_path, scale, {"accuracy": ACCURACY, "format": FORMAT}, {"tokens": LENGTHS, "entropy": ENTROPY})
    found = audit(tmp_path)
    assert found.facts["reward_mean"] == pytest.approx((3 + 3) / 8)
    assert any("reward from `accuracy + format`" in sentence for sentence in found.advice)
    trl(tmp_path, scale, {"accuracy": ACCURACY}, {"entropy": ENTROPY, "unused": [0.0] * 8})
    assert audit(tmp_path).facts["reward_mean"] == pytest.approx(3 / 8)


def test_steps_of_trl_are_judged_together(tmp_path: Path) -> None:
    """At the second step a function returns the same for all, which tells nothing; at the first it does not."""
    trl(tmp_path, "group", {"accuracy": ACCURACY, "format": FORMAT}, {"entropy": ENTROPY}, step=1)
    trl(tmp_path, "group", {"accuracy": ACCURACY, "format": [0.5] * 8}, {"entropy": ENTROPY}, step=2)
    assert audit(tmp_path).facts["reward_mean"] == pytest.approx((3 + 3 + 3 + 4) / 16)


def test_what_may_or_may_not_be_a_reward_is_asked_for(tmp_path: Path) -> None:
    """A dead run, a column that is the same everywhere, and weights that the table lacks."""
    for rewards, extra in [
        ({"accuracy": [0.0] * 8, "format": [0.5] * 8}, {}),
        ({"accuracy": ACCURACY, "format": [0.5] * 8}, {}),
        ({"accuracy": [2 * x for x in ACCURACY], "format": FORMAT}, {"temperature": [1.0] * 8}),
    ]:
        trl(tmp_path, "group", rewards, extra)
        with pytest.raises(
            ValueError, match=r"do not tell which of them are rewards.*--reward accuracy=1 --reward format"
        ):
            audit(tmp_path)
    assert audit(tmp_path, rewards={"accuracy": 0.5}).facts["reward_mean"] == pytest.approx(3 / 8)
    trl(tmp_path, "group", {"accuracy": [0.0] * 8}, {"tokens": LENGTHS})  # one column of floats is no choice
    assert audit(tmp_path).facts["responses_in_groups_of_equal_rewards"] == 1.0


def verl(tmp_path: Path, **columns: list[Any]) -> Path:
    """verl's `rollout_data_dir`: two prompts with four responses, and columns of the version or of the user."""
    rows: list[dict[str, Any]] = [
        {"input": f"q{k // 4}", "output": "…", "gts": "7", "score": float(k < 2), "step": 3} for k in range(8)
    ]
    return dumped(
        tmp_path, [row | {name: part[k] for name, part in columns.items()} for k, row in enumerate(rows)], "3.jsonl"
    )


@pytest.mark.parametrize(
    "columns",
    [
        {},
        {"acc": [True] * 8, "pred": ["7"] * 8, "request_id": [f"r{k}" for k in range(8)]},
        {"uid": [f"u{k // 4}_{k % 4}_0" for k in range(8)]},  # one key per response, as verl 0.9 writes it
        {"index": list(range(8))},  # a counter of rows, as pandas has it
        {"index": [0, 1, 2, 3] * 2},  # a counter within the group
        {"uid": ["a"] * 4 + ["b"] * 4},
    ],
)
def test_the_responses_to_one_prompt_of_verl(columns: dict[str, list[Any]], tmp_path: Path) -> None:
    found = audit(verl(tmp_path, **columns))
    assert (found.facts["prompts"], found.facts["responses_in_groups_of_equal_rewards"]) == (2, 0.5)
    read_from = "uid" if columns.get("uid", [""])[0] == "a" else "input"
    assert any(
        f"group from `{read_from}`" in sentence and "reward from `score`" in sentence for sentence in found.advice
    )


def test_groups_that_are_not_known_or_hold_one_response_are_said(tmp_path: Path) -> None:
    found = audit(dumped(tmp_path, [{"score": float(k)} for k in range(4)]))
    assert any(
        sentence.startswith("No column says which responses answer the same prompt") for sentence in found.advice
    )
    for rows, said in ((4, True), (2, True), (1, False)):  # of a single row there is nothing to compare
        found = audit(dumped(tmp_path, [{"score": float(k), "uid": k} for k in range(rows)]))
        assert said is any(
            sentence.startswith("Each prompt has one response (column `uid`)") for sentence in found.advice
        )


def test_files_of_different_dumps_are_not_mixed(dump: Path, tmp_path: Path) -> None:
    other = dumped(tmp_path, [{"uid": "a", "score": 1.0}, {"uid": "a", "score": 0.0}], "scores.jsonl")
    with pytest.raises(ValueError, match=r"scores\.jsonl are no parts of one dump: only one of them has .*policy"):
        audit(dump, other)
    third = dumped(tmp_path, [{"reward": 1.0}], "third.jsonl")
    with pytest.raises(ValueError, match=r"third\.jsonl and .*scores\.jsonl are no parts .* has group\. Audit them"):
        audit(third, other, dump)
    plain = dumped(tmp_path, [{"uid": "b", "policy": [-1.0], "old": [-1.0]}], "plain.jsonl")
    more = dumped(tmp_path, [{"uid": "b", "policy": [-1.0], "old": [-1.0], "score": 1.0}], "more.jsonl")
    assert audit(plain, more).facts["rewards_left_out"] == 1, "of one that has no reward"


def test_a_trainers_log_is_no_dump(tmp_path: Path) -> None:
    rows = [{"step": k, "reward": 0.5, "reward_std": 0.1, "loss": 0.2} for k in range(4)]
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(ValueError, match="metrics of steps"):
        audit(tmp_path / "log.jsonl")


def test_padding_is_no_token_at_the_anchor(tmp_path: Path) -> None:
    def rows(**more: Any) -> Path:
        old = [[-1.2, -1.1, 0.0, 0.0], [-1.2, 0.0, 0.0, 0.0]]
        lines = [{"policy": [x and x + 0.1 for x in row], "old": row, "reward": k} for k, row in enumerate(old)]
        masks = [{name: value[k] for name, value in more.items()} for k in range(2)]
        (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(a | b) for a, b in zip(lines, masks)))
        return tmp_path / "a.jsonl"

    with pytest.raises(ValueError, match=r"row 2 of .* ends with 3 log-probabilities of 0"):
        audit(rows())
    assert audit(rows(mask=[[1, 1, 0, 0], [1, 0, 0, 0]])).facts["tokens_at_the_anchor"] == 0.0


# ---------------------------------------------------------------------- what decides in reading, by kind


@pytest.mark.parametrize(
    ("rows", "is_log"),
    [
        ([{"step": 1, "loss": 0.1}, {"step": 2}], True),
        ([{"step": 1, "loss": 0.1}, {"step": 1, "loss": 0.2}], False),  # two rows of one step
        ([{"step": 1, "loss": 0.1}, {"loss": 0.2}], False),
        ([{"step": 1, "reward": 0.1}, {"step": 2, "reward": 0.2}], False),  # no column of a trainer
        ([{"step": 1, "loss": 0.1}, {"step": 2, "loss": 0.1, "completion": "…"}], False),
        ([{"step": 1, "loss": 0.1, "uid": "a"}, {"step": 2, "loss": 0.1}], False),
        ([], False),
    ],
)
def test_a_log_has_a_row_for_each_step_and_no_response(rows: list[dict[str, Any]], is_log: bool) -> None:
    assert columns.logged(rows) is is_log


@pytest.mark.parametrize(
    ("policy", "old", "refused"),
    [
        ([[-1.0, -1.0, 0.0], [-1.0, -1.0, -1.0]], None, False),  # one sure token may end a response
        ([[-1.0, 0.0, 0.0], [-1.0, -1.0, -1.0]], None, True),
        ([[-1.0, 0.0, 0.0], [-2.0, 0.0, 0.0]], None, False),  # all alike
        ([[-1.0, 0.0, 0.0], [-1.0, -1.0, 0.0]], None, True),
        ([[0.0, 0.0, -1.0], [-1.0, -1.0, -1.0]], None, False),  # at the beginning
        ([[-1.0, 0.0, 0.0], [-1.0, -1.0, -1.0]], [[-1.0, -0.1, 0.0], [-1.0, -1.0, -1.0]], False),  # not in all columns
    ],
)
def test_zeros_at_the_end_are_padding_where_rows_differ_in_them(policy: Any, old: Any, refused: bool) -> None:
    values = {name: torch.tensor(x) for name, x in (("policy", policy), ("old", old)) if x is not None}
    with pytest.raises(ValueError, match="row 1 ends with 2 log-prob") if refused else contextlib.nullcontext():
        columns.refuse_padding(values, ["row 1", "row 2"])


def test_numbers_and_sums_of_a_row() -> None:
    assert math.isnan(columns.number([], "")) and math.isnan(columns.number([1.0, None], ""))
    assert columns.number([0.5, True], "") == 1.5
    row = {"a": 2.0, "b": None, "c": [1.0, 3.0]}
    assert columns.total(row, ("a", "b", "c"), {"a": 0.5, "b": 9.0}, "") == 5.0
    assert math.isnan(columns.total(row, ("b", "d"), {}, ""))
    assert columns._deviation([1.0, 3.0]) == pytest.approx(math.sqrt(2)) and columns._deviation([7.0]) == 0.0


def test_the_first_usual_name_that_holds_something_is_chosen() -> None:
    table = [{"rewards": 1.0, "score": 0.0, "reward": None, "prompt": "a", "uid": None}, {"prompt": "a", "score": 1.0}]
    assert columns.choose(table, "a", None) == {"reward": ("score",), "group": ("prompt",)}
    assert columns.choose([{"a": 1.0}, {"b": 2.0}], "a", ("b",)) == {"reward": ("b",)}  # some rows have it
    assert columns.choose(table, "a", ()) == {"group": ("prompt",)}
    assert columns.choose(table, "a", ("rewards", "score"))["reward"] == ("rewards", "score")


@pytest.mark.parametrize(
    ("scale", "error", "explained"),
    [
        (lambda spread: 1.0, 0.0, True),
        (lambda spread: spread + 1e-4, 0.0, True),
        (lambda spread: spread + 1e-4, 1e-6, True),
        (lambda spread: spread + 1e-4, 1.6e-6, True),  # 1e-6 and a half of that by the spread
        (lambda spread: spread + 1e-4, 1.8e-6, False),
        (lambda spread: spread + 1e-4, 1e-5, False),
        (lambda spread: spread + 1.5e-4, 0.0, False),
        (lambda spread: spread, 0.0, False),
        (lambda spread: math.inf, 0.0, False),  # nothing is pulled
    ],
)
def test_advantages_are_explained_by_rewards_up_to_the_rounding_of_float32(
    scale: Any, error: float, explained: bool
) -> None:
    advantage = 0.5 / scale(math.sqrt(0.5))
    rows = [{"step": 1, "prompt": "p", "advantage": sign * advantage + error} for sign in (1, -1)]
    assert columns._explains(rows, [1.0, 0.0]) is explained
    assert columns._explains(rows, [1.0, math.nan]) is False


@pytest.mark.parametrize(("size", "pulled"), [(1e-6, False), (1.2e-6, True)])
def test_advantages_of_a_millionth_tell_nothing(size: float, pulled: bool) -> None:
    rows = [{"step": 1, "prompt": "p", "advantage": sign * size} for sign in (1, -1)]
    assert columns._explains(rows, [size, -size]) is pulled


@pytest.mark.parametrize("count", [8, 9])
def test_of_up_to_eight_columns_those_are_found_that_are_rewards(count: int) -> None:
    table = [
        {"step": 1, "prompt": "p", "completion": "…", "advantage": (k - 1) * 2.0}
        | {f"c{n}": float(k + 1) ** n for n in range(1, count + 1)}
        for k in range(3)
    ]
    for row in table:
        row["c1"] *= 2  # 2, 4, 6, whose centred values the advantages are
    with pytest.raises(ValueError, match="do not tell") if count == 9 else contextlib.nullcontext():
        assert columns.rewards_of_trl(table, "a") == ("c1",)


def test_what_is_recorded_of_a_batch_and_where(tmp_path: Path) -> None:
    """Six digits, in a folder that is made or is there; nothing of masked tokens."""
    policy = torch.tensor([[-0.12345678, -9.0]])
    rows = ga.Batch(policy, policy, torch.tensor([[True, False]]), reward=torch.ones(1), group=torch.tensor([4]))
    for _ in range(2):
        record(tmp_path / "a" / "b", rows)
    record(tmp_path / "a" / "c.txt", rows, rollout=2, step=5, rank=3)
    line = {"rollout": 0, "step": 0, "policy": [-0.123457], "old": [-0.123457], "reward": 1.0, "group": 4}
    written = (tmp_path / "a" / "b" / "rollouts.jsonl").read_text().splitlines()
    assert [json.loads(text) for text in written] == [line, line]
    assert json.loads((tmp_path / "a" / "c.3.txt").read_text()) == line | {"rollout": 2, "step": 5}


def test_rows_without_names_are_counted_from_one() -> None:
    with pytest.raises(ValueError, match=r"^row 2 holds the str 'x'"):
        as_batch([{"reward": 1.0}, {"reward": "x"}])
    rows = as_batch(
        [{"reward": 1.0, "rollout": "a"}, {"reward": None, "rollout": "b"}, {"reward": 2.0, "rollout": "a"}]
    )
    assert rows.unknown == {"tokens": 0, "rewards": 1} and rows.rollout.tolist() == [0, 1, 0]
    assert rows.batch.mask.flatten().tolist() == [True, False, True] and rows.columns >= {"reward"}


@pytest.mark.parametrize(
    ("row", "refused"),
    [
        ({"policy": [0.0, 0.0]}, False),  # sure tokens
        ({"policy": [0.0, 0.1]}, True),
        ({"policy": [-1e-9, 0.1]}, False),
        ({"policy": [0.0, 0.1], "mask": [1, 0]}, False),  # what is masked is nothing
    ],
)
def test_numbers_above_zero_are_no_log_probabilities(row: dict[str, Any], refused: bool) -> None:
    with pytest.raises(ValueError, match="no number below 0") if refused else contextlib.nullcontext():
        as_batch([row])


def test_of_one_response_an_audit_has_no_error_and_no_group(tmp_path: Path) -> None:
    found = audit(dumped(tmp_path, [{**ROW, "behavior": [-1.1, -1.9], "reward": 1.0}]))
    assert found.facts["engine_ratio_error"] == math.inf and found.facts["rollouts"] == 1
    assert not any("answer the same prompt" in sentence for sentence in found.advice)
    assert not {"rewards_left_out", "tokens_left_out"} & found.facts.keys()
    assert not any("left out" in sentence for sentence in found.advice)


@pytest.mark.parametrize("spread, silent", [(3e-12, 0.0), (3e-13, 1.0)])
def test_rewards_are_equal_up_to_rounding(spread: float, silent: float, tmp_path: Path) -> None:
    found = audit(dumped(tmp_path, rewarded(0.0, spread)))
    assert found.facts["responses_in_groups_of_equal_rewards"] == silent
    assert found.steps["share with a drive"] == [1.0 - silent]


def test_a_log_probability_may_be_a_tenth_above_zero(tmp_path: Path) -> None:
    for value, said in ((0.1, False), (0.101, True)):
        found = audit(dumped(tmp_path, rewarded(0.0, 1.0, policy=[-1.0, value])))
        assert any("are above 0.1; a token's is at most 0" in sentence for sentence in found.advice) is said


def test_the_radii_of_an_audit_and_what_they_bound(dump: Path) -> None:
    """E[(t − 1)²] ≤ ε bounds the total variation by √ε/2."""
    found = audit(dump)
    assert list(found.stiffness) == [0.01, 0.04, 0.1] and list(audit(dump, radius=0.02).stiffness)[1] == 0.02
    assert any("at E[u²] = 0.04" in sentence for sentence in found.advice)
    table = found.text().split("| E[u²] | TV at most | μ |\n")[1].splitlines()[1:]
    assert [line.split(" | ")[:2] for line in table] == [["| 0.01", "0.05"], ["| 0.04", "0.1"], ["| 0.1", "0.158"]]


def test_the_panels_of_a_figure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Sizes on a logarithmic scale down to 1e-9 with a line at 1e-6, the rewards, one course per name."""
    kept: list[Any] = []
    monkeypatch.setattr(plotting, "save", lambda figure, path: kept.append(figure) or Path(path))
    steps = {"a": [0.0, 1.0], "b": [0.5, 0.5]}
    sizes, drive = torch.tensor([0.0, -1e-4, 0.1]), torch.tensor([-1.0, 0.5])
    found = Audit("a", {}, {}, {}, (), steps, sizes, drive)
    assert found.figure(tmp_path / "a.png") == tmp_path / "a.png"
    moved, pulled, course = kept[0].axes
    assert [sum(bar.get_height() for bar in axes.patches) for axes in (moved, pulled)] == [3, 2]
    for axes, ends in ((moved, (-9.0, -1.0)), (pulled, (-1.0, 0.5))):
        edges = [axes.patches[0].get_x(), axes.patches[-1].get_x() + axes.patches[-1].get_width()]
        assert edges == pytest.approx(ends)
    assert moved.lines[0].get_xdata()[0] == pytest.approx(-6)
    assert {line.get_label(): list(line.get_ydata()) for line in course.lines} == steps
    low, high = course.get_ylim()
    assert -0.1 < low < 0 and 1 < high < 1.1, "shares of 0 and 1 are not on the frame"
    assert not course.get_legend().get_frame_on(), "which would hide a course behind it"
    titles = ["log-ratio Δ of tokens", "centred reward", "over the run"]
    assert [axes.get_title(loc="left") for axes in (moved, pulled, course)] == titles
    names = [(axes.get_xlabel(), axes.get_ylabel()) for axes in (moved, pulled)]
    assert names == [("log₁₀ |Δ| (nats)", "tokens"), ("r − mean of the group", "responses")]
    assert [len(axes.patches) for axes in (moved, pulled)] == [40, 40] and (low, high) == pytest.approx((-0.03, 1.03))
    colours = [axes.patches[0].get_facecolor()[:3] for axes in (moved, pulled)]
    assert colours[0] != colours[1] and len({line.get_color() for line in course.lines}) == 2
    assert (moved.texts[0].get_position(), moved.texts[0].get_text().strip()) == ((-6.0, 0.97), "inactive to the left")
    empty = Audit("a", {}, {}, {}, (), steps, sizes[:0], drive[:0])
    empty.figure(tmp_path / "b.png")
    assert [axes.texts[0].get_text()[:2] for axes in kept[1].axes[:2]] == ["no", "no"] and not kept[1].axes[0].lines
    assert [axes.texts[0].get_position() for axes in kept[1].axes[:2]] == [(0.5, 0.5)] * 2, "in the middle"


# ---------------------------------------------------------------------- what is masked, missing or at the edge


def test_what_is_masked_or_missing_counts_in_no_course(tmp_path: Path) -> None:
    """Of three rollouts the last has no token, and in the first one token is masked."""
    rows = [
        {"policy": [-1.0, -1.0], "old": [-1.0, -1.0 - math.log(3)], "mask": [1, 1], "rollout": 0},
        {"policy": [-1.0, -9.0], "old": [-1.0, -1.0], "mask": [1, 0], "rollout": 0},
        {"policy": [-1.0, -1.0], "old": [-1.5, -2.5], "mask": [1, 1], "rollout": 1},
        {"policy": [-9.0, -9.0], "old": [-1.0, -1.0], "mask": [0, 0], "rollout": 1},
        {"policy": [-9.0, -9.0], "old": [-1.0, -1.0], "mask": [0, 0], "rollout": 2},
    ]
    found = audit(dumped(tmp_path, [row | {"reward": float(k), "group": 0} for k, row in enumerate(rows)]))
    assert found.steps["sequence ESS"] == pytest.approx([16 / 20, 1.0, math.nan], nan_ok=True)
    assert found.steps["share off the anchor"] == pytest.approx([1 / 3, 1.0, 0.0])
    assert found.steps["share with a drive"] == pytest.approx([1.0, 0.0, math.nan], nan_ok=True)
    assert found.drive.tolist() == [-0.5, 0.5, 0.0] and found.log_ratio.numel() == 5 == found.facts["tokens"]
    assert (found.facts["rollouts"], found.facts["prompts"], found.facts["reward_mean"]) == (3, 3, 1.0)


def test_a_token_at_a_millionth_of_a_nat_is_off_the_anchor(tmp_path: Path) -> None:
    found = audit(dumped(tmp_path, [{"policy": [0.0], "old": [-1e-6]}, {"policy": [0.0], "old": [-0.99e-6]}]))
    assert found.facts["tokens_at_the_anchor"] == 0.5 and found.steps["share off the anchor"] == [0.5]


def test_the_sources_of_an_audit_and_what_is_chosen_without_a_choice(tmp_path: Path) -> None:
    first, second = (dumped(tmp_path, rewarded(0.0, 1.0), name) for name in ("a.jsonl", "b.jsonl"))
    found = audit(first, second, rewards={}, objectives={})
    assert found.source == f"{first}, {second}" and list(found.objectives) == ["grpo", "gspo", "opo"]
    assert (found.facts["responses"], found.facts["rollouts"], found.facts["prompts"]) == (4, 2, 2)
    assert not any("and not from" in sentence or "under other names" in sentence for sentence in found.advice)
    assert list(audit(first, objectives={"mine": ga.recipes.gspo()}).objectives) == ["mine"]
    (single,) = audit(dumped(tmp_path, [{"score": 1.0}])).steps.values()
    assert single == [0.0]


def test_where_nothing_pulls_there_is_no_gradient_to_compare_with(tmp_path: Path) -> None:
    """The anchor of opo pulls back all the same; the report has a dash, and no number of 300 digits."""
    rows = [row | {"old": [-1.1, -2.3]} for row in rewarded(1.0, 1.0)]
    found = audit(dumped(tmp_path, rows))
    for name in ("grpo", "opo"):
        assert found.objectives[name]["tokens_without_gradient"] == 0.0
        assert math.isnan(found.objectives[name]["cosine_with_at_anchor"])
        assert f"| {name} | 0 | 0 | – | – | – |" in found.text()
        assert json.loads(found.to_json())["objectives"][name]["gradient_against_at_anchor"] is None


def test_beyond_all_walls_nothing_of_the_gradient_is_left(tmp_path: Path) -> None:
    rows = [{"policy": [-1.0 + u, -2.0 + u], "old": [-1.0, -2.0], "reward": u, "group": 0} for u in (1.0, -1.0)]
    found = audit(dumped(tmp_path, rows), objectives={"clip": ga.recipes.grpo()}).objectives["clip"]
    assert found["tokens_without_gradient"] == 1.0
    assert found["gradient_against_at_anchor"] == found["cosine_with_at_anchor"] == 0.0


@dataclasses.dataclass(frozen=True)
class EveryOther(ga.SamplingGeometry):
    """A drive of its own for every token: 1 for the first of the first row and the second of the second."""

    def latex(self) -> str:
        return "g"

    def drive(self, batch: Any) -> torch.Tensor:
        return torch.eye(batch.size)


def test_a_drive_of_tokens_and_a_sum_of_objectives_are_audited(tmp_path: Path) -> None:
    """Of the two tokens that are pulled, one has moved beyond the wall; the two others do not count."""
    rows = [{"policy": [-0.5, -0.5], "old": [-1.0, -1.0]}, {"policy": [-1.0, -1.0], "old": [-1.0, -1.0]}]
    slots: dict[str, Any] = {"unit": ga.Token(), "chart": ga.Ratio(), "measure": ga.PooledMean()}
    clip = ga.Objective(sampling=EveryOther(), optimization=ga.Clip(0.2, 0.2), **slots)
    two = 2.0 * clip + ga.Objective(sampling=EveryOther(), optimization=ga.ChiSquare(3.0), **slots)
    path = dumped(tmp_path, [row | {"reward": float(k), "group": 0} for k, row in enumerate(rows)])
    found = audit(path, objectives={"clip": clip, "two": two}).objectives
    assert found["clip"]["tokens_without_gradient"] == 0.5 and found["two"]["tokens_without_gradient"] == 0.0
    assert found["clip"]["clipped"] == found["two"]["clipped"] == 0.25, "of the first term"
    assert found["clip"]["stiffness_over_sd_of_drive"] == found["two"]["stiffness_over_sd_of_drive"] == 0.0


@pytest.mark.parametrize(
    ("rows", "mask", "reward"),
    [
        ([{"policy": [-1.0, None]}, {"policy": [-1.0]}], [[True, False], [True, False]], None),
        ([{"policy": [-1.0], "reward": 2.0}, {"policy": [-2.0], "reward": None}], [[True], [False]], [2.0, 0.0]),
        ([{"policy": [-1.0], "reward": None}, {"policy": [-2.0], "reward": math.inf}], [[True], [True]], None),
        ([{"reward": 1.0, "mask": [1, 0]}, {"reward": 0.0, "mask": [0, 0]}], [[True], [True]], [1.0, 0.0]),
        ([{"policy": [-1.0, -1.0, -1.0], "mask": [True, 0.0, 1]}], [[True, False, True]], None),
        ([{"policy": []}], [[False]], None),
    ],
)
def test_what_of_rows_is_known(rows: list[dict[str, Any]], mask: list[list[bool]], reward: list[float] | None) -> None:
    found: Any = as_batch(rows).batch
    assert found.mask.tolist() == mask and (found.reward if reward is None else found.reward.tolist()) == reward
    assert found.policy.shape == found.mask.shape and found.policy.isfinite().all()
    assert found.old is None and found.behavior is None and found.group is None
    unknown: Any = as_batch([{"policy": [-1.0, math.nan]}]).batch
    assert unknown.policy.tolist() == [[-1.0, 0.0]], "whose exponential is no danger"


def test_groups_are_those_of_one_rollout() -> None:
    rows = [{"reward": 1.0, "group": g, "rollout": r} for g, r in ((7, "a"), ("x", "a"), (7, "b"), (7, "a"))]
    found: Any = as_batch(rows).batch
    assert found.group.tolist() == [0, 1, 2, 0]
    with pytest.raises(ValueError, match=r"^row 2 has no group and no policy, and other rows have \(under .*group, .*"):
        as_batch([{"reward": 1.0, "group": 1, "policy": [-1.0]}, {"reward": 1.0}])
    with pytest.raises(ValueError, match=r"^first has 1 tokens in `policy` but 2 in `reference`"):
        as_batch([{"policy": [-1.0], "reference": [-1.0, -1.0]}], ["first"])


def test_what_is_recorded_where_nothing_is_known_but_log_probabilities(tmp_path: Path) -> None:
    policy = torch.tensor([[-1.0, -2.0], [-3.0, -4.0]])
    record(tmp_path, ga.Batch(policy, None, reference=policy - 1))
    lines = [json.loads(line) for line in (tmp_path / "rollouts.jsonl").read_text().splitlines()]
    assert lines == [
        {"rollout": 0, "step": 0, "policy": [-1.0, -2.0], "reference": [-2.0, -3.0]},
        {"rollout": 0, "step": 0, "policy": [-3.0, -4.0], "reference": [-4.0, -5.0]},
    ]


def test_a_report_is_a_table_in_words() -> None:
    objectives = {"grpo": {"clipped": 0.25, "tokens_without_gradient": math.nan}, "opo": {"clipped": 0.0, "x": 12.0}}
    found = Audit(
        "a",
        {"log_ratio": 0.5, "tokens": 12000.0},
        objectives,
        {0.04: 2.5},
        ("One.", "Two."),
        {},
        torch.Tensor(),
        torch.Tensor(),
    )
    assert found.text().splitlines() == [
        *("# Audit of a", "", "* One.", "* Two.", "", "| | |", "|---|---|"),
        *("| log ratio | 0.5 |", "| tokens | 12,000 |", "", "How objectives act on these rows:", ""),
        *("| | clipped | tokens without gradient |", "|---|---|---|", "| grpo | 0.25 | – |", "| opo | 0 | 12 |"),
        *("", "Stiffness μ at which the drive's target lies at a given E[u²]:", "", "| E[u²] | TV at most | μ |"),
        *("|---|---|---|", "| 0.04 | 0.1 | 2.5 |"),
    ]
    again = json.loads(found.to_json())
    assert again["objectives"]["grpo"] == {"clipped": 0.25, "tokens_without_gradient": None}
    assert again["advice"] == ["One.", "Two."] and "drive" not in again
    bare = dataclasses.replace(found, objectives={}, stiffness={}).text()
    assert "How objectives" not in bare and "Stiffness" not in bare
