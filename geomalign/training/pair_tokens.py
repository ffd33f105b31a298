"""Tokenisation of the preference pairs of a table."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from geomalign.tasks.preferences import Preference
from geomalign.training.generation import Rollout, padded
from geomalign.training.policy import Policy

Sides = tuple[Rollout, Rollout]
Tokens = tuple[list[int], list[int]]


def tokenise_pairs(policy: Policy, pairs: Sequence[Preference], max_length: int) -> tuple[Sides, list[Preference]]:
    """The chosen and the rejected responses of pairs, one row per pair, and the pairs that were kept.

    Prompt and response are tokenised apart, as they are when a response is sampled; a text ends with the end token.
    Messages go through the chat template: the response is what the template adds to the prompt. A response that is too
    long loses its end; a pair whose prompt leaves no room for a response is left out.

    Args:
        max_length: longest prompt and response together, in tokens, as far as the model has positions. ≥ 2.

    Raises:
        ValueError: no pair is left, all prompts are empty, no pair has two different responses, or the chat template
            changes the prompt when a response follows it.

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
    if not any(pair.problem.prompt or pair.problem.messages for pair in pairs):
        raise ValueError(
            f"the prompts of all {len(pairs)} pairs are empty, and no policy is asked nothing. Name the column of the "
            "prompts `prompt`, or let both responses begin with their prompt."
        )
    limit = min(max_length, policy.positions)
    prompts = [policy.ask(pair.problem) for pair in pairs]
    asked = policy.prompt_tokens(prompts)
    rows: list[tuple[Preference, Tokens, Tokens]] = []
    for pair, prompt, ids in zip(pairs, prompts, asked):
        room = max(limit - len(ids), 0)
        better, worse = (_response(policy, pair, prompt, chosen)[:room] for chosen in (True, False))
        rows.append((pair, (ids, better), (ids, worse)))
    kept = [row for row in rows if row[1][1] and row[2][1]]
    if not kept:
        raise ValueError(
            f"all {len(pairs)} pairs have prompts of {limit} tokens or more, so no response is left; the limit is the "
            f"smaller of offline.max_length = {max_length} and the model's {policy.positions} positions. Shorten the "
            "prompts, or raise the limit that binds."
        )
    if all(row[1][1] == row[2][1] for row in kept):
        raise ValueError(
            f"the chosen and the rejected responses of all {len(kept)} pairs are the same tokens, so there is nothing "
            f"to prefer. Do they differ only behind the {limit} tokens that they are cut to?"
        )
    chosen, rejected = (_rollout(policy, side) for side in ([row[1] for row in kept], [row[2] for row in kept]))
    return (chosen, rejected), [row[0] for row in kept]


def _response(policy: Policy, pair: Preference, prompt: str, chosen: bool) -> list[int]:
    messages = pair.chosen_messages if chosen else pair.rejected_messages
    if messages and policy.tokenizer.chat_template:
        whole = policy.chat([*pair.problem.messages, *messages], reply=False, **pair.problem.template)
        if not whole.startswith(prompt):
            raise ValueError(
                "the chat template of this model writes a prompt otherwise when a response follows it: "
                f"{prompt[-60:]!r} against {whole[: len(prompt)][-60:]!r}. Give the pairs as plain text, or the model "
                "another template."
            )
        response, end = whole[len(prompt) :], []
    else:
        response, end = pair.chosen if chosen else pair.rejected, [policy.end]
    return [*policy.tokenizer(response, add_special_tokens=False)["input_ids"], *end]


def _rollout(policy: Policy, rows: Sequence[Tokens]) -> Rollout:
    prompt, prompt_mask = padded([prompt[::-1] for prompt, _ in rows], policy.pad)
    response, mask = padded([response for _, response in rows], policy.pad)
    ended = torch.tensor([response[-1] in policy.ends for _, response in rows])
    unknown = torch.zeros(response.shape)
    parts = (prompt.flip(-1), prompt_mask.flip(-1), response, mask, ended, unknown, unknown)
    return Rollout(*(policy.placement.put(part) for part in parts))
