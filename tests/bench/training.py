"""A step of `geomalign train` against one of TRL's GRPOTrainer, at equal shapes: sampling, rewards, loss, update."""

from __future__ import annotations

import logging
import tempfile
import time
import warnings
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import torch

import geomalign as ga
from geomalign.tasks import Problem
from geomalign.training import RLConfig, TaskConfig, TrainConfig
from geomalign.training.from_rewards import iteration
from geomalign.training.policy import Placement, Policy, write
from geomalign.training.run import Run
from tests.bench.measure import Case, installed

OURS, PEER = "geomalign train", "TRL GRPOTrainer"


def cases(preset: str) -> list[Case]:
    if not installed("trl"):
        return []
    if preset == "quick":
        size = {"vocabulary": 64, "hidden": 16, "layers": 1, "prompts": 2, "samples": 4, "prompt": 4, "response": 4}
    else:
        size = {
            "vocabulary": 8192,
            "hidden": 256,
            "layers": 4,
            "prompts": 4,
            "samples": 8,
            "prompt": 32,
            "response": 64,
        }
    steps = {"quick": 2, "short": 7, "full": 20}[preset]
    return [Case("training step", size, dict, 0.0, timed=partial(alternate, steps))]


class Words:
    """A task for the clock: prompts of random words, and a reward that differs within every group."""

    alphabet = "w0123456789 "

    def __init__(self, vocabulary: int, length: int):
        self.vocabulary, self.length = vocabulary, length

    def problem(self, level: int, rng: Random) -> Problem:
        return Problem(" ".join(f"w{rng.randrange(3, self.vocabulary)}" for _ in range(self.length)), "", level)

    def demonstration(self, problem: Problem, rng: Random, noisy: bool) -> str:
        raise ValueError("random words have no teacher")

    def reward(self, problem: Problem, response: str, ended: bool) -> float:
        """Share of words with an even number."""
        words = [word[1:] for word in response.split() if word[1:].isdigit()]
        return sum(int(number) % 2 == 0 for number in words) / max(len(words), 1)

    def max_response_length(self, level: int) -> int:
        return self.length


def alternate(
    steps: int, vocabulary: int, hidden: int, layers: int, prompts: int, samples: int, prompt: int, response: int
) -> dict[str, dict[str, list[float]]]:
    """Seconds of every step: ours is taken in a callback of TRL's trainer, between two of its steps.

    Both take one update on each rollout with AdamW, from the same weights, without checkpoints, evaluations, gradient
    checkpointing or a reference policy.
    """
    warnings.simplefilter("ignore")
    logging.getLogger("transformers").setLevel(logging.ERROR)
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    words = Words(vocabulary, prompt)
    rng = Random(0)
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder) / "base"
        _base(base, vocabulary, hidden, layers, prompt + response)
        objective = ga.recipes.get("grpo")
        config = TrainConfig(
            objective="grpo",
            rate=1e-6,
            threads=torch.get_num_threads(),
            task=TaskConfig(name="tests.bench.training:Words", options={"vocabulary": vocabulary, "length": prompt}),
            rl=RLConfig(prompts=prompts, samples=samples, max_new_tokens=response, epochs=1, minibatches=1),
        )
        place = Path(folder) / "run"
        place.mkdir()
        run = Run(config, objective, place, base, "bench")
        times: dict[str, dict[str, list[float]]] = {name: {"cpu": [], "wall": []} for name in (OURS, PEER)}

        class Turn(TrainerCallback):  # type: ignore[misc]
            began = (0.0, 0.0)

            def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
                _spent(times[PEER], self.began)
                start = _now()
                iteration(run, None)
                run.step += 1
                _spent(times[OURS], start)
                self.began = _now()

        arguments = GRPOConfig(
            output_dir=folder,
            per_device_train_batch_size=prompts * samples,
            num_generations=samples,
            max_completion_length=response,
            max_steps=steps + 1,
            learning_rate=1e-6,
            loss_type="grpo",
            beta=0.0,
            gradient_checkpointing=False,
            use_cpu=True,
            bf16=False,
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
        )
        trainer = GRPOTrainer(
            model=str(base),
            reward_funcs=lambda completions, **more: [words.reward(Problem("", "", 1), x, True) for x in completions],
            args=arguments,
            train_dataset=Dataset.from_dict({"prompt": [words.problem(1, rng).prompt for _ in range(4 * prompts)]}),
            callbacks=[Turn],
        )
        trainer.train()
    # The first step of both warms up.
    return {name: {clock: values[1:] for clock, values in found.items()} for name, found in times.items()}


def _now() -> tuple[float, float]:
    return time.process_time(), time.perf_counter()


def _spent(into: dict[str, list[float]], began: tuple[float, float]) -> None:
    cpu, wall = _now()
    into["cpu"].append(cpu - began[0])
    into["wall"].append(wall - began[1])


def _base(directory: Path, vocabulary: int, hidden: int, layers: int, positions: int) -> None:
    """A Llama of random weights whose every token is a word; its end token has the chance of any other."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    names = ["<pad>", "<end>", "<unk>", *(f"w{number}" for number in range(3, vocabulary))]
    inner = Tokenizer(models.WordLevel({name: number for number, name in enumerate(names)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="<end>", unk_token="<unk>", padding_side="left"
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=hidden,
            intermediate_size=hidden * 43 // 16,
            num_hidden_layers=layers,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=2 * positions,
            tie_word_embeddings=True,
            pad_token_id=0,
            eos_token_id=1,
            bos_token_id=None,
        )
    )
    write(Policy(model, tokenizer, Placement()), directory)
