"""Tokenisation of the preference pairs of a table."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from geomalign.tasks.preferences import Preference
from geomalign.training.generation import Rollout
from geomalign.training.policy import Policy

Sides = tuple[Rollout, Rollout]
Tokens = tuple[list[int], list[int]]


def tokenise_pairs(policy: Policy, pairs: Sequence[Preference], max_length: int) -> tuple[Sides, list[Preference]]:
    """The chosen and the rejected responses of pairs, one row per pair, and the pairs that were kept.

    Prompt and response are tokenised apart, as they are when a response is sampled; a text ends with the end token.
    Messages go through the chat template: the response is what the template adds to the prompt. A response that is too
    long loses its end; a pair whose prompt leaves no room for a response is left out.

    Args:
        max_length: longest prompt and response together, in tokens. ≥ 2.

    Raises:
        ValueError: no pair is left, or the chat template changes the prompt when a response follows it.

    >>> from geomalign.tasks import Preference, Problem
    >>> from geomalign.training import ModelConfig
    >>> from geomalign.training.policy import Placement, build
    >>> small = ModelConfig(hidden=16, layers=1, heads=2, intermediate=16)
    >>> policy = build(small, "0123456789+=", seed=0, placement=Placement())
    >>> pair = Preference(Problem("1+2=", "3", 1), chosen="3", rejected="12")
    >>> (chosen, rejected), kept = tokenise_pairs(policy, [pair], max_length=8)
    >>> chosen.texts(policy), rejected.mask.shape, len(kept)
    (['3'], torch.Size([1, 3]), 1)
    """
    rows = [(pair, _tokens(policy, pair, True, max_length), _tokens(policy, pair, False, max_length)) for pair in pairs]
    kept = [row for row in rows if row[1][1] and row[2][1]]
    if not kept:
        raise ValueError(
            f"all {len(pairs)} pairs have prompts of {max_length} tokens or more, so no response is left. "
            "Raise offline.max_length, if the model takes it."
        )
    chosen, rejected = (_rollout(policy, side) for side in ([row[1] for row in kept], [row[2] for row in kept]))
    return (chosen, rejected), [row[0] for row in kept]


def _tokens(policy: Policy, pair: Preference, chosen: bool, max_length: int) -> Tokens:
    messages = pair.chosen_messages if chosen else pair.rejected_messages
    prompt = policy.ask(pair.problem)
    if messages and policy.tokenizer.chat_template:
        whole = policy.chat([*pair.problem.messages, *messages], reply=False)
        if not whole.startswith(prompt):
            raise ValueError(
                "the chat template of this model writes a prompt otherwise when a response follows it: "
                f"{prompt[-60:]!r} against {whole[: len(prompt)][-60:]!r}. Give the pairs as plain text, or the model "
                "another template."
            )
        response, end = whole[len(prompt) :], []
    else:
        response, end = pair.chosen if chosen else pair.rejected, [policy.end]
    asked = policy.tokenizer(prompt)["input_ids"]
    answer = [*policy.tokenizer(response, add_special_tokens=False)["input_ids"], *end]
    return asked, answer[: max(max_length - len(asked), 0)]


def _rollout(policy: Policy, rows: Sequence[Tokens]) -> Rollout:
    prompt, prompt_mask = _padded([prompt[::-1] for prompt, _ in rows], policy.pad)
    response, mask = _padded([response for _, response in rows], policy.pad)
    ended = torch.tensor([response[-1] == policy.end for _, response in rows])
    unknown = torch.zeros(response.shape)
    parts = (prompt.flip(-1), prompt_mask.flip(-1), response, mask, ended, unknown, unknown)
    return Rollout(*(policy.placement.put(part) for part in parts))


def _padded(rows: Sequence[Sequence[int]], value: int) -> tuple[Tensor, Tensor]:
    lengths = torch.tensor([len(row) for row in rows])
    mask = torch.arange(int(lengths.max())) < lengths[:, None]
    tokens = torch.full(mask.shape, value)
    tokens[mask] = torch.tensor([token for row in rows for token in row])
    return tokens, mask
