"""One text, one objective: every way in which a name and its options reach the resolver gives the same."""

import json
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml

import geomalign as ga
from geomalign._util import words
from geomalign.adapters import export, hosted, nemo_rl, openrlhf, prime_rl, rllm, skyrl, slime, torchtune
from geomalign.adapters.verl.losses import objective_from
from geomalign.cli import options as cli
from geomalign.objective import BaseObjective
from geomalign.recipes import lookup
from geomalign.training import Choice, TrainConfig
from geomalign.training.config.mapping import load_config

MODULE = '''
import dataclasses
import geomalign as ga

@dataclasses.dataclass(frozen=True)
class Seen(ga.Advantage):
    seen: str = ""

def make(
    real: float = 1.0,
    count: int = 1,
    flag: bool = False,
    word: str = "a",
    bound: float | None = 1.0,
    mode: str | None = "a",
    pair: tuple[float, float] = (0.0, 0.0),
    many: tuple[int, ...] = (),
    listed: list[int] | None = None,
    bare=False,
    free=None,
):
    """An objective that knows what it was made with."""
    return ga.Objective(unit=ga.Token(), sampling=Seen(repr(sorted(locals().items()))), optimization=ga.ChiSquare())

def strict(mu: float):
    return ga.recipes.opo(mu=mu)

def faulty():
    return 1 / 0

mine = ga.recipes.grpo(beta=0.04)
number = 3
'''
NAME = "module_of_test_lookup:make"


@pytest.fixture(autouse=True, scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("lookup")
    (folder / "module_of_test_lookup.py").write_text(MODULE)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield
    sys.modules.pop("module_of_test_lookup", None)


# How an option is written in a text, and its value where the way in has types.
VALUES: dict[str, tuple[str, dict[str, Any]]] = {
    "float": ("real=2.5", {"real": 2.5}),
    "float with an exponent": ("real=2e-4", {"real": 2e-4}),
    "integer for a float": ("real=2", {"real": 2}),
    "infinity": ("real=inf", {"real": float("inf")}),
    "negative": ("real=-0.5", {"real": -0.5}),
    "integer": ("count=3", {"count": 3}),
    "true": ("flag=true", {"flag": True}),
    "True": ("flag=True", {"flag": True}),
    "false": ("flag=false", {"flag": False}),
    "FALSE": ("flag=FALSE", {"flag": False}),
    "false without an annotation": ("bare=False", {"bare": False}),
    "false where nothing is known": ("free=false", {"free": False}),
    "none": ("bound=none", {"bound": None}),
    "null": ("bound=null", {"bound": None}),
    "no text": ("mode=none", {"mode": None}),
    "the word none": ("word=none", {"word": "none"}),
    "text": ("word=mean", {"word": "mean"}),
    "text or none": ("mode=mean", {"mode": "mean"}),
    "text that is a number": ("word='\"3\"'", {"word": "3"}),
    "text with spaces": ("word='two words'", {"word": "two words"}),
    "text with dashes": ("word=re-weighted", {"word": "re-weighted"}),
    "pair": ("pair=[2,3.5]", {"pair": (2, 3.5)}),
    "pair in round brackets": ("pair='(2, 3.5)'", {"pair": [2, 3.5]}),
    "tuple": ("many=[1,2,3]", {"many": [1, 2, 3]}),
    "list": ("listed=[1,2]", {"listed": (1, 2)}),
    "list where nothing is known": ("free=[1,2]", {"free": [1, 2]}),
    "several": ("real=2 flag=true word=mean", {"real": 2, "flag": True, "word": "mean"}),
    "nothing": ("", {}),
}

Way = Callable[[str, dict[str, Any], Path], BaseObjective]


def texts(text: str) -> dict[str, str]:
    """The options as text, as a configuration file without types hands them over."""
    found = dict(word.split("=", 1) for word in shlex.split(text))
    return {key: json.loads(value) if value.startswith('"') else value for key, value in found.items()}


def flags(text: str) -> list[str]:
    return [part for word in shlex.split(text) for part in (f"--{word.split('=', 1)[0]}", word.split("=", 1)[1])]


def from_choice(text: str, options: dict[str, Any], folder: Path) -> BaseObjective:
    choice = Choice(f"{NAME} {text} label=mine")
    return ga.recipes.get(choice.name, **choice.options)


def from_toml(text: str, options: dict[str, Any], folder: Path) -> BaseObjective:
    file = folder / "run.toml"
    rows = [f"{key} = {'inf' if value == float('inf') else json.dumps(value)}" for key, value in options.items()]
    rows = [row.replace("= null", '= "none"') for row in rows]  # TOML has no null
    file.write_text("\n".join([f'objective = "{NAME}"', "[options]", *rows]))
    config = load_config(file, TrainConfig)
    return ga.recipes.get(config.objective, **config.options)


def from_toml_line(text: str, options: dict[str, Any], folder: Path) -> BaseObjective:
    file = folder / "run.toml"
    file.write_text(f"objective = {json.dumps(f'{NAME} {text}')}")
    config = load_config(file, TrainConfig)
    return ga.recipes.get(config.objective, **config.options)


def from_prime_rl(text: str, options: dict[str, Any], folder: Path) -> BaseObjective:
    return asked_by_prime_rl({"objective": NAME, **options})


def asked_by_prime_rl(arguments: dict[str, Any]) -> BaseObjective:
    """What its loss asks the resolver for, and no loss: that needs prime-rl."""
    asked = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "prime_rl.trainer.rl.loss", SimpleNamespace(LossOutputs=None))
        patch.setattr(hosted, "evaluate", lambda objective, *rest, **more: asked.append(objective) or 1 / 0)
        x = ga.laws.sample_batch()
        inputs = SimpleNamespace(
            trainer_logprobs=x.policy[0], inference_logprobs=x.old[0], advantages=x.policy[0], loss_mask=x.mask[0]
        )
        with pytest.raises(ZeroDivisionError):
            prime_rl.loss(inputs, **arguments)
    return asked[0]


