"""The commands, as a user types them."""

import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import parse_qs

import members
import pytest
from rich.console import Console

import geomalign as ga
from geomalign import cli
from geomalign.cli import explorer, options, progress, show
from geomalign.training import Choice, Event

#: Chains whose rewards differ already between the responses of an untrained model: without that no update can be made.
TASK = """
from geomalign.tasks import Chain
class Counting(Chain):
    def reward(self, problem, response, ended): return float(len(set(response)))
"""
TINY = """
[task]
name = "tiny_task:Counting"
train_levels = [1]
eval_levels = [1, 2, 3]
eval_prompts = 8
eval_interim_prompts = 4
[model]
hidden = 16
layers = 1
heads = 2
intermediate = 16
[warm_start]
steps = 3
batch = 4
warmup = 1
noisy_steps = 2
levels = [1, 2]
weights = [1.0, 1.0]
[rl]
iterations = 2
prompts = 2
samples = 4
max_new_tokens = 6
epochs = 1
minibatches = 2
eval_every = 1
checkpoint_every = 1
[offline]
prompts = 8
samples = 4
epochs = 1
max_new_tokens = 6
batch = 4
eval_every = 1
checkpoint_every = 1
"""


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory to work in, with a configuration that takes seconds."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny_task.py").write_text(TASK)
    (tmp_path / "tiny.toml").write_text(TINY)
    sections = re.sub(r"^\[(\w+)\]", r"[run.\1]", TINY, flags=re.MULTILINE)
    (tmp_path / "compare.toml").write_text('objectives = ["opo", "grpo"]\nrates = [1e-4]\nseeds = [0]\n' + sections)
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = cli.main(list(words))
    return code, capsys.readouterr().out


