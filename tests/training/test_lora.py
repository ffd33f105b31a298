"""Adapters of peft: what is trained, what the reference is, what is saved and loads again."""

import importlib.util
import shutil
from pathlib import Path

import pytest
import torch

from geomalign.tasks import Chain
from geomalign.training import ModelConfig
from geomalign.training.checkpoint import read_json, read_metrics
from geomalign.training.config import LoRAConfig, override
from geomalign.training.config.settings import TrainConfig
from geomalign.training.generation import sample, score_rows
from geomalign.training.policy import Placement, Policy, adapted, build, load, save
from geomalign.training.trainer import train

pytestmark = pytest.mark.float32
PROMPTS = ["3+8;", "1-2;", "9+9+1;"]
needs_peft = pytest.mark.skipif(
    importlib.util.find_spec("peft") is None, reason="peft is not installed: pip install 'geomalign[lora]'"
)


def test_without_peft_a_run_is_refused_before_it_begins(
    tiny: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "peft" else real(name))
    with pytest.raises(ValueError, match=r"lora\.rank = 4 needs the package peft.*geomalign\[lora\]"):
        train(override(tiny, {"lora.rank": 4}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def moved(policy: Policy) -> Policy:
    """With an adapter that acts: B is 0 at first."""
    for name, parameter in policy.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(len(name)))
    return policy


def log_probs(policy: Policy) -> torch.Tensor:
    whole = build(ModelConfig(hidden=16, layers=2, heads=2, intermediate=32), Chain().alphabet, 0, Placement())
    rollout = sample(whole, PROMPTS, samples=2, max_new_tokens=6, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return score_rows(policy, rollout, 1.0, 8)


@needs_peft
def test_an_adapter_is_trained_alone_and_without_it_the_policy_is_the_base(policy: Policy) -> None:
    before = log_probs(policy)
    weights = {name: value.clone() for name, value in policy.model.state_dict().items()}
    lora = adapted(policy, LoRAConfig(rank=4), seed=0, base="nowhere")
    assert all("lora_" in name for name, p in lora.model.named_parameters() if p.requires_grad)
    assert len(lora.parameters) == 2 * 2 * 7, "A and B in each of seven linear layers of two blocks"
    torch.testing.assert_close(log_probs(lora), before, rtol=0, atol=0)
    assert lora.head is not None, "the output layer still makes logits in tiles"
    moved(lora)
    assert (log_probs(lora) - before).abs().max() > 0.05
    torch.testing.assert_close(log_probs(lora.frozen()), before, rtol=0, atol=0)
    assert (log_probs(lora) - before).abs().max() > 0.05, "the adapter acts again"
    now = {name.removeprefix("base_model.model."): value for name, value in lora.model.state_dict().items()}
    adapted_layers = [name for name in weights if name.replace(".weight", ".base_layer.weight") in now]
    assert len(adapted_layers) == 2 * 7
    for name in adapted_layers:
        assert torch.equal(now[name.replace(".weight", ".base_layer.weight")], weights[name]), name


@needs_peft
def test_a_saved_adapter_loads_again(policy: Policy, tmp_path: Path) -> None:
    """By this library, which merges it, and by transformers; also where the run was moved with its base."""
    save(policy, tmp_path / "run" / "base-1")
    lora = moved(adapted(policy, LoRAConfig(rank=4), seed=0, base=str(tmp_path / "run" / "base-1")))
    save(lora, tmp_path / "run" / "model")
    assert not list((tmp_path / "run" / "model").glob("model*.safetensors")), "the adapter alone"
    expected = log_probs(lora)
    torch.testing.assert_close(log_probs(load(tmp_path / "run" / "model", Placement())), expected, rtol=1e-4, atol=1e-5)
    from transformers import AutoModelForCausalLM

    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "model").eval()
    torch.testing.assert_close(log_probs(Policy(theirs, lora.tokenizer, Placement())), expected, rtol=1e-4, atol=1e-5)
    shutil.move(tmp_path / "run", tmp_path / "moved")
    again = load(tmp_path / "moved" / "model", Placement())
    torch.testing.assert_close(log_probs(again), expected, rtol=1e-4, atol=1e-5)
    shutil.rmtree(tmp_path / "moved" / "base-1")
    with pytest.raises(ValueError, match="which is not there any more"):
        load(tmp_path / "moved" / "model", Placement())


@needs_peft
@pytest.mark.parametrize("mode", ["rl", "offline"])
def test_a_run_with_an_adapter_resumes_and_is_a_base_itself(
    mode: str, tiny: TrainConfig, base: Path, tmp_path: Path
) -> None:
    chosen = {"objective": "grpo", "options": {"beta": 0.1}} if mode == "rl" else {"objective": "dpo"}
    name, short, long = ("rl.iterations", 2, 4) if mode == "rl" else ("offline.epochs", 1, 2)
    config = override(tiny, {**chosen, "lora.rank": 4, "rate": 1e-2})
    whole = train(override(config, {name: long}), tmp_path / "whole", base=base)
    assert whole["trained_parameters"] < whole["parameters"] / 2
    train(override(config, {name: short}), tmp_path / "parts", base=base)
    train(override(config, {name: long}), tmp_path / "parts", base=base, resume=True)
    one, two = (load(tmp_path / run / "model", Placement()).model.state_dict() for run in ("whole", "parts"))
    assert all(torch.equal(one[name], two[name]) for name in one)
    start = load(base, Placement()).model.state_dict()
    assert any(not torch.equal(one[name], start[name]) for name in start)
    rows = read_metrics(tmp_path / "whole" / "metrics.jsonl")
    assert any(row.get("grad_norm", 0) > 0 for row in rows)
    if mode == "rl":
        settings = {"model.path": str(tmp_path / "whole" / "model"), "rl.iterations": 1, "lora.rank": 2}
        train(override(tiny, settings), tmp_path / "more")
        assert read_json(tmp_path / "more" / "summary.json")["iterations"] == 1
        assert load(tmp_path / "more" / "model", Placement()).positions == 256
