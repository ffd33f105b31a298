"""Tokenizer and checkpoints: what is saved is what from_pretrained loads."""

import contextlib
import importlib.util
import math
import sys
import types
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from tokenizers.processors import TemplateProcessing

from geomalign.tasks import Chain, Problem
from geomalign.training import hub
from geomalign.training.config.settings import LoRAConfig, ModelConfig
from geomalign.training.policy import Placement, Policy, build, character_tokenizer, load, save
from geomalign.training.policy import lora as adapters
from geomalign.training.policy import model as models

pytestmark = pytest.mark.float32


def test_the_tokenizer_is_one_token_a_character_and_reversible(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = character_tokenizer(Chain().alphabet)
    text = "3+8=11-4=7+7=14#14"
    assert len(tokenizer(text)["input_ids"]) == len(text)
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert len(tokenizer) == len(Chain().alphabet) + 3
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert again.padding_side == "left"
    assert again.batch_decode([again(text)["input_ids"]]) == [text]


def test_a_saved_policy_is_loaded_by_transformers_and_by_us(policy: Policy, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    save(policy, tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    tokens = policy.tokenizer(["3+8-4;"], return_tensors="pt")["input_ids"]
    expected = policy.model(tokens).logits
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "model").eval()(tokens).logits
    torch.testing.assert_close(theirs, expected, atol=1e-6, rtol=1e-5)  # another attention kernel
    again = load(tmp_path / "model", Placement())
    assert torch.equal(again.model(tokens).logits, expected)
    assert (again.end, again.pad) == (policy.end, policy.pad)
    save(again, tmp_path / "model")  # over itself
    assert torch.equal(load(tmp_path / "model", Placement()).model(tokens).logits, expected)


def test_logits_of_the_last_positions_ignore_padding_on_the_left(policy: Policy, other_policy: Policy) -> None:
    for each in (policy, other_policy):
        tokens = each.tokenizer(["3+8-4;", "1+2;"], padding=True, return_tensors="pt")
        both = each.logits(tokens["input_ids"], tokens["attention_mask"].bool(), keep=2)
        alone = each.logits(each.tokenizer(["1+2;"], return_tensors="pt")["input_ids"], None, keep=2)
        torch.testing.assert_close(both[1:], alone, atol=1e-5, rtol=1e-5)


def test_building_leaves_the_global_random_state_alone(policy: Policy) -> None:
    from geomalign.training.config.settings import ModelConfig

    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    one = build(ModelConfig(hidden=16, layers=1, heads=2, intermediate=16), "ab", 5, Placement())
    assert torch.equal(torch.rand(3), expected)
    two = build(ModelConfig(hidden=16, layers=1, heads=2, intermediate=16), "ab", 5, Placement())
    assert all(torch.equal(a, b) for a, b in zip(one.model.parameters(), two.model.parameters()))


def test_refusals(tmp_path: Path, policy: Policy) -> None:
    with pytest.raises(ValueError, match=r"nothing.* does not exist; it is a directory"):
        load(tmp_path / "nothing", Placement())
    save(policy, tmp_path / "model")
    policy.tokenizer.eos_token = None
    policy.tokenizer.save_pretrained(tmp_path / "model")
    with pytest.raises(ValueError, match="no end token"):
        load(tmp_path / "model", Placement())
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="finds no CUDA device"):
            Placement("cuda")


# ---- what a policy decides, by kind

SMALL = ModelConfig(hidden=16, layers=2, heads=2, intermediate=16)


class Adapter:
    """Stands for one of peft: notes when it is switched off, and what is written."""

    off = False

    @contextlib.contextmanager
    def disable_adapter(self) -> Iterator[None]:
        self.off = True
        yield
        self.off = False

    def save_pretrained(self, directory: str, save_embedding_layers: bool) -> None:
        Path(directory, "adapter_config.json").write_text(f"{save_embedding_layers}")


def test_of_a_policy_with_an_adapter_the_trained_part_is_kept_and_written(policy: Policy, tmp_path: Path) -> None:
    adapter: Any = Adapter()
    for name, parameter in policy.model.named_parameters():
        parameter.requires_grad_(name == "model.norm.weight")
    part = replace(policy, adapter=adapter)
    assert part.state().keys() == {"model.norm.weight"} and len(policy.state()) > 10
    part.load_state({"model.norm.weight": torch.full((16,), 3.0)})
    assert float(policy.model.model.norm.weight.detach().mean()) == 3.0
    with pytest.raises(RuntimeError, match="Missing key"):
        policy.load_state(part.state())
    save(part, tmp_path / "a" / "b" / "model", card="what it is")
    assert (tmp_path / "a" / "b" / "model" / "adapter_config.json").read_text() == "False"
    assert (tmp_path / "a" / "b" / "model" / "README.md").read_text() == "what it is"
    assert not (tmp_path / "a" / "b" / "model" / "model.safetensors").exists()
    for each, off in ((part, False), (part.frozen(), True), (policy, False), (policy.frozen(), False)):
        with each.computing():
            assert adapter.off is off
    assert part.without_adapter is False and part.frozen().adapter is adapter


@pytest.mark.parametrize(("known", "length"), [(None, 2**30), (0, 2**30), (-1, 2**30), (1, 1), (300, 300)])
def test_a_model_without_positions_has_very_many(known: int | None, length: int, policy: Policy) -> None:
    config = types.SimpleNamespace(max_position_embeddings=known)
    model: Any = types.SimpleNamespace(config=types.SimpleNamespace(get_text_config=lambda: config))
    assert models.longest(model) == replace(policy, model=model).positions == length
    del config.max_position_embeddings
    assert models.longest(model) == 2**30


def test_padding_on_the_left_takes_no_position() -> None:
    told = models._positions(torch.tensor([[False, False, True, True], [True, True, True, True]]))
    assert told["position_ids"].tolist() == [[0, 0, 0, 1], [0, 1, 2, 3]]
    assert told["attention_mask"].tolist() == [[0, 0, 1, 1], [1, 1, 1, 1]] and models._positions(None) == {}


@pytest.mark.parametrize("takes", [True, False])
def test_a_model_is_asked_for_the_positions_that_are_wanted_where_it_can_be(takes: bool, policy: Policy) -> None:
    """And for no cache, which nothing reads."""
    given: dict[str, Any] = {}

    class Model:
        def forward(self, tokens: Any, use_cache: bool, logits_to_keep: int = 0) -> Any: ...

        def __call__(self, tokens: torch.Tensor, **named: Any) -> Any:
            given.update(named)
            whole = torch.arange(12.0).view(1, 4, 3)
            return types.SimpleNamespace(logits=whole[:, -named.get("logits_to_keep", 4) :])

    if not takes:
        Model.forward = lambda self, tokens, use_cache: None  # type: ignore[assignment, method-assign, misc]
    each = replace(policy, model=Model())  # type: ignore[arg-type]
    assert each.logits(torch.zeros(1, 4), None, keep=2).tolist() == [[[6, 7, 8], [9, 10, 11]]]
    assert given == {"use_cache": False} | ({"logits_to_keep": 2} if takes else {})


def test_hidden_states_are_those_of_the_last_positions_in_the_type_of_the_head(policy: Policy) -> None:
    tokens = torch.tensor([[3, 4, 5, 6]])
    whole = policy.model.base_model(tokens).last_hidden_state
    given: list[dict[str, Any]] = []
    body = policy.model.base_model
    hook = body.register_forward_pre_hook(lambda module, args, named: given.append(named), with_kwargs=True)
    torch.testing.assert_close(policy.hidden(tokens, None, keep=3), whole[:, 1:])
    assert given == [{"use_cache": False}], "nothing reads a cache"
    hook.remove()
    half = replace(policy, placement=Placement("cpu", "bfloat16"))
    assert half.hidden(tokens, None, keep=1).dtype == torch.bfloat16
    assert half.logits(tokens, None, keep=1).dtype == torch.float32
    assert policy.hidden(tokens, None, keep=1).dtype == torch.float32


def test_a_vocabulary_of_a_few_tokens_has_a_head_too() -> None:
    few = build(SMALL, "012", 0, Placement())
    assert len(few.tokenizer) == 6 and few.head is not None


def test_the_attention_of_short_models_is_plain_and_of_others_fused() -> None:
    def attention(positions: int, placement: Placement) -> str:
        return str(build(replace(SMALL, positions=positions), "01", 0, placement).model.config._attn_implementation)

    assert [attention(n, Placement()) for n in (512, 513)] == ["eager", "sdpa"]
    assert attention(512, Placement(dtype="float64")) == "sdpa"
    with torch.device("meta"):
        assert attention(512, Placement("meta")) == "sdpa"


def test_layers_that_are_computed_again_have_the_same_gradients_behind_frozen_embeddings() -> None:
    """As those of an adapter lie; only the layers themselves are in training mode, and only inside of the pass."""
    found = []
    for again in (False, True):
        each = build(SMALL, "0123+=", 0, Placement(gradient_checkpointing=again))
        each.model.get_input_embeddings().weight.requires_grad_(False)
        layer = each.model.model.layers[0]
        seen: list[bool] = []
        layer.mlp.register_forward_pre_hook(
            lambda module, given, seen=seen, layer=layer: seen.append(layer.training and not module.training)
        )
        each.logits(torch.tensor([[3, 4, 5]]), None, keep=2).square().sum().backward()
        assert seen == ([True, False] if again else [False]), "once more, behind the pass"
        assert not any(module.training for module in each.model.modules())
        loss = each.logits(torch.tensor([[3, 4, 5]]), None, keep=2).square().sum()
        found.append([p.grad for p in each.parameters])
        found[-1] += torch.autograd.grad(loss, each.parameters)  # asked for in this way too
        with torch.no_grad():
            each.logits(torch.tensor([[3, 4, 5]]), None, keep=2)
        assert seen[-1] is False
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_what_a_chat_is_asked_and_where_its_reply_begins(policy: Policy) -> None:
    messages = ({"role": "user", "content": "1+2"},)
    chat, plain = Problem("9", "3", 1, messages), Problem("9", "3", 1)
    assert policy.ask(chat) == policy.ask(plain) == "9"
    said = "{% for m in messages %}{{ m.content }}{% endfor %}"
    policy.tokenizer.chat_template = f"{{{{ bos_token or '' }}}}{said}{{% if add_generation_prompt %}};{{% endif %}}"
    assert (policy.ask(chat), policy.ask(plain)) == ("1+2;", "9")
    assert (policy.chat(messages), policy.chat(messages, reply=False)) == ("1+2;", "1+2")
    policy.tokenizer.bos_token = "<pad>"
    assert policy.chat(messages) == "<pad>1+2;"  # this tokenizer writes none itself
    for written in ("<pad> $A", "<pad> $A <end>"):
        policy.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single=written, special_tokens=[("<pad>", 0), ("<end>", 1)]
        )
        assert policy.chat(messages) == "1+2;"
    policy.tokenizer.bos_token = None
    assert policy.chat(messages) == "1+2;"


