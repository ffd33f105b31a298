"""One TRL run on a tiny model made on the fly:  python tests/adapters/trl_worker.py '{"trainer": "grpo", …}' OUT.pt

Run by test_trl.py in its own process, and under torchrun for two. `ours` chooses the adapter or TRL's own loss; the
weights after training, the log and the warnings are saved.
"""

import asyncio
import dataclasses
import inspect
import json
import math
import os
import sys
import tempfile
import warnings
from typing import Any

import torch
from datasets import Dataset, load_from_disk
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, TrainerCallback

import geomalign as ga
from geomalign import distributed

LETTERS = "abcdefghijklmnop"


def tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {token: k for k, token in enumerate(["<pad>", "<eos>", "<unk>", *LETTERS])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")


def model(seed: int = 0) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=3 + len(LETTERS),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=64,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=1,
        initializer_range=0.3,
    )
    return LlamaForCausalLM(config)


def loaded(folder: str, seed: int = 0) -> LlamaForCausalLM:
    """The same from a checkpoint of every rank's own, which TRL reads again for the reference."""
    made, path = model(seed), f"{folder}/model-{seed}"
    made.config.architectures = [type(made).__name__]
    made.config.save_pretrained(path)
    save_file(made.state_dict(), f"{path}/model.safetensors", {"format": "pt"})
    return LlamaForCausalLM.from_pretrained(path)


def adapter() -> Any:
    from peft import LoraConfig

    torch.manual_seed(3)
    return LoraConfig(r=4, target_modules=["q_proj", "v_proj"], lora_dropout=0.0, init_lora_weights="gaussian")


def reward(completions: list[str], **kwargs: Any) -> list[float]:
    """Share of the letter a, and a little for length: differs within every group."""
    return [text.count("a") - 0.3 * text.count("b") + 0.01 * len(text) for text in completions]


def second_reward(completions: list[str], **kwargs: Any) -> list[float | None]:
    """Cannot score every response."""
    return [None if "c" in text else float(text.count("d")) for text in completions]


async def third_reward(completions: list[str], **kwargs: Any) -> list[float]:
    """Asks somebody else."""
    await asyncio.sleep(0)
    return [0.5 * text.count("e") for text in completions]


class Events(TrainerCallback):
    """What the host called, in order, and whether our metrics had come when it logged."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.logged: set[str] = set()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.names.append("step")

    def on_evaluate(self, *args: Any, **kwargs: Any) -> None:
        self.names.append("evaluate")

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        self.names.append("end")

    def on_log(self, *args: Any, logs: dict[str, float], **kwargs: Any) -> None:
        self.names.append("log")
        self.logged |= logs.keys()


class Evaluating(TrainerCallback):
    """Evaluates after every step, without a trace in the random numbers of the training."""

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        with torch.random.fork_rng(devices=[]):
            self.trainer.evaluate()


def with_engine(trainer: Any) -> None:
    """As if vLLM had generated: log-probabilities of its own for every sampled token, some of them unknown (NaN)."""
    import trl

    unknown = "per_token_logps_diff = torch.nan_to_num" in inspect.getsource(
        trl.GRPOTrainer._generate_and_score_completions
    )

    class Engine(type(trainer)):  # type: ignore[misc]
        def _generate_single_turn(self, *args: Any, **kwargs: Any) -> Any:
            self.use_vllm = False
            completions, _, *others = super()._generate_single_turn(*args, **kwargs)
            self.use_vllm = True
            log_probs = [
                [
                    math.nan if unknown and token == 5 else -2.6 + 0.3 * math.sin(token + k)
                    for k, token in enumerate(row)
                ]
                for row in completions
            ]
            return (completions, log_probs, *others)

    trainer.__class__ = Engine
    trainer.use_vllm = True


def known(config: type, arguments: dict[str, Any]) -> dict[str, Any]:
    """Those arguments that this release's configuration has."""
    names = {field.name for field in dataclasses.fields(config)}
    return {name: value for name, value in arguments.items() if name in names}


def common(folder: str) -> dict[str, Any]:
    return {
        "output_dir": folder,
        "use_cpu": True,
        "bf16": False,
        "report_to": "none",
        "save_strategy": "no",
        "logging_steps": 1,
        "learning_rate": 3e-3,
        "lr_scheduler_type": "constant",
        "max_grad_norm": 0.7,
        "adam_epsilon": 1e-4,  # so that a gradient that is zero up to rounding does not move a weight by the rate
        "seed": 5,
        "gradient_checkpointing": False,
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }


def run_grpo(case: dict[str, Any], folder: str) -> Any:
    import trl

    from geomalign.adapters.trl import GeometryGRPOTrainer

    prompts = [" ".join(LETTERS[(k + j) % len(LETTERS)] for j in range(2 + k % 3)) for k in range(32)]
    arguments = common(folder) | {
        "per_device_train_batch_size": 4,
        "num_generations": 4,
        "max_completion_length": 8,
        "max_prompt_length": None,
        "max_steps": 4,
        "temperature": 1.0,
        "use_vllm": False,
    }
    arguments |= case.get("args", {})
    if case["ours"]:
        arguments |= case.get("ours_config", {})
    config = trl.GRPOConfig(**known(trl.GRPOConfig, arguments))
    rewards = [reward, second_reward, third_reward][: case.get("rewards", 1)]
    evaluated = "evaluate" in case or "evaluate_each_step" in case
    shared: dict[str, Any] = {
        "model": loaded(folder),
        "reward_funcs": rewards,
        "args": config,
        "train_dataset": Dataset.from_dict({"prompt": prompts}),
        "eval_dataset": Dataset.from_dict({"prompt": prompts[:8]}) if evaluated else None,
        "processing_class": tokenizer(),
        "peft_config": adapter() if case.get("peft") else None,
    }
    if not case["ours"]:
        return trl.GRPOTrainer(**shared)
    return GeometryGRPOTrainer(
        **shared, objective=objective(case), controller=controller(case), **case.get("ours_args", {})
    )


