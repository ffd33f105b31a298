"""What a run and a comparison need to know, as frozen dataclasses that check themselves."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

from geomalign._util.check import check, settle
from geomalign.tasks.config import TaskConfig


@dataclass(frozen=True)
class ModelConfig:
    """The policy: a checkpoint (`path`), or a small Llama with these sizes.

    Args:
        path: directory or hub name that `AutoModelForCausalLM.from_pretrained` accepts; None builds the small Llama.
        hidden, layers, heads, intermediate: sizes of the small Llama. `heads` divides `hidden`.
        positions: longest sequence of the small Llama.
    """

    path: str | None = None
    hidden: int = 96
    layers: int = 2
    heads: int = 4
    intermediate: int = 192
    positions: int = 256

    def __post_init__(self) -> None:
        check(min(self.hidden, self.layers, self.heads, self.intermediate) >= 1, "model sizes must be >= 1.")
        check(
            self.hidden % (2 * self.heads) == 0,
            f"model.hidden={self.hidden} is not a multiple of 2 x model.heads={2 * self.heads}, which rotary "
            "positions need.",
        )


@dataclass(frozen=True)
class WarmStartConfig:
    """Supervised training of the shared base: first clean workings, then a lazy teacher who stops working early and
    guesses.

    Args:
        enabled: `"auto"` (only when the model is built here), `"yes"`, `"no"`.
        seed: of the initial weights and of the data.
        steps, batch, rate, warmup: steps on clean workings, traces a step, peak of the cosine schedule, steps up to
            the peak.
        lazy_steps, lazy_rate: steps on the lazy teacher and their constant rate.
        tiers, weights: tiers of the traces and their relative frequencies; empty: for chains 1 to 5, the easy ones more
            often, and for other tasks those trained on.
    """

    enabled: str = "auto"
    seed: int = 0
    steps: int = 2000
    batch: int = 32
    rate: float = 2e-3
    warmup: int = 20
    lazy_steps: int = 150
    lazy_rate: float = 5e-4
    tiers: tuple[int, ...] = ()
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        check(
            self.enabled in ("auto", "yes", "no"),
            f"warm_start.enabled is {self.enabled!r}; it is one of 'auto', 'yes', 'no'.",
        )
        check(
            len(self.tiers) == len(self.weights),
            f"warm_start has {len(self.tiers)} tiers and {len(self.weights)} weights; one weight a tier.",
        )
        check(
            self.steps >= 0 and self.lazy_steps >= 0 and self.batch >= 1,
            "warm_start.steps and lazy_steps must be >= 0, batch >= 1.",
        )
        check(self.warmup >= 0, f"warm_start.warmup is {self.warmup}; it must be >= 0.")
        check(
            0 < self.rate < math.inf and 0 < self.lazy_rate < math.inf,
            f"warm_start.rate and lazy_rate are {self.rate} and {self.lazy_rate}; they must be > 0 and finite.",
        )


@dataclass(frozen=True)
class LoopConfig:
    """What every loop of sampling and updates needs.

    Args:
        prompts, samples: prompts asked and responses a prompt (the group).
        temperature: of the sampling policy. > 0.
        max_new_tokens: longest response.
        epochs: passes over the data.
        accumulation: micro-batches an update is computed in; the gradient is the same whatever the number.
        betas, weight_decay: of AdamW.
        clip_norm: largest gradient norm; 0 does not clip.
        eval_every, checkpoint_every: steps between evaluations and between checkpoints.
        reward_timeout: seconds after which the verification of one sample is given up; 0 waits for ever.

    Raises:
        ValueError: a count is below 1, or a value outside its range.
    """

    prompts: int = 16
    samples: int = 8
    temperature: float = 1.0
    max_new_tokens: int = 32
    epochs: int = 4
    accumulation: int = 1
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    eval_every: int = 20
    checkpoint_every: int = 10
    reward_timeout: float = 5.0

    table: ClassVar[str]
    """Name of the table of settings, for messages."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, int):
                check(value >= 1, f"{self.table}.{name} is {value}; it must be >= 1.")
        check(
            0 < self.temperature < math.inf,
            f"{self.table}.temperature is {self.temperature}; it must be > 0 and finite (evaluation is greedy in any "
            "case).",
        )
        check(
            all(0 <= beta < 1 for beta in self.betas),
            f"{self.table}.betas are {list(self.betas)}; those of AdamW are in [0, 1).",
        )
        for name in ("weight_decay", "reward_timeout"):
            value = getattr(self, name)
            check(0 <= value < math.inf, f"{self.table}.{name} is {value}; it must be >= 0 and finite.")
        check(self.clip_norm >= 0, f"{self.table}.clip_norm is {self.clip_norm}; it must be >= 0 (0 does not clip).")


