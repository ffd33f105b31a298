"""What the smaller parts of a run decide: clocks and signals, trackers, cards, directories, workers, shared bases."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import resource
import signal
import sys
import threading
import types
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from geomalign.training import bases, card, comparison, directory, environment, runtime, tracking, trainer, workers
from geomalign.training.callbacks import Callback, callbacks_of, check_callback
from geomalign.training.checkpoint import MetricsFile, NoMetricsFile, read_json, write_json
from geomalign.training.config import Choice, CompareConfig, override, to_dict
from geomalign.training.config.settings import TrainConfig
from geomalign.training.events import WARM_START, Event, Interrupted
from geomalign.training.policy import Placement
from geomalign.training.runtime import Clock, Stop

# ---- clocks and memory


def ticking(*times: float) -> Callable[[], float]:
    """A clock that shows these times, one after another."""
    return iter(times).__next__


def test_parts_of_a_step_are_added_up_from_its_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(Placement())
    times = ticking(0.0, 9.0, 10.0, 11.0, 13.0, 16.0, 20.0, 25.5)
    monkeypatch.setattr(runtime, "time", types.SimpleNamespace(perf_counter=times))
    with clock.timed("loss"):
        pass
    assert clock.read() == {"loss": 9.0}
    clock.restart()
    with clock.timed("update"), clock.timed("loss"):
        pass
    with clock.timed("loss"):
        pass
    assert clock.read() == {"loss": 2.0 + 5.5, "update": 6.0}


def test_the_clock_of_a_device_reads_its_events_in_milliseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []

    class Moment:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing
            made.append(self)

        def record(self, stream: str) -> None:
            assert stream == "stream"

        def elapsed_time(self, other: Any) -> float:
            return 1500.0 * (made.index(other) - made.index(self))

    clock = Clock(Placement())
    clock._device = torch.device("cuda")
    reset: list[Any] = []
    monkeypatch.setattr(torch.cuda, "Event", Moment)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: "stream")
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", reset.append)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 5 * 2**20)
    clock.restart()
    with clock.timed("loss"):
        pass
    assert clock.read() == {"loss": 1.5} and clock.memory() == 5.0 and reset == [torch.device("cuda")]


@pytest.mark.parametrize(
    ("system", "most", "memory"), [("linux", 3072, 3.0), ("darwin", 2**21, 2.0), ("win32", 1, 0.0)]
)
def test_the_memory_of_a_process_is_in_mebibytes(
    system: str, most: int, memory: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "sys", types.SimpleNamespace(platform=system))
    monkeypatch.setattr(resource, "getrusage", lambda who: types.SimpleNamespace(ru_maxrss=most))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: pytest.fail("no device"))
    clock = Clock(Placement())
    clock.restart()
    assert clock.memory() == memory


# ---- signals


def in_a_thread(act: Callable[[], Any]) -> Any:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(act()))
    thread.start()
    thread.join()
    return found[0]


@pytest.fixture
def handlers() -> Iterator[None]:
    """Signals as they are for a program in the foreground, restored behind the test."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_the_first_signal_is_remembered_and_a_second_ctrl_c_acts_at_once(handlers: None) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Stop() as stop:
        assert not stop and not stop.anywhere()
        stop.check()
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)  # asks again, and no more than that
        assert stop and stop.anywhere()
        with pytest.raises(Interrupted):
            stop.check()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is before
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_who_ignores_ctrl_c_goes_on_ignoring_it_and_threads_change_nothing(handlers: None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Stop() as stop:
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        os.kill(os.getpid(), signal.SIGINT)
        assert not stop

    def inside() -> bool:
        before = signal.getsignal(signal.SIGTERM)
        with Stop():
            return signal.getsignal(signal.SIGTERM) is before

    assert in_a_thread(inside)


def test_sigterm_is_a_ctrl_c_inside_of_a_block_and_afterwards_what_it_was(handlers: None) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), workers.terminable():
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before

    def inside() -> bool:
        with workers.terminable():
            return signal.getsignal(signal.SIGTERM) is before

    assert in_a_thread(inside)


# ---- workers


class Pipe:
    """Holds what a worker says, and keeps what it is told."""

    def __init__(self, *said: Any) -> None:
        self.said, self.told, self.closed = list(said), list[Any](), False

    def send(self, message: Any) -> None:
        self.told.append(message)

    def recv(self) -> Any:
        message = self.said.pop(0)
        if isinstance(message, type):
            raise message
        return message

    def poll(self, seconds: float) -> bool:
        return bool(self.said)

    def close(self) -> None:
        self.closed = True


class Process:
    """A process that ends after so many waits for it, with this exit code."""

    def __init__(self, waits: float = 1, exitcode: int | None = None) -> None:
        self.waits, self.exitcode, self.done = waits, exitcode, list[str]()

    def is_alive(self) -> bool:
        return self.waits > 0

    def join(self, seconds: float = 0.0) -> None:
        self.waits -= 1
        self.done.append("join")

    def terminate(self) -> None:
        self.done.append("terminate")

    def kill(self) -> None:
        self.done.append("kill")

    def start(self) -> None:
        self.done.append("start")


