"""Configurations: round trips, files, flags, and errors that name the key."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import geomalign as ga
from geomalign import recipes
from geomalign.training import (
    PRESETS,
    Choice,
    CompareConfig,
    TrainConfig,
    from_dict,
    load_config,
    override,
    preset,
    to_dict,
    train_preset,
)
from geomalign.training.config import digest, flat
from geomalign.training.config.settings import LoRAConfig, ModelConfig, OfflineConfig, RLConfig, WarmStartConfig


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_survives_being_written_down(name: str) -> None:
    assert from_dict(CompareConfig, to_dict(preset(name))) == preset(name)
    assert train_preset(name) == preset(name).run
    assert [choice.name for choice in preset(name).objectives] == ["opo", "gspo", "grpo", "dapo"]
    for choice in preset(name).objectives:
        recipes.get(choice.name, **choice.options)


def test_the_default_is_the_comparison_that_was_promised() -> None:
    config = preset("default")
    assert len(config.rates) == 2 and len(config.seeds) == 3 and len(config.runs()) == 24
    kinds = config.run.kinds()
    assert set(kinds.values()) == {"in", "harder", "unseen"}
    trained = max(level for level, kind in kinds.items() if kind == "in")
    assert all(level > trained for level, kind in kinds.items() if kind != "in"), "strictly harder"
    assert set(override(config.run, {"warm_start.enabled": "no"}).kinds().values()) == {"in", "unseen"}


def test_runs_cross_everything_and_balance_an_unfinished_comparison() -> None:
    config = CompareConfig(objectives=(Choice("opo", {"mu": 2.0}), Choice("grpo")), rates=(1e-4, 2e-3), seeds=(5, 7))
    runs = config.runs()
    assert list(runs)[:4] == ["opo-r0.0001-s5", "grpo-r0.0001-s5", "opo-r0.002-s5", "grpo-r0.002-s5"]
    assert runs["opo-r0.002-s7"].options == {"mu": 2.0}
    assert (runs["opo-r0.002-s7"].rate, runs["opo-r0.002-s7"].seed) == (2e-3, 7)


def test_files_and_flags(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text(
        'objectives = ["grpo", {name = "opo", options = {mu = 3.0}, label = "stiff"}, "opo mu=4 label=stiffer"]\n'
        "seeds = [4]\n[run.rl]\niterations = 5\nbetas = [0.8, 0.95]\n[run.task]\ntrain_levels = [4]\n"
    )
    config = load_config(file, CompareConfig)
    assert config.objectives == (
        Choice("grpo"),
        Choice("opo", {"mu": 3.0}, "stiff"),
        Choice("opo", {"mu": 4}, "stiffer"),
    )
    assert TrainConfig("opo mu=4", {"alpha": 0.5}) == TrainConfig("opo", {"mu": 4, "alpha": 0.5})
    assert config.run.rl.iterations == 5 and config.run.rl.betas == (0.8, 0.95)
    assert config.rates == CompareConfig().rates
    assert override(config, {"run.rl.iterations": 9, "seeds": [1, 2]}).run.rl.iterations == 9
    assert override(config, {"run.rl.iterations": 9}).run.task.train_levels == (4,)
    file.write_text('preset = "ci"\nseeds = [4]\n[run.rl]\niterations = 5\n')
    config = load_config(file, CompareConfig)
    assert config.run.rl.iterations == 5 and config.run.rl.prompts == preset("ci").run.rl.prompts
    assert config.run.task == preset("ci").run.task and config.seeds == (4,)


@pytest.mark.parametrize(
    "text, message",
    [
        ("iteration = 5", r"run\.toml: iteration is not a setting of TrainConfig; it has objective, options"),
        ("[rl]\niteration = 5", r"rl\.iteration is not a setting of RLConfig"),
        ("[rl]\niterations = 5.5", r"rl\.iterations is 5\.5; it should be a valid integer"),
        ("[rl]\niterations = true", r"rl\.iterations is True; it should be a valid integer"),
        ("[rl]\nbetas = [0.9]", r"rl\.betas\[1\] is missing: \[0\.9\] is too short"),
        ("rl = 3", r"rl is 3; it should be a table"),
        ("[task]\ntrain_levels = 3", r"task\.train_levels is 3; it should be a valid list"),
        ("rate = -1.0", r"rate is -1\.0; it should be greater than 0"),
        ("rate = ", "not valid TOML"),
        ('dtype = "float16"', "dtype is 'float16'; it should be 'float32', 'bfloat16' or 'float64'"),
        ("[task]\ntrain_levels = [9]", "task.train_levels .* must be among task.eval_levels"),
        ("[rl]\nprompts = 1\nsamples = 2", "cannot fill 4 minibatches"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "run.toml").write_text(text)
    with pytest.raises(ValueError, match=message):
        load_config(tmp_path / "run.toml", TrainConfig)


def test_overriding_what_is_not_there() -> None:
    with pytest.raises(ValueError, match=r"r1 is not a setting of TrainConfig; it has .*rl"):
        override(TrainConfig(), {"r1.iterations": 3})
    with pytest.raises(ValueError, match=r"rl\.iters is not a setting of RLConfig"):
        override(TrainConfig(), {"rl.iters": 3})
    with pytest.raises(ValueError, match="twice"):
        CompareConfig(objectives=(Choice("opo"), Choice("opo", {"mu": 3.0})))
    with pytest.raises(ValueError, match="no preset 'large'"):
        preset("large")


def test_objectives_by_recipe_by_module_and_by_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my_objectives_a.py").write_text(
        "import geomalign as ga\nready = ga.recipes.opo(mu=2.0)\n"
        "def make(mu): return ga.recipes.opo(mu=mu)\nnumber = 3\ndef nothing(): return None\n"
    )
    assert recipes.get("opo", mu=2.0) == ga.recipes.opo(mu=2.0) == recipes.get("my_objectives_a:ready")
    assert recipes.get("my_objectives_a:make", mu=4.0) == ga.recipes.opo(mu=4.0)
    for name, options, message in [
        ("my_objectives_a:ready", {"mu": 1.0}, "takes no options"),
        ("my_objectives_a:number", {}, "is int"),
        ("my_objectives_a:nothing", {}, "returned NoneType"),
        ("my_objectives_a:make", {"nu": 1.0}, "no hyper-parameter 'nu'"),
        ("my_objectives_a:other", {}, "has no 'other'"),
        ("my_objectives_c:other", {}, "no module 'my_objectives_c'"),
        ("opoo", {}, "Did you mean 'opo'"),
    ]:
        with pytest.raises(ValueError, match=message):
            recipes.get(name, **options)


def test_configuring_loads_neither_torch_nor_transformers() -> None:
    program = (
        "import sys, geomalign.training as t\n"
        "t.override(t.preset('default'), {'run.rate': 1e-3}); t.to_dict(t.preset('ci'))\n"
        "print(*(name for name in ('torch', 'transformers', 'numpy') if name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "\n"


def test_the_gpu_preset_is_a_decoder_of_a_hundred_million_parameters_on_harder_levels() -> None:
    """Counted on the meta device; and every response fits both the sampler and the positions."""
    import torch

    from geomalign.tasks import Chain
    from geomalign.training.policy import Placement, build

    large, default = preset("gpu"), preset("default")
    with torch.device("meta"):
        model = build(large.run.model, Chain().alphabet, 0, Placement("meta")).model
    assert 90e6 < sum(parameter.numel() for parameter in model.parameters()) < 110e6
    assert len(large.objectives) == 4 and (large.run.device, large.run.dtype) == ("cuda", "bfloat16")
    assert min(large.run.task.train_levels) > max(default.run.task.eval_levels)
    assert Chain().max_response_length(max(large.run.task.train_levels)) <= large.run.rl.max_new_tokens
    longest = max(large.run.task.eval_levels)
    assert 2 * longest + 2 + Chain().max_response_length(longest) <= large.run.model.positions


# ---- what a number of the settings is, and what it may be

LOOP = {
    "temperature": 1.0,
    "max_new_tokens": 32,
    "accumulation": 1,
    "betas": (0.9, 0.99),
    "weight_decay": 0.0,
    "clip_norm": 1.0,
    "reward_timeout": 5.0,
    "long_prompts": "refuse",
}


@pytest.mark.parametrize(
    ("config", "numbers"),
    [
        (ModelConfig(), {"path": None, "hidden": 96, "layers": 2, "heads": 4, "intermediate": 192, "positions": 256}),
        (LoRAConfig(), {"rank": 0, "alpha": None, "scale": 0.0}),
        (LoRAConfig(4), {"rank": 4, "alpha": None, "scale": 8.0}),
        (LoRAConfig(4, 3.0), {"rank": 4, "alpha": 3.0, "scale": 3.0}),
        (WarmStartConfig(), {"seed": 0, "steps": 2000, "batch": 32, "rate": 2e-3, "warmup": 20}),
        (WarmStartConfig(), {"noisy_steps": 150, "noisy_rate": 5e-4, "enabled": "auto"}),
        (RLConfig(), LOOP | {"prompts": 16, "samples": 8, "epochs": 4, "eval_every": 6, "checkpoint_every": 8}),
        (RLConfig(), {"iterations": 24, "minibatches": 4}),
        (OfflineConfig(), LOOP | {"prompts": 512, "samples": 16, "epochs": 3, "batch": 32, "pairs_per_prompt": 2}),
        (OfflineConfig(), {"eval_every": 20, "checkpoint_every": 20, "max_length": 1024}),
        (TrainConfig(), {"rate": 5e-5, "seed": 0, "gradient_checkpointing": False, "threads": 1}),
        (TrainConfig().warm_start, {"levels": (1, 2, 3, 4, 5), "weights": (3.0, 3.0, 2.0, 1.0, 1.0)}),
        (CompareConfig(), {"rates": (5e-5, 2e-4), "seeds": (0, 1, 2), "workers": 0}),
        (CompareConfig().objectives[0], {"name": "opo", "options": {"alpha": 0.4, "mu": 10.0}}),
    ],
)
def test_the_settings_of_who_names_none(config: Any, numbers: dict[str, Any]) -> None:
    """A result that was published with the defaults is not made again by other ones."""
    assert {name: getattr(config, name) for name in numbers} == numbers


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("default", {}),
        (
            "ci",
            {"task.options": {"largest": 4}, "task.train_levels": [2], "task.eval_levels": [2, 3, 4]}
            | {"task.eval_prompts": 128, "task.eval_interim_prompts": 64}
            | {"warm_start.steps": 500, "warm_start.noisy_steps": 60}
            | {"warm_start.levels": [1, 2, 3], "warm_start.weights": [2.0, 2.0, 1.0]}
            | {"rl.iterations": 16, "rl.prompts": 8, "rl.max_new_tokens": 24, "rl.eval_every": 8},
        ),
        (
            "gpu",
            {"device": "cuda", "dtype": "bfloat16", "task.train_levels": [7], "task.eval_levels": [7, 8, 10]}
            | {"model.hidden": 768, "model.layers": 14, "model.heads": 12, "model.intermediate": 2048}
            | {"warm_start.steps": 4000, "warm_start.batch": 256, "warm_start.rate": 3e-4, "warm_start.warmup": 200}
            | {"warm_start.noisy_rate": 1e-4, "warm_start.levels": [1, 2, 3, 4, 5, 6, 7, 8]}
            | {"warm_start.weights": [3.0, 3.0, 2.0, 2.0, 1.0, 1.0, 1.0, 1.0], "rl.samples": 16}
            | {"rl.iterations": 200, "rl.prompts": 64, "rl.max_new_tokens": 64, "rl.eval_every": 20},
        ),
    ],
)
def test_what_a_preset_changes(name: str, changed: dict[str, Any]) -> None:
    usual = dict(flat(to_dict(TrainConfig())))
    assert {key: value for key, value in flat(to_dict(train_preset(name))) if value != usual[key]} == changed
    spread = {"ci": ((1e-4,), (0,)), "default": ((5e-5, 2e-4), (0, 1, 2)), "gpu": ((1e-6, 5e-6), (0, 1, 2))}[name]
    assert (preset(name).rates, preset(name).seeds) == spread


@pytest.mark.parametrize(
    ("key", "least", "refused"),
    [
        ("warm_start.steps", 0, -1),
        ("warm_start.warmup", 0, -1),
        ("lora.rank", 0, -1),
        ("rate", 1e-9, 0.0),
        ("warm_start.noisy_rate", 0.5, -0.1),
        ("rl.weight_decay", 0.0, -0.1),
        ("rl.reward_timeout", 0.5, -1.0),
        ("rl.betas", [0.0, 0.0], [0.9, 1.0]),
        ("rl.betas", [0.999, 0.5], [-0.1, 0.5]),
        ("rl.clip_norm", 0.0, -1.0),
        ("rl.epochs", 1, 0),
        ("offline.samples", 2, 1),
        ("offline.max_length", 2, 1),
        ("model.hidden", 8, 12),  # of four heads
        ("model.hidden", 24, 6),
        ("rl.prompts", 1, 0),
        ("rl.accumulation", 32, 33),  # 128 responses in 4 minibatches of so many micro-batches
        ("rl.minibatches", 128, 129),
    ],
)
def test_the_least_and_the_most_of_a_setting(key: str, least: Any, refused: Any) -> None:
    assert dict(flat(to_dict(override(TrainConfig(), {key: least}))))[key] == least
    said = {"rl.accumulation": "4 minibatches of 33 micro-batches"}.get(key, key.split(".")[-1])
    with pytest.raises(ValueError, match=said):
        override(TrainConfig(), {key: refused})


@pytest.mark.parametrize("key", ["objectives", "rates", "seeds"])
def test_a_comparison_has_one_of_each_at_least_and_none_twice(key: str) -> None:
    one: dict[str, Any] = {"objectives": [{"name": "grpo"}], "rates": [0.5], "seeds": [7]}
    assert len(override(CompareConfig(), one).runs()) == 1
    with pytest.raises(ValueError, match=rf"^{key} is \[\]"):
        override(CompareConfig(), one | {key: []})
    twice = {"objectives": "grpo", "rates": "0.5", "seeds": "7"}[key]
    with pytest.raises(ValueError) as caught:
        override(CompareConfig(), one | {key: [*one[key], *one[key]]})
    assert str(caught.value).startswith(f"{key} names {twice} twice")
    assert ("different labels" in str(caught.value)) is (key == "objectives")


def test_an_objective_of_a_comparison_is_named_by_its_label_or_in_a_form_for_directories() -> None:
    assert [Choice(name).title for name in ("opo", "mine:made", "opo label=soft")] == ["opo", "mine.made", "soft"]
    given = {"name": "opo mu=3", "options": {"mu": 4.0}}
    assert from_dict(CompareConfig, {"objectives": [given]}).objectives == (Choice("opo", {"mu": 4.0}),)
    plain = Choice("opo alpha=0.3 label=7 tuning='by hand'")
    assert (plain.options, plain.label, plain.tuning, plain.control) == ({"alpha": 0.3}, "7", "by hand", "")


@pytest.mark.parametrize(
    ("settings", "levels", "weights"),
    [
        ({"task.name": "mine:Task", "task.train_levels": [3]}, (1, 2, 3, 4, 5), (3.0, 3.0, 2.0, 1.0, 1.0)),
        ({"task.name": "rows.jsonl", "task.train_levels": [2, 7], "task.eval_levels": [2, 7]}, (2, 7), (1.0, 1.0)),
        ({"warm_start.levels": [4], "warm_start.weights": [0.5]}, (4,), (0.5,)),
    ],
)
def test_the_levels_of_a_warm_start_are_those_of_the_task(
    settings: dict[str, Any], levels: tuple[int, ...], weights: tuple[float, ...]
) -> None:
    plain = to_dict(TrainConfig()) | {"warm_start": {}, "task": {}}
    found = override(from_dict(TrainConfig, plain), {"warm_start.levels": [], "warm_start.weights": []} | settings)
    assert (found.warm_start.levels, found.warm_start.weights) == (levels, weights)


@pytest.mark.parametrize(
    ("enabled", "path", "begins"),
    [("auto", None, True), ("auto", "m", False), ("yes", "m", True), ("no", None, False), ("no", "m", False)],
)
def test_a_run_has_a_warm_start_where_its_model_is_made_or_it_is_asked_for(
    enabled: str, path: str | None, begins: bool
) -> None:
    config = override(TrainConfig(), {"warm_start.enabled": enabled, "model.path": path})
    assert config.warm_started is begins
    assert config.kinds() == {3: "in", 4: "harder" if begins else "unseen", 6: "unseen"}


def test_one_sample_is_refused_of_what_compares_samples_alone() -> None:
    one = RLConfig(samples=1)
    TrainConfig("opo", rl=one)  # the default may stand for the objectives of a comparison
    TrainConfig("grpo", rl=one, mode="offline")
    TrainConfig("grpo", rl=RLConfig(samples=2))
    for name in ("grpo", "opo mu=2.0"):
        with pytest.raises(ValueError, match=r"rl\.samples is 1"):
            TrainConfig(name, rl=one)


@pytest.mark.parametrize(
    ("name", "mode", "offline"),
    [
        *(("dpo", "auto", True), ("dpo", "offline", True), ("dpo", "rl", None)),
        *(("grpo", "auto", False), ("grpo", "offline", True), ("grpo", "rl", False)),
    ],
)
def test_pairs_are_trained_offline(name: str, mode: Any, offline: bool | None) -> None:
    config = TrainConfig(name, mode=mode)
    if offline is None:
        with pytest.raises(ValueError, match="dpo compares pairs of responses"):
            config.trains_offline(recipes.get(name))
    else:
        assert config.trains_offline(recipes.get(name)) is offline


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("[rl]\niteratoins = 5", TrainConfig, r"Did you mean rl\.iterations\?"),
        ("[rl]\nzzz = 5", TrainConfig, r"reward_timeout, long_prompts, iterations, minibatches\.$"),
        (
            '[[objectives]]\nname = "opo"\nlable = "a"',
            CompareConfig,
            r"objectives\[0\]\.lable is not a setting of Choice",
        ),
        ("[warm_start]\nlevels = [1]", TrainConfig, r"warm_start\.levels has 1 entries and weights 0"),
        ('objectives = ["opo mu"]', CompareConfig, "an objective"),
        ("rates = [0.5, -1.0]", CompareConfig, r"^[^\n]*rates\[1\] is -1\.0; it should be greater than 0\.$"),
        ("seeds = []", CompareConfig, "seeds is"),
        ('preset = "ci"', TrainConfig, "preset is not a setting of TrainConfig"),
        ("rate = 0.0\nthreads = 0", TrainConfig, r"rate is 0\.0[^\n]*\n.*threads is 0"),
    ],
)
def test_a_wrong_setting_of_a_file_is_told_with_what_it_may_be(
    text: str, kind: type, message: str, tmp_path: Path
) -> None:
    (tmp_path / "run.toml").write_text(text)
    with pytest.raises(ValueError, match=message):
        load_config(tmp_path / "run.toml", kind)


def test_settings_are_flattened_but_for_options_and_told_apart_by_eight_digits() -> None:
    nested = {"a": {"b": {"c": 1}, "options": {"d": {"e": 2}}}, "options": {}}
    assert dict(flat(nested)) == {"a.b.c": 1, "a.options": {"d": {"e": 2}}, "options": {}}
    assert digest(1, "a") == digest(1, "a") != digest("a", 1) and len(digest()) == 8
    assert digest({"x": 1, "y": 2}) == digest({"y": 2, "x": 1})
    made = from_dict(CompareConfig, {"objectives": [Choice("grpo"), "opo"], "run": TrainConfig(seed=3)})
    assert made.run.seed == 3 and made.objectives == (Choice("grpo"), Choice("opo"))