@pytest.mark.parametrize("command", ["", "compare", "train", "list", "show", "identify", "audit", "parity", "explore"])
def test_help_of_every_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = run(capsys, *command.split(), "--help")
    assert code == 0 and "Usage: geomalign" in out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_completes_commands_and_options(shell: str) -> None:
    """As documented: the script that is installed asks the program, which answers with what fits."""
    environment = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1", "_GEOMALIGN_COMPLETE": ""}
    ask = [sys.executable, "-m", "geomalign"]
    script = subprocess.run([*ask, "--show-completion", shell], capture_output=True, text=True, env=environment)
    assert script.returncode == 0 and "_GEOMALIGN_COMPLETE=" in script.stdout, script.stderr
    asked = {"_GEOMALIGN_COMPLETE": f"complete_{shell}", "COMP_WORDS": "geomalign expl", "COMP_CWORD": "1"}
    asked |= {"_TYPER_COMPLETE_ARGS": "geomalign expl", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    found = subprocess.run(ask, capture_output=True, text=True, env={**environment, **asked})
    assert "explore" in found.stdout and "export" not in found.stdout, found.stderr


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--version") == (0, f"{ga.__version__}\n")


def test_list_names_every_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    _, out = run(capsys, "list")
    assert [line.split()[0] for line in out.splitlines()[1:] if line[:1].strip()] == ga.recipes.names()


def test_table_names_the_slots(capsys: pytest.CaptureFixture[str]) -> None:
    _, out = run(capsys, "list", "--table")
    (row,) = [line for line in out.splitlines() if line.startswith("dr_grpo ")]
    assert re.search(r"Token\(\) +Ratio\(\) +GroupAdvantage\(\) +Clip\(\) +FixedBudget\(length=256\) +old +no", row)


def test_show_tells_formula_slots_and_what_each_number_moves(capsys: pytest.CaptureFixture[str]) -> None:
    code, out = run(capsys, "show", "opo", "--mu", "10")
    assert code == 0
    assert "alpha moves sampling; mu moves optimization" in out and "φ'' = 10" in out
    assert re.search(r"decoupled +yes", out)
    assert ga.recipes.get("opo", mu=10).latex() in out


def test_show_prints_symbols_and_then_the_values(capsys: pytest.CaptureFixture[str]) -> None:
    out = run(capsys, "show", "dpo", "--beta", "0.2")[1]
    symbols, numbers = out.split("formula")[1].split("with these values")
    assert r"e^{\beta\,u_i}" in symbols and r"e^{0.2\,u_i}" in numbers


def test_show_says_that_a_potential_is_not_convex(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """log(1 + u²): φ' = 1 at u = 1, from where it falls; the root of a mirror that increases is none of it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bent_back.py").write_text(
        "import torch, geomalign as ga\n"
        "mine = ga.Objective(unit=ga.Sequence(), sampling=ga.GroupAdvantage(),\n"
        "                    optimization=ga.ConvexPotential(lambda u: torch.log1p(u**2)))\n"
    )
    out = run(capsys, "show", "bent_back:mine")[1]
    assert "φ' falls at u = -1" in out and "φ' = -1 at u = -1, φ' = 1 at u = 1" in out
    assert "u* =" not in out and "balances" not in out
    from bent_back import mine

    with pytest.raises(ga.laws.LawViolation, match="the_potential_is_convex"):
        ga.laws.check_geometry(mine, examples=2)


@pytest.mark.parametrize(
    "name, walls",
    [
        ("ppo", "u = -0.2 (g = -1), u = 0.2 (g = 1)"),
        ("gspo", "u = -0.0003 (g = -1), u = 0.0004 (g = 1)"),
        ("ppo dual_clip=1.3", "u = -0.2 (g = -1), u = 0.3 (g = -1), u = 0.2 (g = 1)"),
        ("slic beta=4", "u = 0.25"),
    ],
)
def test_show_names_the_walls_that_no_second_derivative_shows(
    name: str, walls: str, capsys: pytest.CaptureFixture[str]
) -> None:
    curvature = next(line for line in run(capsys, "show", name)[1].splitlines() if line.startswith("  curvature"))
    assert f"φ'' = 0 for |u| ≤ 1/2, except at a wall, where φ' jumps: {walls}" in " ".join(curvature.split())


def test_show_prints_the_bibtex_of_a_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    code, out = run(capsys, "show", "cfpo", "--bibtex")
    assert code == 0 and out.strip() == ga.recipes.PUBLICATIONS["cfpo"].bibtex()
    assert "no recipe 'cfpoo'" in run(capsys, "show", "cfpoo", "--bibtex")[1]
    assert "of which 'json:loads' is none" in run(capsys, "show", "json:loads", "--bibtex")[1]


def test_show_finds_the_coupling_of_dpo_and_of_clipping(capsys: pytest.CaptureFixture[str]) -> None:
    assert "beta moves sampling and optimization" in run(capsys, "show", "dpo")[1]
    out = run(capsys, "show", "grpo", "--beta", "0.04")[1]
    assert re.search(r"decoupled +no", out) and "ReverseKL" in out and "0.04 ×" in out


@pytest.mark.filterwarnings("ignore::geomalign.UnboundedLossWarning")
@pytest.mark.parametrize("name", ga.recipes.names())
def test_show_speaks_of_any_recipe(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = run(capsys, "show", name)
    assert code == 0 and "curvature" in out and re.search(r"^gradient +∂L/∂log π of a token: \w", out, re.MULTILINE)
    assert ga.recipes.get(name).latex() in out
    for _, term in ga.recipes.get(name).terms:
        assert type(term.sampling).__name__ in out and type(term.optimization).__name__ in out


def test_list_draws_the_table(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = run(capsys, "list", "--plot", "table.png")
    assert code == 0 and out.split() == ["figure", "table.png"]
    assert (tiny / "table.png").read_bytes()[:4] == b"\x89PNG"


def test_show_draws(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "show", "gspo", "--plot", "field.png")[0] == 0
    assert (tiny / "field.png").read_bytes()[:4] == b"\x89PNG"


def test_show_draws_potentials(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = run(capsys, "show", "opo", "--mu", "4", "--potential", "potential.pdf")
    assert code == 0 and "figure  potential.pdf" in out
    assert (tiny / "potential.pdf").read_bytes()[:5] == b"%PDF-"
    code, out = run(capsys, "show", "gspo", "--potential", "coupled.png")
    assert code == 2 and "contains the drive" in out


def test_the_explorer_is_opened_at_an_objective(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through a page that leads there, because openers of a desktop drop what stands behind #."""
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda link: opened.append(link) or len(opened) < 3)
    assert run(capsys, "explore")[0] == 0
    code, out = run(capsys, "show", "opo mu=10", "--open")
    assert code == 0 and "recipe=opo" in out and "ChiSquare%28mu%3D10" in out
    pages = [Path(link.removeprefix("file://")) for link in opened]
    lead = pages[1].read_text(encoding="utf-8")
    assert "index.html#recipe=opo&amp;unit=" in lead and lead.startswith("<!doctype html>")
    for page in pages:
        page.unlink()
    code, out = run(capsys, "explore", "dpo", "--beta", "0.2", "--print")
    assert code == 0 and len(opened) == 2 and "optimization=Logistic%28beta%3D0.2%29" in out
    code, out = run(capsys, "explore", "dpo")
    assert code == 0 and "no browser here" in out
    code, out = run(capsys, "explore", "grpo", "--beta", "0.1", "--print")
    assert code == 2 and "is a sum of 2" in out
    assert run(capsys, "explore", "opoo")[0] == 2


@pytest.mark.parametrize("name", ["opo", "dpo", "gspo", "ppo", "ipo"])
def test_the_explorers_page_reads_the_slots_as_it_writes_them(name: str) -> None:
    """So the page at a recipe's slots is the page at the recipe: the parts are spelled as in the page's own data."""
    query = parse_qs(explorer.address(name, ga.recipes.get(name)).partition("#")[2])
    data = (explorer.page().parent / "data.js").read_text(encoding="utf-8")
    slots = json.loads(data[data.index(f'"{name}": {{') :].partition('"slots": ')[2].partition("}")[0] + "}")
    assert {slot: query[slot][0] for slot in explorer.SLOTS} == slots


def test_short_leaves_defaults_out_and_can_be_read_back() -> None:
    for part in (ga.Escort(alpha=0.2), ga.Clip(low=0.1, high=0.3), ga.Pair(of=ga.MeanSequence()), ga.ChiSquare(2.0)):
        assert eval(show.short(part), members.NAMES) == part
    assert show.short(ga.LogRatio(scale=1.0)) == "LogRatio()"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["show", "opoo"], "Did you mean 'opo'"),
        (["show", "opo", "--muu", "1"], "mu"),
        (["show", "opo", "--mu"], "--mu has no value"),
        (["show", "opo", "--mu", "-1"], "positive"),
        (["show", "nowhere:thing"], "no module 'nowhere'"),
        (["train", "--objective", "opo", "--alpha", "1.5"], "Escort(alpha=1.5): a number in [0, 1]"),
        (["train", "--objective", "opo", "--beta", "1"], "it takes: alpha"),
        (["train", "--set", "rl.iteration=3"], "rl.iteration is not a setting"),
        (["train", "--set", "rl.iterations"], "write key=value"),
        (["train", "--config", "nowhere.toml"], "nowhere.toml"),
        (["compare", "--preset", "huge"], "ci, default, gpu"),
        (["compare", "--rates", "fast"], "--rates 'fast' is not a number"),
        (["compare", "-O", "opo mu"], "not key=value"),
        (["compare", "-O", "opo mu=1", "-O", "opo mu=2"], "label"),
        (["identify", "loss"], "module:function"),
    ],
)
def test_errors_say_what_was_seen_and_leave_no_trace(
    words: list[str], said: str, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out = run(capsys, *words)
    assert code == 2 and said in out and "Traceback" not in out
    assert not (tiny / "runs").exists()


def test_words_become_numbers_lists_and_labels() -> None:
    choice = Choice("my:thing mu=10 form=ratio bounded=true label=soft-opo")
    assert (choice.name, choice.label) == ("my:thing", "soft-opo")
    assert choice.options == {"mu": 10, "form": "ratio", "bounded": True}
    assert options.numbers(["0,1", "2"], int, "seeds") == [0, 1, 2]
    assert options.hyperparameters(["--epsilon-high=0.3", "--mu", "-1"]) == {"epsilon_high": 0.3, "mu": -1}


def test_a_user_objective_is_trained_and_its_model_loads(
    tiny: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tiny / "mine_cli.py").write_text(
        "import geomalign as ga\n"
        "def objective(stiffness=1.0):\n"
        "    return ga.Objective(unit=ga.Sequence(), sampling=ga.GroupAdvantage(), optimization=ga.KL(stiffness),"
        " chart=ga.Ratio())\n"
    )
    monkeypatch.syspath_prepend(str(tiny))
    code, out = run(
        capsys,
        "train",
        "-O",
        "mine_cli:objective",
        "--stiffness",
        "2.5",
        "-c",
        "tiny.toml",
        "--iterations",
        "1",
        "-o",
        "mine",
    )
    assert code == 0, out
    summary = json.loads((tiny / "mine" / "summary.json").read_text())
    assert summary["slots"]["optimization"] == "KL(beta=2.5)" and summary["iterations"] == 1
    assert (tiny / "mine" / "report.md").read_text(encoding="utf-8").startswith("# Training with mine_cli.objective")

    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(tiny / "mine" / "model")
    assert sum(p.numel() for p in model.parameters()) == summary["parameters"]
    assert AutoTokenizer.from_pretrained(tiny / "mine" / "model")("1+2;")["input_ids"]

    again, out = run(capsys, "train", "--model", "mine/model", "-c", "tiny.toml", "-o", "more")
    assert again == 0, out


def test_a_run_with_a_report_is_extended(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for more in (["--iterations", "1"], ["--iterations", "2", "--resume"]):
        code, out = run(capsys, "train", "-c", "tiny.toml", *more, "-o", "longer")
        assert code == 0, out
    lines = (tiny / "longer" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["step"] for line in lines] == [0, 1, 2]


def test_callbacks_and_trackers_are_named(
    tiny: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tiny / "hooks_cli.py").write_text(
        "from geomalign.training import Callback\n"
        "class Early(Callback):\n"
        "    def __init__(self, at): self.at = at\n"
        "    def on_step(self, run, metrics):\n"
        "        if run.step >= self.at: run.stop()\n"
        "class Lines:\n"
        "    def start(self, run, directory, config, step): self.file = (directory / 'lines.txt').open('w')\n"
        "    def log(self, step, metrics): print(step, file=self.file)\n"
        "    def finish(self, summary): print(summary['iterations'], 'done', file=self.file); self.file.close()\n"
    )
    monkeypatch.syspath_prepend(str(tiny))
    words = ["--callback", "hooks_cli:Early at=1", "--report-to", "hooks_cli:Lines"]
    code, out = run(capsys, "train", "-c", "tiny.toml", *words, "-o", "stopped")
    assert code == 0, out
    assert (tiny / "stopped" / "lines.txt").read_text().split() == ["0", "1", "1", "done"]
    code, out = run(capsys, "train", "-c", "tiny.toml", "--report-to", "hooks_cli:Lines,wand", "-o", "new")
    assert code == 2 and "there are tensorboard, wandb, trackio" in out and not Path("new").exists()
    for wrong in (["--callback", "hooks_cli:Erly at=1"], ["--report-to", "hooks_cli:Lins"]):
        code, out = run(capsys, "compare", "-c", "compare.toml", *wrong, "-o", "new")
        assert code == 2 and "module 'hooks_cli' has no" in out and not Path("new").exists()


def test_a_controller_sets_the_stiffness(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = run(capsys, "train", "-O", "opo mu=2", "--control", "kl=0.02", "-c", "tiny.toml", "-o", "controlled")
    assert code == 0, out
    summary = json.loads((tiny / "controlled" / "summary.json").read_text())
    assert (summary["objective"], summary["options"]) == ("opo", {"mu": 2})
    assert json.loads((tiny / "controlled" / "config.json").read_text())["control"] == "kl=0.02"
    code, out = run(capsys, "train", "--control", "tv=0.02", "-c", "tiny.toml", "-o", "new")
    assert code == 2 and "kl=0.02" in out and not Path("new").exists()
    choice = Choice("opo mu=2 control='anneal=1:10 rollouts=100'")
    assert (choice.options, choice.control) == ({"mu": 2}, "anneal=1:10 rollouts=100")


@pytest.mark.parametrize("words", [("show", "opo mu=10 alpha=0.5"), ("show", "opo mu=3 alpha=0.5", "--mu", "10")])
def test_a_text_names_an_objective_with_its_options(
    words: tuple[str, ...], tiny: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out = run(capsys, *words)
    assert code == 0 and "alpha=0.5" in out and "φ'' = 10" in out
    code, out = run(capsys, "export", "prime-rl", *words[1:])
    assert code == 0 and "alpha = 0.5" in out and "mu = 10" in out
    (tiny / "my_text_cli.py").write_text(
        "import geomalign as ga\ndef made(mu=1.0):\n    return ga.recipes.opo(mu=mu)\n"
        "def plain(logps, old_logps, rewards, mask, group):\n    raise ValueError('unused')\n"
    )
    monkeypatch.syspath_prepend(str(tiny))
    code, out = run(capsys, "show", "my_text_cli:made mu=10")
    assert code == 0 and "mu moves optimization" in out and "φ'' = 10" in out
    code, out = run(capsys, "parity", "my_text_cli:plain", "--against", "my_text_cli:made nu=2")
    assert code == 2 and "no hyper-parameter 'nu'" in out


def test_preferences_are_trained_offline_on_a_task_of_ones_own(
    tiny: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tiny / "my_task_cli.py").write_text(
        "from geomalign.tasks import Chain\n"
        "class Short(Chain):\n"
        "    def reward(self, problem, response, ended):\n"
        "        return float(len(response) < 5)\n"
    )
    monkeypatch.syspath_prepend(str(tiny))
    words = (
        "--objective",
        "dpo",
        "--beta",
        "0.2",
        "--task",
        "my_task_cli:Short",
        "--config",
        "tiny.toml",
        "--out",
        "dpo",
    )
    code, out = run(capsys, "train", *words)
    assert code == 0, out
    summary = json.loads((tiny / "dpo" / "summary.json").read_text())
    assert summary["mode"] == "offline" and summary["final"]["preference_accuracy"] >= 0
    assert "## Pairs" in (tiny / "dpo" / "report.md").read_text(encoding="utf-8")


def test_compare_reports_and_continues(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("compare", "--config", "compare.toml", "--workers", "1", "--out", "both")
    code, out = run(capsys, *words)
    assert code == 0, out
    assert {path.name for path in (tiny / "both" / "runs").iterdir()} == {"opo-r0.0001-s0", "grpo-r0.0001-s0"}
    assert (tiny / "both" / "figures" / "step-size.png").exists() and "final numbers" in out
    refused, out = run(capsys, *words)
    assert refused == 2 and "continue it with --resume" in out
    code, out = run(capsys, *words, "--resume")
    assert code == 0 and out.count("already done") == 3


@pytest.mark.slow
def test_interrupted_comparison_says_how_to_go_on(tiny: Path) -> None:
    """Ctrl-C in the middle of a run: exit code 130, the command to continue, and it does continue."""
    (tiny / "compare.toml").write_text(
        (tiny / "compare.toml").read_text().replace("iterations = 2", "iterations = 400")
    )
    command = [sys.executable, "-m", "geomalign", "compare", "-c", "compare.toml", "-j", "1", "-o", "out"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    job = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True, cwd=tiny
    )
    metrics = tiny / "out" / "runs" / "opo-r0.0001-s0" / "metrics.jsonl"
    deadline = time.monotonic() + 240
    while not (metrics.exists() and metrics.read_text().count("\n") > 2) and time.monotonic() < deadline:
        assert job.poll() is None, job.communicate()[0]
        time.sleep(0.2)
    os.killpg(job.pid, signal.SIGINT)
    out, _ = job.communicate(timeout=240)
    assert job.returncode == 130
    assert "compare -c compare.toml -j 1 -o out --resume" in out
    assert not (tiny / "out" / "runs" / "opo-r0.0001-s0" / "summary.json").exists()


def test_identify_reads_a_loss(tiny: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    (tiny / "my_losses_cli.py").write_text(
        "def squared(log_ratio, advantage):\n    return 1.5 * log_ratio**2 - advantage * log_ratio\n"
    )
    monkeypatch.syspath_prepend(str(tiny))
    code, out = run(capsys, "identify", "my_losses_cli:squared", "--plot", "squared.png")
    assert code == 0 and "ChiSquare(mu=3.0)" in out and (tiny / "squared.png").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("identify NAME:of_a_batch", "NAME:of_a_batch takes (logps, old_logps, advantages, mask)"),
        ("identify NAME:by_position", "NAME:by_position takes (pol, old)"),
        ("identify NAME:made", "NAME:made makes an objective. For a loss of a batch use `geomalign parity`"),
        ("identify NAME:needy", "NAME:needy makes an objective"),
        ("identify NAME:objective", "NAME:objective is an objective"),
        ("identify NAME:number", "NAME:number is int, not a function"),
        ("identify NAME:margin --kind pair", "NAME:margin takes (margin)"),
        ("parity NAME:made --against grpo", "made takes no field of a batch"),
        ("parity NAME:objective --against grpo", "Objective is an objective"),
    ],
)
def test_what_is_no_loss_is_refused_once(
    words: str, said: str, tiny: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tiny / "my_no_losses_cli.py").write_text(
        "import geomalign as ga\n"
        "def of_a_batch(logps, old_logps, advantages, mask): ...\n"
        "def by_position(pol, old):\n    return (pol - old) ** 2\n"
        "def margin(margin):\n    return margin ** 2\n"
        "def made(mu=1.0):\n    return ga.recipes.opo(mu=mu)\n"
        "def needy(mu):\n    return ga.recipes.opo()\n"
        "objective, number = made(), 3\n"
    )
    monkeypatch.syspath_prepend(str(tiny))
    code, out = run(capsys, *words.replace("NAME", "my_no_losses_cli").split())
    assert code == 2 and said.replace("NAME", "my_no_losses_cli") in out and out.count("\n") == 1


@pytest.mark.parametrize("text", ["x, a", "log_ratio, advantage", "ratio, reward, beta=0.5, mask=None", "*both"])
def test_names_that_do_not_contradict_are_read_by_position(
    text: str, tiny: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = ("both[0]", "both[1]") if text == "*both" else [word.strip() for word in text.split(",")[:2]]
    (tiny / "my_names_cli.py").write_text(f"def loss({text}):\n    return {first}**2 - {second} * {first}\n")
    monkeypatch.syspath_prepend(str(tiny))
    monkeypatch.delitem(sys.modules, "my_names_cli", raising=False)
    code, out = run(capsys, "identify", "my_names_cli:loss")
    assert code == 0 and "ChiSquare(mu=2.0)" in out


def test_a_misspelt_objective_of_a_comparison_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    code, out = run(capsys, "compare", "-O", "opo label")
    assert code == 2
    assert out == "Error: an objective 'opo label': 'label' is not key=value, as in \"opo mu=10 label=soft\".\n"


def test_parity_tells_equal_from_different(
    tiny: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tiny / "my_parity_cli.py").write_text(
        "import torch\n"
        "def mine(logps, old_logps, advantages, mask):\n"
        "    ratio = (logps - old_logps).exp()\n"
        "    clipped = ratio.clamp(0.8, 1.3)\n"
        "    each = -torch.minimum(ratio * advantages[:, None], clipped * advantages[:, None])\n"
        "    return (each * mask).sum() / mask.sum()\n"
    )
    monkeypatch.syspath_prepend(str(tiny))
    code, out = run(capsys, "parity", "my_parity_cli:mine", "--against", "bnpo")
    assert code == 1 and "differs" in out
    assert run(capsys, "parity", "my_parity_cli:mine", "--against", "bnpo", "--epsilon-high", "0.3")[0] in (0, 2)


def test_audit_reads_a_dump(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"policy": [-1.0, -0.5], "old": [-1.1, -0.4], "reward": float(i % 2), "group": i // 4} for i in range(8)]
    (tiny / "dump.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, out = run(capsys, "audit", "dump.jsonl", "--plot", "audit.png")
    assert code == 0 and "# Audit of" in out and (tiny / "audit.png").exists()
    assert json.loads(run(capsys, "audit", "dump.jsonl", "--json")[1])["facts"]
    half = json.loads(run(capsys, "audit", "dump.jsonl", "--json", "--reward", "reward=0.5", "--reward", "group")[1])
    assert half["facts"]["reward_mean"] == 0.25 + 0.5


def events(steps: int) -> list[Event]:
    found = [
        Event("plan", "", total=2, metrics={"workers": 1}, message='["a", "b"]'),
        Event("start", "warm start", 0, 5),
    ]
    found += [Event("done", "warm start", 5, 5), Event("skipped", "a", steps, steps, {"reward": 0.5})]
    found.append(Event("start", "b", 4, steps))
    found += [Event("step", "b", i, steps, {"reward": i / steps, "kl": 0.01}) for i in range(5, steps + 1)]
    return found


def test_bars_count_what_was_done_before() -> None:
    display = progress.Display(Console(force_terminal=True, width=120, file=io.StringIO()))
    for event in events(10):
        display(event)
    whole = next(task for task in display.bars.tasks if "all runs" in task.description)
    assert (whole.completed, whole.total) == (20, 20)
    table = Console(width=120, record=True, file=io.StringIO())
    table.print(display._render())
    assert re.search(r"b +1\.000 +0\.01", table.export_text())


def test_without_a_terminal_there_are_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.Display() as display:
        for event in [
            *events(10),
            Event("failed", "b", message="ValueError: [no]"),
            Event("warning", "a", message="E[g u]"),
        ]:
            display(event)
    out = capsys.readouterr().out
    assert (
        "already done a reward 0.500" in out
        and "failed b: ValueError: [no]" in out
        and "E[g u]" in out
        and "\x1b" not in out
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--objectve opo", "--objectve → --objective"),
        ("-O opo --alpha abc", "alpha='abc'): expected a number"),
        ("-O opo --rate inf", "finite"),
        ("--set rl.iteratons=3", "Did you mean rl.iterations?"),
        ("--set rll.iterations=3", "rll is not a setting of TrainConfig; it has objective"),
        ("--set =3", "write key=value"),
        ("--set rl.betas=[0.9,1.5]", "rl.betas[1] is 1.5; it should be less than 1."),
        ("--set rl.weight_decay=-1", "rl.weight_decay is -1; it should be greater than or equal to 0."),
        ("--device gpu", "device is 'gpu'"),
        ("--model ./nothing", "'./nothing' does not exist"),
        ("--task 'chain larest=3'", "It takes (largest"),
        ("--set task.eval_levels=[0] --set task.train_levels=[0]", "level 0"),
        ("--model opo-checkpoint", "model 'opo-checkpoint' is no directory; it is"),
        ("-O dpo --set rl.iterations=3", "--set rl.iterations: without effect, as dpo trains on pairs"),
        ("-O grpo --set offline.epochs=3", "--set offline.epochs: without effect, as grpo trains on rewards"),
        ("-O grpo --set rl.samples=1", "the drive of grpo is the same for all rewards"),
        ("-O generalized_jsd", "generalized_jsd is driven neither by rewards nor by labels"),
        ("--config nothing.toml", "nothing.toml could not be read"),
        ("--config .", "could not be read"),
    ],
)
def test_what_is_refused_leaves_nothing_behind(
    words: str, said: str, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--config", "tiny.toml"] if "--config" not in words else []
    code, out = run(capsys, "train", *given, *shlex.split(words), "--out", "new")
    assert code == 2 and said in " ".join(out.split()), out
    assert not Path("new").exists()


@pytest.mark.parametrize("command", ["train", "compare"])
def test_results_do_not_go_into_a_file(command: str, tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("taken").write_text("mine")
    for out in ("taken", "taken/below"):
        code, said = run(capsys, command, "--config", "tiny.toml" if command == "train" else "compare.toml", "-o", out)
        assert code == 2 and "taken" in said
    assert Path("taken").read_text() == "mine"


def test_a_base_that_cannot_be_made_is_told_in_words(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = run(capsys, "compare", "--config", "compare.toml", "--model", "./nothing", "--out", "new")
    assert code == 1 and "'./nothing' does not exist" in out
    assert {file.name for file in Path("new").iterdir()} == {"error.txt"}
    again, out = run(capsys, "train", "--config", "tiny.toml", "--model", "./other", "--out", "new")
    assert again == 2 and "'./other' does not exist" in out


def test_an_exception_of_the_users_code_is_one_line_and_a_file(
    tiny: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tiny)
    Path("unready.py").write_text("import math\nmine = math.log(0)\n")
    code, out = run(capsys, "train", "-O", "unready:mine", "--config", "tiny.toml", "--out", "new")
    assert code == 2 and "unready.py, line 2" in out
    Path("faulty.py").write_text(
        "import geomalign as ga\n"
        "class Faulty(ga.SamplingGeometry):\n"
        "    def drive(self, batch):\n"
        "        return {}['drive'] if batch.size == 8 else ga.GroupAdvantage().drive(batch)\n"
        "objective = ga.Objective(unit=ga.Sequence(), chart=ga.LogRatio(), sampling=Faulty(),\n"
        "                         optimization=ga.ChiSquare())\n"
    )
    code, out = run(capsys, "train", "-O", "faulty:objective", "--config", "tiny.toml", "--out", "new")
    assert code == 1 and "KeyError: 'drive'" in out and "faulty.py, line 4" in out
    assert "Traceback" in Path("new/error.txt").read_text()


EXITS = """
import geomalign as ga
from geomalign.tasks import Chain
class Leaves(ga.SamplingGeometry):
    def drive(self, batch): exit(0)
def at_once(): exit()
mine = ga.Objective(unit=ga.Sequence(), chart=ga.LogRatio(), sampling=Leaves(), optimization=ga.ChiSquare())
class Judge(Chain):
    def reward(self, problem, response, ended): exit(0)
class Asks(Chain):
    def problem(self, level, rng): raise SystemExit
def loss(log_ratio, advantage): exit(0)
"""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("show leaves_at_import:mine", "module 'leaves_at_import' could not be imported: SystemExit: 0"),
        ("show leaves:at_once", "exit(None) was called in "),
        ("identify leaves:loss", "exit(0) was called in "),
        ("train -O leaves:mine -c tiny.toml -o new", "exit(0) was called in "),
        ("train -O leaves_at_import:mine -c tiny.toml -o new", "could not be imported: SystemExit: 0"),
        ("train --task leaves:Asks -c tiny.toml -o new", "exit(None) was called in "),
        ("train --task leaves:Judge -c tiny.toml -o new", "masked 16 of 16"),
        pytest.param(
            "compare -O leaves:mine -c compare.toml -o new --workers 1",
            "exit(0) was called in ",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_code_that_calls_exit_is_no_success(
    words: str, said: str, tiny: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tiny)
    Path("leaves.py").write_text(EXITS)
    Path("leaves_at_import.py").write_text("exit(0)\n")
    code, out = run(capsys, *words.split())
    assert code in (1, 2) and said in " ".join(out.split()), out
    assert "leaves.py, line" in out or "leaves_at_import.py, line 1" in out
    assert not list(tiny.glob("new/**/summary.json")) or words.startswith("compare")


def test_a_run_that_cannot_move_ends_with_an_error(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("still.py").write_text(
        "from geomalign.tasks import Chain\n"
        "class Alike(Chain):\n"
        "    def reward(self, problem, response, ended): return 0.5\n"
    )
    code, out = run(capsys, "train", "--task", "still:Alike", "-c", "tiny.toml", "-o", "new")
    assert code == 1 and "Error: no update could be made in 2 steps" in out and "zero groups 1.00" in out
    assert "epochs" not in out and not Path("new/summary.json").exists()


def test_names_are_no_emoji(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out = run(capsys, "train", "-O", "nomodule:x", "--config", "tiny.toml")
    assert "nomodule:x: there is no module" in out