def from_environment(text: str, options: dict[str, Any], folder: Path) -> BaseObjective:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(openrlhf.VARIABLE, f"{NAME} {text}")
        return openrlhf.PolicyLoss().objective


WAYS: dict[str, Way] = {
    "get, typed": lambda text, options, _: ga.recipes.get(NAME, **options),
    "get, as text": lambda text, options, _: ga.recipes.get(NAME, **texts(text)),
    "command line, choice": from_choice,
    "command line, options": lambda text, options, _: ga.recipes.get(NAME, **cli.hyperparameters(flags(text))),
    "TOML": from_toml,
    "TOML, one line": from_toml_line,
    "hosted, one line": lambda text, options, _: hosted.objective_of(f"{NAME} {text}"),
    "hosted, typed": lambda text, options, _: hosted.objective_of(NAME, options.items()),
    "one line made of values": lambda text, options, _: ga.recipes.get(hosted.in_one_line(NAME, options)),
    "slime": lambda text, options, _: slime._objective(SimpleNamespace(geomalign_objective=f"{NAME} {text}")),
    "OpenRLHF": lambda text, options, _: openrlhf.PolicyLoss(f"{NAME} {text}").objective,
    "OpenRLHF, environment": from_environment,
    "NeMo-RL": lambda text, options, _: nemo_rl.GeometryLoss(f"{NAME} {text}").objective,
    "torchtune": lambda text, options, _: torchtune.PreferenceLoss(NAME, **options).objective,
    "prime-rl": from_prime_rl,
    "verl": lambda text, options, _: objective_from("objective", {"hyperparameters": {"objective": NAME, **options}}),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("value", VALUES)
def test_every_way_in_gives_the_same_objective(way: str, value: str, tmp_path: Path) -> None:
    text, options = VALUES[value]
    assert WAYS[way](text, options, tmp_path) == ga.recipes.get(f"{NAME} {text}")


@pytest.mark.parametrize("key", ["flag", "bare", "free", "real", "count", "word", "bound", "mode"])
@pytest.mark.parametrize("spelling", ["false", "False", "FALSE", "no", "off", "0"])
def test_false_is_never_true(key: str, spelling: str) -> None:
    """As text of an option, of a keyword or of the command line: false, or refused, or text where text is asked for."""
    makers = (
        lambda: ga.recipes.get(f"{NAME} {key}={spelling}"),
        lambda: ga.recipes.get(NAME, **{key: spelling}),
        lambda: ga.recipes.get(NAME, **cli.hyperparameters([f"--{key}", spelling])),
        lambda: objective_from("objective", {"hyperparameters": {"objective": NAME, key: spelling}}),
    )
    for make in makers:
        try:
            seen = make().sampling.seen  # type: ignore[attr-defined]
        except ValueError as error:
            assert "expected" in str(error)
            continue
        assert f"('{key}', True)" not in seen
        if key in ("flag", "bare"):
            assert f"('{key}', False)" in seen


# The exported text, read back as its trainer reads it.
def read_trl(text: str) -> BaseObjective:
    line = next(line for line in text.splitlines() if "objective=" in line)
    found: BaseObjective = eval(line.strip().removeprefix("objective=").rstrip(","), {"ga": ga})
    return found


def read_verl(text: str) -> BaseObjective:
    loss = yaml.safe_load(text)["actor_rollout_ref"]["actor"]["policy_loss"]
    return objective_from(loss["loss_mode"].removeprefix("geomalign/"), loss)


def read_prime_rl(text: str) -> BaseObjective:
    toml = sys.modules["tomllib"] if "tomllib" in sys.modules else __import__("tomli")
    return asked_by_prime_rl(toml.loads(text)["trainer"]["loss"]["kwargs"])


def read_openrlhf(text: str) -> BaseObjective:
    command = shlex.split(text.replace("\\\n", ""), comments=True)
    return openrlhf.PolicyLoss(command[command.index("geomalign.adapters.openrlhf") + 1]).objective


def read_nemo_rl(text: str) -> BaseObjective:
    line = next(line for line in text.splitlines() if line.startswith("loss_fn"))
    return nemo_rl.GeometryLoss(eval(line.split("GeometryLoss", 1)[1])).objective


def read_torchtune(text: str) -> BaseObjective:
    loss = yaml.safe_load(text)["loss"]
    del loss["_component_"]
    return torchtune.PreferenceLoss(**loss).objective


def read_skyrl(text: str) -> BaseObjective:
    line = next(line for line in text.splitlines() if "skyrl.register(" in line)
    found: list[BaseObjective] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(skyrl, "register", lambda cfg, objective: found.append(hosted.objective_of(objective)))
        eval(line.strip(), {"cfg": None, "skyrl": skyrl})
    return found[0]


def read_rllm(text: str) -> BaseObjective:
    context = SimpleNamespace(params=yaml.safe_load(text)["algorithm"]["loss_params"], logp_curr=torch.zeros(1))
    asked: list[BaseObjective] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rllm.hosted, "weights_of", lambda *arguments: torch.zeros(1, 1))
        patch.setattr(rllm.hosted, "evaluate", lambda objective, *arguments: asked.append(objective) or 1 / 0)
        context.__dict__.update(dict.fromkeys(("logp_old", "action_mask", "logp_ref", "logp_rollout", "advantages")))
        with pytest.raises(ZeroDivisionError):
            rllm.loss(context)
    return asked[0]