@dataclass(frozen=True)
class RLConfig(LoopConfig):
    """Reinforcement learning: rollout, then `epochs` x `minibatches` updates on it. A step is an iteration.

    Args:
        iterations: rollouts.
        minibatches: updates a pass over the rollout. With 1 epoch x 1 minibatch every update is made at log-ratio 0,
            where all geometries agree.
    """

    iterations: int = 24
    minibatches: int = 4
    eval_every: int = 6
    checkpoint_every: int = 8

    table: ClassVar[str] = "rl"

    def __post_init__(self) -> None:
        super().__post_init__()
        rows = self.prompts * self.samples
        check(
            rows >= self.minibatches * self.accumulation,
            f"rl: {rows} responses cannot fill {self.minibatches} minibatches of {self.accumulation} micro-batches.",
        )


@dataclass(frozen=True)
class OfflineConfig(LoopConfig):
    """Preference training: on pairs of a table, or on correct against incorrect samples of the base, prompt by prompt.
    A step is an update.

    Args:
        data: table of preferences in one of TRL's formats (see `geomalign.training.tasks.preferences`); None samples.
        split: of the table, where it has several.
        max_length: longest prompt and response of the table, in tokens; responses are cut, and pairs whose prompt
            leaves no room for them are left out. >= 2.
        pairs_per_prompt: most pairs of one prompt.
        batch: pairs an update.
    """

    data: str | None = None
    split: str = "train"
    max_length: int = 1024
    prompts: int = 512
    samples: int = 16
    pairs_per_prompt: int = 2
    epochs: int = 3
    batch: int = 32
    checkpoint_every: int = 20

    table: ClassVar[str] = "offline"

    def __post_init__(self) -> None:
        super().__post_init__()
        check(
            self.samples >= 2, f"offline.samples is {self.samples}; a pair needs at least two responses to one prompt."
        )
        check(self.max_length >= 2, f"offline.max_length is {self.max_length}; a prompt and a response need >= 2.")


