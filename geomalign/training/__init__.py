"""Train a transformer on a task with a verifiable reward, with any objective, and compare objectives.

Nothing heavy is imported until a function needs it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from geomalign.tasks.config import TaskConfig as TaskConfig
from geomalign.training.config import PRESETS as PRESETS
from geomalign.training.config import from_dict as from_dict
from geomalign.training.config import load_config as load_config
from geomalign.training.config import override as override
from geomalign.training.config import preset as preset
from geomalign.training.config import to_dict as to_dict
from geomalign.training.config import train_preset as train_preset
from geomalign.training.config.settings import Choice as Choice
from geomalign.training.config.settings import CompareConfig as CompareConfig
from geomalign.training.config.settings import ModelConfig as ModelConfig
from geomalign.training.config.settings import OfflineConfig as OfflineConfig
from geomalign.training.config.settings import RLConfig as RLConfig
from geomalign.training.config.settings import TrainConfig as TrainConfig
from geomalign.training.config.settings import WarmStartConfig as WarmStartConfig
from geomalign.training.events import Event as Event
from geomalign.training.events import Interrupted as Interrupted
from geomalign.training.events import Progress as Progress
from geomalign.training.events import silent as silent


def train(
    config: TrainConfig, directory: str | Path, *, resume: bool = False, progress: Progress = silent
) -> dict[str, Any]:
    """Train one objective into a directory and return the summary; see `geomalign.training.trainer.train`."""
    from geomalign.training import trainer

    return trainer.train(config, directory, resume=resume, progress=progress)


def compare(
    config: CompareConfig, directory: str | Path, *, resume: bool = False, progress: Progress = silent
) -> dict[str, Any]:
    """Compare objectives, step sizes and seeds into a directory and return the summary; see
    `geomalign.training.comparison.compare`.
    """
    from geomalign.training import comparison

    return comparison.compare(config, directory, resume=resume, progress=progress)
