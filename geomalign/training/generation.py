"""Sampling from a policy with a key-value cache, and the log-probabilities of what was sampled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from geomalign.batch import Batch, Counts, PreferenceBatch
from geomalign.objective import BaseObjective, Outcome
from geomalign.ops import fused_log_probs, fused_objective
from geomalign.training.policy import Policy


@dataclass(frozen=True)
class Rollout:
    """Responses to prompts, row by row; the responses of one prompt lie next to each other.

    Args:
        prompt: `(rows, prompt length)` tokens, padded on the left.
        prompt_mask: of the same shape, the tokens that exist.
        response: `(rows, response length)` tokens, padded on the right; the end token is a part of the response.
        mask: of the same shape, the tokens that exist.
        ended: `(rows,)`, whether the end token came.
        log_prob: `(rows, response length)`, the sampler's own log-probabilities.
        entropy: of the same shape, of the sampler's distribution at every token, in nats.

    >>> tokens, mask = torch.tensor([[5, 6], [7, 1]]), torch.ones(2, 2, dtype=torch.bool)
    >>> zeros = torch.zeros(2, 2)
    >>> rollout = Rollout(tokens, mask, tokens, mask, torch.tensor([False, True]), zeros, zeros)
    >>> rollout.rows, rollout[:1].response, rollout.padded(3).response.shape
    (2, tensor([[5, 6]]), torch.Size([2, 3]))
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
        """The same with room for `width` response tokens, the longest response of all processes."""
        more = (0, width - self.response.shape[1])
        wide = {name: pad(getattr(self, name), more) for name in ("response", "mask", "log_prob", "entropy")}
        return replace(self, **wide)

    def texts(self, policy: Policy) -> list[str]:
        """The responses as text, without the end token."""
        lengths = (self.mask.sum(-1) - self.ended.long()).tolist()
        tokens = self.response.tolist()
        return policy.tokenizer.batch_decode([row[:length] for row, length in zip(tokens, lengths)])


