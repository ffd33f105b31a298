"""The policy: a causal language model of transformers with its tokenizer, its device and its precision."""

from __future__ import annotations

import contextlib
import inspect
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from geomalign.training.config.settings import ModelConfig

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from geomalign.tasks import Problem


@dataclass(frozen=True)
class Placement:
    """The device and the precision of a policy, which no other code decides.

    Args:
        device: a torch device.
        dtype: `"float32"`, or `"bfloat16"` for autocast. Weights, log-probabilities and losses are float32 in both.
            `"float64"` for checks of exactness.
        gradient_checkpointing: activations are computed again in the backward pass instead of being kept.

    Raises:
        ValueError: torch does not have the device here.

    >>> Placement("cpu", "bfloat16").weights
    torch.float32
    """

    device: str = "cpu"
    dtype: str = "float32"
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        try:
            kind = torch.device(self.device).type
            if kind != "cuda":
                torch.empty(1, device=self.device)
        # torch's ways to say it: an unknown name or no driver, no kernels, a build without the backend.
        except (RuntimeError, NotImplementedError, AssertionError) as error:
            raise ValueError(
                f"device is {self.device!r}, which torch {torch.__version__} does not have here "
                f"({str(error).splitlines()[0][:120]}); use device='cpu', or 'cuda' or 'mps' where there is one."
            ) from error
        if kind == "cuda" and not torch.cuda.is_available():
            raise ValueError(
                f"device is {self.device!r}, but torch {torch.__version__} finds no CUDA device here; use device='cpu'."
            )

    @contextlib.contextmanager
    def autocast(self) -> Iterator[None]:
        """Mixed precision, for the forward pass alone."""
        with torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=self.dtype == "bfloat16"):
            yield

    @property
    def weights(self) -> torch.dtype:
        """The dtype of weights, log-probabilities and losses."""
        return torch.float64 if self.dtype == "float64" else torch.float32

    def precise(self, logits: Tensor) -> Tensor:
        """Logits in the type that log-probabilities are computed in."""
        return logits.to(self.weights)

    def put(self, tensor: Tensor) -> Tensor:
        """The tensor on the device."""
        return tensor.to(self.device)

    def synchronize(self) -> None:
        """Wait for the device, so that a clock read next counts what it did."""
        if torch.device(self.device).type == "cuda":
            torch.cuda.synchronize(self.device)

    def generator(self, seed: int) -> torch.Generator:
        """A random generator on the device."""
        return torch.Generator(self.device).manual_seed(seed)