def test_characters_are_put_together_as_they_stand() -> None:
    tokenizer = character_tokenizer("1 .,!?'nt ")
    assert tokenizer.decode(tokenizer("1 . 1 n't !")["input_ids"]) == "1 . 1 n't !"
    assert len(tokenizer) == 3 + 9, "each once"


def test_a_tokenizer_without_padding_pads_with_its_end(policy: Policy, tmp_path: Path) -> None:
    policy.tokenizer.pad_token = None
    policy.model.save_pretrained(tmp_path / "model")
    policy.tokenizer.save_pretrained(tmp_path / "model")
    again = load(tmp_path / "model", Placement())
    assert again.pad == again.end == 1 and load(str(tmp_path / "model"), Placement()).end == 1


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/nowhere/at/all", "'/nowhere/at/all' does not exist; it is a directory"),
        ("../nowhere", r"'\.\./nowhere' does not exist"),
        ("~/nowhere-at-all", "'~/nowhere-at-all' does not exist"),
        ("a/b/c", r"model 'a/b/c' is no directory; .* a name of the hub"),
    ],
)
def test_a_model_that_is_not_there_is_told_as_it_was_named(path: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        load(path, Placement())


def test_a_file_is_no_model_and_an_empty_directory_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"file' is a file; it is a directory with a checkpoint"):
        load(tmp_path / "file", Placement())
    with pytest.raises(ValueError, match=r"empty' is no checkpoint that AutoModelForCausalLM and AutoTokenizer can"):
        load(tmp_path / "empty", Placement())