def pool(directory: Path, *found: tuple[Process, Pipe], monkeypatch: pytest.MonkeyPatch) -> tuple[Any, list[Event]]:
    events: list[Event] = []
    made: Any = workers.Pool(len(found), directory, events.append)
    made._workers = [workers._Worker(process, pipe) for process, pipe in found]  # type: ignore[arg-type]
    monkeypatch.setattr(workers, "wait", lambda pipes: [pipe for pipe in pipes if pipe.said])
    return made, events


def test_every_job_is_given_to_a_worker_that_is_free_and_one_that_died_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Event("step", "a", 1, 2)
    first, second, third = Pipe(step, "", EOFError), Pipe("ValueError: no", "", ""), Pipe()
    dead = Process()
    made, events = pool(tmp_path, (dead, first), (Process(), second), monkeypatch=monkeypatch)
    monkeypatch.setattr(made, "_start", lambda: workers._Worker(Process(), third))  # type: ignore[arg-type]
    original = dead.join

    def join(seconds: float = 0.0) -> None:
        original(seconds)
        dead.exitcode = -9

    monkeypatch.setattr(dead, "join", join)
    jobs = {name: {"seed": k} for k, name in enumerate("abcde")}
    failed = made.work(jobs, tmp_path / "base")
    given = [[name for name, *_ in pipe.told] for pipe in (first, second, third)]
    assert given == [["a", "d"], ["b", "c", "e"], []] and first.told[1] == ("d", {"seed": 3}, tmp_path / "base")
    assert failed == {"b": "ValueError: no", "d": "its process died with exit code -9"}
    assert [(event.kind, event.run, event.message) for event in events] == [
        ("step", "a", ""),
        ("failed", "b", "ValueError: no"),
        ("failed", "d", "its process died with exit code -9"),
    ]
    assert made._workers[0].pipe is third and made._workers[1].pipe is second
    assert (tmp_path / "runs" / "d" / "error.txt").read_text() == "its process died with exit code -9\n"
    assert made.work({}, tmp_path) == {}


def test_interrupted_workers_are_read_until_they_have_saved_or_patience_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, gone, endless = Process(3), Process(0), Process(float("inf"))
    pipes = [Pipe(1, 2, EOFError), Pipe(4, 5), Pipe(*range(9))]
    made, _ = pool(tmp_path, *zip((slow, gone, endless), pipes), monkeypatch=monkeypatch)
    monkeypatch.setattr(workers, "PATIENCE", 5.0)
    now = iter(x / 2 for x in range(99))
    monkeypatch.setattr(workers, "time", types.SimpleNamespace(monotonic=now.__next__))
    made.interrupt()
    assert all(process.done[0] == "terminate" for process in (slow, gone, endless))
    assert pipes[0].said == [] and pipes[1].said == [4, 5], "who has ended is not read"
    assert slow.done.count("join") == 3 and 0 < endless.done.count("join") < 9


def test_a_pool_tells_its_workers_to_end_and_kills_who_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends, stays = Process(1), Process(5)
    pipes = [Pipe(), Pipe()]
    made, _ = pool(tmp_path, *zip((ends, stays), pipes), monkeypatch=monkeypatch)
    made.__exit__()
    assert [pipe.told for pipe in pipes] == [[None], [None]] and all(pipe.closed for pipe in pipes)
    assert ends.done == ["join"] and stays.done == ["join", "kill", "join"]
    assert workers.PATIENCE == 120.0


def test_a_worker_is_started_with_its_number_and_an_environment_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, handlers: None
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")
    seen: list[Any] = []

    class Started(Process):
        def __init__(self, target: Any, args: tuple[Any, ...], daemon: bool) -> None:
            super().__init__()
            assert target is workers._serve and daemon
            self.args = args

        def start(self) -> None:
            names = ("OMP_NUM_THREADS", *workers.ENVIRONMENT)
            seen.append((signal.getsignal(signal.SIGINT), {name: os.environ[name] for name in names}))

    ends = []
    made: Any = workers.Pool(2, tmp_path, lambda event: None)
    made._context = types.SimpleNamespace(Pipe=lambda: ends.append((Pipe(), Pipe())) or ends[-1], Process=Started)  # type: ignore[func-returns-value]
    with monkeypatch.context() as patch:
        patch.setattr(workers.Pool, "__exit__", lambda *given: None)
        with made:
            pass
    assert [worker.process.args for worker in made._workers] == [
        (theirs, tmp_path, k) for k, (_, theirs) in enumerate(ends)
    ]
    assert [worker.pipe for worker in made._workers] == [ours for ours, _ in ends] and ends[0][1].closed
    assert not ends[0][0].closed
    assert seen[0] == (signal.SIG_IGN, {"OMP_NUM_THREADS": "1", **workers.ENVIRONMENT})
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert os.environ["TOKENIZERS_PARALLELISM"] == "true" and "OMP_NUM_THREADS" not in os.environ
    monkeypatch.setenv("OMP_NUM_THREADS", "3")

    def inside() -> bool:
        with workers._child_environment():
            kept = signal.getsignal(signal.SIGINT) is signal.default_int_handler
            return kept and os.environ["OMP_NUM_THREADS"] == "3"

    assert in_a_thread(inside) and os.environ["OMP_NUM_THREADS"] == "3"


