"""The language-model head and an objective, forward and backward, against the heads of TRL, Liger and torch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

import geomalign as ga
from tests.bench.measure import ALL, Case, Methods, installed

PEERS = {"TRL": "trl", "torch": "linear_cross_entropy", "Liger": "liger"}
"""Peer → the backend that calls it: its own function, and nothing of ours around it but a check of the tokens."""

TWO = ("geomalign, 2 products", "Liger")

THROUGH = ("grpo", "reinforce", "gspo", "opo", "dpo beta=0.1")
"""Objectives whose events are tokens, responses and pairs."""


def cases(preset: str) -> list[Case]:
    if preset == "quick":
        small = {"tokens": 128, "hidden": 16, "vocabulary": 512}
        return [
            Case("head", small, head, 0.1, (2, 2), per=128, memory=("geomalign, 3 products",)),
            Case("frozen head", small, frozen, 0.1, (2, 2), per=128),
            Case("objectives through the head", small, objectives, 0.1, (2, 2), agree=float("inf")),
            Case("gradient through the head", small, exactness, 0.0, (1, 1), agree=1e-4),
        ]
    full = preset == "full"
    main = {"tokens": 4096, "hidden": 512, "vocabulary": 32768}
    wide = {"tokens": 4096 if full else 512, "hidden": 512, "vocabulary": 131072}
    some: Any = {"warm": {"tokens": 128, "hidden": 512, "vocabulary": 4096}}
    found = []
    for size, seconds, peaks, frozen_peaks in (
        (main, 600.0 if full else 60.0, ("geomalign, 4 products", "geomalign, 3 products", "Liger", "all logits"), TWO),
        (wide, 1200.0 if full else 40.0, ("geomalign, 4 products",), ()),
    ):
        options = some | {"seconds": seconds, "rounds": (2, 6 if full else 2), "per": size["tokens"], "both": full}
        found.append(Case("head", size, head, memory=ALL if full else peaks, **options))
        found.append(Case("frozen head", size, frozen, memory=ALL if full else frozen_peaks, **options))
    for tokens, vocabulary in ((512, 8192), (1024, 8192), (2048, 8192), (512, 32768), *[(512, 131072)] * full):
        size = {"tokens": tokens, "hidden": 512, "vocabulary": vocabulary}
        found.append(Case("head", size, head, 8.0, (2, 6), per=tokens, **some))
    through = {"tokens": 4096 if full else 1024, "hidden": 512, "vocabulary": 32768}
    found.append(Case("objectives through the head", through, objectives, 20.0, (4, 8), agree=float("inf"), **some))
    exact = {"tokens": 512, "hidden": 256, "vocabulary": 8192}
    found.append(Case("gradient through the head", exact, exactness, 0.0, (1, 1), agree=1e-4))
    return found


class Data:
    """Random hidden states and a random head, responses of 64 tokens, eight to a prompt, no padding; a policy some 0.1
    nats per token from the one that sampled.
    """

    def __init__(self, tokens: int, hidden: int, vocabulary: int, dtype: torch.dtype = torch.float32):
        torch.manual_seed(0)
        rows, length = max(tokens // 64, 16), min(tokens // 16, 64)
        self.hidden = torch.randn(rows, length, hidden).to(dtype)
        self.weight = (torch.randn(vocabulary, hidden) / hidden**0.5).to(dtype)
        self.targets = torch.randint(vocabulary, (rows, length))
        with torch.no_grad():
            log_probs = ga.ops.fused_log_probs(self.hidden, self.weight, self.targets)
        self.old = (log_probs + 0.1 * torch.randn(rows, length).to(dtype)).clamp(max=-1e-4)
        self.reward = torch.rand(rows).to(dtype)

    def batch(self, policy: Tensor, paired: bool = False) -> Any:
        if not paired:
            return ga.Batch(policy, self.old, reward=self.reward, group=8)
        return ga.PreferenceBatch(*policy.chunk(2), *self.old.chunk(2))


def _evaluations(data: Data, name: str, trainable: bool) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Of log-probabilities by some head, and of the objective's own way through the head."""
    objective = ga.recipes.get(name)
    drive = objective.drive(data.batch(data.old, objective.paired))

    def gradients(loss: Callable[[Tensor, Tensor], Tensor]) -> tuple[Tensor, ...]:
        hidden = data.hidden.detach().requires_grad_()
        weight = data.weight.detach().requires_grad_(trainable)
        return torch.autograd.grad(loss(hidden, weight), (hidden, weight) if trainable else (hidden,))

    def through(log_probs: Callable[[Tensor, Tensor, Tensor], Tensor]) -> tuple[Tensor, ...]:
        def loss(hidden: Tensor, weight: Tensor) -> Tensor:
            policy = log_probs(hidden, weight, data.targets)
            return objective(data.batch(policy, objective.paired), drive=drive).loss

        return gradients(loss)

    def fused() -> tuple[Tensor, ...]:
        batch = data.batch(data.old, objective.paired)
        return gradients(lambda h, w: ga.ops.fused_objective(objective, h, w, data.targets, batch, drive=drive).loss)

    return through, fused


def _peers() -> dict[str, str]:
    lacking = {name for name, package in (("TRL", "trl"), ("Liger", "liger_kernel")) if not installed(package)}
    return {name: backend for name, backend in PEERS.items() if name not in lacking}


def naive(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """All logits at once."""
    return (hidden @ weight.t()).log_softmax(-1).gather(-1, targets[..., None])[..., 0]


def head(tokens: int, hidden: int, vocabulary: int) -> Methods:
    """One objective through every head: the gradients in hidden states and weight are the same."""
    through, fused = _evaluations(Data(tokens, hidden, vocabulary), "grpo", trainable=True)
    return {
        "all logits": partial(through, naive),
        "geomalign, 4 products": partial(through, ga.ops.fused_log_probs),
        "geomalign, 3 products": fused,
        **{name: partial(through, partial(ga.ops.fused_log_probs, backend=peer)) for name, peer in _peers().items()},
    }


def frozen(tokens: int, hidden: int, vocabulary: int) -> Methods:
    """The same where the weight needs no gradient, as with LoRA."""
    through, fused = _evaluations(Data(tokens, hidden, vocabulary), "grpo", trainable=False)
    return {
        "all logits": partial(through, naive),
        "geomalign, 2 products": fused,
        **{name: partial(through, partial(ga.ops.fused_log_probs, backend=peer)) for name, peer in _peers().items()},
    }


def objectives(tokens: int, hidden: int, vocabulary: int) -> Methods:
    """Objectives with events of different kinds; their gradients differ, their costs should not."""
    data = Data(tokens, hidden, vocabulary)
    return {name: _evaluations(data, name, trainable=True)[1] for name in THROUGH}


def exactness(tokens: int, hidden: int, vocabulary: int) -> Methods:
    """Gradients in float32 beside those of all logits in float64, of the same numbers."""
    data = Data(tokens, hidden, vocabulary)
    exact = Data(tokens, hidden, vocabulary)
    exact.hidden, exact.weight, exact.old, exact.reward = (
        x.double() for x in (data.hidden, data.weight, data.old, data.reward)
    )
    through, fused = _evaluations(data, "grpo", trainable=True)
    return {
        "all logits, float64": partial(_evaluations(exact, "grpo", trainable=True)[0], naive),
        "all logits": partial(through, naive),
        "geomalign, 4 products": partial(through, ga.ops.fused_log_probs),
        "geomalign, 3 products": fused,
        "geomalign, 2 products": _evaluations(data, "grpo", trainable=False)[1],
    }
