"""Policies made from nothing or read from a directory, and written into one."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from geomalign.training.config.settings import ModelConfig
from geomalign.training.hub import is_local, quiet
from geomalign.training.placement import Placement
from geomalign.training.policy.lora import ADAPTER, merged, write_adapter
from geomalign.training.policy.model import Policy, longest

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def character_tokenizer(alphabet: str) -> PreTrainedTokenizerBase:
    """One token per character, with a padding, an end and an unknown token; padded on the left.

    >>> character_tokenizer("0123+=")("1+2")["input_ids"]
    [4, 7, 5]
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: index for index, token in enumerate(["<pad>", "<end>", "<unk>", *dict.fromkeys(alphabet)])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<end>",
        unk_token="<unk>",
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def build(config: ModelConfig, alphabet: str, seed: int, placement: Placement) -> Policy:
    """A small Llama with random weights and a tokenizer of single characters.

    The global random state stays as it was.

    Args:
        alphabet: the characters.
        seed: of the weights.

    >>> small = ModelConfig(hidden=16, layers=1, heads=2, intermediate=16)
    >>> sum(parameter.numel() for parameter in build(small, "0123+=", 0, Placement()).parameters)
    1984
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = character_tokenizer(alphabet)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(tokenizer),
                hidden_size=config.hidden,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                num_key_value_heads=config.heads,
                intermediate_size=config.intermediate,
                max_position_embeddings=config.positions,
                tie_word_embeddings=True,
                pad_token_id=tokenizer.pad_token_id,
                bos_token_id=None,
                eos_token_id=tokenizer.eos_token_id,
            )
        )
    return Policy(_ready(model, placement), tokenizer, placement)


def load(path: str | Path, placement: Placement) -> Policy:
    """Any causal language model that transformers can load, with its tokenizer. An adapter of peft is merged into its
    model.

    Args:
        path: directory or hub name.

    Raises:
        ValueError: there is none, or its tokenizer has no end token.

    >>> load("./nowhere", Placement())
    Traceback (most recent call last):
    ...
    ValueError: model './nowhere' does not exist; it is a directory with a checkpoint and its tokenizer.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    directory = Path(path).expanduser()
    if not directory.is_dir() and (directory.is_absolute() or str(path).startswith((".", "~"))):
        seen = "is a file" if directory.exists() else "does not exist"
        raise ValueError(f"model {str(path)!r} {seen}; it is a directory with a checkpoint and its tokenizer.")
    local = directory.is_dir() or is_local(str(path))
    try:
        with quiet():
            name = directory if directory.is_dir() else str(path)
            tokenizer = AutoTokenizer.from_pretrained(name, padding_side="left", local_files_only=local)
            if directory.is_dir() and (directory / ADAPTER).is_file():
                model = merged(directory)
            else:
                model = AutoModelForCausalLM.from_pretrained(name, local_files_only=local)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"model {str(path)!r} is no checkpoint that AutoModelForCausalLM and AutoTokenizer can load: "
            f"{' '.join(str(error).split())[:300]} (As a directory it would be {directory.absolute()}.)"
        ) from error
    if tokenizer.eos_token_id is None:
        raise ValueError(f"the tokenizer of {str(path)!r} has no end token (eos_token), so no response could ever end.")
    rows = len(model.get_input_embeddings().weight)  # type: ignore[arg-type]
    if len(tokenizer) > rows:
        raise ValueError(
            f"the tokenizer of {str(path)!r} has {len(tokenizer)} tokens and the model embeddings for {rows}: tokens "
            "were added and the model was not resized, or the two belong to different models. Call "
            "model.resize_token_embeddings(len(tokenizer)) and save both."
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return Policy(_ready(model, placement), tokenizer, placement)


def _ready(model: PreTrainedModel, placement: Placement) -> PreTrainedModel:
    # eval(): dropout would make the log-ratio of an unchanged policy differ from 0.
    if placement.device == "cpu" and placement.dtype != "float64" and longest(model) <= 512:
        # Measured on one core: plain attention is faster than the fused kernel by a tenth on sequences of some 30
        # tokens. In float64 it overflows: its mask is the least number of the model's type, its softmax in float32.
        model.set_attn_implementation("eager")
    if placement.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return model.to(placement.device, placement.weights).eval()  # type: ignore[arg-type]


def write(policy: Policy, directory: Path) -> None:
    """Write model and tokenizer into a directory so that `from_pretrained` loads them; of a policy with an adapter, the
    adapter alone and what it was trained on.

    >>> import tempfile
    >>> policy = build(ModelConfig(hidden=16, layers=1, heads=2, intermediate=16), "0123+=", 0, Placement())
    >>> place = Path(tempfile.mkdtemp())
    >>> write(policy, place)
    >>> load(place, Placement()).end == policy.end
    True
    """
    with quiet():
        if policy.adapter is None:
            policy.model.save_pretrained(directory)
        else:
            write_adapter(policy, directory)
        policy.tokenizer.save_pretrained(directory)


def save(policy: Policy, directory: Path, card: str = "") -> None:
    """The same as `write`, but the directory appears complete or not at all.

    Args:
        card: text of its README.md; without one there is no such file.

    >>> import tempfile
    >>> policy, place = build(ModelConfig(hidden=16, heads=2), "0123+=", 0, Placement()), Path(tempfile.mkdtemp())
    >>> save(policy, place / "model")
    >>> [path.name for path in place.iterdir()]
    ['model']
    """
    partial = directory.with_name(f".{directory.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    write(policy, partial)
    if card:
        (partial / "README.md").write_text(card, encoding="utf-8")
    replace_directory(partial, directory)


def replace_directory(source: Path, target: Path) -> None:
    """Move a complete directory into the place of another, which is deleted if it is there."""
    for file in source.rglob("*"):
        if file.is_file():
            with open(file, "rb") as handle:
                os.fsync(handle.fileno())
    shutil.rmtree(target, ignore_errors=True)
    os.replace(source, target)
