"""An objective as `compute_loss_func` of transformers.Trainer: any split of an optimiser step gives the same weights.

The Trainer needs accelerate; without it only the parts that need transformers run.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import geomalign as ga
from geomalign.adapters.transformers import Labels, ObjectiveLoss

CASES: dict[str, dict[str, Any]] = {
    "dpo": {"objective": ("dpo", {"beta": 0.3}), "rows": 12},
    "ipo": {"objective": ("ipo", {"tau": 0.3}), "rows": 12},
    "simpo": {"objective": ("simpo", {}), "rows": 12},
    "opo": {"objective": ("opo", {"mu": 2.0}), "rows": 12},
    "dapo": {"objective": ("dapo", {}), "rows": 12},
    "grpo": {"objective": ("grpo", {"beta": 0.1}), "rows": 12},
}


@pytest.fixture(scope="module")
def worker() -> Any:
    pytest.importorskip("accelerate", reason="transformers.Trainer needs accelerate")
    from . import trainer_worker

    return trainer_worker


@pytest.mark.float32
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in ("dpo", "dapo") else pytest.mark.slow) for name in CASES]
)
def test_micro_batches_make_the_step_of_the_whole(worker: Any, name: str) -> None:
    """Steps of six rows at once, and as 4 + 2: the last micro-batch counts for what it holds."""
    case = CASES[name]
    whole = worker.run(case | {"args": {"per_device_train_batch_size": 6}})
    parts = worker.run(case | {"args": {"per_device_train_batch_size": 3, "gradient_accumulation_steps": 2}})
    torch.testing.assert_close(parts["weights"], whole["weights"], atol=1e-6, rtol=0)
    single = worker.run(case | {"args": {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 6}})
    torch.testing.assert_close(single["weights"], whole["weights"], atol=1e-6, rtol=0)
    start = torch.cat([p.detach().flatten() for p in worker.model().parameters()])
    assert (whole["weights"] - start).abs().max() > 1e-3
    losses = [[row["loss"] for row in run["log"] if "loss" in row] for run in (whole, parts)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)
    assert whole["metrics"]["loss"].ndim == 0


@pytest.mark.float32
@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
def test_an_uneven_last_step(worker: Any) -> None:
    """Eleven rows in steps of six: the second step has five, whichever way it is split."""
    for name in ("dpo", "dapo"):
        case = CASES[name] | {"rows": 11}
        whole = worker.run(case | {"args": {"per_device_train_batch_size": 6}})
        parts = worker.run(case | {"args": {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 3}})
        torch.testing.assert_close(parts["weights"], whole["weights"], atol=1e-6, rtol=0)


@pytest.mark.float32
@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
def test_two_processes(worker: Any, tmp_path: Path) -> None:
    names = ["dpo", "opo", "dapo"]
    arguments = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 3}
    cases = [CASES[name] | {"args": arguments} for name in names]
    script = Path(worker.__file__)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(script.parents[2])}
    out = tmp_path / "results.pt"
    done = subprocess.run([*command, json.dumps(cases), str(out)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    for name, result in zip(names, torch.load(out, weights_only=False), strict=True):
        whole = worker.run(CASES[name] | {"args": {"per_device_train_batch_size": 6}})
        torch.testing.assert_close(result["weights"], whole["weights"], atol=1e-6, rtol=0)


@pytest.mark.float32
@pytest.mark.filterwarnings("ignore")
def test_evaluation_is_the_mean_of_all_rows(worker: Any) -> None:
    case = CASES["dpo"] | {"evaluate": True}
    result = worker.run(case | {"args": {"per_device_train_batch_size": 6, "per_device_eval_batch_size": 12}})
    assert result["eval"] == pytest.approx(result["log"][-1]["eval_loss"])
    assert 0 < result["eval"] < 2


@pytest.mark.float32
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["dpo", "dapo"])
def test_training_without_logits_gives_the_same_weights(worker: Any, name: str) -> None:
    """The output layer evaluated with the objective, tied to the embedding or not, in two micro-batches."""
    case = CASES[name] | {"args": {"per_device_train_batch_size": 3, "gradient_accumulation_steps": 2}}
    plain, fused = worker.run(case), worker.run(case | {"fused": True})
    torch.testing.assert_close(fused["weights"], plain["weights"], atol=1e-6, rtol=0)


@pytest.mark.float32
def test_the_head_of_a_model_is_found_by_its_numbers() -> None:
    """Scaled and capped logits; what is neither is refused."""
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    sizes |= {"num_key_value_heads": 2, "vocab_size": 32, "head_dim": 8}
    rows = [{"prompt_ids": [3], "response_ids": [4, 5], "old": [-1.0, -2.0], "drive": 1.0}] * 2
    for config in (
        transformers.LlamaConfig(**sizes),
        transformers.GraniteConfig(**sizes, logits_scaling=8.0),
        transformers.CohereConfig(**sizes, logit_scale=0.25),
        transformers.Gemma2Config(**sizes, final_logit_softcapping=0.1),
    ):
        model = transformers.AutoModelForCausalLM.from_config(config)
        plain, fused = ObjectiveLoss("opo"), ObjectiveLoss("opo", model=model)
        values = []
        for loss in (plain, fused):
            batch = loss.collate(rows)
            out = model(**{key: value for key, value in batch.items() if key != "labels"})
            value = loss(out, batch["labels"])
            values.append((value, *torch.autograd.grad(value, list(model.parameters()))))
            assert (out["logits"].shape[1] == 1) == (loss is fused)
        for a, b in zip(*values, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    model.lm_head = torch.nn.Sequential(model.lm_head)
    model.get_output_embeddings = lambda: model.lm_head[0]
    model.lm_head.append(torch.nn.Tanh())
    with pytest.raises(ValueError, match="leave out model="):
        ObjectiveLoss("opo", model=model)


def outputs(rows: int, width: int) -> Any:
    return {"logits": torch.randn(rows, width, 16, requires_grad=True)}


def test_the_loss_is_that_of_the_objective_on_the_scored_rows() -> None:
    loss = ObjectiveLoss(ga.recipes.dpo(beta=0.3))
    rows = [
        {
            "prompt_ids": [3],
            "chosen_ids": [4, 5],
            "rejected_ids": [6],
            "reference_chosen": [-1.0, -2.0],
            "reference_rejected": -1.5,
        },
        {
            "prompt_ids": [3, 7],
            "chosen_ids": [8],
            "rejected_ids": [9, 2, 1],
            "reference_chosen": -0.5,
            "reference_rejected": -6.0,
        },
    ]
    batch = loss.collate(rows)
    assert batch["input_ids"].tolist()[0] == [3, 4, 5, 0, 0] and batch["attention_mask"].sum(1).tolist() == [3, 3, 2, 5]
    out = outputs(*batch["input_ids"].shape)
    log_probs = out["logits"].float().log_softmax(-1)
    at = lambda row, *places: sum(log_probs[row, p, t] for p, t in places)  # noqa: E731
    margins = [
        at(0, (0, 4), (1, 5)) - at(2, (0, 6)) + 3.0 - 1.5,
        at(1, (1, 8)) - at(3, (1, 9), (2, 2), (3, 1)) + 0.5 - 6.0,
    ]
    expected = -torch.nn.functional.logsigmoid(0.3 * torch.stack(margins)).mean()
    torch.testing.assert_close(loss(out, batch["labels"]), expected)
    torch.testing.assert_close(loss(out, batch["labels"], num_items_in_batch=torch.tensor(8)), expected * 2 / 8)
    torch.testing.assert_close(loss(TupleOutput(out["logits"]), batch["labels"]), expected)


class TupleOutput(tuple[Any, ...]):
    """Outputs as a tuple, as a model with return_dict=False gives them."""

    def __new__(cls, logits: Any) -> "TupleOutput":
        return super().__new__(cls, (logits,))


@pytest.mark.parametrize(("name", "count"), [("dapo", 6), ("opo", 3), ("grpo", 3)])
def test_what_is_counted_is_what_is_divided_by(name: str, count: int) -> None:
    loss = ObjectiveLoss(ga.recipes.get(name))
    rows = [
        {"prompt_ids": [1, 2], "response_ids": ids, "old": [-1.0] * len(ids), "drive": 1.0}
        for ids in ([3, 4, 5], [6], [7, 8])
    ]
    labels = loss.collate(rows)["labels"]
    assert int(labels[..., 1:].ne(-100).sum()) == int(labels.ne(-100).sum()) == count
    moved = type(labels)({k: v.to("cpu") for k, v in labels.items()})  # as the Trainer and accelerate rebuild it
    assert isinstance(moved, Labels) and int(moved[..., 1:].ne(-100).sum()) == count


def test_half_precision_logits_are_scored_in_float32() -> None:
    loss = ObjectiveLoss(ga.recipes.opo())
    rows = [{"prompt_ids": [1], "response_ids": [2, 3], "old": [-1.0, -2.0], "drive": 1.0}]
    batch = loss.collate(rows)
    logits = torch.randn(1, 3, 16, dtype=torch.bfloat16)
    value = loss({"logits": logits}, batch["labels"])
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, loss({"logits": logits.float()}, batch["labels"]))


def test_what_cannot_work_is_refused() -> None:
    with pytest.raises(ValueError, match="divide by responses and by tokens"):
        ObjectiveLoss(ga.recipes.dapo() + ga.recipes.opo())
    with pytest.raises(ValueError, match=r"no prompt_ids, response_ids, only x.*remove_unused_columns=False"):
        ObjectiveLoss(ga.recipes.opo()).collate([{"x": 1}])
    with pytest.raises(ValueError, match="a response of 2 tokens has 3 log-probabilities"):
        ObjectiveLoss(ga.recipes.opo()).collate([{"prompt_ids": [1], "response_ids": [2, 3], "old": [-1.0] * 3}])
