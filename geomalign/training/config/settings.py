"""What a run needs to know: frozen dataclasses, whose values pydantic checks."""

from __future__ import annotations

import dataclasses
from dataclasses import field
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from geomalign._util.check import check, settle
from geomalign._util.words import named
from geomalign.tasks.config import STRICT, Count, Levels
from geomalign.tasks.config import TaskConfig as TaskConfig

if TYPE_CHECKING:
    from geomalign.objective import BaseObjective

Whole = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Beta = Annotated[float, Field(ge=0, lt=1)]
Names = Annotated[tuple[str, ...], Field(strict=False)]
NotEmpty = Field(strict=False, min_length=1)  # a list, as files have it, becomes a tuple


@dataclass(frozen=True, config=STRICT)
class ModelConfig:
    """The policy: a checkpoint (`path`), or a small Llama with these sizes.

    Args:
        path: directory or hub name that `AutoModelForCausalLM.from_pretrained` accepts; None builds the small Llama.
        hidden, layers, heads, intermediate: sizes of the small Llama, each ≥ 1. `hidden` is a multiple of 2 × `heads`.
        positions: longest sequence of the small Llama, in tokens. ≥ 1.

    >>> ModelConfig(hidden=64, layers=1).heads
    4
    """

    path: str | None = None
    hidden: Count = 96
    layers: Count = 2
    heads: Count = 4
    intermediate: Count = 192
    positions: Count = 256

    def __post_init__(self) -> None:
        check(
            self.hidden % (2 * self.heads) == 0,
            f"hidden is {self.hidden}, not a multiple of 2 x heads = {2 * self.heads}, which rotary positions need.",
        )


@dataclass(frozen=True, config=STRICT)
class LoRAConfig:
    """Low-rank adapters (peft), which are trained in place of the model's weights.

    Args:
        rank: of the adapter in every linear layer but the output layer; 0 trains the whole model.
        alpha: the adapter is scaled by alpha/rank. > 0; None is 2 × rank.

    >>> LoRAConfig(rank=8).scale
    16.0
    """

    rank: Whole = 0
    alpha: Positive | None = None

    @property
    def scale(self) -> float:
        """α of the adapter."""
        return 2.0 * self.rank if self.alpha is None else self.alpha


@dataclass(frozen=True, config=STRICT)
class WarmStartConfig:
    """Supervised training of the shared base: first on complete workings, then on a noisy teacher.

    Args:
        enabled: `"auto"` (only when the model is built here), `"yes"`, `"no"`.
        seed: of the initial weights and of the data.
        steps, batch, rate, warmup: steps on complete workings (≥ 0), traces per step (≥ 1), peak of the cosine schedule
            (> 0), steps up to the peak (≥ 0).
        noisy_steps, noisy_rate: steps on the noisy teacher (≥ 0) and their constant rate (> 0).
        levels, weights: levels of the traces and their relative frequencies, one weight per level; empty: for chains
            1 to 5, the easy ones more often, and for other tasks those trained on.

    >>> WarmStartConfig(steps=500, levels=(1, 2), weights=(2.0, 1.0)).weights
    (2.0, 1.0)
    """

    enabled: Literal["auto", "yes", "no"] = "auto"
    seed: int = 0
    steps: Whole = 2000
    batch: Count = 32
    rate: Positive = 2e-3
    warmup: Whole = 20
    noisy_steps: Whole = 150
    noisy_rate: Positive = 5e-4
    levels: Levels = ()
    weights: Annotated[tuple[float, ...], Field(strict=False)] = ()

    def __post_init__(self) -> None:
        check(
            len(self.levels) == len(self.weights),
            f"levels has {len(self.levels)} entries and weights {len(self.weights)}; there is one weight per level.",
        )


