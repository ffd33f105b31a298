"""Schedules: a positive number as a function of the progress of a run."""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod


class Schedule(ABC):
    """A positive number as a function of the progress of a run, 0 at its start and 1 at its end."""

    @abstractmethod
    def __call__(self, progress: float) -> float:
        """The value at `progress` in [0, 1]."""


@dataclasses.dataclass(frozen=True)
class LinearSchedule(Schedule):
    """start + (stop − start)·progress."""

    start: float
    stop: float

    def __call__(self, progress: float) -> float:
        return self.start + (self.stop - self.start) * progress


@dataclasses.dataclass(frozen=True)
class CosineSchedule(Schedule):
    """Half a cosine from start to stop: slow at both ends."""

    start: float
    stop: float

    def __call__(self, progress: float) -> float:
        return self.stop + (self.start - self.stop) * 0.5 * (1.0 + math.cos(math.pi * progress))


@dataclasses.dataclass(frozen=True)
class GeometricSchedule(Schedule):
    """start^{1−progress} · stop^{progress}: equal factors in equal times; start and stop positive."""

    start: float
    stop: float

    def __call__(self, progress: float) -> float:
        return math.exp((1.0 - progress) * math.log(self.start) + progress * math.log(self.stop))