def test_what_a_worker_does_with_its_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, handlers: None) -> None:
    from geomalign.training import warmstart

    done: list[Any] = []
    errors: dict[str, BaseException] = {"bad": ValueError("first\nsecond"), "exits": SystemExit(3)}

    def train(config: TrainConfig, place: Path, **named: Any) -> None:
        done.append((config.seed, place, named["resume"], named["base"], named["name"]))
        if named["name"] in errors:
            raise errors[named["name"]]

    monkeypatch.setattr(trainer, "train", train)
    monkeypatch.setattr(warmstart, "warm_start", lambda config, place, progress: done.append((config.seed, place)))
    names = [WARM_START, "bad", "exits", "good"]
    jobs = [(name, to_dict(TrainConfig(seed=k)), tmp_path / "base") for k, name in enumerate(names)]
    pipe: Any = Pipe(*jobs, None)
    workers._serve(pipe, tmp_path, 0)
    assert pipe.told == ["", "ValueError: first", "SystemExit: 3", ""]
    assert done[0] == (0, tmp_path)
    assert done[1] == (1, tmp_path / "runs" / "bad", True, tmp_path / "base", "bad") and done[3][0] == 3
    text = (tmp_path / "runs" / "bad" / "error.txt").read_text()
    assert text.startswith("Traceback") and "ValueError: first\nsecond" in text
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    errors["good"] = Interrupted()
    for ending in (jobs[3:], [EOFError]):  # saved, and the parent is gone: no error of the worker's
        pipe = Pipe(*ending)
        workers._serve(pipe, tmp_path, 0)
        assert pipe.told == []


def test_an_error_lies_beside_its_run_and_that_of_the_base_beside_all(tmp_path: Path) -> None:
    for _ in range(2):
        workers._note(tmp_path / "new" / "out", WARM_START, "of the base")
        workers._note(tmp_path / "new" / "out", "run", "of a run")
    assert (tmp_path / "new" / "out" / "error.txt").read_text() == "of the base\n"
    assert (tmp_path / "new" / "out" / "runs" / "run" / "error.txt").read_text() == "of a run\n"


def test_every_worker_has_a_device_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def devices(device: str, count: int) -> list[str]:
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        return [workers._on_device(TrainConfig(device=device), number).device for number in range(3)]

    assert devices("cuda", 2) == ["cuda:0", "cuda:1", "cuda:0"] and devices("cuda", 0) == ["cuda:0"] * 3
    assert devices("cpu", 2) == ["cpu"] * 3 and devices("cuda:1", 2) == ["cuda:1"] * 3


# ---- comparisons


