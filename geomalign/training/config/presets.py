"""Comparisons whose settings fit each other."""

from __future__ import annotations

from geomalign.tasks.config import TaskConfig
from geomalign.training.config.comparison import CompareConfig
from geomalign.training.config.settings import ModelConfig, RLConfig, TrainConfig, WarmStartConfig

PRESETS = ("ci", "default", "gpu")


def preset(name: str) -> CompareConfig:
    """A comparison whose settings fit each other.

    Args:
        name: `"ci"`: four objectives, one rate, one seed, a smaller task: under 90 seconds on two cores. `"default"`:
            two rates, three seeds, minutes on two cores. `"gpu"`: a decoder of 99 M parameters, harder levels,
            bfloat16; written for one NVIDIA GPU, not yet run on one.

    Raises:
        ValueError: for another name.

    >>> preset("ci").seeds
    (0,)
    """
    if name == "default":
        return CompareConfig()
    if name == "ci":
        small = TrainConfig(
            task=TaskConfig(
                options={"largest": 4},
                train_levels=(2,),
                eval_levels=(2, 3, 4),
                eval_prompts=128,
                eval_interim_prompts=64,
            ),
            warm_start=WarmStartConfig(steps=500, noisy_steps=60, levels=(1, 2, 3), weights=(2.0, 2.0, 1.0)),
            rl=RLConfig(iterations=16, prompts=8, max_new_tokens=24, eval_every=8, checkpoint_every=8),
        )
        return CompareConfig(rates=(1e-4,), seeds=(0,), run=small)
    if name == "gpu":
        large = TrainConfig(
            device="cuda",
            dtype="bfloat16",
            task=TaskConfig(train_levels=(7,), eval_levels=(7, 8, 10)),
            model=ModelConfig(hidden=768, layers=14, heads=12, intermediate=2048),
            warm_start=WarmStartConfig(
                steps=4000,
                batch=256,
                rate=3e-4,
                warmup=200,
                noisy_rate=1e-4,
                levels=(1, 2, 3, 4, 5, 6, 7, 8),
                weights=(3.0, 3.0, 2.0, 2.0, 1.0, 1.0, 1.0, 1.0),
            ),
            rl=RLConfig(iterations=200, prompts=64, samples=16, max_new_tokens=64, eval_every=20),
        )
        return CompareConfig(rates=(1e-6, 5e-6), run=large)
    raise ValueError(f"there is no preset {name!r}; there are {', '.join(PRESETS)}.")


def train_preset(name: str) -> TrainConfig:
    """What the runs of a preset share: the start for training one objective.

    >>> train_preset("ci") == preset("ci").run
    True
    """
    return preset(name).run
