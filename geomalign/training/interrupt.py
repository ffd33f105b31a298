"""Ctrl-C between two steps rather than within one."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

import torch

from geomalign import distributed
from geomalign.training.events import Interrupted


class Stop:
    """While it is open, the first SIGINT or SIGTERM is remembered; a second SIGINT acts at once, as
    `KeyboardInterrupt`.

    Outside the main thread signals cannot be caught, and nothing is.
    """

    def __init__(self) -> None:
        self._asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                # A process told to ignore Ctrl-C, as a worker is, keeps ignoring it.
                if signal.getsignal(number) != signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self._asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._asked = True

    def __bool__(self) -> bool:
        return self._asked

    def anywhere(self) -> bool:
        """Whether a signal came to any rank: the same answer on all of them, so that they stop after the same step."""
        return bool(distributed.largest(torch.tensor(int(self._asked))))

    def check(self) -> None:
        """Raise `Interrupted` if a signal came; call it after everything is saved."""
        if self._asked:
            raise Interrupted
