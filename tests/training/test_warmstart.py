"""The shared base: its loss, its cache, and its resumption."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from geomalign.tasks import Chain, draw
from geomalign.training import bases, warmstart
from geomalign.training.checkpoint import read_json, write_json
from geomalign.training.config import from_dict, override, to_dict
from geomalign.training.config.settings import TrainConfig
from geomalign.training.events import Event, Interrupted
from geomalign.training.policy import Placement, Policy, load
from geomalign.training.warmstart import base_name, imitation_loss, pack, warm_start

pytestmark = pytest.mark.float32


@pytest.mark.parametrize("kind", ["policy", "other_policy"])
def test_traces_that_share_a_row_do_not_see_each_other(kind: str, request: pytest.FixtureRequest) -> None:
    """The packed loss and its gradient are those of one trace at a time, weighted by its tokens."""
    policy: Policy = request.getfixturevalue(kind)
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.mul_(3.0)
    rng = random.Random(0)
    problems = [draw(Chain(), rng.randint(1, 4), rng) for _ in range(12)]
    responses = [Chain().demonstration(problem, rng, noisy=True) for problem in problems]
    prompts = [problem.prompt for problem in problems]
    packed = imitation_loss(policy, prompts, responses)
    gradient = torch.autograd.grad(packed, policy.parameters)
    counts = [len(response) + 1 for response in responses]
    single = sum(imitation_loss(policy, [p], [r]) * n / sum(counts) for p, r, n in zip(prompts, responses, counts))
    assert isinstance(single, torch.Tensor)
    torch.testing.assert_close(packed, single, atol=1e-5, rtol=1e-5)
    for a, b in zip(gradient, torch.autograd.grad(single, policy.parameters)):
        torch.testing.assert_close(a, b, atol=1e-4 * float(b.abs().max()) + 1e-6, rtol=1e-3)


def test_the_loss_of_one_trace_is_its_negative_log_likelihood(policy: Policy) -> None:
    tokens = policy.tokenizer(["1+2;1+2=3#3"], return_tensors="pt")["input_ids"]
    tokens = torch.cat([tokens, torch.tensor([[policy.end]])], -1)
    log_p = policy.model(tokens[:, :-1]).logits.log_softmax(-1).gather(-1, tokens[:, 1:, None])[0, :, 0]
    torch.testing.assert_close(imitation_loss(policy, ["1+2;"], ["1+2=3#3"]), -log_p[3:].mean(), atol=1e-6, rtol=1e-5)


def test_packing_keeps_every_piece_once_and_within_the_width() -> None:
    rng = random.Random(0)
    for _ in range(100):
        lengths = [rng.randint(1, 20) for _ in range(rng.randint(1, 40))]
        rows = pack(lengths, 20)
        assert sorted(index for row in rows for index in row) == list(range(len(lengths)))
        assert all(sum(lengths[index] for index in row) <= 20 for row in rows)
        assert len(rows) <= 2 * -(-sum(lengths) // 20)


def test_the_base_is_found_again_and_depends_on_its_own_settings_only(base: Path, tiny: TrainConfig) -> None:
    events: list[Event] = []
    stamp = (base / "model.safetensors").stat().st_mtime_ns
    assert warm_start(tiny, base.parent, events.append) == base
    assert [event.kind for event in events] == ["skipped"]
    assert (base / "model.safetensors").stat().st_mtime_ns == stamp
    assert base_name(replace(tiny, objective="opo", rate=1.0, seed=9)) == base.name
    assert base_name(replace(tiny, rl=replace(tiny.rl, iterations=1))) == base.name
    assert base_name(replace(tiny, warm_start=replace(tiny.warm_start, steps=11))) != base.name
    assert base_name(replace(tiny, task=replace(tiny.task, options={"slip": 0.1}))) != base.name
    assert not (base / "checkpoint.pt").exists()
    whole = replace(tiny, warm_start=replace(tiny.warm_start, weights=(1, 1)))  # a worker would read 1.0
    assert base_name(whole) == base_name(from_dict(TrainConfig, to_dict(whole))) == base.name


def test_an_interrupted_warm_start_ends_with_the_same_weights(base: Path, tiny: TrainConfig, tmp_path: Path) -> None:
    import os
    import signal

    def interrupt(event: Event) -> None:
        if event.kind == "step":
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted):
        warm_start(tiny, tmp_path, interrupt)
    assert not (tmp_path / base.name).exists()
    events: list[Event] = []
    again = warm_start(tiny, tmp_path, events.append)
    assert events[0].kind == "start" and events[0].step > 0
    one, two = (load(path, Placement()).model.state_dict() for path in (base, again))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert (again / "warmstart.jsonl").read_text() == (base / "warmstart.jsonl").read_text()


def test_the_directory_of_a_base_is_made_and_may_be_there(
    tiny: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(config: object) -> None:
        raise Interrupted("here")

    monkeypatch.setattr(warmstart, "build_task", stop)
    for _ in range(2):
        with pytest.raises(Interrupted, match="here"):
            warm_start(tiny, tmp_path / "not" / "yet")
    assert [path.name for path in (tmp_path / "not" / "yet").iterdir()] == [f".{base_name(tiny)}.partial"]


def test_another_checkpoint_is_used_as_it_is_unless_asked(tiny: TrainConfig, base: Path, tmp_path: Path) -> None:
    config = replace(tiny, model=replace(tiny.model, path=str(base)))
    assert not config.warm_started
    used = warm_start(config, tmp_path)
    one, two = (load(path, Placement()).model.state_dict() for path in (base, used))
    assert all(torch.equal(one[name], two[name]) for name in one)
    config = replace(config, warm_start=replace(tiny.warm_start, enabled="yes"))
    taught = load(warm_start(config, tmp_path), Placement()).model.state_dict()
    assert any(not torch.equal(one[name], taught[name]) for name in one)


def test_a_base_is_shared_between_directories_by_all_that_it_depends_on(
    tiny: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made once; made again when a setting, the code, or a version is another. What is copied is the same base."""
    quick = replace(tiny, warm_start=replace(tiny.warm_start, steps=3, noisy_steps=0), bases=str(tmp_path / "kept"))

    def made(config: TrainConfig, place: str) -> tuple[bool, Path]:
        events: list[Event] = []
        found = warm_start(config, tmp_path / place, events.append)
        return "step" in [event.kind for event in events], found

    first, base = made(quick, "a")
    again, copy = made(replace(quick, rate=1.0, objective="dpo"), "b")
    assert (first, again) == (True, False)
    assert {file.name for file in copy.iterdir()} == {file.name for file in base.iterdir()}
    for name in ("model.safetensors", "warmstart.json"):
        assert (copy / name).read_bytes() == (base / name).read_bytes()
    assert made(replace(quick, warm_start=replace(quick.warm_start, seed=7)), "c")[0]
    monkeypatch.setattr(bases, "environment", lambda: {"torch": "99"})
    assert made(quick, "d")[0], "another version of torch"
    assert not made(quick, "e")[0]
    monkeypatch.setattr(bases, "_checksum", lambda files: "changed")
    assert made(quick, "f")[0], "another line of code"
    (kept,) = [key for key in (tmp_path / "kept").glob("*/key.json") if read_json(key)["code"] == "changed"]
    write_json(kept, {**read_json(kept), "code": "edited by hand"})
    assert made(quick, "g")[0], "what the key says is compared, and not the name of the directory alone"