def read_torchtitan(text: str) -> BaseObjective:
    line = next(line for line in text.splitlines() if "GeometryLoss.Config(" in line)
    described = line.split("GeometryLoss.Config(objective=", 1)[1]
    return hosted.objective_of(json.JSONDecoder().raw_decode(described)[0])


READERS: dict[str, Callable[[str], BaseObjective]] = {
    "trl": read_trl,
    "verl": read_verl,
    "prime-rl": read_prime_rl,
    "slime": lambda text: slime._objective(SimpleNamespace(**yaml.safe_load(text))),
    "openrlhf": read_openrlhf,
    "nemo-rl": read_nemo_rl,
    "torchtune": read_torchtune,
    "skyrl": read_skyrl,
    "rllm": read_rllm,
    "torchtitan": read_torchtitan,
    "tinker": lambda text: hosted.objective_of(
        json.loads(next(line for line in text.splitlines() if line.startswith("objective = ")).split(" = ", 1)[1])
    ),
}


def test_every_export_is_read_back() -> None:
    assert set(READERS) == set(export.HOSTS)


@pytest.mark.parametrize("host", READERS)
@pytest.mark.parametrize("value", [value for value in VALUES if value != "infinity"])  # no number of JSON
def test_an_export_makes_the_same_objective(host: str, value: str) -> None:
    text, options = VALUES[value]
    wanted = ga.recipes.get(f"{NAME} {text}")
    assert READERS[host](export.configuration(host, NAME, **options)) == wanted
    assert READERS[host](export.configuration(host, f"{NAME} {text}")) == wanted