@pytest.mark.parametrize(
    ("workers", "device", "threads", "jobs", "count"),
    [
        (2, "cpu", 1, 5, 2),
        (8, "cpu", 1, 3, 3),
        (0, "cpu", 1, 9, 6),
        (0, "cpu", 1, 4, 4),
        (0, "cpu", 2, 9, 3),
        (0, "cpu", 7, 9, 1),
        (0, "cuda", 1, 9, 3),
        (0, "cuda", 1, 2, 2),
        (0, "mps", 1, 9, 1),
    ],
)
def test_so_many_work_at_once(
    workers: int, device: str, threads: int, jobs: int, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On six cores or three devices."""
    config = CompareConfig(workers=workers, run=TrainConfig(device=device, threads=threads))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(6)) if process == 0 else {1}, raising=False)
    assert comparison.worker_count(config, jobs) == count
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert comparison.worker_count(config, jobs) == count
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert comparison.worker_count(config, jobs) == (count if workers else 1)


def test_what_cannot_be_compared_is_refused_before_anything_is_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def compared(*objectives: str, **run: Any) -> CompareConfig:
        return CompareConfig(objectives=tuple(map(Choice, objectives)), run=TrainConfig(**run))

    monkeypatch.setitem(sys.modules, "my_code", types.ModuleType("my_code"))
    code: Any = sys.modules["my_code"]
    code.undriven, code.tracker = comparison.recipes.get("generalized_jsd"), 3
    comparison._check(compared("grpo", "my_code:undriven", report_to=("my_code:tracker",)))
    for config, said in [
        (compared("grpo", "generalized_jsd"), "generalized_jsd is driven neither by rewards"),
        (compared("grpo", report_to=("tensorbord",)), "there is no tracker 'tensorbord'"),
        (compared("grpo", report_to=("my_code:nothing",)), "nothing"),
        (compared("grpo", callbacks=("math:pi",)), "callback 'math:pi' is float"),
        (compared("reinforce control='kl=0.02'"), "no distance"),
    ]:
        with pytest.raises(ValueError, match=said):
            comparison._check(config)
    monkeypatch.setattr(comparison, "launched", lambda: (0, 2))
    with pytest.raises(ValueError, match="start it without torchrun"):
        comparison.compare(compared("grpo"), tmp_path / "out")
    monkeypatch.setattr(comparison, "launched", lambda: (1, 1))
    write_json(tmp_path / "config.json", to_dict(compared("grpo")))
    with pytest.raises(ValueError, match="holds a run already"):
        comparison.compare(compared("grpo"), tmp_path)


def test_the_seconds_of_a_comparison_are_those_of_all_its_attempts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(comparison, "time", types.SimpleNamespace(perf_counter=ticking(5.0, 7.5, 20.0, 21.0)))
    for before, after in ((0.0, 2.5), (2.5, 3.5)):
        clock = comparison._Clock(tmp_path / "seconds.json")
        assert clock.seconds == before
        clock.stop()
        assert clock.seconds == read_json(tmp_path / "seconds.json") == after


# ---- trackers


class Kept:
    """Stands for a run of a tracking service."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.summary: dict[str, float] = {}

    def __getattr__(self, name: str) -> Any:
        return lambda *given, **named: self.told.append((name, *given, named))


def test_what_tensorboard_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    kept, made = Kept(), []
    stand_in: Any = types.ModuleType("torch.utils.tensorboard")
    stand_in.SummaryWriter = lambda place, purge_step: made.append((place, purge_step)) or kept  # type: ignore[func-returns-value]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", stand_in)
    tracker = tracking.TensorBoard()
    tracker.start("mine", tmp_path, {"rate": 0.5}, 4)
    tracker.log(5, {"reward": 0.25})
    tracker.finish(None)
    assert made == [(str(tmp_path / "tensorboard"), 5)], "what was logged behind step 4 is repeated"
    assert kept.told[0][:2] == ("add_text", "config") and '"rate": 0.5' in kept.told[0][2] and kept.told[0][3] == 4
    assert kept.told[1:] == [("add_scalar", "reward", 0.25, 5, {}), ("close", {})]


@pytest.mark.parametrize(
    ("summary", "code", "final"), [(None, 1, {}), ({"final": {"reward": 0.5}}, 0, {"final/reward": 0.5})]
)
def test_what_weights_and_biases_is_told(
    summary: Any, code: int, final: dict[str, float], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kept, made = Kept(), dict[str, Any]()
    stand_in: Any = types.ModuleType("wandb")
    stand_in.init = lambda **named: made.update(named) or kept
    monkeypatch.setitem(sys.modules, "wandb", stand_in)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    monkeypatch.setenv("WANDB_RUN_GROUP", "mine too")
    tracker = tracking.WandB()
    tracker.start("mine", tmp_path, {"rate": 0.5}, 4)
    tracker.log(5, {"reward": 0.25})
    tracker.finish(summary)
    assert made == {
        "project": "geomalign",
        "name": "mine",
        "group": "mine too",
        "config": {"rate": 0.5},
        "dir": str(tmp_path),
        "id": tracking.identity(tmp_path),
        "resume": "allow",
    }
    assert kept.told == [
        ("define_metric", "*", {"step_metric": "step"}),
        ("log", {"reward": 0.25, "step": 5}, {}),
        ("finish", {"exit_code": code}),
    ]
    assert kept.summary == final


def test_what_trackio_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    kept, made = Kept(), dict[str, Any]()
    stand_in: Any = types.ModuleType("trackio")
    stand_in.init = lambda **named: made.update(named) or kept
    monkeypatch.setitem(sys.modules, "trackio", stand_in)
    monkeypatch.setenv("TRACKIO_PROJECT", "other")
    tracker = tracking.Trackio()
    tracker.start("mine", tmp_path, {"rate": 0.5}, 4)
    tracker.log(5, {"reward": 0.25})
    tracker.finish(None)
    name = f"mine-{tracking.identity(tmp_path)}"
    assert made == {"project": "other", "name": name, "config": {"rate": 0.5}, "resume": "allow", "embed": False}
    assert kept.told == [("log", {"reward": 0.25}, {"step": 5}), ("finish", {})]
    (tmp_path / "other").mkdir()
    mine, other = (tracking.identity(place) for place in (tmp_path, tmp_path / "other"))
    assert len(mine) == 8 and mine != other and mine == name[-8:]


def test_a_tracker_is_told_of_steps_once_and_no_more_where_it_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: Any = Kept()
    told: list[tuple[str, str]] = []
    run: Any = types.SimpleNamespace(
        name="mine", directory=Path("out"), config=TrainConfig(), step=0, say=lambda *said: told.append(said)
    )
    sent = tracking.Tracking("kept", kept)
    sent.on_start(run)
    sent.on_evaluation(run, {"step": 0, "accuracy_in": 0.5})
    run.step = 3
    sent.on_step(run, {"step": 3, "reward": 0.5})
    sent.on_evaluation(run, {"step": 3, "accuracy_in": 0.5})  # a part of its step
    monkeypatch.setattr(tracking.distributed, "rank", lambda: 1)
    sent.on_step(run, {"step": 4})
    monkeypatch.setattr(tracking.distributed, "rank", lambda: 0)
    assert kept.told == [
        ("start", "mine", Path("out"), to_dict(run.config), 0, {}),
        ("log", 0, {"accuracy_in": 0.5}, {}),
        ("log", 3, {"reward": 0.5}, {}),
    ]

    def fails(*given: Any) -> None:
        raise OSError("x" * 300)

    kept.log = fails
    for step in (5, 6):
        sent.on_step(run, {"step": step})
    sent.on_end(run, None)
    assert len(kept.told) == 3 and len(told) == 1 and told[0][0] == "tracker kept"
    assert told[0][1].startswith(f"kept failed in log (OSError: {'x' * 200}); the run goes on without")


def test_a_tracker_of_ones_own_has_the_three_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    code: Any = types.ModuleType("my_code")
    code.Good = type("Good", (), {name: lambda self, *given: None for name in ("start", "log", "finish")})
    code.Bad, code.needs = type("Bad", (), {"start": None}), lambda argument: None
    monkeypatch.setitem(sys.modules, "my_code", code)
    (found,) = tracking.trackings_of(["my_code:Good"])
    assert isinstance(found, tracking.Tracking) and (found.name, type(found.tracker)) == ("my_code:Good", code.Good)
    with pytest.raises(ValueError, match="makes a Bad without the methods start, log, finish"):
        tracking.tracker_of("my_code:Bad")
    with pytest.raises(ValueError, match="tracker 'my_code:needs' could not be made"):
        tracking.tracker_of("my_code:needs")
    for there in (True, False):
        monkeypatch.setattr(tracking.importlib.util, "find_spec", lambda name, there=there: there or None)
        with pytest.raises(ValueError, match="needs the package wandb") if not there else nullcontext():
            assert isinstance(tracking.tracker_of("wandb"), tracking.WandB)


# ---- callbacks


def test_a_callback_has_the_methods_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    class Noted(Callback):
        on_the_side = 3  # no method
        made_with: Any = None

        def helper(self) -> None: ...

        @classmethod
        def of(cls, **options: Any) -> Noted:
            made = cls()
            made.made_with = options
            return made

    class Narrow(Callback):
        def load_state_dict(self) -> None: ...  # type: ignore[override]

    check_callback(Noted())
    with pytest.raises(ValueError, match=r"^Narrow\.load_state_dict is called with \(state\), which it does not take"):
        check_callback(Narrow())
    with pytest.raises(ValueError, match=r"^int is no callback"):
        check_callback(3)  # type: ignore[arg-type]
    code: Any = types.ModuleType("my_code")
    code.made, code.make, code.wrong = Noted(), Noted.of, lambda: 3
    code.callable = type("Called", (Noted,), {"__call__": lambda self: 1 / 0})()
    monkeypatch.setitem(sys.modules, "my_code", code)
    found: list[Any] = callbacks_of(["my_code:made", "my_code:make steps=3", "my_code:callable"])
    assert found[0] is code.made and found[1].made_with == {"steps": 3} and found[2] is code.callable
    for name, said in [
        ("my_code:made steps=3", "my_code:made is an object already, so it takes no options"),
        ("my_code:wrong", "callback 'my_code:wrong' is int, not a"),
        ("my_code:wrong steps=3", "could not be made"),
        ("mine", "callback 'mine' names no object; write module:object"),
    ]:
        with pytest.raises(ValueError, match=said):
            callbacks_of([name])


# ---- cards

SUMMARY: dict[str, Any] = {"name": "mine", "mode": "rl", "latex": "u^2", "terms": [], "iterations": 2}


def test_what_a_card_says_of_a_run(tmp_path: Path) -> None:
    slots = {slot: slot.upper() for slot in ("unit", "chart", "sampling", "optimization", "measure", "anchor")}
    final = {"accuracy/3": 0.75, "greedy_reward/3": 0.123456, "loss_held_out": 2.0, "accuracy_in": 0.9, "reward": 0.5}
    more = {"base": {"accuracy/3": 0.5}, "final": final, "controller": "KL", "warnings": ["slow"]}
    config = override(TrainConfig("opo mu=2"), {"model.path": str(tmp_path), "task.options": {"largest": 2}})
    text = card.model_card(config, SUMMARY | more | {"terms": [slots | {"coefficient": 0.5}, slots]})
    lines = text.splitlines()
    assert lines[:5] == ["---", "library_name: transformers", "tags: [geomalign]", "---", ""]
    table = lines[lines.index("| coefficient | unit | chart | sampling | optimization | measure | anchor |") :][:4]
    assert table[1] == "| --- | --- | --- | --- | --- | --- | --- |"
    assert table[2] == "| 0.5 | `UNIT` | `CHART` | `SAMPLING` | `OPTIMIZATION` | `MEASURE` | `ANCHOR` |"
    assert table[3].startswith("| 1 | `UNIT` |")
    results = lines[lines.index("| measured | before | after |") :][2:5]
    assert results == [
        "| accuracy, level 3 | 0.5 | 0.75 |",
        "| mean reward, level 3 | | 0.1235 |",
        "| loss_held_out | | 2 |",
    ]
    for part in (
        "for 2 iterations by",
        "stiffness: `KL`",
        "- Warning of the run: slow",
        'with options {"largest": 2}',
        "levels [3] in training, [3, 4, 6] in evaluation, and it learnt from responses that the model sampled",
        "Seed 0 sets prompts",
        "rl.iterations = 24",
        f"torch {torch.__version__.split('+')[0]}",
        "@software{geomalign",
        "2601.12415",
    ):
        assert part in text, part
    for part in ("offline.", "callbacks", "lora.alpha", "platform", "cores", "warm start of"):
        assert part not in text, part


def test_what_a_card_says_of_pairs_of_an_adapter_and_of_code_of_ones_own() -> None:
    config = override(TrainConfig("mine:made"), {"model.path": "owner/model", "lora.rank": 4})
    assert card._citations(config).startswith("@software{geomalign")
    assert card._citations(TrainConfig("geomalign.recipes:opo")) == card._citations(TrainConfig("opo"))
    assert card._citations(TrainConfig("opo")).count("\n\n") == 1
    assert card._header("peft", config) == "---\nlibrary_name: peft\nbase_model: owner/model\ntags: [geomalign]\n---"
    pairs = override(TrainConfig("dpo"), {"lora.rank": 4})
    text = card.model_card(pairs, SUMMARY | {"mode": "offline", "final": {}, "latex": "v^2"})
    assert "an adapter (LoRA)" in text and "for 2 optimiser steps" in text and "library_name: peft" in text
    assert "learnt from pairs of better and worse samples of the base" in text
    assert "offline.batch = 32" in text and "rl.iterations" not in text and "coefficient" not in text
    text = "\n".join(card._shared(override(pairs, {"offline.data": "pairs.jsonl"}), {"mode": "offline"}))
    assert "learnt from pairs of `pairs.jsonl`." in text
    text = "\n".join(card._shared(override(TrainConfig("grpo"), {"offline.data": "pairs.jsonl"}), {"mode": "rl"}))
    assert "pairs.jsonl" not in text.split("```toml")[0] and "with the rewards of the task's verifier" in text


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "made from random weights and taught by imitation for 2000 steps on complete workings and 150 on a noisy"),
        ({"model.path": "owner/model"}, "It is `owner/model`, unchanged."),
        ({"model.path": "owner/model", "warm_start.enabled": "yes"}, "It is `owner/model`, taught by imitation."),
        ({"warm_start.enabled": "no"}, "It is `None`, unchanged."),
    ],
)
def test_what_a_card_says_of_a_base(settings: dict[str, Any], said: str) -> None:
    text = card.base_card(override(TrainConfig(), settings), {"accuracy/3": 0.25})
    assert said in text and "| accuracy, level 3 | | 0.25 |" in text
    assert "model.hidden = 96" in text and 'device = "cpu"' in text and "model.path = null" not in text
    assert "rl." not in text and "seed = 0" in text and "Seed 0 sets prompts" not in text and "it learnt" not in text


