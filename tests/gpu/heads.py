"""The language-model head on the device in bfloat16: ours in four, three and two products, TRL's, Liger's, torch's."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

import geomalign as ga
from tests.bench.head import PEERS, THROUGH, Data, _evaluations, naive
from tests.gpu.figures import DEVICE, TINY, Figures

MAIN = "16384×4096×131072"
SHAPES = {
    MAIN: (16384, 4096, 131072),
    "Qwen3-0.6B, 16384×1024×151936": (16384, 1024, 151936),
    "Qwen3-8B, 16384×4096×151936": (16384, 4096, 151936),
}
"""Tokens × hidden × vocabulary."""
if TINY:
    MAIN, SHAPES = "tiny", {"tiny": (128, 16, 512)}
DTYPE = torch.bfloat16
FOUR, THREE, TWO = "geomalign, 4 products", "geomalign, 3 products", "geomalign, 2 products, frozen"


def main(figures: Figures) -> None:
    right(figures)
    for case, size in SHAPES.items():
        data = Data(*size, dtype=DTYPE)
        found = figures.compare(case, partial(trained, data), 6.0)
        still = figures.compare(f"{case}, frozen", partial(frozen, data), 4.0)
        if case == MAIN:
            for ours, times, limits in (
                (FOUR, found, {"TRL": 0.97}),
                (THREE, found, {"TRL": 1.25, "Liger": 1.15}),
                (TWO, still, {"TRL": 1.3}),
            ):
                for peer, least in limits.items():
                    if ours in times and peer in times:
                        figures.target(case, f"{peer} / {ours}", times[peer]["ms"] / times[ours]["ms"], least=least)
            outputs = sum(x.numel() * x.element_size() for x in (data.hidden, data.weight)) / 2**20
            if DEVICE == "cuda" and FOUR in found:
                figures.add(case, "dW + dh", peak_mib=outputs)
                figures.target(case, "peak / (dW + dh), 4 products", found[FOUR]["peak_mib"] / outputs, most=1.5)
        del data
    tokens, hidden, vocabulary = SHAPES[MAIN]
    data = Data(max(tokens // 4, 128), hidden, vocabulary, dtype=DTYPE)
    calls = {name: _evaluations(data, name, trainable=True)[1] for name in THROUGH}
    found = figures.compare(f"objectives through the head, {len(data.hidden)} rows", lambda: calls, 4.0)
    if found:
        milliseconds = [row["ms"] for row in found.values()]
        spread = max(milliseconds) / min(milliseconds)
        figures.target("objectives through the head", "slowest / fastest", spread, most=1.05)


def trained(data: Data) -> dict[str, Callable[[], Any]]:
    """One objective through every head, the gradients in hidden states and weight."""
    through, fused = _evaluations(data, "grpo", trainable=True)
    found: dict[str, Callable[[], Any]] = {FOUR: partial(through, ga.ops.fused_log_probs), THREE: fused}
    found |= {name: partial(through, peer) for name, peer in peers().items()}
    return found | {"all logits": partial(through, naive)}


def frozen(data: Data) -> dict[str, Callable[[], Any]]:
    """The same where the weight needs no gradient, as with LoRA."""
    through, fused = _evaluations(data, "grpo", trainable=False)
    return {TWO: fused} | {name: partial(through, peer) for name, peer in peers().items()}


def peers() -> dict[str, Callable[..., Tensor]]:
    found: dict[str, Callable[..., Tensor]] = {
        name: partial(ga.ops.fused_log_probs, backend=peer) for name, peer in PEERS.items()
    }
    if DEVICE == "cuda":  # where "Liger" is a kernel for Hopper that needs one more package, CUTLASS' language
        found["Liger, chunked"] = liger_chunked
    return found


def liger_chunked(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    from liger_kernel.chunked_loss.fused_linear_ppo import _ChunkedSelectiveLogProbFunction as Function

    return Function.apply(hidden.flatten(0, -2), weight, targets.flatten(), None, 1.0, 4096).view(targets.shape)


def right(figures: Figures) -> None:
    """Log-probabilities and gradients beside those of all logits in float64, of the same bfloat16 numbers."""
    tokens, hidden, vocabulary = SHAPES[MAIN]
    data = Data(min(tokens, 512), hidden, vocabulary, dtype=DTYPE)
    exact = linear(data.hidden.double(), data.weight.double()).log_softmax(-1)
    exact = exact.gather(-1, data.targets[..., None])[..., 0]
    for name, log_probs in {"geomalign": ga.ops.fused_log_probs, **peers()}.items():
        try:
            off = (log_probs(data.hidden, data.weight, data.targets).double() - exact).abs()
        except Exception as error:
            figures.failed("log-probabilities", name, error)
            continue
        if name == "geomalign":
            figures.check("log-probabilities", f"{name}, mean error", float(off.mean()), 1e-5)
        else:
            figures.add("log-probabilities", f"{name}, mean error", value=float(off.mean()))
    double = Data(min(tokens, 512), hidden, vocabulary, dtype=DTYPE)
    double.hidden, double.weight, double.old, double.reward = (
        x.double() for x in (data.hidden, data.weight, data.old, data.reward)
    )
    expected = _evaluations(double, "grpo", trainable=True)[0](naive)
    through, fused = _evaluations(data, "grpo", trainable=True)
    gradients = {
        FOUR: through(ga.ops.fused_log_probs),
        THREE: fused(),
        TWO: _evaluations(data, "grpo", trainable=False)[1](),
    }
    for name, found in gradients.items():
        off = max(float((x.double() - y).norm() / y.norm()) for x, y in zip(found, expected))
        # What is returned is rounded to bfloat16, and so are the probabilities that the tensor cores multiply.
        figures.check("gradients", f"{name}, relative error", off, 1e-2)


if __name__ == "__main__":
    Figures.stage(main)
