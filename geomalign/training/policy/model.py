"""A model with its tokenizer, its device and its precision: what it is asked, and what it answers in logits."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from geomalign.ops import LanguageHead, language_head
from geomalign.training.placement import Placement

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from geomalign.tasks import Problem


class PromptWarning(UserWarning):
    """A prompt is not what the model can be asked as it stands; the message says what is taken instead."""


@dataclass(frozen=True)
class Policy:
    """A model, its tokenizer and its placement.

    Args:
        adapter: of peft, whose layers are in `model`; None where the whole model is trained.
        without_adapter: compute as if the adapter were not there.

    >>> from geomalign.training import ModelConfig
    >>> from geomalign.training.policy import Placement, build
    >>> policy = build(ModelConfig(hidden=16, layers=1, heads=2, intermediate=16), "0123+=", 0, Placement())
    >>> tokens = policy.tokenizer(["1+2="], return_tensors="pt")["input_ids"]
    >>> policy.logits(tokens, None, keep=2).shape
    torch.Size([1, 2, 9])
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    placement: Placement
    adapter: PeftModel | None = None
    without_adapter: bool = False

    def frozen(self) -> Policy:
        """The same model without its adapter, which it shares: the policy that the adapter is trained from."""
        return dataclasses.replace(self, without_adapter=True)

    @contextlib.contextmanager
    def computing(self) -> Iterator[None]:
        """In which a forward pass is made: mixed precision, and with the adapter or without it."""
        off = self.adapter is not None and self.without_adapter
        with self.placement.autocast(), self.adapter.disable_adapter() if off else contextlib.nullcontext():  # type: ignore[union-attr]
            yield

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint keeps of the model: all of it, or with an adapter what is trained."""
        state: dict[str, Tensor] = self.model.state_dict()
        if self.adapter is None:
            return state
        trained = {name for name, parameter in self.model.named_parameters() if parameter.requires_grad}
        return {name: value for name, value in state.items() if name in trained}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` returned."""
        self.model.load_state_dict(state, strict=self.adapter is None)

    @property
    def pad(self) -> int:
        return int(self.tokenizer.pad_token_id)

    @property
    def end(self) -> int:
        return int(self.tokenizer.eos_token_id)

    @property
    def ends(self) -> list[int]:
        """The tokens that end a response: the tokenizer's own first, then those of the model's `generation_config`,
        with which chat models end a turn. What the tokenizer does not have, or has for unknown words, is none of them:
        configurations that were never set name such tokens.
        """
        listed = getattr(self.model.generation_config, "eos_token_id", None)
        theirs = listed if isinstance(listed, (list, tuple)) else [] if listed is None else [listed]
        unknown = self.tokenizer.unk_token_id
        return [self.end, *(int(i) for i in theirs if i != self.end and i != unknown and 0 <= i < len(self.tokenizer))]

    @property
    def positions(self) -> int:
        """Longest sequence of the model, in tokens; 2³⁰ where its configuration names none."""
        return longest(self.model)

    @property
    def parameters(self) -> list[torch.nn.Parameter]:
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def ask(self, problem: Problem) -> str:
        """The prompt as the model reads it: through its chat template, where it has one and the problem is a chat."""
        if not (problem.messages and self.tokenizer.chat_template):
            return problem.prompt
        return self.chat(problem.messages, **problem.template)

    def chat(self, messages: Sequence[Mapping[str, Any]], reply: bool = True, **template: Any) -> str:
        """Messages as text.

        Args:
            reply: end where the model's reply begins.
            **template: what else the chat template reads, such as `tools`.

        Raises:
            ValueError: the template does not take them.
        """
        said = [dict(message) for message in messages]
        try:
            text = str(
                self.tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=reply, **template)
            )
        except Exception as error:  # a template raises what it likes, where it does not take a role or an order
            raise ValueError(
                f"the model's chat template does not take the messages {str(said)[:200]}: {type(error).__name__}: "
                f"{error}. Change the rows, or give the tokenizer another template."
            ) from error
        # Templates write the begin token, and tokenizers that have one write it again.
        begin = self.tokenizer.bos_token
        doubled = begin is not None and self.tokenizer("")["input_ids"][:1] == [self.tokenizer.bos_token_id]
        return text.removeprefix(begin) if doubled else text

    def prompt_tokens(self, prompts: Sequence[str]) -> list[list[int]]:
        """The tokens of prompts, each at least one.

        What the tokenizer appends to a text, such as an end token, is left out, as the response follows. A prompt
        without a token is the begin token, or without one the end token: the first token of a response needs something
        before it.
        """
        if not prompts:
            return []
        bare, marked = (self.tokenizer("a", add_special_tokens=marks)["input_ids"] for marks in (False, True))
        ends = (i for i in range(len(marked), len(bare) - 1, -1) if marked[i - len(bare) : i] == bare)
        appended = len(marked) - next(ends, len(marked))
        tokens = [ids[: len(ids) - appended] for ids in self.tokenizer(list(prompts))["input_ids"]]
        empty = sum(not ids for ids in tokens)
        begin = self.tokenizer.bos_token_id if self.tokenizer.bos_token_id is not None else self.end
        if empty:
            warnings.warn(
                f"prompts without a token: {empty} of {len(tokens)}; the token "
                f"{self.tokenizer.convert_ids_to_tokens(begin)!r} stands for each of them.",
                PromptWarning,
                stacklevel=2,
            )
        return [ids or [begin] for ids in tokens]

    def logits(self, tokens: Tensor, mask: Tensor | None, keep: int) -> Tensor:
        """float32 logits of the last `keep` positions, `(rows, keep, vocabulary)`.

        Args:
            tokens: `(rows, length)`, padded on the left.
            mask: `(rows, length)`, False on the padding; None where there is none.
            keep: positions wanted. ≥ 1.
        """
        extra = _positions(mask)
        # Every decoder-only model of transformers 4.45 and later takes it; without it the head runs over the prompt
        # too.
        if "logits_to_keep" in inspect.signature(self.model.forward).parameters:
            extra["logits_to_keep"] = keep
        with self.computing(), _recomputed(self):
            out = self.model(tokens, use_cache=False, **extra).logits
        return self.placement.precise(out[:, -keep:])

    def hidden(self, tokens: Tensor, mask: Tensor | None, keep: int) -> Tensor:
        """The hidden states that `head` makes these logits of, `(rows, keep, hidden)`; arguments as of `logits`."""
        with self.computing(), _recomputed(self):
            out = self.model.base_model(tokens, use_cache=False, **_positions(mask)).last_hidden_state
        out = out[:, -keep:]
        return out.to(torch.bfloat16) if self.placement.dtype == "bfloat16" else out

    @functools.cached_property
    def head(self) -> LanguageHead | None:
        """How the model makes logits of its last hidden states; None where it does so in a way of its own."""
        config = self.model.config.get_text_config()
        tokens = self.placement.put(torch.arange(min(8, config.vocab_size))[None])
        try:
            with torch.no_grad():
                hidden, logits = self.hidden(tokens, None, keep=8), self.logits(tokens, None, keep=8)
        except (AttributeError, TypeError):  # a model without a backbone of its own, or one with other arguments
            return None
        cap = getattr(config, "final_logit_softcapping", None)
        return language_head(self.model.get_output_embeddings(), hidden, logits, cap)


def _positions(mask: Tensor | None) -> dict[str, Any]:
    """What a model is told of padding on the left."""
    if mask is None:
        return {}
    return {"attention_mask": mask.long(), "position_ids": (mask.long().cumsum(-1) - 1).clamp(min=0)}


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


def longest(model: PreTrainedModel) -> int:
    known = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return int(known) if known and known > 0 else 1 << 30