# ---- where numbers come from


@pytest.mark.parametrize(
    ("cpuinfo", "names", "processor"),
    [
        ("vendor : x\nmodel name\t: Fast: 3 GHz \nmodel name : second\n", ("p", "m"), "Fast: 3 GHz"),
        ("vendor : x\n", ("p", "m"), "p"),
        ("", ("", "m"), "m"),
        (None, ("p", "m"), "p"),
    ],
)
def test_the_processor_is_named(
    cpuinfo: str | None, names: tuple[str, str], processor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(path: Path, encoding: str) -> str:
        if cpuinfo is None:
            raise FileNotFoundError(path)
        return cpuinfo

    monkeypatch.setattr(platform, "processor", lambda: names[0])
    monkeypatch.setattr(platform, "machine", lambda: names[1])
    monkeypatch.setattr(environment.Path, "read_text", read)
    monkeypatch.setattr(environment.metadata, "version", lambda package: package.upper())
    found = environment.environment()
    assert found["processor"] == processor and found["cores"] == os.cpu_count() and found["torch"] == "TORCH"


def test_a_run_without_a_name_is_called_by_what_it_does_and_an_event_is_at_its_beginning() -> None:
    assert trainer.run_name(TrainConfig("mine:made", rate=2e-3, seed=7)) == "mine.made-r0.002-s7"
    event = Event("start", "mine")
    assert (event.step, event.total, dict(event.metrics), event.message) == (0, 0, {}, "")


# ---- files and directories


def test_files_of_metrics_begin_empty_and_other_processes_write_none(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text("of another run\n")
    made = MetricsFile(tmp_path / "metrics.jsonl")
    made.write({"step": 1})
    assert made.position() == len('{"step": 1}\n')
    made.close()
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1}\n'
    none = NoMetricsFile(tmp_path / "none.jsonl", 3)
    none.write({"step": 1})
    none.close()
    assert none.position() == 0 and not (tmp_path / "none.jsonl").exists()
    write_json(tmp_path / "a.json", {"b": 1, "a": [2]})
    assert (tmp_path / "a.json").read_text() == '{\n "b": 1,\n "a": [\n  2\n ]\n}\n', "in their order"


def taken(place: Path, config: Any, **named: Any) -> str:
    """The error of taking a directory."""
    try:
        directory.acquire(place, config, **{"resume": False, **named})
    except ValueError as error:
        return str(error)
    return ""


def test_a_directory_is_taken_where_nothing_of_others_lies_in_it(tmp_path: Path) -> None:
    config = TrainConfig()
    (tmp_path / "file").touch()
    assert f"{tmp_path / 'file'} is a file" in taken(tmp_path / "file", config)
    assert taken(tmp_path / "a" / "b", config) == "" and read_json(tmp_path / "a" / "b" / "config.json") == to_dict(
        config
    )
    assert "holds a run already" in taken(tmp_path / "a" / "b", config)
    assert taken(tmp_path / "a" / "b", config, resume=True) == ""
    for name, resume, said in [
        (".hidden", False, ""),
        ("error.txt", False, ""),
        ("notes", False, "is not empty and holds no run"),
        ("notes", True, ""),
        ("model", True, "holds model without the config.json"),
        ("model", False, "is not empty"),
    ]:
        place = tmp_path / f"{name}{resume}"
        place.mkdir()
        (place / name).touch()
        (place / ".other").touch()
        assert taken(place, config, resume=resume).startswith(f"{place} {said}" if said else "") and (
            bool(said) is not (place / "config.json").exists()
        )


def test_a_run_may_grow_and_what_is_free_may_differ(tmp_path: Path) -> None:
    config = TrainConfig()
    for here, key in ((config, "rl.iterations"), (CompareConfig(), "run.rl.iterations")):
        place = tmp_path / key
        assert taken(place, here) == ""
        summary = place / "summary.json" if here is config else place / "runs" / "mine" / "summary.json"
        summary.parent.mkdir(parents=True, exist_ok=True)
        summary.touch()
        assert f"{key} = 24, and now it is 23: a run can be extended" in taken(
            place, override(here, {key: 23}), resume=True
        )
        assert f"{summary.parent} has no checkpoint.pt" in taken(place, override(here, {key: 25}), resume=True)
        (summary.parent / "checkpoint.pt").touch()
        (place / "summary.json").touch()
        assert taken(place, here, resume=True) == "" and (place / "summary.json").exists()
        assert taken(place, override(here, {key: 25}), resume=True) == ""
        assert not (place / "summary.json").exists(), "it is unfinished again"
        assert taken(place, override(here, {key: 26}), resume=True) == ""
    place = tmp_path / "rl.iterations"
    now = override(config, {"rl.iterations": 26, "rate": 0.5, "threads": 2})
    said = taken(place, now, resume=True)
    assert (
        f"(rate: {config.rate} there, 0.5 now; rl" not in said
        and "rate: 5e-05 there, 0.5 now; threads: 1 there" in said
    )
    assert (
        "rate" in taken(place, now, resume=True, free=("threads",))
        and taken(place, now, resume=True, free=("threads", "rate")) == ""
    )


def test_data_that_changed_are_refused_and_data_that_are_gone_are_not_missed(tmp_path: Path) -> None:
    data, task = tmp_path / "pairs.jsonl", tmp_path / "rows.jsonl"
    data.write_text("{}\n")
    task.write_text("{}\n")
    settings = {
        "offline.data": str(data),
        "task.name": f"dataset:{task}",
        "task.train_levels": [1],
        "task.eval_levels": [1],
    }
    config = override(TrainConfig("dpo"), settings)
    assert directory.data_fingerprints(config).keys() == {str(data), str(task)}
    assert taken(tmp_path / "run", config) == ""
    kept = read_json(tmp_path / "run" / "data.json")
    assert kept == directory.data_fingerprints(config)
    task.unlink()
    assert taken(tmp_path / "run", config, resume=True) == "" and read_json(tmp_path / "run" / "data.json") == kept
    data.write_text('{"more": 1}\n')
    assert taken(tmp_path / "run", config, resume=True).startswith(
        f"{data} changed since the run in {tmp_path / 'run'}"
    )
    comparing = CompareConfig(run=override(TrainConfig(), settings))
    assert taken(tmp_path / "compare", comparing) == "" and str(data) in read_json(tmp_path / "compare" / "data.json")


def test_a_directory_is_released_where_nothing_was_made_in_it(tmp_path: Path) -> None:
    for made, stays in [
        ([], False),
        (["data.json", "seconds.json", "environment.json"], False),
        (["error.txt"], True),
        (["model"], True),
    ]:
        place = tmp_path / "-".join(made) / "run"
        assert taken(place, TrainConfig()) == ""
        for name in made:
            (place / name).touch()
        (place / ".base-1.partial").mkdir()
        directory.release(place)
        assert place.exists() is stays
        if made == ["error.txt"]:
            assert [file.name for file in place.iterdir()] == made, "the error stays to be read"
        if made == ["model"]:
            assert (place / "config.json").exists()


def test_a_run_that_fails_before_anything_is_made_leaves_no_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(config: TrainConfig, place: Path, progress: Any) -> None:
        assert (place / "config.json").exists() and place == tmp_path / "run"
        raise ValueError("no base")

    monkeypatch.setattr(trainer, "warm_start", fails)
    monkeypatch.chdir(tmp_path)
    for rank, stays in ((0, False), (1, True)):
        monkeypatch.setattr(trainer.distributed, "rank", lambda rank=rank: rank)
        with pytest.raises(ValueError, match="no base"):
            trainer.train(TrainConfig(), "run")
        assert (tmp_path / "run").exists() is stays, "rank 0 releases it"


# ---- bases for other runs


def test_what_a_base_depends_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = bases.dependencies(TrainConfig())
    assert {"platform", "cores"}.isdisjoint(found["versions"]) and "torch" in found["versions"]
    assert len(found["code"]) == 16 and found["files"] == {}
    assert found["settings"]["lengths"] == [32, "refuse", 32, "refuse"]
    assert bases.dependencies(override(TrainConfig(), {"rl.max_new_tokens": 31})) != found
    (tmp_path / "rows.jsonl").write_text("{}\n")
    (tmp_path / "model" / "inner").mkdir(parents=True)
    (tmp_path / "model" / "config.json").write_text("{}")
    rows = override(
        TrainConfig(), {"task.name": str(tmp_path / "rows.jsonl"), "task.train_levels": [1], "task.eval_levels": [1]}
    )
    assert list(bases.dependencies(rows)["files"]) == [str(tmp_path / "rows.jsonl")]
    given = override(TrainConfig(), {"model.path": str(tmp_path / "model"), "warm_start.enabled": "yes"})
    before = bases.dependencies(given)["files"]
    assert list(before) == ["model/config.json"]
    (tmp_path / "model" / "config.json").write_text("{ }")
    assert bases.dependencies(given)["files"] != before
    bases.dependencies(override(TrainConfig(), {"task.name": "reasoning_gym:chain_sum"}))
    for settings, said in [
        ({"task.options": {"largest": 4, "verifier": "mine:made"}}, "is code, or data that is in no file"),
        ({"task.name": "mine:Task"}, "the task mine:Task with options"),
        ({"task.name": "owner/rows"}, "the task owner/rows with options"),
        ({"warm_start.enabled": "no"}, "begins with a given model and has no warm start"),
        ({"model.path": "owner/model", "warm_start.enabled": "yes"}, "the model owner/model is no directory"),
    ]:
        with pytest.raises(ValueError, match=said):
            bases.dependencies(override(TrainConfig(), settings))  # type: ignore[arg-type]


def test_a_base_is_kept_and_fetched_by_who_would_make_the_same(tmp_path: Path) -> None:
    config = TrainConfig(bases=str(tmp_path / "not" / "yet"))
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "weights").write_text("1")
    assert not bases.fetch(config, tmp_path / "none") and not (tmp_path / "none").exists()
    for _ in range(2):
        bases.keep(config, tmp_path / "base")
    (kept,) = (tmp_path / "not" / "yet").iterdir()
    assert sorted(file.name for file in kept.iterdir()) == ["key.json", "weights"]
    assert bases.fetch(config, tmp_path / "copy")
    assert [file.name for file in (tmp_path / "copy").iterdir()] == ["weights"]
    assert not bases.fetch(dataclasses.replace(config, dtype="bfloat16"), tmp_path / "none")
    write_json(kept / "key.json", {**json.loads((kept / "key.json").read_text()), "code": "other"})
    assert not bases.fetch(config, tmp_path / "none")
    (kept / "key.json").unlink()
    assert not bases.fetch(config, tmp_path / "none"), "one that is half deleted"