@pytest.mark.parametrize("host", READERS)
@pytest.mark.parametrize("description", ["opo mu=2 scaled=false", "gspo std-epsilon=0", "cispo high=none low=0.5"])
def test_an_export_of_a_recipe_makes_the_recipe(host: str, description: str) -> None:
    if host == "torchtitan" and not hosted.of_tokens(ga.recipes.get(description)):
        with pytest.raises(ValueError, match="reads whole responses"):
            export.configuration(host, description)
        return
    assert READERS[host](export.configuration(host, description)) == ga.recipes.get(description)


@pytest.mark.parametrize(
    "description",
    ["opo mu=2 scaled=false", "grpo scale-rewards=none", "module_of_test_lookup:strict mu=2", "simpo gamma=2"],
)
def test_compare_loss_takes_what_get_takes(description: str) -> None:
    objective = ga.recipes.get(description)
    assert ga.laws.compare_loss(lambda batch: objective(batch).loss, description).equal


def test_compare_loss_takes_an_objective_of_a_module() -> None:
    objective = ga.recipes.grpo(beta=0.04)
    assert ga.laws.compare_loss(lambda batch: objective(batch).loss, "module_of_test_lookup:mine").equal


def test_compare_loss_takes_an_objective() -> None:
    objective = ga.recipes.grpo(beta=0.04)
    assert ga.laws.compare_loss(lambda batch: objective(batch).loss, objective).equal
    assert not ga.laws.compare_loss(lambda batch: objective(batch).loss, ga.recipes.opo()).equal
    with pytest.raises(ValueError, match="mu beside an objective"):
        ga.laws.compare_loss(lambda batch: objective(batch).loss, objective, mu=2.0)


def test_vespo_takes_its_pairs_from_any_configuration() -> None:
    wanted = ga.recipes.vespo(positive=(1.0, 2.5))
    for found in (
        ga.recipes.get("vespo positive=[1.0,2.5]"),
        ga.recipes.get("vespo", positive=[1.0, 2.5]),
        hosted.objective_of("vespo", [("positive", [1.0, 2.5])]),
        objective_from("vespo", {"hyperparameters": {"positive": [1.0, 2.5]}}),
    ):
        assert found == wanted and hash(found) == hash(wanted)


def test_values_that_are_equal_to_python_are_not_taken_for_each_other() -> None:
    """1 == 1.0 == True: what was asked for first must not answer for the others."""
    assert hosted.objective_of(NAME, {"flag": True}.items()) == ga.recipes.get(NAME, flag=True)
    with pytest.raises(ValueError, match="expected true or false"):
        hosted.objective_of(NAME, {"flag": 1}.items())
    with pytest.raises(ValueError, match="expected true or false"):
        objective_from("opo", {"hyperparameters": {"scaled": 0}})


def test_dashes_are_underscores_in_the_names_of_options() -> None:
    wanted = ga.recipes.grpo(std_epsilon=1e-4)
    assert wanted == ga.recipes.get("grpo std-epsilon=1e-4") == ga.recipes.get("grpo", **{"std-epsilon": 1e-4})
    assert wanted == ga.recipes.get("grpo", **cli.hyperparameters(["--std-epsilon", "1e-4"]))


