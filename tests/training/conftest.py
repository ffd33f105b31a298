"""A run small enough for a test: seconds, on one thread."""

from pathlib import Path

import pytest

from geomalign.tasks import Chain
from geomalign.tasks.config import TaskConfig
from geomalign.training.config.settings import ModelConfig, OfflineConfig, RLConfig, TrainConfig, WarmStartConfig
from geomalign.training.policy import Placement, Policy, build, load
from geomalign.training.warmstart import warm_start

TINY = TrainConfig(
    objective="grpo",
    rate=1e-3,
    task=TaskConfig(
        options={"largest": 1}, train_levels=(1,), eval_levels=(1, 2), eval_prompts=8, eval_interim_prompts=4
    ),
    model=ModelConfig(hidden=16, layers=2, heads=2, intermediate=32),
    warm_start=WarmStartConfig(steps=150, batch=12, rate=1e-2, noisy_steps=30, levels=(1, 2), weights=(1, 1)),
    rl=RLConfig(
        iterations=7, prompts=4, samples=4, max_new_tokens=10, epochs=2, minibatches=2, eval_every=3, checkpoint_every=2
    ),
    offline=OfflineConfig(
        prompts=16, samples=8, epochs=2, batch=4, max_new_tokens=10, eval_every=3, checkpoint_every=2
    ),
)


@pytest.fixture(scope="session")
def tiny() -> TrainConfig:
    return TINY


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a warm-started tiny base, shared by all tests."""
    return warm_start(TINY, tmp_path_factory.mktemp("base"))


@pytest.fixture
def policy() -> Policy:
    """A small random Llama on the characters of the chains."""
    return build(TINY.model, Chain().alphabet, 0, Placement())


@pytest.fixture
def other_policy(tmp_path: Path) -> Policy:
    """A GPT-2, which has absolute positions, loaded from disk as a user's checkpoint would be."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    from geomalign.training.policy import character_tokenizer

    tokenizer = character_tokenizer(Chain().alphabet)
    torch.manual_seed(1)
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(tokenizer),
            n_positions=64,
            n_embd=16,
            n_layer=2,
            n_head=2,
            bos_token_id=1,
            eos_token_id=1,
            pad_token_id=0,
        )
    )
    model.save_pretrained(tmp_path / "gpt2")
    tokenizer.save_pretrained(tmp_path / "gpt2")
    return load(tmp_path / "gpt2", Placement())
