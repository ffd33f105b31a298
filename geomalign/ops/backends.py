"""Who computes the log-probabilities of a head: the tiles here, or a peer where it is installed."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from geomalign.ops.nodes import LogProbs
from geomalign.ops.tiles import Head

__all__ = ["BACKENDS", "tiled"]

Backend = Callable[[Tensor, Tensor, Head, bool], tuple[Tensor, ...]]
"""(hidden states, targets, head, whether entropies are wanted) → log-probabilities, and entropies where wanted."""


def tiled(hidden: Tensor, targets: Tensor, head: Head, entropy: bool) -> tuple[Tensor, ...]:
    """The tiles of this package, on any device.

    >>> tiled(torch.zeros(2, 3), torch.tensor([0, 1]), Head(torch.zeros(2, 3)), False)
    (tensor([-0.6931, -0.6931]),)
    """
    found: tuple[Tensor, ...] = LogProbs.apply(hidden, head.weight, head.bias, targets, head, entropy)
    return found


def _torch(hidden: Tensor, targets: Tensor, head: Head, entropy: bool) -> tuple[Tensor, ...]:
    """`F.linear_cross_entropy` of torch ≥ 2.13."""
    _only("linear_cross_entropy", entropy=entropy, softcap=head.softcap is not None)
    if not hasattr(torch.nn, "LinearCrossEntropyOptions"):
        raise ImportError(
            f'backend="linear_cross_entropy" needs torch ≥ 2.13; this is {torch.__version__}. Use backend="torch".'
        )
    bias = head.bias if head.bias is None else head.bias / head.temperature
    loss = torch.nn.functional.linear_cross_entropy(
        hidden / head.temperature,
        head.weight,
        targets,
        linear_bias=bias,
        reduction="none",
        options=torch.nn.LinearCrossEntropyOptions(),
    )
    return (-loss,)


def _trl(hidden: Tensor, targets: Tensor, head: Head, entropy: bool) -> tuple[Tensor, ...]:
    """The chunked head of TRL ≥ 1.16: Triton on CUDA and XPU, torch elsewhere."""
    try:
        from trl.kernels import ChunkedLogProbFunction
    except ImportError as error:
        raise ImportError('backend="trl" needs trl ≥ 1.16: pip install "trl>=1.16", or use backend="torch".') from error
    columns = min(1 << 15, head.weight.shape[0])  # TRL's own width
    asked = ("entropy",) if entropy else ()
    log_probs, spread, *_ = ChunkedLogProbFunction.apply(
        hidden, head.weight, head.bias, targets, head.temperature, columns, head.softcap, 1.0, asked
    )
    return (log_probs, spread) if entropy else (log_probs,)


def _liger(hidden: Tensor, targets: Tensor, head: Head, entropy: bool) -> tuple[Tensor, ...]:
    """The heads of Liger ≥ 0.8: its scaled cross-entropy on CUDA, its chunked log-probabilities elsewhere."""
    try:
        if hidden.is_cuda:
            from liger_kernel.ops import LigerFusedLinearScaledCrossEntropyFunction

            _only("liger", softcap=head.softcap is not None, bias=head.bias is not None)
            found = LigerFusedLinearScaledCrossEntropyFunction.apply(
                hidden, head.weight, targets, head.temperature, -100, 1, entropy
            )
            return (-found[0], found[1]) if entropy else (-found,)
        from liger_kernel.chunked_loss.fused_linear_ppo import _ChunkedSelectiveLogProbFunction
    except ImportError as error:
        raise ImportError(
            'backend="liger" needs liger-kernel ≥ 0.8 and on CUDA its triton: pip install "liger-kernel>=0.8", or use '
            'backend="torch".'
        ) from error
    _only("liger", softcap=head.softcap is not None, entropy=entropy)
    return (_ChunkedSelectiveLogProbFunction.apply(hidden, head.weight, targets, head.bias, head.temperature, 4096),)


def _only(name: str, **asked: bool) -> None:
    """Refuse what a backend cannot compute."""
    lacking = [what for what, wanted in asked.items() if wanted]
    if lacking:
        raise ValueError(f'backend="{name}" cannot compute {" and ".join(lacking)}; use backend="torch".')


BACKENDS: dict[str, Backend] = {"torch": tiled, "linear_cross_entropy": _torch, "trl": _trl, "liger": _liger}
"""By name. "auto" is the first: on a CPU it was the fastest of all (docs/scaling.md)."""