WRONG: dict[str, tuple[str, dict[str, Any], str]] = {
    "no such recipe": ("grppo", {}, r"there is no recipe 'grppo'. Did you mean 'grpo'\? There are: a2po, .*my_module"),
    "no such module": ("no_such_module:x", {}, "there is no module 'no_such_module'"),
    "no such attribute": ("module_of_test_lookup:x", {}, "module 'module_of_test_lookup' has no 'x'"),
    "no objective": ("module_of_test_lookup:number", {}, "is int; it must be a geomalign objective or a callable"),
    "options of an objective": ("module_of_test_lookup:mine", {"beta": 1.0}, "is an objective already"),
    "an error of the user's": ("module_of_test_lookup:faulty", {}, "could not be built with no options: ZeroDivision"),
    "what is missing": ("module_of_test_lookup:strict", {}, "could not be built with no options: TypeError.*'mu'"),
    "unknown hyper-parameter": ("opo", {"betta": 1}, "'opo' has no hyper-parameter 'betta'; it takes: alpha: float"),
    "text for a number": ("opo", {"mu": "abc"}, r"opo\(mu='abc'\): expected a number, got 'abc'\."),
    "truth for a number": ("opo", {"mu": True}, r"opo\(mu=True\): expected a number, got True"),
    "number for a truth": ("opo", {"scaled": 1}, r"opo\(scaled=1\): expected true or false, got 1\."),
    "yes for a truth": ("opo", {"scaled": "yes"}, r"opo\(scaled='yes'\): expected true or false, got 'yes'"),
    "number for text": ("opo", {"form": 3}, r"opo\(form=3\): expected text, got 3"),
    "real for an integer": ("pass_at_k", {"k": 2.5}, r"pass_at_k\(k=2.5\): expected an integer, got 2.5"),
    "one number for a pair": ("vespo", {"positive": 2.0}, r"vespo\(positive=2.0\): expected a list of 2, got 2.0"),
    "three numbers for a pair": ("vespo", {"positive": [1.0, 2.0, 3.0]}, r"vespo\(positive=\[1.0, 2.0, 3.0\]\)"),
    "no such choice": ("opo", {"form": "square"}, r"opo\(form='square'\): choose one of 'log', 'ratio'"),
    "out of range": ("opo", {"alpha": 1.5}, r"Escort\(alpha=1.5\): .*\[0, 1\]"),
    "out of range of a module": ("module_of_test_lookup:strict", {"mu": -1}, r"ChiSquare\(mu=-1\): "),
}


def said(make: Callable[[], Any]) -> str:
    with pytest.raises(ValueError) as caught:
        make()
    return str(caught.value)


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_in_the_same_words_everywhere(case: str) -> None:
    name, options, message = WRONG[case]
    line = hosted.in_one_line(name, options)
    with pytest.raises(ValueError, match=message):
        ga.recipes.get(name, **options)
    wanted = said(lambda: ga.recipes.get(name, **options))
    makers = [
        lambda: ga.recipes.get(line),
        lambda: hosted.objective_of(line),
        lambda: hosted.objective_of(name, options.items()),
        lambda: slime._objective(SimpleNamespace(geomalign_objective=line)),
        lambda: openrlhf.PolicyLoss(line),
        lambda: nemo_rl.GeometryLoss(line),
        lambda: torchtune.PreferenceLoss(name, **options),
        lambda: objective_from("objective", {"hyperparameters": {"objective": name, **options}}),
        lambda: ga.laws.compare_loss(lambda batch: batch.policy.sum(), name, **options),
        *(lambda host=host: export.configuration(host, name, **options) for host in export.HOSTS),  # type: ignore[misc]
    ]
    for make in makers:
        assert said(make) == wanted


def test_a_text_without_a_name_or_with_a_word_that_is_no_option() -> None:
    with pytest.raises(ValueError, match="the objective is empty"):
        ga.recipes.get(" ")
    with pytest.raises(ValueError, match="'mu' is not key=value"):
        ga.recipes.get("opo mu")
    with pytest.raises(ValueError, match="quotes come in pairs"):
        ga.recipes.get("opo form='log")


@pytest.mark.parametrize("name", ga.recipes.names())
def test_a_recipe_is_found_by_every_name_it_has(name: str) -> None:
    assert lookup.builder(name) is lookup.builder(f"geomalign.recipes:{name}") is getattr(ga.recipes, name)


@pytest.mark.parametrize("value", [3, 2e-4, True, None, "mean", "3", "true", "two words", "none", [1, 2.5], "", "'"])
def test_a_value_is_spelled_as_it_is_read(value: Any) -> None:
    assert words.literal(words.spelled(value)) == value
    assert words.named(hosted.in_one_line("opo", {"key": value})) == ("opo", {"key": value})
