"""Configurations: round trips, files, flags, and errors that name the key."""

import subprocess
import sys
from pathlib import Path

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
