"""Tokenizer and checkpoints: what is saved is what from_pretrained loads."""

from pathlib import Path

import pytest
import torch

from geomalign.tasks import Chain
from geomalign.training.policy import Placement, Policy, build, character_tokenizer, load, save

pytestmark = pytest.mark.float32


def test_the_tokenizer_is_one_token_a_character_and_reversible(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = character_tokenizer(Chain().alphabet)
    text = "3+8=11-4=7+7=14#14"
    assert len(tokenizer(text)["input_ids"]) == len(text)
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert len(tokenizer) == len(Chain().alphabet) + 3
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert again.padding_side == "left"
    assert again.batch_decode([again(text)["input_ids"]]) == [text]


def test_a_saved_policy_is_loaded_by_transformers_and_by_us(policy: Policy, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    save(policy, tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    tokens = policy.tokenizer(["3+8-4;"], return_tensors="pt")["input_ids"]
    expected = policy.model(tokens).logits
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "model").eval()(tokens).logits
    torch.testing.assert_close(theirs, expected, atol=1e-6, rtol=1e-5)  # another attention kernel
    again = load(tmp_path / "model", Placement())
    assert torch.equal(again.model(tokens).logits, expected)
    assert (again.end, again.pad) == (policy.end, policy.pad)
    save(again, tmp_path / "model")  # over itself
    assert torch.equal(load(tmp_path / "model", Placement()).model(tokens).logits, expected)


def test_logits_of_the_last_positions_ignore_padding_on_the_left(policy: Policy, other_policy: Policy) -> None:
    for each in (policy, other_policy):
        tokens = each.tokenizer(["3+8-4;", "1+2;"], padding=True, return_tensors="pt")
        both = each.logits(tokens["input_ids"], tokens["attention_mask"].bool(), keep=2)
        alone = each.logits(each.tokenizer(["1+2;"], return_tensors="pt")["input_ids"], None, keep=2)
        torch.testing.assert_close(both[1:], alone, atol=1e-5, rtol=1e-5)


def test_building_leaves_the_global_random_state_alone(policy: Policy) -> None:
    from geomalign.training.config.settings import ModelConfig

    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    one = build(ModelConfig(hidden=16, layers=1, heads=2, intermediate=16), "ab", 5, Placement())
    assert torch.equal(torch.rand(3), expected)
    two = build(ModelConfig(hidden=16, layers=1, heads=2, intermediate=16), "ab", 5, Placement())
    assert all(torch.equal(a, b) for a, b in zip(one.model.parameters(), two.model.parameters()))


def test_refusals(tmp_path: Path, policy: Policy) -> None:
    with pytest.raises(ValueError, match=r"nothing.* does not exist; it is a directory"):
        load(tmp_path / "nothing", Placement())
    save(policy, tmp_path / "model")
    policy.tokenizer.eos_token = None
    policy.tokenizer.save_pretrained(tmp_path / "model")
    with pytest.raises(ValueError, match="no end token"):
        load(tmp_path / "model", Placement())
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="finds no CUDA device"):
            Placement("cuda")