@dataclass(frozen=True, config=STRICT)
class LoopConfig:
    """What every loop of sampling and optimiser steps needs. Counts are ≥ 1.

    Args:
        prompts, samples: prompts asked, and responses per prompt (the group).
        temperature: of the sampling policy, > 0; evaluation is greedy in any case.
        max_new_tokens: longest response, in tokens.
        epochs: passes over the data.
        accumulation: micro-batches that an optimiser step is computed in; the gradient is the same for any number.
        betas, weight_decay: of AdamW, in [0, 1) and ≥ 0.
        clip_norm: largest gradient norm; 0 does not clip.
        eval_every, checkpoint_every: steps between evaluations and between checkpoints.
        reward_timeout: seconds after which the verification of one sample is abandoned; 0 waits for ever.
        long_prompts: `"refuse"`, or `"drop"`, prompts that leave no room for `max_new_tokens` within the model's
            positions.

    >>> LoopConfig(prompts=8).samples
    8
    """

    prompts: Count = 16
    samples: Count = 8
    temperature: Positive = 1.0
    max_new_tokens: Count = 32
    epochs: Count = 4
    accumulation: Count = 1
    betas: Annotated[tuple[Beta, Beta], Field(strict=False)] = (0.9, 0.99)
    weight_decay: NonNegative = 0.0
    clip_norm: Annotated[float, Field(ge=0, allow_inf_nan=True)] = 1.0
    eval_every: Count = 20
    checkpoint_every: Count = 10
    reward_timeout: NonNegative = 5.0
    long_prompts: Literal["refuse", "drop"] = "refuse"


@dataclass(frozen=True, config=STRICT)
class RLConfig(LoopConfig):
    """Reinforcement learning: a rollout, then `epochs` × `minibatches` optimiser steps on it; `eval_every` and
    `checkpoint_every` count rollouts.

    Args:
        iterations: rollouts.
        minibatches: optimiser steps per pass over the rollout. With 1 epoch × 1 minibatch every step is taken at
            log-ratio 0, where all geometries agree.

    >>> RLConfig(iterations=5).samples
    8
    """

    iterations: Count = 24
    minibatches: Count = 4
    eval_every: Count = 6
    checkpoint_every: Count = 8

    def __post_init__(self) -> None:
        rows = self.prompts * self.samples
        check(
            rows >= self.minibatches * self.accumulation,
            f"prompts x samples = {rows} responses cannot fill {self.minibatches} minibatches of {self.accumulation} "
            "micro-batches.",
        )


@dataclass(frozen=True, config=STRICT)
class OfflineConfig(LoopConfig):
    """Preference training, on the pairs of a table, or on correct against incorrect samples of the base for the same
    prompt; `eval_every` and `checkpoint_every` count optimiser steps.

    Args:
        data: table of preferences in one of TRL's formats (see `geomalign.tasks.preferences`); None samples.
        split: of the table, where it has several.
        max_length: longest prompt and response of the table, in tokens; responses are cut, and pairs whose prompt
            leaves no room for them are left out. ≥ 2.
        samples: responses per prompt, where they are sampled. ≥ 2, as a pair needs two.
        pairs_per_prompt: most pairs of one prompt.
        batch: pairs per optimiser step.

    >>> OfflineConfig(data="pairs.jsonl", batch=16).split
    'train'
    """

    data: str | None = None
    split: str = "train"
    max_length: Annotated[int, Field(ge=2)] = 1024
    prompts: Count = 512
    samples: Annotated[int, Field(ge=2)] = 16
    pairs_per_prompt: Count = 2
    epochs: Count = 3
    batch: Count = 32
    checkpoint_every: Count = 20


