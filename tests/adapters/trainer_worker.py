"""One run of transformers.Trainer with an objective:  python tests/adapters/trainer_worker.py '[{…}, …]' OUT.pt"""

import json
import os
import sys
import tempfile
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

import geomalign as ga
from geomalign.adapters.transformers import ObjectiveLoss


def model(seed: int = 0) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=16,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=32,
            initializer_range=0.3,
            pad_token_id=0,
        )
    )


def log_probs(policy: Any, prompt: list[int], response: list[int]) -> list[float]:
    with torch.no_grad():
        logits = policy(torch.tensor([prompt + response])).logits[0, :-1].log_softmax(-1)
    return logits.gather(-1, torch.tensor(prompt + response)[1:, None])[len(prompt) - 1 :, 0].tolist()


def rows(paired: bool, count: int) -> list[dict[str, Any]]:
    """Prompts of one to three tokens with responses of one to five, scored by another model."""
    reference, generator = model(seed=1), torch.Generator().manual_seed(2)

    def ids(low: int, high: int) -> list[int]:
        length = int(torch.randint(low, high, (), generator=generator))
        return torch.randint(1, 16, (length,), generator=generator).tolist()

    result = []
    for k in range(count):
        prompt, first, second = ids(1, 4), ids(1, 6), ids(1, 6)
        if paired:
            scores = [log_probs(reference, prompt, x) for x in (first, second)]
            row = {"prompt_ids": prompt, "chosen_ids": first, "rejected_ids": second}
            # One of the two as a sum, as precomputed reference scores usually are.
            result.append(row | {"reference_chosen": scores[0], "reference_rejected": sum(scores[1])})
        else:
            row = {"prompt_ids": prompt, "response_ids": first, "old": log_probs(reference, prompt, first)}
            result.append(row | {"reference": row["old"], "drive": float(k % 3) - 1.0})
    return result


def run(case: dict[str, Any]) -> dict[str, Any]:
    torch.set_num_threads(1)
    name, hyperparameters = case["objective"]
    policy = model()
    loss = ObjectiveLoss(ga.recipes.get(name, **hyperparameters), model=policy if case.get("fused") else None)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            use_cpu=True,
            report_to="none",
            save_strategy="no",
            logging_steps=1,
            learning_rate=1e-2,
            lr_scheduler_type="constant",
            adam_epsilon=1e-3,
            num_train_epochs=2,
            remove_unused_columns=False,
            disable_tqdm=True,
            dataloader_pin_memory=False,
            seed=3,
            **case["args"],
        )
        data = rows(loss.paired, case["rows"])
        # In the order of the data, so that micro-batches of any size make the same optimiser steps.
        trainer = InOrder(
            model=policy, args=arguments, train_dataset=data, data_collator=loss.collate, compute_loss_func=loss
        )
        trainer.train()
        evaluated = trainer.evaluate(eval_dataset=data)["eval_loss"] if case.get("evaluate") else None
        inner = trainer.accelerator.unwrap_model(trainer.model)
        weights = torch.cat([p.detach().flatten() for p in inner.parameters()])
        return {"weights": weights, "log": trainer.state.log_history, "eval": evaluated, "metrics": loss.metrics}


class InOrder(Trainer):
    def _get_train_sampler(self, *args: Any) -> Any:
        return torch.utils.data.SequentialSampler(args[0] if args else self.train_dataset)


if __name__ == "__main__":
    results = [run(case) for case in json.loads(sys.argv[1])]
    if os.environ.get("RANK", "0") == "0":
        torch.save(results, sys.argv[2])
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
