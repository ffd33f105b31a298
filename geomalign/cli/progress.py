"""The display of a long job: bars with the time left and a table of metrics; plain lines without a terminal."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from geomalign.training.events import Event, Interrupted

console = Console(emoji=False)  # so that ":x:" in the name of a module stays text
if not console.is_terminal:
    console.width = 200  # tables in files and pipes keep their rows whole

COLUMNS = (
    ("reward", "reward", "{:.3f}"),
    ("preference_accuracy", "ranked", "{:.3f}"),
    ("preference_accuracy_held_out", "held out", "{:.3f}"),
    ("accuracy_in", "in", "{:.1%}"),
    ("accuracy_out", "harder", "{:.1%}"),
    ("accuracy_unseen", "unseen", "{:.1%}"),
    ("greedy_reward_in", "greedy reward", "{:.3f}"),
    ("loss", "loss", "{:+.4f}"),
    ("grad_norm", "grad norm", "{:.3g}"),
    ("kl", "KL", "{:.2g}"),
    ("ess", "ESS", "{:.3f}"),
    ("entropy", "entropy", "{:.3f}"),
    ("clip_fraction", "off", "{:.1%}"),
    ("tokens_per_second", "tokens/s", "{:,.0f}"),
)
LINE_EVERY = 10.0  # seconds between plain lines of one run
ROWS = 12  # of the live table


class Stopped(Exception):
    """Ctrl-C arrived and everything is saved: `Interrupted`, but not a KeyboardInterrupt, which click would turn into
    "Aborted!".
    """


class Display:
    """Shows the events of a job while it runs: `with Display() as show: train(…, progress=show)`.

    >>> with Display(Console(width=80)) as show:
    ...     show(Event("warning", "opo", message="the disk is full"))
    warning opo: the disk is full
    """

    def __init__(self, console: Console = console) -> None:
        self.console = console
        self.bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=32),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
        )
        self._tasks: dict[str, TaskID] = {}
        self._metrics: dict[str, dict[str, float]] = {}
        self._steps: dict[str, int] = {}
        self._printed: dict[str, float] = {}
        self._names: list[str] = []
        self._whole: TaskID | None = None
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=4, transient=False)

    def __enter__(self) -> Display:
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.console.is_terminal:
            self._live.stop()
        if isinstance(error, Interrupted):
            raise Stopped from error

    def __call__(self, event: Event) -> None:
        match event.kind:
            case "plan":
                self._names = json.loads(event.message)
                self._say(f"{event.total} runs, {event.metrics.get('workers', 1):g} at once")
            case "start":
                self._start(event)
            case "step":
                self._step(event)
            case "done" | "skipped":
                self._done(event)
            case "failed":
                self._say(f"[bold red]failed[/] {escape(event.run)}: {escape(event.message)}")
                self._close(event.run)
            case "warning":
                self._say(f"[yellow]warning[/] {escape(event.run)}: {escape(event.message)}")

    def _start(self, event: Event) -> None:
        if self._names and self._whole is None and event.run in self._names:
            self._whole = self.bars.add_task("[bold]all runs", total=event.total * len(self._names))
            self._advance_whole(sum(self._steps.get(name, 0) == -1 for name in self._names) * event.total, done=True)
        self._tasks[event.run] = self.bars.add_task(escape(event.run), total=event.total, completed=event.step)
        if event.step:
            self._advance_whole(event.step, done=True)
        self._steps[event.run] = event.step
        self._printed[event.run] = time.monotonic()
        self._say(f"start {escape(event.run)}" + (f" at step {event.step}" if event.step else ""), plain_only=True)

    def _step(self, event: Event) -> None:
        task = self._tasks.get(event.run)
        if task is None:
            self._start(event)
            task = self._tasks[event.run]
        self.bars.update(task, completed=event.step)
        self._advance_whole(event.step - self._steps.get(event.run, 0))
        self._steps[event.run] = event.step
        self._metrics.setdefault(event.run, {}).update(event.metrics)
        if time.monotonic() - self._printed.get(event.run, 0.0) > LINE_EVERY:
            self._printed[event.run] = time.monotonic()
            self._say(
                f"{escape(event.run)} {event.step}/{event.total} {_line(self._metrics[event.run])}", plain_only=True
            )

    def _done(self, event: Event) -> None:
        missing = event.total - max(0, self._steps.get(event.run, 0))
        self._advance_whole(missing, done=event.kind == "skipped")
        self._steps[event.run] = event.total if self._whole is not None else -1
        self._metrics.setdefault(event.run, {}).update(event.metrics)
        self._close(event.run)
        verb = "already done" if event.kind == "skipped" else "[green]done[/]"
        self._say(f"{verb} {escape(event.run)} {_line(dict(event.metrics))}".rstrip())

    def _advance_whole(self, steps: int, done: bool = False) -> None:
        """Move the bar of all runs; what was done before this run of the program does not count for the speed."""
        if self._whole is None or steps <= 0:
            return
        if done:
            task = self.bars.tasks[self.bars.task_ids.index(self._whole)]
            self.bars.reset(self._whole, completed=int(task.completed) + steps, total=task.total)
        else:
            self.bars.advance(self._whole, steps)

    def _close(self, run: str) -> None:
        task = self._tasks.pop(run, None)
        if task is not None:
            self.bars.remove_task(task)

    def _say(self, text: str, plain_only: bool = False) -> None:
        if not (plain_only and self.console.is_terminal):
            self.console.print(text, highlight=False, soft_wrap=True)

    def _render(self) -> Group:
        shown = [name for name in self._metrics if name in self._tasks]
        finished = [name for name in self._metrics if name not in self._tasks]
        names = (finished + shown)[-ROWS:]
        parts: list[Progress | Table] = [metrics_table({name: self._metrics[name] for name in names})] if names else []
        return Group(*parts, self.bars)


def metrics_table(rows: Mapping[str, Mapping[str, float]], title: str | None = None) -> Table:
    """The latest metrics of every run; columns that no run has are left out.

    >>> [column.header for column in metrics_table({"opo": {"reward": 0.5, "kl": 0.01}}).columns]
    ['run', 'reward', 'KL']
    """
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    table.add_column("run")
    columns = [column for column in COLUMNS if any(column[0] in metrics for metrics in rows.values())]
    for _, name, _ in columns:
        table.add_column(name, justify="right")
    for name, metrics in rows.items():
        table.add_row(escape(name), *(_cell(form, metrics.get(key)) for key, _, form in columns))
    return table


def _cell(form: str, value: float | None) -> str:
    return "" if value is None else form.format(value)


def _line(metrics: Mapping[str, float]) -> str:
    return "  ".join(
        f"{name} {form.format(metrics[key])}" for key, name, form in COLUMNS if metrics.get(key) is not None
    )
