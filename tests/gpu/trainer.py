"""TRL's GRPOTrainer with its own loss and GeometryGRPOTrainer with the recipe of the same name, one after the other.

The model, of 100 M parameters or more, and its tokenizer are made on the spot. In float32 both must train the same
weights; in bfloat16 their steps are timed.
"""

from __future__ import annotations

import gc
import statistics
import tempfile
import time
import warnings
from typing import Any

import torch

from tests.gpu.figures import DEVICE, TINY, Figures, synchronize

WORDS = 64 if TINY else 32_000
SIZES: dict[str, Any] = (
    {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    if TINY
    else {"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 12}
)
ROWS, SAMPLES, PROMPT, RESPONSE = (4, 2, 4, 8) if TINY else (32, 8, 64, 128)
ITERATIONS = 2  # optimiser steps per rollout, so that the ratio leaves 1
OURS = "geomalign.adapters.trl.constants:dapo"


def main(figures: Figures) -> None:
    warnings.simplefilter("ignore")
    import trl  # noqa: F401  (the stage is skipped without it)

    exact = {name: trained(ours=name != "TRL", steps=2 * ITERATIONS) for name in ("TRL", "geomalign")}
    size = sum(x.numel() for x in exact["TRL"]["weights"].values())
    figures.add("GRPOTrainer, dapo", "parameters", value=size)
    compare(figures, exact["TRL"], exact["geomalign"])
    case = "GRPOTrainer" if TINY else "GRPOTrainer, bfloat16"
    medians: dict[str, list[dict[str, float]]] = {"TRL": [], "geomalign": []}
    for name in ("TRL", "geomalign") if TINY else ("TRL", "geomalign", "geomalign", "TRL"):
        run = trained(ours=name != "TRL", steps=(2 if TINY else 3) * ITERATIONS, bf16=DEVICE == "cuda")
        found = {what: 1e3 * statistics.median(run[what]) for what in ("updates", "rollouts")}
        medians[name].append(found)
        figures.add(f"{case}, an update", name, ms=found["updates"], peak_mib=run["peak"])
        figures.add(f"{case}, an update and its rollout", name, ms=found["rollouts"])
    for what in ("updates", "rollouts"):
        theirs, ours = (min(run[what] for run in medians[name]) for name in ("TRL", "geomalign"))
        figures.target(case, f"{what}: TRL / geomalign", theirs / ours, least=0.97)


def compare(figures: Figures, theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    """The first rollout is the same to the bit; so are the losses of its updates, and the weights, up to rounding."""
    for k, (a, b) in enumerate(zip(theirs["log"][:ITERATIONS], ours["log"][:ITERATIONS])):
        case = f"GRPOTrainer, float32, step {k + 1}"
        figures.check(case, "loss: difference", abs(a["loss"] - b["loss"]), 1e-4)
        figures.check(case, "gradient norm: relative difference", abs(a["grad_norm"] / b["grad_norm"] - 1), 1e-3)
    between = moved = 0.0
    for name, start in theirs["start"].items():
        between += float((theirs["weights"][name] - ours["weights"][name]).double().square().sum())
        moved += float((theirs["weights"][name] - start).double().square().sum())
    figures.add("GRPOTrainer, float32, weights", "way", value=moved**0.5)
    figures.check("GRPOTrainer, float32, weights", "difference / way", (between / moved) ** 0.5, 1e-2)


def trained(ours: bool, steps: int, bf16: bool = False) -> dict[str, Any]:
    """Weights before and after, log, seconds of every step, and the peak of memory in MiB."""
    import trl
    from datasets import Dataset
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        def __init__(self) -> None:
            self.began, self.seconds = 0.0, list[float]()

        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            synchronize()
            self.began = time.perf_counter()

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            synchronize()
            self.seconds.append(time.perf_counter() - self.began)

    words, network = tokenizer(), model()
    prompts = [" ".join(f"w{(97 * k + 31 * j) % (WORDS - 3)}" for j in range(PROMPT)) for k in range(64)]
    with tempfile.TemporaryDirectory() as folder:
        config = trl.GRPOConfig(
            output_dir=folder,
            use_cpu=DEVICE == "cpu",
            bf16=bf16,
            report_to="none",
            save_strategy="no",
            logging_steps=1,
            learning_rate=1e-3 if TINY else 1e-5,
            lr_scheduler_type="constant",
            adam_epsilon=1e-4,  # so that a gradient that is zero up to rounding does not move a weight by the rate
            seed=5,
            gradient_checkpointing=False,
            disable_tqdm=True,
            per_device_train_batch_size=ROWS,
            num_generations=SAMPLES,
            max_completion_length=RESPONSE,
            num_iterations=ITERATIONS,
            max_steps=steps,
            loss_type="dapo",
            use_vllm=False,
        )
        shared: dict[str, Any] = {
            "model": network,
            "reward_funcs": [reward],
            "args": config,
            "train_dataset": Dataset.from_dict({"prompt": prompts}),
            "processing_class": words,
        }
        if ours:
            from geomalign.adapters.trl import GeometryGRPOTrainer

            trainer = GeometryGRPOTrainer(**shared, objective=OURS)
        else:
            trainer = trl.GRPOTrainer(**shared)
        start = {name: p.detach().to("cpu", copy=True) for name, p in network.named_parameters()}
        trainer.add_callback(clock := Clock())
        if DEVICE == "cuda":
            torch.cuda.reset_peak_memory_stats()
        trainer.train()
    found = {
        "start": start,
        "weights": {name: p.detach().cpu() for name, p in network.named_parameters()},
        "log": [row for row in trainer.state.log_history if "loss" in row],
        "rollouts": clock.seconds[ITERATIONS::ITERATIONS] or clock.seconds[:1],  # without the first, which warms up
        "updates": [x for k, x in enumerate(clock.seconds) if k % ITERATIONS],
        "peak": torch.cuda.max_memory_allocated() / 2**20 if DEVICE == "cuda" else None,
    }
    del trainer, network, shared
    gc.collect()
    if DEVICE == "cuda":
        torch.cuda.empty_cache()
    return found


def reward(completion_ids: list[list[int]], **kwargs: Any) -> list[float]:
    """Share of tokens with an even number, which differs within every group."""
    return [sum(token % 2 == 0 for token in row) / max(len(row), 1) for row in completion_ids]


def model() -> Any:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    heads = SIZES["num_attention_heads"]
    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=WORDS,
            **SIZES,
            head_dim=SIZES["hidden_size"] // heads,
            num_key_value_heads=heads,
            max_position_embeddings=512,
            tie_word_embeddings=True,
            pad_token_id=0,
            eos_token_id=1,
            bos_token_id=1,
        )
    )


def tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: k for k, word in enumerate(["<pad>", "<eos>", "<unk>", *(f"w{k}" for k in range(WORDS - 3))])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")


if __name__ == "__main__":
    Figures.stage(main, device="cpu")