@dataclass(frozen=True)
class TrainConfig:
    """One run: an objective, a step size, a seed, and everything the run shares with others.

    Args:
        objective: name of a recipe, or `"my_module:my_objective"`: an objective, or a callable that returns one.
        options: hyper-parameters of the recipe, such as `{"alpha": 0.4, "mu": 10.0}`.
        rate: step size of AdamW, constant. > 0, finite.
        seed: of prompts, sampling and minibatches (not of the base, which has `warm_start.seed`).
        control: what sets the stiffness from rollout to rollout, as `geomalign.control.controller_of` reads it, such as
            `"kl=0.02"`; empty for none.
        mode: `"rl"`, `"offline"`, or `"auto"`: offline when the objective's unit is a pair.
        device: a torch device.
        dtype: `"float32"`, or `"bfloat16"`: autocast of the forward pass; weights, log-probabilities and loss stay
            float32. `"float64"` for checks of exactness.
        gradient_checkpointing: compute activations again in the backward pass instead of keeping them.
        threads: torch threads of the process. >= 1.
    """

    objective: str = "opo"
    options: dict[str, Any] = field(default_factory=dict)
    rate: float = 5e-5
    seed: int = 0
    mode: str = "auto"
    control: str = ""
    device: str = "cpu"
    dtype: str = "float32"
    gradient_checkpointing: bool = False
    threads: int = 1
    task: TaskConfig = field(default_factory=TaskConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    warm_start: WarmStartConfig = field(default_factory=WarmStartConfig)
    rl: RLConfig = field(default_factory=RLConfig)
    offline: OfflineConfig = field(default_factory=OfflineConfig)

    def __post_init__(self) -> None:
        check(0 < self.rate < math.inf, f"rate is {self.rate}; a step size is > 0 and finite.")
        check(self.mode in ("auto", "rl", "offline"), f"mode is {self.mode!r}; it is one of 'auto', 'rl', 'offline'.")
        check(
            self.dtype in ("float32", "bfloat16", "float64"),
            f"dtype is {self.dtype!r}; it is 'float32', 'bfloat16' or 'float64' (float16 would need loss scaling).",
        )
        check(self.threads >= 1, f"threads is {self.threads}; it must be >= 1.")
        if not self.warm_start.tiers:
            tiered = self.task._tiered
            tiers = (1, 2, 3, 4, 5) if tiered else self.task.train_tiers
            weights = (3.0, 3.0, 2.0, 1.0, 1.0) if tiered else (1.0,) * len(tiers)
            settle(self, warm_start=dataclasses.replace(self.warm_start, tiers=tiers, weights=weights))

    def kinds(self) -> dict[int, str]:
        """What the run knows of every evaluated tier: `"in"`, trained on; `"harder"`, only in the warm start;
        `"unseen"`, in neither.
        """
        taught = self.warm_start.tiers if self.warm_started else ()
        known = {tier: "harder" if tier in taught else "unseen" for tier in self.task.eval_tiers}
        return known | dict.fromkeys(self.task.train_tiers, "in")

    @property
    def warm_started(self) -> bool:
        """Whether this run begins with a warm start."""
        return self.warm_start.enabled == "yes" or (self.warm_start.enabled == "auto" and self.model.path is None)


@dataclass(frozen=True)
class Choice:
    """One objective of a comparison.

    Args:
        name: as `TrainConfig.objective`.
        options: as `TrainConfig.options`.
        label: how the comparison calls it; the name when empty. Needed to compare one recipe with itself.
        control: as `TrainConfig.control`.
        tuning: how the options were found; the report quotes it, for a comparison of objectives is one of tunings too.
    """

    name: str = "opo"
    options: dict[str, Any] = field(default_factory=dict)
    label: str = ""
    tuning: str = ""
    control: str = ""

    @property
    def title(self) -> str:
        return self.label or self.name.replace(":", ".")


@dataclass(frozen=True)
class CompareConfig:
    """Objectives x step sizes x seeds, from one shared base.

    Args:
        objectives: what is compared.
        rates: step sizes.
        seeds: one run each, for every objective and step size.
        workers: processes that work at once, one run each; 0 is one a core (one a device on an accelerator).
        run: what all runs share; its objective, options, rate and seed are replaced.
    """

    objectives: tuple[Choice, ...] = (
        Choice(
            "opo",
            {"alpha": 0.4, "mu": 10.0},
            tuning="mu = 10 from earlier runs of this task, kept after a sweep of 3, 10 and 30 on seed 0, which is "
            "also one of the seeds reported (14 of its 21 runs were finished)",
        ),
        Choice("gspo", tuning="the published clip range; epsilon = 0.2 was tried on this task and not taken"),
        Choice("grpo", tuning="the published clip range, without the KL penalty to a reference; none searched here"),
        Choice("dapo", tuning="the published clip range, without dynamic sampling; none searched here"),
    )
    rates: tuple[float, ...] = (5e-5, 2e-4)
    seeds: tuple[int, ...] = (0, 1, 2)
    workers: int = 0
    run: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        for name in ("objectives", "rates", "seeds"):
            values = getattr(self, name)
            check(len(values) > 0, f"{name} is empty; a comparison needs at least one.")
        for rate in self.rates:
            check(0 < rate < math.inf, f"rates has {rate}; a step size is > 0 and finite.")
        titles = [choice.title for choice in self.objectives]
        for name, values in (("objectives", titles), ("rates", self.rates), ("seeds", self.seeds)):
            doubles = sorted({str(value) for value in values if list(values).count(value) > 1})
            check(
                not doubles,
                f"{name} names {', '.join(doubles)} twice"
                + ("; give objectives of the same name different labels." if name == "objectives" else "."),
            )
        check(self.workers >= 0, f"workers is {self.workers}; it must be >= 0 (0: one a core).")

    def runs(self) -> dict[str, TrainConfig]:
        """The configuration of every run by its name; the seeds outermost, so that an unfinished comparison is a
        balanced one.
        """
        return {
            f"{choice.title}-r{rate:g}-s{seed}": dataclasses.replace(
                self.run,
                objective=choice.name,
                options=dict(choice.options),
                control=choice.control,
                rate=rate,
                seed=seed,
            )
            for seed in self.seeds
            for rate in self.rates
            for choice in self.objectives
        }