def run_dpo(case: dict[str, Any], folder: str) -> Any:
    import trl

    from geomalign.adapters.trl import GeometryDPOTrainer

    def text(k: int, step: int, length: int) -> str:
        return " " + " ".join(LETTERS[(k * step + j * j) % len(LETTERS)] for j in range(length))

    rows = case.get("rows", 32)
    dataset = Dataset.from_dict(
        {
            "prompt": [LETTERS[k % 16] for k in range(rows)],
            "chosen": [text(k, 3, 2 + k % 4) for k in range(rows)],
            "rejected": [text(k, 5, 1 + k % 5) for k in range(rows)],
        }
    )
    # TRL 1.6 looks for precomputed log-probabilities beside the data's file, which a table in memory has not.
    dataset.save_to_disk(f"{folder}/data-{os.environ.get('RANK', '0')}")
    dataset = load_from_disk(f"{folder}/data-{os.environ.get('RANK', '0')}")
    arguments = common(folder) | {"per_device_train_batch_size": 4, "max_length": 32, "max_steps": 3, "beta": 0.3}
    arguments |= case.get("args", {})
    config = trl.DPOConfig(**known(trl.DPOConfig, arguments))
    shared: dict[str, Any] = {
        "model": loaded(folder),
        "ref_model": None if case.get("peft") else model(seed=1),
        "args": config,
        "train_dataset": dataset,
        "eval_dataset": dataset.select(range(8)) if "evaluate" in case or "evaluate_each_step" in case else None,
        "processing_class": tokenizer(),
        "peft_config": adapter() if case.get("peft") else None,
    }
    if not case["ours"]:
        return trl.DPOTrainer(**shared)
    return GeometryDPOTrainer(**shared, objective=objective(case), controller=controller(case))


@dataclasses.dataclass(frozen=True)
class Longer(ga.SamplingGeometry):
    """Pairs pull by how much longer the preferred response is."""

    def drive(self, batch: Any) -> torch.Tensor:
        chosen, rejected = batch.rows.support.sum(-1).to(batch.rows.dtype).chunk(2)
        return chosen - rejected


def region() -> Any:
    """A step of a given size over all pairs, so that each pair's drive depends on the others."""
    return dataclasses.replace(ga.recipes.ipo(), sampling=ga.TrustRegion(Longer(), chi2=4.0))


def objective(case: dict[str, Any]) -> Any:
    if isinstance(case["objective"], str):
        return case["objective"]  # a description, which the trainer reads
    name, hyperparameters = case["objective"]
    made = ga.recipes.get(name, **hyperparameters)
    if "cap" in case:
        made = dataclasses.replace(made, sampling=ga.TruncatedImportance(made.sampling, cap=case["cap"]))
    return made


def controller(case: dict[str, Any]) -> Any:
    if "annealed" in case:
        start, stop, rollouts = case["annealed"]
        return ga.Annealed(lambda progress: start + (stop - start) * progress, rollouts)
    return case.get("control")


def stiffness(trainer: Any) -> float | None:
    """This process's μ at the end of the run."""
    controller = getattr(trainer, "controller", None)
    return None if controller is None else float(controller.stiffness)


def run(case: dict[str, Any]) -> dict[str, Any]:
    torch.set_num_threads(1)
    torch.manual_seed(7)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        # Over several processes a checkpoint is read by all of them, so it is not in the folder of one.
        saved = case.get("args", {}).get("output_dir", folder)
        trainer = {"grpo": run_grpo, "dpo": run_dpo}[case["trainer"]](case, folder)
        events = Events()
        trainer.add_callback(events)
        if case.get("engine"):
            with_engine(trainer)
        if case.get("evaluate_each_step"):
            trainer.add_callback(Evaluating(trainer))
        trainer.train()
        if case.get("forget"):
            os.remove(f"{saved}/checkpoint-{case['resume']}/geometry.pt")
        if case.get("uncontrolled"):
            case = {name: value for name, value in case.items() if name not in ("annealed", "control")}
        if case.get("resume"):
            trainer = {"grpo": run_grpo, "dpo": run_dpo}[case["trainer"]](case, folder)
            trainer.train(resume_from_checkpoint=f"{saved}/checkpoint-{case['resume']}")
        metrics = trainer.evaluate() if case.get("evaluate") else {}
        inner = trainer.accelerator.unwrap_model(trainer.model)
        weights = {name: p.detach().clone() for name, p in inner.named_parameters() if p.requires_grad}
        return {
            "weights": weights,
            "start": {name: p.detach() for name, p in model().named_parameters()},
            "log": trainer.state.log_history,
            "stiffness": distributed.everyone(stiffness(trainer)),
            "metrics": metrics,
            "events": events.names,
            "logged": events.logged,
            "warnings": [f"{w.category.__name__}: {w.message}" for w in caught],
        }


if __name__ == "__main__":
    results = [run(case) for case in json.loads(sys.argv[1])]
    if os.environ.get("RANK", "0") == "0":
        torch.save(results, sys.argv[2])
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
