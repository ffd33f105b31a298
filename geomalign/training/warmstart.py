"""The warm start: a model learns to work problems out, then to imitate a noisy teacher that skips the working."""

from __future__ import annotations

import contextlib
import functools
import math
import random
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from geomalign.tasks import Task, draw, evaluation_set
from geomalign.tasks import build as build_task
from geomalign.training import bases, checkpoint
from geomalign.training.card import base_card
from geomalign.training.config import digest, from_dict, to_dict
from geomalign.training.config.settings import TrainConfig
from geomalign.training.evaluation import evaluate
from geomalign.training.events import WARM_START, Event, Progress, silent
from geomalign.training.policy import Placement, Policy, build, load, replace_directory, write
from geomalign.training.prompts import fitting
from geomalign.training.runtime import Stop


def base_name(config: TrainConfig) -> str:
    """Directory name of the base: it changes with everything that the base depends on, and with nothing else.

    >>> base_name(TrainConfig(objective="dpo", rate=1.0)) == base_name(TrainConfig())
    True
    """
    # The round trip makes 3.0 of a 3 where a float is meant, as it happens on the way to a worker.
    parts = to_dict(from_dict(TrainConfig, to_dict(config)))
    task = {name: parts["task"][name] for name in ("name", "options", "eval_levels", "train_levels", "eval_prompts")}
    return f"base-{digest(task, parts['model'], parts['warm_start'], parts['dtype'], parts['device'].split(':')[0])}"


def steps(config: TrainConfig) -> int:
    """Optimiser steps of the warm start; 0 where the run begins with a given model.

    >>> steps(TrainConfig())
    2150
    """
    return config.warm_start.steps + config.warm_start.noisy_steps if config.warm_started else 0


def warm_start(config: TrainConfig, directory: Path, progress: Progress = silent) -> Path:
    """Train the base unless it is there, and evaluate it.

    An interrupted warm start continues from its last checkpoint, to the same weights.

    Args:
        directory: of the run or the comparison; the base gets a directory of its own in it.

    Returns:
        the directory of the base.

    Raises:
        Interrupted: after Ctrl-C, when everything is saved.

    >>> import tempfile
    >>> from geomalign.training import ModelConfig, TaskConfig, WarmStartConfig
    >>> config = TrainConfig(
    ...     task=TaskConfig(train_levels=(1,), eval_levels=(1,), eval_prompts=2),
    ...     model=ModelConfig(hidden=16, layers=1, heads=2, intermediate=16),
    ...     warm_start=WarmStartConfig(steps=1, noisy_steps=0, batch=2),
    ... )
    >>> base = warm_start(config, Path(tempfile.mkdtemp()))
    >>> base.name == base_name(config), (base / "model.safetensors").exists()
    (True, True)
    """
    target = directory / base_name(config)
    total = steps(config)
    if (target / "warmstart.json").exists():
        progress(Event("skipped", WARM_START, total, total))
        return target
    shared = bool(config.bases) and _sharable(config, progress)
    if shared and bases.fetch(config, target):
        progress(Event("skipped", WARM_START, total, total, message=f"taken from {config.bases}"))
        return target
    partial = directory / f".{target.name}.partial"
    partial.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    placement = Placement(config.device, config.dtype)
    task = build_task(config.task)
    for level in config.task.eval_levels:  # a level that the task does not have is refused before the work
        evaluation_set(task, level, 1)
    if config.model.path is None:
        policy = build(config.model, task.alphabet, config.warm_start.seed, placement)
    else:
        policy = load(config.model.path, placement)
    warn = functools.partial(Event, "warning", WARM_START, total, total)
    response = 0 if config.offline.data else min(config.rl.max_new_tokens, config.offline.max_new_tokens)
    task = fitting(task, policy, config, response, lambda kind, message: None)  # the run says what it leaves out
    spent = _Teaching(config, policy, task, partial, progress).run() if total else 0.0
    write(policy, partial)
    evaluation = evaluate(
        config, policy, task, config.task.eval_prompts, failed=lambda message: progress(warn(message=message))
    )
    seconds = spent + time.perf_counter() - began
    checkpoint.write_json(
        partial / "warmstart.json",
        {**evaluation, "seconds": seconds, "parameters": sum(p.numel() for p in policy.model.parameters())},
    )
    (partial / "README.md").write_text(base_card(config, evaluation), encoding="utf-8")
    (partial / "checkpoint.pt").unlink(missing_ok=True)
    replace_directory(partial, target)
    if shared:
        try:
            bases.keep(config, target)
        except OSError as error:  # the run has its copy
            progress(warn(message=f"the base could not be kept in {config.bases} for other runs: {error}."))
    progress(Event("done", WARM_START, total, total, evaluation))
    return target


def _sharable(config: TrainConfig, progress: Progress) -> bool:
    try:
        bases.dependencies(config)
        return True
    except ValueError as error:
        progress(Event("warning", WARM_START, message=f"the base is not shared through {config.bases}: {error}"))
        return False