@dataclass(frozen=True)
class Policy:
    """A model, its tokenizer and its placement.

    >>> policy = build(ModelConfig(hidden=16, layers=1, heads=2, intermediate=16), "0123+=", 0, Placement())
    >>> tokens = policy.tokenizer(["1+2="], return_tensors="pt")["input_ids"]
    >>> policy.logits(tokens, None, keep=2).shape
    torch.Size([1, 2, 9])
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    placement: Placement

    @property
    def pad(self) -> int:
        return int(self.tokenizer.pad_token_id)

    @property
    def end(self) -> int:
        return int(self.tokenizer.eos_token_id)

    @property
    def parameters(self) -> list[torch.nn.Parameter]:
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def ask(self, problem: Problem) -> str:
        """The prompt as the model reads it: through its chat template, where it has one and the problem is a chat."""
        return self.chat(problem.messages) if problem.messages and self.tokenizer.chat_template else problem.prompt

    def chat(self, messages: Sequence[Mapping[str, str]], reply: bool = True) -> str:
        """Messages as text.

        Args:
            reply: end where the model's reply begins.
        """
        said = [dict(message) for message in messages]
        text = str(self.tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=reply))
        # Templates write the begin token, and tokenizers that have one write it again.
        begin = self.tokenizer.bos_token
        doubled = begin is not None and self.tokenizer("")["input_ids"][:1] == [self.tokenizer.bos_token_id]
        return text.removeprefix(begin) if doubled else text

    def logits(self, tokens: Tensor, mask: Tensor | None, keep: int) -> Tensor:
        """float32 logits of the last `keep` positions, `(rows, keep, vocabulary)`.

        Args:
            tokens: `(rows, length)`, padded on the left.
            mask: `(rows, length)`, False on the padding; None where there is none.
            keep: positions wanted. ≥ 1.
        """
        extra: dict[str, Any] = {}
        if mask is not None:
            extra = {"attention_mask": mask.long(), "position_ids": (mask.long().cumsum(-1) - 1).clamp(min=0)}
        # Every decoder-only model of transformers 4.45 and later takes it; without it the head runs over the prompt
        # too.
        if "logits_to_keep" in inspect.signature(self.model.forward).parameters:
            extra["logits_to_keep"] = keep
        with self.placement.autocast(), _recomputed(self):
            out = self.model(tokens, use_cache=False, **extra).logits
        return self.placement.precise(out[:, -keep:])


@contextlib.contextmanager
def _recomputed(policy: Policy) -> Iterator[None]:
    """Gradient checkpointing, where it is wanted, of a forward pass with gradients.

    transformers recomputes layers in training mode only. Inside this block the modules that decide it are in that mode;
    the modules in them are not, so that no dropout acts.
    """
    if not (policy.placement.gradient_checkpointing and torch.is_grad_enabled()):
        yield
        return
    deciding = [module for module in policy.model.modules() if getattr(module, "gradient_checkpointing", False)]
    for module in deciding:
        module.training = True
    try:
        yield
    finally:
        for module in deciding:
            module.training = False


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
    """Any causal language model that transformers can load, with its tokenizer.

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
    path = directory if directory.is_dir() else path
    if not directory.is_dir() and (directory.is_absolute() or str(path).startswith((".", "~"))):
        seen = "is a file" if directory.exists() else "does not exist"
        raise ValueError(f"model {str(path)!r} {seen}; it is a directory with a checkpoint and its tokenizer.")
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(path, padding_side="left")
            model = AutoModelForCausalLM.from_pretrained(path)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"model {str(path)!r} is no checkpoint that AutoModelForCausalLM and AutoTokenizer can load: "
            f"{' '.join(str(error).split())[:300]} (As a directory it would be {directory.absolute()}.)"
        ) from error
    if tokenizer.eos_token_id is None:
        raise ValueError(f"the tokenizer of {str(path)!r} has no end token (eos_token), so no response could ever end.")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return Policy(_ready(model, placement), tokenizer, placement)


def _ready(model: PreTrainedModel, placement: Placement) -> PreTrainedModel:
    # eval(): dropout would make the log-ratio of an unchanged policy differ from 0.
    if placement.device == "cpu" and placement.dtype != "float64" and _longest(model) <= 512:
        # Measured on one core: plain attention is faster than the fused kernel by a tenth on sequences of some 30
        # tokens. In float64 it overflows: its mask is the least number of the model's type, its softmax in float32.
        model.set_attn_implementation("eager")
    if placement.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return model.to(placement.device, placement.weights).eval()  # type: ignore[arg-type]


def _longest(model: PreTrainedModel) -> int:
    return int(getattr(model.config, "max_position_embeddings", None) or 1 << 30)


def write(policy: Policy, directory: Path) -> None:
    """Write model and tokenizer into a directory so that `from_pretrained` loads them.

    >>> import tempfile
    >>> policy = build(ModelConfig(hidden=16, layers=1, heads=2, intermediate=16), "0123+=", 0, Placement())
    >>> place = Path(tempfile.mkdtemp())
    >>> write(policy, place)
    >>> load(place, Placement()).end == policy.end
    True
    """
    with quiet():
        policy.model.save_pretrained(directory)
        policy.tokenizer.save_pretrained(directory)


def save(policy: Policy, directory: Path) -> None:
    """The same as `write`, but the directory appears complete or not at all.

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
    replace_directory(partial, directory)


def replace_directory(source: Path, target: Path) -> None:
    """Move a complete directory into the place of another, which is deleted if it is there."""
    for file in source.rglob("*"):
        if file.is_file():
            with open(file, "rb") as handle:
                os.fsync(handle.fileno())
    shutil.rmtree(target, ignore_errors=True)
    os.replace(source, target)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """transformers without its own progress bars and notes, inside this block.

    >>> from transformers.utils import logging
    >>> with quiet():
    ...     logging.is_progress_bar_enabled()
    False
    """
    from transformers.utils import logging as theirs

    level, bars = theirs.get_verbosity(), theirs.is_progress_bar_enabled()
    theirs.set_verbosity_error()
    theirs.disable_progress_bar()
    try:
        yield
    finally:
        theirs.set_verbosity(level)
        if bars:
            theirs.enable_progress_bar()