# ---- the hub is asked once, and briefly


@pytest.mark.parametrize(
    ("name", "cached", "asked"),
    [
        ("gpt", True, ["cache"]),
        ("owner/gpt", True, ["cache"]),
        ("gpt", False, ["cache"]),
        ("owner/gpt", False, ["cache", "hub 5.0"]),
        ("a/b/c", True, []),
        ("owner/", True, []),
        ("/gpt", False, []),
    ],
)
def test_what_is_asked_of_a_name_of_the_hub(
    name: str, cached: bool, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def cache(name: str, file: str) -> Any:
        seen.append("cache")
        assert file == "config.json"
        return "/kept/config.json" if cached else None

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", cache)
    monkeypatch.setattr(huggingface_hub, "model_info", lambda name, timeout: seen.append(f"hub {timeout}"))
    if cached and asked:
        assert hub.is_local(name) is True
    elif "hub 5.0" in asked:
        assert hub.is_local(name) is False
    else:
        with pytest.raises(ValueError, match=f"model '{name}' is no directory; it is"):
            hub.is_local(name)
    assert seen == asked


@pytest.mark.parametrize(
    ("error", "said"),
    [("no route\nto the host", "(OSError: no route)"), ("", "(OSError: )"), ("x" * 300, f"(OSError: {'x' * 200})")],
)
def test_of_an_error_of_the_hub_the_first_line_is_told(error: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(name: str, timeout: float) -> None:
        raise OSError(error)

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *given: None)
    monkeypatch.setattr(huggingface_hub, "model_info", fails)
    with pytest.raises(ValueError) as caught:
        hub.is_local("owner/gpt")
    assert f"is no directory, and the hub does not give it {said}; it is" in str(caught.value)


# ---- adapters, with a stand-in for peft


@pytest.fixture
def peft(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """A module of that name, which notes what it is told."""
    real, found = importlib.util.find_spec, types.SimpleNamespace(named="", loaded=[])

    class Wrapped(torch.nn.Module):
        def __init__(self, model: Any) -> None:
            super().__init__()
            self.model = model
            self.noise = torch.nn.Parameter(torch.rand(3, dtype=torch.float64))
            self.peft_config = {"default": types.SimpleNamespace()}

        def get_base_model(self) -> Any:
            return self.model

    def get_peft_model(model: Any, settings: dict[str, Any]) -> Wrapped:
        found.settings, found.wrapped = settings, Wrapped(model)
        return found.wrapped

    class PeftModel:
        @staticmethod
        def from_pretrained(model: Any, directory: str) -> Any:
            return types.SimpleNamespace(merge_and_unload=lambda: (model, directory))

    stand_in: Any = types.ModuleType("peft")
    stand_in.LoraConfig, stand_in.get_peft_model, stand_in.PeftModel = dict, get_peft_model, PeftModel
    stand_in.PeftConfig = types.SimpleNamespace(
        from_pretrained=lambda directory: types.SimpleNamespace(base_model_name_or_path=found.named)
    )
    monkeypatch.setitem(sys.modules, "peft", stand_in)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True if name == "peft" else real(name))
    return found


def test_an_adapter_is_made_with_its_rank_scale_and_seed(peft: types.SimpleNamespace, policy: Policy) -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    noises = []
    for seed in (5, 5, 6):
        found: Any = adapters.adapted(policy, LoRAConfig(4, 3.0), seed, "owner/base")
        noises.append(found.adapter.noise)
    assert torch.equal(torch.rand(2), expected), "the global random state stays"
    assert torch.equal(noises[0], noises[1]) and not torch.equal(noises[0], noises[2])
    assert peft.settings == {
        "r": 4,
        "lora_alpha": 3.0,
        "target_modules": "all-linear",
        "lora_dropout": 0.0,
        "task_type": "CAUSAL_LM",
    }
    made = peft.wrapped
    assert found.model is policy.model and found.adapter is made
    assert not made.training and made.noise.dtype == torch.float32
    assert made.peft_config["default"].base_model_name_or_path == "owner/base"


@pytest.mark.parametrize("above", [1, 2, 4, 5])
def test_the_model_of_an_adapter_is_found_beside_it_where_a_run_was_moved(
    above: int, peft: types.SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to four folders above it."""
    import transformers

    loaded: list[str] = []
    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", lambda base: loaded.append(base) or base)  # type: ignore[func-returns-value]
    directory = tmp_path / "a" / "b" / "c" / "d" / "model"
    directory.mkdir(parents=True)
    beside = directory.parents[above - 1] / "base-1"
    beside.mkdir()
    peft.named = "/gone/runs/base-1"
    if above > 4:
        with pytest.raises(
            ValueError, match=r"model was trained on the model in /gone/runs/base-1, which is not there"
        ):
            adapters.merged(directory)
    else:
        found: Any = adapters.merged(directory)
        assert found == (str(beside), str(directory)) and loaded == [str(beside)]
    for named in (str(tmp_path), "owner/base"):  # it is where it was, or on the hub
        peft.named = named
        there: Any = adapters.merged(directory)
        assert there == (named, str(directory))


def test_the_files_of_an_adapter_name_the_model_that_it_stands_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("mine", "base", "adapted"):
        (tmp_path / name).mkdir()
    (tmp_path / "adapted" / "adapter_config.json").touch()
    base = tmp_path / "base"
    assert adapters.named_base(None, base) == str(base)
    assert adapters.named_base("mine", base) == str(tmp_path / "mine")
    assert adapters.named_base("adapted", base) == str(base), "an adapter stands on no other"
    assert adapters.named_base("owner/hub", base) == "owner/hub"


# ---- where a policy computes


def test_types_of_a_placement() -> None:
    for dtype, weights, mixed in (
        ("float32", torch.float32, False),
        ("bfloat16", torch.float32, True),
        ("float64", torch.float64, False),
    ):
        place = Placement("cpu", dtype)
        assert place.weights == place.precise(torch.zeros(1, dtype=torch.bfloat16)).dtype == weights
        with place.autocast():
            assert torch.is_autocast_enabled("cpu") is mixed
        assert place.gradient_checkpointing is False
    with pytest.raises(ValueError, match=r"device is 'nowhere', which torch .* does not have here"):
        Placement("nowhere")
    first, second = (torch.rand(2, generator=Placement().generator(seed)) for seed in (3, 4))
    assert torch.equal(first, torch.rand(2, generator=torch.Generator().manual_seed(3))) and not math.isclose(
        float(first[0]), float(second[0])
    )