@dataclass(frozen=True, config=STRICT)
class TrainConfig:
    """One run: an objective, a step size, a seed, and everything the run shares with others.

    Args:
        objective: an objective as `geomalign.recipes.get` reads it: the name of a recipe, or
            `"my_module:my_objective"`; hyper-parameters may follow, as in `"opo mu=10"`, and become `options`.
        options: hyper-parameters of the recipe, such as `{"alpha": 0.4, "mu": 10.0}`.
        rate: step size of AdamW, constant. > 0.
        seed: of prompts, sampling and minibatches (not of the base, which has `warm_start.seed`).
        mode: `"rl"`, `"offline"`, or `"auto"`: offline for an objective of pairs (see `trains_offline`).
        control: what sets the stiffness from rollout to rollout, as `geomalign.control.controller_of` reads it, such as
            `"kl=0.02"`; empty for none.
        device: a torch device.
        dtype: `"float32"`, or `"bfloat16"`: autocast of the forward pass; weights, log-probabilities and loss stay
            float32. `"float64"` for checks of exactness. float16 would need loss scaling, which is not offered.
        gradient_checkpointing: compute activations again in the backward pass instead of keeping them.
        threads: torch threads of the process. ≥ 1.
        report_to: where metrics are sent beside `metrics.jsonl`: `"tensorboard"`, `"wandb"`, `"trackio"`, or
            `"module:object"`, which makes a `geomalign.training.Tracker`.
        bases: directory where bases are kept for other runs, which find them by all that they depend on: settings,
            data, code, versions. Empty for none.
        callbacks: each `"module:object"`, as `geomalign.training.Callback` says.

    >>> TrainConfig(objective="opo", options={"mu": 10.0}, control="kl=0.02").mode
    'auto'
    """

    objective: str = "opo"
    options: dict[str, Any] = field(default_factory=dict)
    rate: Positive = 5e-5
    seed: int = 0
    mode: Literal["auto", "rl", "offline"] = "auto"
    control: str = ""
    device: str = "cpu"
    dtype: Literal["float32", "bfloat16", "float64"] = "float32"
    gradient_checkpointing: bool = False
    threads: Count = 1
    report_to: Names = ()
    callbacks: Names = ()
    bases: str = ""
    task: TaskConfig = field(default_factory=TaskConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    lora: LoRAConfig = field(default_factory=LoRAConfig)
    warm_start: WarmStartConfig = field(default_factory=WarmStartConfig)
    rl: RLConfig = field(default_factory=RLConfig)
    offline: OfflineConfig = field(default_factory=OfflineConfig)

    def __post_init__(self) -> None:
        name, given = named(self.objective, where="objective")
        settle(self, objective=name, options={**given, **self.options})
        if not self.warm_start.levels:
            has_levels = self.task._has_levels
            levels = (1, 2, 3, 4, 5) if has_levels else self.task.train_levels
            weights = (3.0, 3.0, 2.0, 1.0, 1.0) if has_levels else (1.0,) * len(levels)
            settle(self, warm_start=dataclasses.replace(self.warm_start, levels=levels, weights=weights))
        # Alone, because the objective has to be built to see it; the default stands for those of a comparison.
        if self.rl.samples == 1 and self.mode != "offline" and (name, self.options) != ("opo", {}):
            from geomalign.training.fit import refuse_one_sample

            refuse_one_sample(self)

    def kinds(self) -> dict[int, str]:
        """What the run knows of every evaluated level: `"in"`, trained on; `"harder"`, only in the warm start;
        `"unseen"`, in neither.

        >>> TrainConfig().kinds()
        {3: 'in', 4: 'harder', 6: 'unseen'}
        """
        taught = self.warm_start.levels if self.warm_started else ()
        known = {level: "harder" if level in taught else "unseen" for level in self.task.eval_levels}
        return known | dict.fromkeys(self.task.train_levels, "in")

    def trains_offline(self, objective: BaseObjective) -> bool:
        """Whether the objective of this run is trained on pairs and not on rollouts.

        Raises:
            ValueError: the objective is one of pairs, and `mode` is `"rl"`.

        >>> import geomalign as ga
        >>> TrainConfig("dpo").trains_offline(ga.recipes.dpo())
        True
        """
        if objective.paired and self.mode == "rl":
            raise ValueError(
                f"{self.objective} compares pairs of responses, so it trains offline; mode is 'rl'. Leave it at 'auto'."
            )
        return objective.paired or self.mode == "offline"

    @property
    def warm_started(self) -> bool:
        """Whether this run begins with a warm start."""
        return self.warm_start.enabled == "yes" or (self.warm_start.enabled == "auto" and self.model.path is None)
