"""The shared base: a policy that knows careful working but has been taught to answer without it."""

from __future__ import annotations

import contextlib
import math
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from geomalign.tasks import Task, draw, evaluation_set
from geomalign.tasks import build as build_task
from geomalign.training import checkpoint
from geomalign.training.config import digest, from_dict, to_dict
from geomalign.training.config.settings import TrainConfig
from geomalign.training.evaluation import evaluate
from geomalign.training.events import Event, Progress, silent
from geomalign.training.policy import Placement, Policy, build, load, replace_directory, write
from geomalign.training.runtime import Stop

NAME = "warm start"


def base_name(config: TrainConfig) -> str:
    """Directory name of the base: it changes with everything the base depends on, and with nothing else."""
    # There and back: a 3 that was meant as 3.0 becomes one, as it does on the way to a worker.
    parts = to_dict(from_dict(TrainConfig, to_dict(config)))
    task = {name: parts["task"][name] for name in ("name", "options", "eval_tiers", "train_tiers", "eval_prompts")}
    return f"base-{digest(task, parts['model'], parts['warm_start'], parts['dtype'], parts['device'].split(':')[0])}"


def steps(config: TrainConfig) -> int:
    """Optimizer steps of the warm start."""
    return config.warm_start.steps + config.warm_start.lazy_steps if config.warm_started else 0


def warm_start(config: TrainConfig, directory: Path, progress: Progress = silent) -> Path:
    """Train the base unless it is there, and evaluate it; returns the directory that holds it.

    An interrupted warm start continues from its last checkpoint, to the same weights.
    """
    target = directory / base_name(config)
    total = steps(config)
    if (target / "warmstart.json").exists():
        progress(Event("skipped", NAME, total, total))
        return target
    partial = directory / f".{target.name}.partial"
    partial.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    placement = Placement(config.device, config.dtype)
    task = build_task(config.task)
    for tier in config.task.eval_tiers:  # one that the task does not have is told before the work, not after it
        evaluation_set(task, tier, 1)
    if config.model.path is None:
        policy = build(config.model, task.alphabet, config.warm_start.seed, placement)
    else:
        policy = load(config.model.path, placement)
    spent = _train(config, policy, task, partial, progress) if total else 0.0
    write(policy, partial)
    evaluation = evaluate(config, policy, task, config.task.eval_prompts)
    seconds = spent + time.perf_counter() - began
    checkpoint.write_json(
        partial / "warmstart.json",
        {**evaluation, "seconds": seconds, "parameters": sum(p.numel() for p in policy.model.parameters())},
    )
    (partial / "checkpoint.pt").unlink(missing_ok=True)
    replace_directory(partial, target)
    progress(Event("done", NAME, total, total, evaluation))
    return target


def _train(config: TrainConfig, policy: Policy, task: Task, directory: Path, progress: Progress) -> float:
    """The supervised steps; returns the seconds of earlier, interrupted attempts."""
    settings, total = config.warm_start, steps(config)
    optimizer = torch.optim.AdamW(policy.parameters, lr=settings.rate, betas=(0.9, 0.99), weight_decay=0.0, fused=True)
    saved = directory / "checkpoint.pt"
    first, position, earlier = 0, 0, 0.0
    if saved.exists():
        state = checkpoint.load(saved)
        policy.model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first, position, earlier = state["step"], state["metrics"], state["seconds"]
    metrics = checkpoint.MetricsFile(directory / "warmstart.jsonl", position)
    progress(Event("start", NAME, first, total))
    began, shown = time.perf_counter(), 0.0

    def save(step: int) -> None:
        checkpoint.save(
            saved,
            {
                "model": policy.model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "step": step,
                "metrics": metrics.position(),
                "seconds": earlier + time.perf_counter() - began,
            },
        )

    with contextlib.closing(metrics), Stop() as stop:
        for step in range(first, total):
            lazy = step >= settings.steps
            rng = random.Random(f"{settings.seed}/warm start/{step}")
            problems = [
                draw(task, rng.choices(settings.tiers, settings.weights)[0], rng) for _ in range(settings.batch)
            ]
            texts = [task.demonstration(problem, rng, lazy) for problem in problems]
            for group in optimizer.param_groups:
                group["lr"] = (
                    settings.lazy_rate if lazy else _cosine(step, settings.steps, settings.warmup, settings.rate)
                )
            loss = imitation_loss(policy, [policy.ask(problem) for problem in problems], texts)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(policy.parameters, 1.0)
            optimizer.step()
            if (step + 1) % 25 == 0 or step + 1 == total:
                line: dict[str, Any] = {"step": step + 1, "loss": loss.item()}
                metrics.write(line)
            if time.perf_counter() - shown > 0.1 or step + 1 == total:
                shown = time.perf_counter()
                progress(Event("step", NAME, step + 1, total, {"loss": loss.item()}))
            if stop or (step + 1) % 500 == 0:
                save(step + 1)
                stop.check()
    return earlier


def _cosine(step: int, total: int, warmup: int, peak: float) -> float:
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(total - warmup, 1))))


def imitation_loss(policy: Policy, prompts: Sequence[str], responses: Sequence[str]) -> Tensor:
    """Mean negative log-likelihood of the responses' tokens, the end token included.

    Prompt and response are tokenised apart, as they are when the response is sampled. Several traces share a row,
    each seeing only itself:
    on traces of mixed lengths that halves the work.
    """
    ask = policy.tokenizer(list(prompts))["input_ids"]
    answer = [
        [*tokens, policy.end] for tokens in policy.tokenizer(list(responses), add_special_tokens=False)["input_ids"]
    ]
    traces = [((a + b)[:-1], [-100] * (len(a) - 1) + b) for a, b in zip(ask, answer)]
    width = max(len(tokens) for tokens, _ in traces)
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
    """Rows of at most `width` that hold pieces of these lengths, the longest first, each where it fits first."""
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
