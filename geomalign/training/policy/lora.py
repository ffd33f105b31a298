"""Low-rank adapters through peft: a policy that trains them alone, and its files."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from geomalign.training.config.settings import LoRAConfig
from geomalign.training.hub import quiet
from geomalign.training.policy.model import Policy

if TYPE_CHECKING:
    from transformers import PreTrainedModel

#: What tells a directory with an adapter from one with a whole model.
ADAPTER = "adapter_config.json"


def require_peft(what: str) -> None:
    """Raise a ValueError where peft is not installed.

    Args:
        what: that needs it, as the subject of a sentence.

    >>> require_peft("lora.rank = 8") if importlib.util.find_spec("peft") else None
    """
    if importlib.util.find_spec("peft") is None:
        raise ValueError(f"{what} needs the package peft, which is not installed: pip install 'geomalign[lora]'.")


def adapted(policy: Policy, config: LoRAConfig, seed: int, base: str) -> Policy:
    """The policy with an adapter in every linear layer but the output layer; its own weights are frozen.

    W x  becomes  W x + (alpha/rank) B A x,  with A random and B = 0, so that the policy is unchanged at first. There is
    no dropout, which would make the log-ratio of an unchanged policy differ from 0.

    Args:
        config: its rank is ≥ 1.
        seed: of A; the global random state stays as it was.
        base: directory or hub name of the policy's model, which the adapter's files name.

    Raises:
        ValueError: peft is not installed.

    Source: Hu et al. 2021, arXiv:2106.09685, equation 3.
    """
    require_peft(f"lora.rank = {config.rank}")
    from peft import LoraConfig, get_peft_model

    settings = LoraConfig(
        r=config.rank, lora_alpha=config.scale, target_modules="all-linear", lora_dropout=0.0, task_type="CAUSAL_LM"
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        wrapped = get_peft_model(policy.model, settings)
    wrapped.peft_config["default"].base_model_name_or_path = base
    wrapped.to(policy.placement.device, policy.placement.weights).eval()
    return dataclasses.replace(policy, model=wrapped.get_base_model(), adapter=wrapped)


def named_base(given: str | None, base: Path) -> str:
    """The model that the files of an adapter name: the one that the user gave, or the base that the run made of it.

    >>> named_base("owner/model", Path("runs/opo/base-1")), named_base(None, Path("/runs/opo/base-1"))
    ('owner/model', '/runs/opo/base-1')
    """
    place = Path(given).expanduser() if given else base
    if given and not place.is_dir():
        return given
    return str((base if (place / ADAPTER).is_file() else place).absolute())  # an adapter stands on no other adapter


def write_adapter(policy: Policy, directory: Path) -> None:
    """Write the adapter of a policy into a directory."""
    assert policy.adapter is not None
    # The embeddings are not trained; to find out whether they were resized, peft would ask the hub.
    policy.adapter.save_pretrained(str(directory), save_embedding_layers=False)


def merged(directory: Path) -> PreTrainedModel:
    """The model that an adapter in this directory was trained on, with the adapter added to its weights.

    Raises:
        ValueError: peft is not installed, or the model is neither where the adapter's files say nor beside them.
    """
    require_peft(f"the adapter in {directory}")
    from peft import PeftConfig, PeftModel
    from transformers import AutoModelForCausalLM

    named = str(PeftConfig.from_pretrained(str(directory)).base_model_name_or_path)
    # A run may have been moved with its base: `runs/opo/model` beside `runs/opo/base-…`, of a comparison two above.
    beside = [folder / Path(named).name for folder in directory.absolute().parents[:4]]
    base = next((str(place) for place in (Path(named), *beside) if place.is_dir()), named)
    if base == named and Path(named).is_absolute() and not Path(named).is_dir():
        raise ValueError(
            f"the adapter in {directory} was trained on the model in {named}, which is not there any more."
        )
    with quiet():
        model = AutoModelForCausalLM.from_pretrained(base)
        whole: PreTrainedModel = PeftModel.from_pretrained(model, str(directory)).merge_and_unload()
    return whole
