# ---
# jupyter:
#   jupytext:
#     formats: py:percent,ipynb
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Quickstart · From nothing to a trained model: how long does it take?
#
# Ten minutes, most of them reading. This notebook installs the library, evaluates an objective on four numbers, trains
# a small model with it, trains it further, and shows what is left on the disk. It runs on any machine with Python 3.10
# or later, on Colab as well, without a GPU.
#
# The first cell installs. Where geomalign is installed already it can be left out, as the project's own tests do. In a
# clone of the repository, `pip wheel --no-deps .` makes the file that `%pip install geomalign-….whl` takes.

# %% tags=["skip-execution"]
# %pip install -q geomalign

# %% [markdown]
# ## An objective, on four responses
#
# Four responses to one prompt were sampled, of three tokens each. Two earned the reward 1. `batch` holds the
# log-probabilities that the policy gives to the tokens now (`policy`) and those it gave when it sampled them (`old`);
# at the first update of a rollout they are equal.

# %%
# %matplotlib inline
import json
import tempfile
import warnings
from pathlib import Path

warnings.filterwarnings("ignore", message="IProgress not found")  # of tqdm, where Jupyter has no widgets

import matplotlib.pyplot as plt
import torch

import geomalign as ga

policy = torch.full((4, 3), -1.0, requires_grad=True)
batch = ga.Batch(policy, policy.detach(), reward=torch.tensor([1.0, 0.0, 0.0, 1.0]), group=4)

objective = ga.recipes.get("opo mu=10")
outcome = objective(batch)
outcome.loss.backward()
print("drive of each response:", outcome.drive.flatten().tolist())
print("gradient of each response:", policy.grad.sum(-1).tolist())

# %% [markdown]
# A response with a high reward has a positive drive, and a step against the gradient makes it more likely. The name
# `"opo mu=10"` chose the parts: what pulls (`Escort`) and what resists (`ChiSquare`). `geomalign list` names the
# other recipes, and `geomalign show opo` explains this one. Changing the name is all that it takes to try another:

# %%
for name in ("opo mu=10", "grpo", "gspo", "reinforce"):
    found = ga.recipes.get(name)(batch)
    drives = found.drive.reshape(4, -1)[:, 0]  # where every token has a drive, that of the first one
    print(f"{name:12s} loss {found.loss.item():+.3f}   drives {[round(drive, 2) for drive in drives.tolist()]}")

# %% [markdown]
# ## A task and a run
#
# A task asks, and its verifier says what an answer is worth. Here an answer is worth the share of its letters that are
# vowels; a file of prompts with answers to check is a task, too (`--task data.jsonl`). `train` makes a small model
# with random weights, lets it answer, and trains it on its own answers. Everything about the run goes into one
# directory.

# %%
import sys

place = Path(tempfile.mkdtemp())
(place / "vowels.py").write_text("""
from geomalign.tasks import Problem

class Vowels:
    alphabet = "abcdefgh;"
    def problem(self, level, rng):
        return Problem("".join(rng.choice("bcdfgh") for _ in range(4)) + ";", "aeae", level)
    def demonstration(self, problem, rng, noisy):
        return problem.answer
    def reward(self, problem, response, ended):
        return sum(letter in "ae" for letter in response) / max(len(response), 1)
    def max_response_length(self, level):
        return 4
""")
sys.path.append(str(place))

from geomalign.training import ModelConfig, RLConfig, TaskConfig, TrainConfig, WarmStartConfig, train

config = TrainConfig(
    objective="opo mu=10",
    rate=3e-3,
    task=TaskConfig(name="vowels:Vowels", eval_prompts=32),
    model=ModelConfig(hidden=32, layers=2, heads=2, intermediate=64),
    warm_start=WarmStartConfig(enabled="no"),
    rl=RLConfig(iterations=15, prompts=8, samples=8, max_new_tokens=4, eval_every=5),
)
directory = place / "run"
summary = train(config, directory)
before, after = (summary[when]["greedy_reward_in"] for when in ("base", "final"))
print(f"mean reward of greedy answers: {before:.2f} before, {after:.2f} after")

# %% [markdown]
# `greedy_reward_in` is the mean reward of the greedy answers to prompts that are never trained on, and `accuracy_in`
# the share of them with a reward of at least 1. A run that should have been longer is extended from where it ended, to
# what the longer run would have been:

# %%
import dataclasses

longer = dataclasses.replace(config, rl=dataclasses.replace(config.rl, iterations=40))
summary = train(longer, directory, resume=True)
rows = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]

figure, axes = plt.subplots(figsize=(5, 3))
axes.plot([row["step"] for row in rows if "reward" in row], [row["reward"] for row in rows if "reward" in row])
seen = [row for row in rows if "accuracy_in" in row]
for key in ("greedy_reward_in", "accuracy_in"):
    axes.plot([row["step"] for row in seen], [row[key] for row in seen], "o--")
axes.set(xlabel="iteration", ylim=(0, 1.02))
axes.legend(["mean reward of the rollout", "greedy reward, held out", "accuracy, held out"])
plt.show()

# %% [markdown]
# ## What is left
#
# The model is an ordinary checkpoint of transformers, with a card that says how it was made.

# %%
from transformers import AutoModelForCausalLM
from transformers.utils import logging

logging.disable_progress_bar()
model = AutoModelForCausalLM.from_pretrained(directory / "model")
print(sorted(path.name for path in directory.iterdir()))
print(sum(parameter.numel() for parameter in model.parameters()), "parameters")
print((directory / "model" / "README.md").read_text()[:420])

# %% [markdown]
# ## Where to go from here
#
# * The same on the command line: `geomalign train --objective opo --mu 10 --out runs/opo`, and with a model of yours
#   `--model path/to/checkpoint --task data.jsonl`; `--lora 16` trains an adapter, `--report-to tensorboard` draws
#   curves while it works.
# * Several objectives, step sizes and seeds with intervals: `geomalign compare`.
# * In a trainer that you have already: `geomalign export trl opo --mu 10` prints the configuration.
# * What the parts mean, in ten minutes: notebook 00.
