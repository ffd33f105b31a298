"""Sampling from a policy with a key-value cache, log-probabilities of what was sampled, and greedy accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from geomalign.training.policy import Policy


@dataclass(frozen=True)
class Rollout:
    """Responses to prompts, row by row; the responses of one prompt lie next to each other.

    Shapes: `prompt` and `prompt_mask` `(rows, prompt length)`, padded on the left; `response`, `mask`, `log_prob` and
    `entropy` `(rows, response length)`, padded on the right; the end token counts as part of the response. `ended`
    `(rows,)`. `log_prob` is the sampler's own.
    """

    prompt: Tensor
    prompt_mask: Tensor
    response: Tensor
    mask: Tensor
    ended: Tensor
    log_prob: Tensor
    entropy: Tensor

    @property
    def rows(self) -> int:
        return self.response.shape[0]

    def __getitem__(self, rows: Tensor | slice) -> Rollout:
        return Rollout(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))

    def padded(self, width: int) -> Rollout:
        """With room for `width` response tokens: as wide as the longest response of all ranks."""
        more = (0, width - self.response.shape[1])
        wide = {name: pad(getattr(self, name), more) for name in ("response", "mask", "log_prob", "entropy")}
        return replace(self, **wide)

    def texts(self, policy: Policy) -> list[str]:
        """The responses as text, without the end token."""
        lengths = (self.mask.sum(-1) - self.ended.long()).tolist()
        tokens = self.response.tolist()
        return policy.tokenizer.batch_decode([row[:length] for row, length in zip(tokens, lengths)])


@torch.no_grad()
def sample(
    policy: Policy,
    prompts: Sequence[str],
    *,
    samples: int = 1,
    temperature: float = 1.0,
    max_new_tokens: int,
    generator: torch.Generator | None = None,
    noise: Tensor | None = None,
) -> Rollout:
    """Sample responses.

    The cache is filled once a prompt and repeated for its samples. Rows that ended leave the batch when half of it has.
    A token is where the distribution function passes a uniform number of its own row and position, so what a row
    becomes depends neither on the rows beside it nor on the process that samples it.

    Args:
        samples: responses a prompt. >= 1.
        temperature: 0 is greedy and needs no generator.
        max_new_tokens: longest response, its end token included.
        generator: on the policy's device; the only source of randomness.
        noise: `(rows, max_new_tokens)`, uniform in [0, 1); drawn from the generator if None.

    Shape:
        Rows `prompt 0 sample 0, prompt 0 sample 1, …`.
    """
    model, end = policy.model, policy.end
    encoded = policy.tokenizer(list(prompts), padding=True, return_tensors="pt", add_special_tokens=True)
    prompt, prompt_mask = (
        policy.placement.put(encoded["input_ids"]),
        policy.placement.put(encoded["attention_mask"]).bool(),
    )
    padded = not bool(prompt_mask.all())

    def step(tokens: Tensor, mask: Tensor, cache: object) -> tuple[Tensor, object]:
        extra = (
            {
                "attention_mask": mask.long(),
                "position_ids": (mask.long().cumsum(-1) - 1).clamp(min=0)[:, -tokens.shape[1] :],
            }
            if padded
            else {}
        )
        with policy.placement.autocast():
            out = model(tokens, past_key_values=cache, use_cache=True, **extra)
        return policy.placement.precise(out.logits[:, -1]), out.past_key_values

    logits, cache = step(prompt, prompt_mask, None)
    logits = logits.repeat_interleave(samples, 0)
    cache.batch_repeat_interleave(samples)  # type: ignore[attr-defined]
    prompt, prompt_mask = prompt.repeat_interleave(samples, 0), prompt_mask.repeat_interleave(samples, 0)

    rows = prompt.shape[0]
    if noise is None and temperature:
        noise = torch.rand(rows, max_new_tokens, generator=generator, device=prompt.device)
    response = prompt.new_full((rows, max_new_tokens), policy.pad)
    mask = torch.zeros_like(response, dtype=torch.bool)
    log_prob, entropy = (logits.new_zeros(rows, max_new_tokens) for _ in range(2))
    ended = torch.zeros(rows, dtype=torch.bool, device=prompt.device)
    alive = torch.arange(rows, device=prompt.device)  # rows of the cache
    seen = prompt_mask
    for position in range(max_new_tokens):
        log_p = (logits / temperature if temperature else logits).log_softmax(-1)
        if noise is not None:
            p = log_p.exp()
            token = _where_passed(p, noise[alive, position])
            entropy[alive, position] = -(p * log_p).sum(-1)
        else:
            token = log_p.argmax(-1, keepdim=True)
        going = ~ended[alive]
        response[alive, position] = torch.where(going, token[:, 0], policy.pad)
        mask[alive, position] = going
        log_prob[alive, position] = log_p.gather(-1, token)[:, 0]
        ended[alive] |= token[:, 0] == end
        left = (~ended[alive]).nonzero()[:, 0]
        if len(left) == 0 or position + 1 == max_new_tokens:
            break
        if 2 * len(left) <= len(alive):
            alive, token, seen = alive[left], token[left], seen[left]
            cache.batch_select_indices(left)  # type: ignore[attr-defined]
        seen = torch.cat([seen, torch.ones_like(seen[:, :1])], -1)
        logits, cache = step(token, seen, cache)
    longest = position + 1
    mask = mask[:, :longest]
    return Rollout(
        prompt,
        prompt_mask,
        response[:, :longest],
        mask,
        ended,
        log_prob[:, :longest] * mask,
        entropy[:, :longest] * mask,
    )


def _where_passed(p: Tensor, noise: Tensor) -> Tensor:
    """`(rows, 1)`: the first index at which the cumulated probabilities exceed `noise` of their sum."""
    cumulated = p.cumsum(-1)
    passed = torch.searchsorted(cumulated, noise[:, None].to(p) * cumulated[:, -1:], right=True)
    return passed.clamp(max=p.shape[-1] - 1)


def log_probs(policy: Policy, rollout: Rollout, temperature: float = 1.0) -> Tensor:
    """log π of every sampled token, `(rows, response length)`, 0 on the padding; differentiable.

    The same function gives the rollout's log-probabilities and the update's, so that the log-ratio of an unchanged
    policy is 0.
    """
    width = max(int(rollout.mask.sum(-1).max()), 1)
    first = int(rollout.prompt_mask.any(0).long().argmax())  # columns before it are padding in all of these rows
    prompt, prompt_mask = rollout.prompt[:, first:], rollout.prompt_mask[:, first:]
    response, mask = rollout.response[:, :width], rollout.mask[:, :width]
    # The last response token predicts nothing that is needed. Padding on the right is invisible to a causal model; on
    # the left it is masked.
    tokens = torch.cat([prompt, response[:, :-1]], -1)
    seen = (
        None
        if bool(prompt_mask.all())
        else torch.cat([prompt_mask, torch.ones_like(response[:, :-1], dtype=torch.bool)], -1)
    )
    log_p = (policy.logits(tokens, seen, keep=width) / temperature).log_softmax(-1)
    chosen = log_p.gather(-1, response.unsqueeze(-1)).squeeze(-1)
    return pad(torch.where(mask, chosen, 0.0), (0, rollout.mask.shape[1] - width))


@torch.no_grad()
def score_rows(policy: Policy, rollout: Rollout, temperature: float, rows: int) -> Tensor:
    """`log_probs` of all rows, `rows` at a time, without gradient."""
    return torch.cat(
        [log_probs(policy, rollout[start : start + rows], temperature) for start in range(0, rollout.rows, rows)]
    )