class _Teaching:
    """The supervised steps of a warm start, saved and restored as one."""

    def __init__(self, config: TrainConfig, policy: Policy, task: Task, directory: Path, progress: Progress) -> None:
        self.settings, self.total = config.warm_start, steps(config)
        self.policy, self.task, self.progress = policy, task, progress
        self.optimizer = torch.optim.AdamW(
            policy.parameters, lr=self.settings.rate, betas=(0.9, 0.99), weight_decay=0.0, fused=True
        )
        self._saved = directory / "checkpoint.pt"
        self.first, self.earlier, position = 0, 0.0, 0
        if self._saved.exists():
            state = checkpoint.load(self._saved)
            policy.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.first, position, self.earlier = state["step"], state["metrics"], state["seconds"]
        self.metrics = checkpoint.MetricsFile(directory / "warmstart.jsonl", position)
        self.began = time.perf_counter()

    def run(self) -> float:
        """Take all steps; returns the seconds of earlier, interrupted attempts."""
        total, shown = self.total, 0.0
        self.progress(Event("start", WARM_START, self.first, total))
        with contextlib.closing(self.metrics), Stop() as stop:
            for step in range(self.first, total):
                loss = self._step(step)
                if (step + 1) % 25 == 0 or step + 1 == total:
                    self.metrics.write({"step": step + 1, "loss": loss.item()})
                if time.perf_counter() - shown > 0.1 or step + 1 == total:
                    shown = time.perf_counter()
                    self.progress(Event("step", WARM_START, step + 1, total, {"loss": loss.item()}))
                if stop or (step + 1) % 500 == 0:
                    self._save(step + 1)
                    stop.check()
        return self.earlier

    def _step(self, step: int) -> Tensor:
        settings, noisy = self.settings, step >= self.settings.steps
        rng = random.Random(f"{settings.seed}/warm start/{step}")
        problems = [
            draw(self.task, rng.choices(settings.levels, settings.weights)[0], rng) for _ in range(settings.batch)
        ]
        texts = [self.task.demonstration(problem, rng, noisy) for problem in problems]
        rate = settings.noisy_rate if noisy else _cosine(step, settings.steps, settings.warmup, settings.rate)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss = imitation_loss(self.policy, [self.policy.ask(problem) for problem in problems], texts)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.policy.parameters, 1.0)
        self.optimizer.step()
        return loss

    def _save(self, step: int) -> None:
        state = {
            "model": self.policy.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": step,
            "metrics": self.metrics.position(),
            "seconds": self.earlier + time.perf_counter() - self.began,
        }
        checkpoint.save(self._saved, state)


def _cosine(step: int, total: int, warmup: int, peak: float) -> float:
    """The rate at a step: linear up to `peak`, then half a cosine down to a tenth of it."""
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(total - warmup, 1))))


def imitation_loss(policy: Policy, prompts: Sequence[str], responses: Sequence[str]) -> Tensor:
    """Mean negative log-likelihood of the responses' tokens, the end token included, in nats per token.

    Prompt and response are tokenised apart, as they are when the response is sampled. Several traces share a row, each
    seeing only itself, which halves the work on traces of mixed lengths.

    >>> from geomalign.training import ModelConfig
    >>> small = ModelConfig(hidden=16, layers=1, heads=2, intermediate=16)
    >>> policy = build(small, "0123456789+=", seed=0, placement=Placement())
    >>> imitation_loss(policy, ["1+2=", "10+2="], ["3", "12"]).shape
    torch.Size([])
    """
    ask = policy.prompt_tokens(prompts)
    answer = [
        [*tokens, policy.end] for tokens in policy.tokenizer(list(responses), add_special_tokens=False)["input_ids"]
    ]
    traces = [((a + b)[:-1], [-100] * (len(a) - 1) + b) for a, b in zip(ask, answer)]
    width = max(len(tokens) for tokens, _ in traces)
    if width > policy.positions:
        raise ValueError(
            f"a prompt and its demonstration have {width} tokens, and the model {policy.positions} positions. Leave "
            "such rows out, or take more positions (model.positions, for the model that is made here)."
        )
    rows = pack([len(tokens) for tokens, _ in traces], width)
    tokens, target = torch.full((len(rows), width), policy.pad), torch.full((len(rows), width), -100)
    position, owner = torch.zeros_like(tokens), torch.full_like(tokens, -1)
    for row, members in enumerate(rows):
        start = 0
        for index in members:
            end = start + len(traces[index][0])
            tokens[row, start:end], target[row, start:end] = (torch.tensor(part) for part in traces[index])
            position[row, start:end], owner[row, start:end] = torch.arange(end - start), index
            start = end
    tokens, target, position, owner = (policy.placement.put(x) for x in (tokens, target, position, owner))
    causal = torch.ones(width, width, dtype=torch.bool, device=owner.device).tril()
    visible = causal & (owner[:, :, None] == owner[:, None, :])
    bias = torch.where(visible, 0.0, torch.finfo(torch.float32).min)[:, None]
    with policy.placement.autocast():
        logits = policy.model(tokens, attention_mask=bias, position_ids=position, use_cache=False).logits
    logits = policy.placement.precise(logits)
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=-100)


def pack(lengths: Sequence[int], width: int) -> list[list[int]]:
    """First-fit packing: rows of at most `width` that hold pieces of these lengths, the longest first.

    >>> pack([3, 5, 2, 4], width=7)
    [[1, 2], [3, 0]]
    """
    rows: list[list[int]] = []
    room: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        row = next((r for r, left in enumerate(room) if left >= lengths[index]), len(rows))
        if row == len(rows):
            rows.append([])
            room.append(width)
        rows[row].append(index)
        room[row] -= lengths[index]
    return rows