def test_a_base_that_cannot_be_kept_for_others_is_made_all_the_same(tiny: TrainConfig, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    quick = replace(tiny, warm_start=replace(tiny.warm_start, steps=1, noisy_steps=0), bases=str(tmp_path / "file"))
    events: list[Event] = []
    assert (warm_start(quick, tmp_path / "a", events.append) / "model.safetensors").exists()
    assert "could not be kept" in next(event.message for event in events if event.kind == "warning")


def test_a_base_that_depends_on_code_of_the_users_is_not_shared(
    tiny: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shared_task.py").write_text("from geomalign.tasks import Chain\nclass Mine(Chain): ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    quick = replace(tiny, warm_start=replace(tiny.warm_start, steps=1, noisy_steps=0), bases=str(tmp_path / "kept"))
    events: list[Event] = []
    settings = {"task.name": "shared_task:Mine", "task.options": {}}
    warm_start(override(quick, settings), tmp_path / "a", events.append)
    assert "is not shared" in next(event.message for event in events if event.kind == "warning")
    assert not (tmp_path / "kept").exists()
    with pytest.raises(ValueError, match="no warm start"):
        bases.dependencies(override(quick, {"model.path": "owner/model"}))


@pytest.mark.parametrize("data, sampled, taught, room", [(None, 5, 7, 5), (None, 9, 7, 7), ("pairs.jsonl", 5, 7, 0)])
def test_prompts_leave_room_for_the_shortest_limit_of_a_response_and_for_none_where_pairs_are_given(
    tiny: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    data: str | None, sampled: int, taught: int, room: int,
) -> None:  # fmt: skip
    def seen(task: object, policy: object, config: object, response: int, warn: object) -> None:
        raise Interrupted(f"room for {response}")

    monkeypatch.setattr(warmstart, "fitting", seen)
    offline = replace(tiny.offline, data=data, max_new_tokens=taught)
    with pytest.raises(Interrupted, match=f"room for {room}$"):
        warm_start(replace(tiny, rl=replace(tiny.rl, max_new_tokens=sampled), offline=offline), tmp_path)