class _Decoder:
    """A policy with its key-value cache: given the next column of tokens, it returns the logits that follow."""

    def __init__(self, policy: Policy, prompt_mask: Tensor) -> None:
        self._policy = policy
        self._cache: Any = None
        self._seen, self._padded = prompt_mask, not bool(prompt_mask.all())

    def __call__(self, tokens: Tensor) -> Tensor:
        """float32 logits `(rows, vocabulary)` behind `tokens`, the prompts first and then one column at a time."""
        if self._cache is not None:
            self._seen = torch.cat([self._seen, torch.ones_like(self._seen[:, :1])], -1)
        extra = {}
        if self._padded:
            mask = self._seen.long()
            extra = {"attention_mask": mask, "position_ids": (mask.cumsum(-1) - 1).clamp(min=0)[:, -tokens.shape[1] :]}
        with self._policy.computing():
            out = self._policy.model(tokens, past_key_values=self._cache, use_cache=True, **extra)
        self._cache = out.past_key_values
        return self._policy.placement.precise(out.logits[:, -1])

    def repeat(self, samples: int) -> None:
        """Every row `samples` times."""
        self._cache.batch_repeat_interleave(samples)
        self._seen = self._seen.repeat_interleave(samples, 0)

    def keep(self, rows: Tensor) -> None:
        """These rows alone."""
        self._cache.batch_select_indices(rows)
        self._seen = self._seen[rows]


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

    The cache is filled once per prompt and repeated for its samples. Rows that ended leave the batch when half of it
    has. A token is where the distribution function passes a uniform number of its own row and position, so a response
    depends neither on the rows beside it nor on the process that samples it.

    Args:
        samples: responses per prompt. ≥ 1.
        temperature: 0 is greedy and needs no generator.
        max_new_tokens: longest response, its end token included.
        generator: on the policy's device; the only source of randomness.
        noise: `(rows, max_new_tokens)`, uniform in [0, 1); drawn from the generator if None.

    Returns:
        rows `prompt 0 sample 0, prompt 0 sample 1, …`.

    Raises:
        ValueError: a prompt and its response could have more tokens than the model has positions.

    >>> from geomalign.training import ModelConfig
    >>> from geomalign.training.policy import Placement, build
    >>> small = ModelConfig(hidden=16, layers=1, heads=2, intermediate=16)
    >>> policy = build(small, "0123456789+=", seed=0, placement=Placement())
    >>> sample(policy, ["1+2=", "3+4="], samples=2, temperature=0.0, max_new_tokens=5).rows
    4
    """
    asked = policy.prompt_tokens(prompts)
    check_room(policy, [len(ids) for ids in asked], max_new_tokens)
    prompt, prompt_mask = (policy.placement.put(x.flip(-1)) for x in padded([ids[::-1] for ids in asked], policy.pad))
    ends = prompt.new_tensor(policy.ends)
    decoder = _Decoder(policy, prompt_mask)
    logits = decoder(prompt).repeat_interleave(samples, 0)
    decoder.repeat(samples)
    prompt, prompt_mask = prompt.repeat_interleave(samples, 0), prompt_mask.repeat_interleave(samples, 0)
    rows = prompt.shape[0]
    if noise is None and temperature:
        noise = torch.rand(rows, max_new_tokens, generator=generator, device=prompt.device)
    response = prompt.new_full((rows, max_new_tokens), policy.pad)
    mask = torch.zeros_like(response, dtype=torch.bool)
    log_prob, entropy = (logits.new_zeros(rows, max_new_tokens) for _ in range(2))
    ended = torch.zeros(rows, dtype=torch.bool, device=prompt.device)
    alive = torch.arange(rows, device=prompt.device)  # rows of the cache
    for position in range(max_new_tokens):
        log_p = (logits / temperature if temperature else logits).log_softmax(-1)
        if noise is None:
            token = log_p.argmax(-1, keepdim=True)
        else:
            token, entropy[alive, position] = _drawn(log_p, noise[alive, position])
        going = ~ended[alive]
        response[alive, position] = torch.where(going, token[:, 0], policy.pad)
        mask[alive, position] = going
        log_prob[alive, position] = log_p.gather(-1, token)[:, 0]
        ended[alive] |= torch.isin(token[:, 0], ends)
        left = (~ended[alive]).nonzero()[:, 0]
        if len(left) == 0 or position + 1 == max_new_tokens:
            break
        if 2 * len(left) <= len(alive):
            alive, token = alive[left], token[left]
            decoder.keep(left)
        logits = decoder(token)
    response, mask, log_prob, entropy = (x[:, : position + 1] for x in (response, mask, log_prob, entropy))
    return Rollout(prompt, prompt_mask, response, mask, ended, log_prob * mask, entropy * mask)


def check_room(policy: Policy, lengths: Sequence[int], max_new_tokens: int) -> None:
    """Raise a ValueError where prompts of these lengths leave no room for a response.

    >>> from geomalign.training import ModelConfig
    >>> from geomalign.training.policy import Placement, build
    >>> small = ModelConfig(hidden=16, layers=1, heads=2, intermediate=16, positions=8)
    >>> check_room(build(small, "0123456789+=", seed=0, placement=Placement()), [3, 7], max_new_tokens=4)
    Traceback (most recent call last):
    ValueError: 1 of 2 prompts are too long: the longest has 7 tokens, the response up to 4, and the model 8 ...
    """
    # The last token of a response is not read again, so it needs no position.
    room = policy.positions - max_new_tokens + 1
    long = sum(length > room for length in lengths)
    if long:
        raise ValueError(
            f"{long} of {len(lengths)} prompts are too long: the longest has {max(lengths)} tokens, the response up to "
            f"{max_new_tokens}, and the model {policy.positions} positions. Lower max_new_tokens, shorten the prompts, "
            "leave them out (rl.long_prompts=drop), or take a model with more positions."
        )


def padded(rows: Sequence[Sequence[int]], value: int) -> tuple[Tensor, Tensor]:
    """Rows of tokens padded on the right with `value`, and which of them exist.

    >>> padded([[5, 6], [7]], 0)[0]
    tensor([[5, 6],
            [7, 0]])
    """
    lengths = torch.tensor([len(row) for row in rows])
    mask = torch.arange(int(lengths.max())) < lengths[:, None]
    tokens = torch.full(mask.shape, value)
    tokens[mask] = torch.tensor([token for row in rows for token in row])
    return tokens, mask


def _drawn(log_p: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """`(rows, 1)` first tokens where the cumulated probabilities pass `noise` of their sum; `(rows,)` entropies."""
    p = log_p.exp()
    cumulated = p.cumsum(-1)
    passed = torch.searchsorted(cumulated, noise[:, None].to(p) * cumulated[:, -1:], right=True)
    return passed.clamp(max=p.shape[-1] - 1), torch.special.entr(p).sum(-1)


def log_probs(policy: Policy, rollout: Rollout, temperature: float = 1.0) -> Tensor:
    """log π of every sampled token, `(rows, response length)`, 0 on the padding; differentiable.

    The same function gives the log-probabilities of the rollout and of the optimiser steps, so that the log-ratio of
    an unchanged policy is exactly 0.

    Args:
        temperature: of the sampling policy. > 0.

    >>> from geomalign.training import ModelConfig
    >>> from geomalign.training.policy import Placement, build
    >>> small = ModelConfig(hidden=16, layers=1, heads=2, intermediate=16)
    >>> policy = build(small, "0123456789+=", seed=0, placement=Placement())
    >>> rollout = sample(policy, ["1+2="], max_new_tokens=3, generator=torch.Generator().manual_seed(0))
    >>> torch.allclose(log_probs(policy, rollout), rollout.log_prob, atol=1e-5)
    True
    """
    tokens, seen, response, mask = _teacher_forced(rollout)
    width = response.shape[1]
    if policy.head is None:
        log_p = (policy.logits(tokens, seen, keep=width) / temperature).log_softmax(-1)
        chosen = torch.where(mask, log_p.gather(-1, response.unsqueeze(-1)).squeeze(-1), 0.0)
    else:
        hidden = policy.hidden(tokens, seen, keep=width)
        chosen = fused_log_probs(hidden, targets=response, mask=mask, **policy.head.arguments(temperature))
    return pad(chosen, (0, rollout.mask.shape[1] - width))


def evaluate(
    policy: Policy,
    objective: BaseObjective,
    rollouts: Sequence[Rollout],
    batch: Batch | PreferenceBatch,
    temperature: float,
    drive: Any,
    counts: Counts,
    unmoved: bool = False,
) -> Outcome:
    """The objective with the log-probabilities that the policy has now, which `outcome.batch` holds.

    Args:
        rollouts: the responses of the batch; of pairs two, the chosen ones and the rejected ones.
        batch: everything else.
        temperature, drive, counts: as of `log_probs` and of the objective.
        unmoved: whether the policy is still the one that sampled, so that what it says now is the batch's `old` too.

    >>> import geomalign as ga
    >>> from geomalign.training import ModelConfig
    >>> from geomalign.training.policy import Placement, build
    >>> small = ModelConfig(hidden=16, layers=1, heads=2, intermediate=16)
    >>> policy = build(small, "0123456789+=", seed=0, placement=Placement())
    >>> rollout = sample(policy, ["1+2="], samples=2, max_new_tokens=3, generator=torch.Generator().manual_seed(0))
    >>> batch = ga.Batch(rollout.log_prob, rollout.log_prob, rollout.mask, reward=torch.tensor([1.0, 0.0]))
    >>> opo = ga.recipes.opo()
    >>> evaluate(policy, opo, [rollout], batch, 1.0, opo.drive(batch), batch.counts()).loss.requires_grad
    True
    """
    if policy.head is None or unmoved:
        now = [log_probs(policy, rollout, temperature) for rollout in rollouts]
        if isinstance(batch, PreferenceBatch):
            return objective(replace(batch, chosen=now[0], rejected=now[1]), drive=drive, counts=counts)
        old = now[0].detach() if unmoved else batch.old
        return objective(replace(batch, policy=now[0], old=old), drive=drive, counts=counts)
    width = max(rollout.mask.shape[1] for rollout in rollouts)
    hidden = []
    for rollout in rollouts:
        tokens, seen, response, _ = _teacher_forced(rollout)
        part = policy.hidden(tokens, seen, keep=response.shape[1])
        hidden.append(pad(part, (0, 0, 0, width - part.shape[1])))
    targets = torch.cat([pad(rollout.response, (0, width - rollout.response.shape[1])) for rollout in rollouts])
    head = policy.head.arguments(temperature)
    return fused_objective(
        objective, torch.cat(hidden), targets=targets, batch=batch, drive=drive, counts=counts, **head
    )


def _teacher_forced(rollout: Rollout) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
    """What a model reads to score responses, which of it exists, and the responses without common padding."""
    width = max(int(rollout.mask.sum(-1).max()), 1)
    first = int(rollout.prompt_mask.any(0).long().argmax())  # columns before it are padding in all of these rows
    prompt, prompt_mask = rollout.prompt[:, first:], rollout.prompt_mask[:, first:]
    response, mask = rollout.response[:, :width], rollout.mask[:, :width]
    # The last response token predicts nothing that is needed. Padding on the right is invisible to a causal model; on
    # the left it is masked.
    tokens = torch.cat([prompt, response[:, :-1]], -1)
    if bool(prompt_mask.all()):
        return tokens, None, response, mask
    return tokens, torch.cat([prompt_mask, torch.ones_like(response[:, :-1], dtype=torch.bool)], -1), response, mask


@torch.no_grad()
def score_rows(policy: Policy, rollout: Rollout, temperature: float, rows: int) -> Tensor:
    """`log_probs` of all rows, `rows` at a time, without gradient.

    >>> from geomalign.training import ModelConfig
    >>> from geomalign.training.policy import Placement, build
    >>> small = ModelConfig(hidden=16, layers=1, heads=2, intermediate=16)
    >>> policy = build(small, "0123456789+=", seed=0, placement=Placement())
    >>> rollout = sample(policy, ["1+2=", "3+4="], temperature=0.0, max_new_tokens=3)
    >>> torch.allclose(score_rows(policy, rollout, 1.0, rows=1), log_probs(policy, rollout), atol=1e-5)
    True
    """
    return torch.cat(
        [log_probs(policy, rollout[start : start + rows], temperature) for start in range(0, rollout.rows, rows)]
    )
