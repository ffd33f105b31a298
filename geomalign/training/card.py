"""The model card that lies beside every saved model: objective, formula, data, settings, seeds, results, citation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from geomalign._util.words import spelled
from geomalign.recipes import PUBLICATIONS
from geomalign.recipes.symbolic import formula
from geomalign.training.config import flat, to_dict
from geomalign.training.config.settings import TrainConfig
from geomalign.training.directory import data_fingerprints
from geomalign.training.environment import environment
from geomalign.training.evaluation import SOLVED

#: The entry of this library.
GEOMALIGN = "@software{geomalign,\n  title = {geomalign},\n  author = {The geomalign authors},\n  version = {%s}\n}"
_SLOTS = ("unit", "chart", "sampling", "optimization", "measure", "anchor")


def model_card(config: TrainConfig, summary: Mapping[str, Any]) -> str:
    """The card of a trained model, in Markdown with the header that model hubs read.

    Args:
        config: of the run.
        summary: as `geomalign.training.summary.summarise` makes it.

    >>> summary = {"name": "opo-r5e-05-s0", "mode": "rl", "latex": "u^2", "terms": [], "iterations": 2, "base": {}}
    >>> text = model_card(TrainConfig("opo mu=2"), {**summary, "final": {"accuracy_in": 0.5}})
    >>> text.splitlines()[5], "ga.recipes.get('opo mu=2')" in text, "2601.12415" in text
    ('# opo-r5e-05-s0', True, True)
    """
    text = " ".join([config.objective, *(f"{key}={spelled(value)}" for key, value in config.options.items())])
    symbols, numbers = formula(config.objective, **config.options), summary["latex"]
    what = "an adapter (LoRA) of a causal language model" if config.lora.rank else "a causal language model"
    steps = f"{summary['iterations']} {'optimiser steps' if summary['mode'] == 'offline' else 'iterations'}"
    terms = [
        f"| {term.get('coefficient', 1.0):g} | " + " | ".join(f"`{term[slot]}`" for slot in _SLOTS) + " |"
        for term in summary["terms"]
    ]
    blocks = [
        _header("peft" if config.lora.rank else "transformers", config),
        f"# {summary['name']}",
        f"This is {what}, trained with the objective `{config.objective}` for {steps} by geomalign.",
        "## Objective",
        f"`ga.recipes.get({text!r})`, in symbols and with the values of this run:",
        *(f"$$\n{one}\n$$" for one in dict.fromkeys((symbols, numbers))),
        "\n".join([f"| coefficient | {' | '.join(_SLOTS)} |", f"|{' --- |' * (1 + len(_SLOTS))}", *terms])
        * bool(terms),
        f"A controller sets the stiffness: `{summary['controller']}`." if summary.get("controller") else "",
        *_shared(config, summary),
        "## Results",
        _results(summary),
        *(f"- Warning of the run: {warning}" for warning in summary.get("warnings", ())),
        "## Citation",
        f"```bibtex\n{_citations(config)}\n```",
    ]
    return "\n\n".join(filter(None, blocks)) + "\n"


def base_card(config: TrainConfig, evaluation: Mapping[str, Any]) -> str:
    """The card of a base: a model before it was trained with an objective.

    >>> base_card(TrainConfig(), {"accuracy_in": 0.25}).splitlines()[5]
    '# The base of a run'
    """
    made = (
        f"It is a small Llama, made from random weights and taught by imitation for {config.warm_start.steps} steps on "
        f"complete workings and {config.warm_start.noisy_steps} on a noisy teacher, with seed {config.warm_start.seed}."
        if config.warm_started and config.model.path is None
        else f"It is `{config.model.path}`" + (", taught by imitation." if config.warm_started else ", unchanged.")
    )
    blocks = [
        _header("transformers", config),
        "# The base of a run",
        f"This causal language model is what runs of geomalign begin with, and their reference policy. {made}",
        *_shared(config, {}),
        "## Results",
        _results({"final": evaluation}),
        "## Citation",
        f"```bibtex\n{GEOMALIGN % _version()}\n```",
    ]
    return "\n\n".join(filter(None, blocks)) + "\n"


def _header(library: str, config: TrainConfig) -> str:
    path = config.model.path
    base = f"\nbase_model: {path}" if path and not Path(path).exists() else ""
    return f"---\nlibrary_name: {library}{base}\ntags: [geomalign]\n---"


def _shared(config: TrainConfig, summary: Mapping[str, Any]) -> list[str]:
    """Data, settings, seeds and versions."""
    task = config.task
    checked = data_fingerprints(config)
    pairs = config.offline.data if summary.get("mode") == "offline" else None
    learnt = f"pairs of `{pairs}`" if pairs else "pairs of better and worse samples of the base"
    rewards = "responses that the model sampled, with the rewards of the task's verifier"
    trained = "" if not summary else f", and it learnt from {learnt if summary['mode'] == 'offline' else rewards}"
    options = f", with options {json.dumps(dict(task.options))}" if task.options else ""
    levels = f"levels {list(task.train_levels)} in training, {list(task.eval_levels)} in evaluation"
    made = environment()
    versions = ", ".join(f"{name} {made[name]}" for name in made if name not in ("cores", "platform"))
    # Of a base, what it was made with; of a run, all but the loop that it did not go through.
    idle = ("callbacks", "report_to", "bases", "rl." if summary.get("mode") == "offline" else "offline.")
    used = "" if summary else ("model.", "warm_start.", "task.", "device", "dtype")
    listed = [
        f"{name} = {json.dumps(value)}"
        for name, value in flat(to_dict(config))
        if name.startswith(used) and value is not None
    ]
    return [
        "## Data",
        f"The task is `{task.name}`{options}: {levels}{trained}. One prompt in eight is kept for evaluation.",
        *(f"`{file}` has the SHA-256 checksum {digest}…" for file, digest in checked.items()),
        "## Settings",
        f"Seed {config.seed} sets prompts, sampling and minibatches; seed {config.warm_start.seed} the base."
        if summary
        else "",
        "\n".join(["```toml", *(line for line in listed if not line.startswith(idle)), "```"]),
        f"Made with {versions}.",
    ]


def _results(summary: Mapping[str, Any]) -> str:
    """Accuracy and mean reward before and after."""
    final, base = summary["final"], summary.get("base", {})
    keys = [key for key in final if key.startswith(("accuracy/", "greedy_reward/")) or key.endswith("_held_out")]
    told = {"accuracy": "accuracy, level", "greedy_reward": "mean reward, level"}

    def cell(values: Mapping[str, Any], key: str) -> str:
        return f"{values[key]:.4g}" if key in values else ""

    rows = []
    for key in keys:
        name, _, level = key.partition("/")
        rows.append(f"| {told.get(name, name)} {level} | {cell(base, key)} | {cell(final, key)} |".replace("  ", " "))
    return "\n".join(
        [
            f"Greedy responses to held-out prompts; one counts as right where its reward is at least {SOLVED:g}.",
            "",
            "| measured | before | after |",
            "| --- | ---: | ---: |",
            *rows,
        ]
    )


def _citations(config: TrainConfig) -> str:
    publication = PUBLICATIONS.get(config.objective.removeprefix("geomalign.recipes:"))
    return "\n\n".join([*([publication.bibtex()] if publication else []), GEOMALIGN % _version()])


def _version() -> str:
    from geomalign import __version__

    return __version__
