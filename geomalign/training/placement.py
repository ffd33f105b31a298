"""Where a policy computes, and in which precision."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


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
