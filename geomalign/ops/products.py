"""Matrix products of the head, each through the fastest routine that accumulates in float32 or better."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["accumulation_dtype", "add_product", "operand", "product"]

# A shape that oneDNN has not seen costs about a millisecond of code generation, which is what it saves on a product of
# this many multiplications and additions.
_WORTH_ONEDNN = 1 << 28


def accumulation_dtype(*tensors: Tensor) -> torch.dtype:
    """The type that logits and gradients are summed in: float32, or float64 where a tensor is of that type.

    >>> accumulation_dtype(torch.zeros(1, dtype=torch.bfloat16))
    torch.float32
    """
    dtype = torch.float32
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return dtype


def _in_half(*tensors: Tensor) -> bool:
    """Whether these are multiplied in half precision with sums in float32, which torch offers on CUDA alone."""
    half = all(x.dtype == tensors[0].dtype and x.dtype in (torch.bfloat16, torch.float16) for x in tensors)
    return half and tensors[0].is_cuda and torch.__version__ >= "2.8"


def operand(x: Tensor, like: Tensor) -> Tensor:
    """`x` in the type in which it is multiplied with others, where hidden states are of the type of `like`.

    On CUDA half-precision hidden states keep their type, as tensor cores sum their products in float32; everywhere else
    half precision is widened, which changes no product and lets the sums be float32.
    """
    if _in_half(like):
        return x.to(like.dtype)
    return x.to(accumulation_dtype(x, like))


def _fast(flops: int, *tensors: Tensor) -> bool:
    """Whether oneDNN multiplies these. torch sends float32 products on a CPU to MKL, which on the AMD EPYC measured
    reaches 105 GFLOP/s per core where oneDNN reaches 190 to 240.
    """
    return bool(
        flops >= _WORTH_ONEDNN
        and all(x.device.type == "cpu" and x.dtype == torch.float32 for x in tensors)
        and torch.backends.mkldnn.is_available()
        and torch.backends.mkldnn.enabled
    )


def product(a: Tensor, b: Tensor) -> Tensor:
    """`a @ b.T` of `(n, d)` and `(m, d)`, in float32 or better.

    >>> product(torch.ones(2, 3), torch.ones(4, 3)).shape
    torch.Size([2, 4])
    """
    if _fast(2 * a.numel() * b.shape[0], a, b):
        out: Tensor = torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], "")
        return out
    if _in_half(a, b):
        return torch.mm(a, b.t(), out_dtype=torch.float32)
    return torch.mm(a, b.t())


def add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """`total += a @ b` of `(n, m)` and `(m, d)`, in place.

    >>> total = torch.ones(2, 2)
    >>> add_product(total, torch.eye(2), torch.eye(2))
    >>> total
    tensor([[2., 1.],
            [1., 2.]])
    """
    if _fast(2 * a.numel() * b.shape[1], a, b):
        total.add_(product(a, b.t()))
    elif _in_half(a, b):
        torch.addmm(total, a, b, out_dtype=torch.float32, out=total)
    else:
        total.addmm_(a, b)
