"""Adapters beside their base: merged, if both are whole and belong together, and refused in words otherwise."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM

from tasks.language_model import LanguageModel
from tasks.model_files import facts
from tasks.pinning import pinned
from tasks.values import Model, TaskError, WrongModelError
from tests.hub import Hub

IDS = torch.arange(12)[None]
BY_PEFT = "adapters are merged by peft"


def problems_of(folder: Path) -> tuple[str, ...]:
    with pytest.raises(TaskError) as error:
        facts(Model(name=str(folder)))
    return error.value.args


def logits(model: Model) -> torch.Tensor:
    found = LanguageModel(model, device="cpu")
    with torch.no_grad():
        return found.head(found.hidden(found.embed(IDS)))


def rewrite(file: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    """Change the weights of a file."""
    save_file(change(load_file(file)), file, metadata={"format": "pt"})


@pytest.fixture
def adapter(folder: Path) -> Path:
    """A LoRA of rank 1 on a projection, beside its base, as peft writes it."""
    settings = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": str(folder),
        "r": 1,
        "lora_alpha": 2,
        "target_modules": ["q_proj"],
    }
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    generator = torch.Generator().manual_seed(1)
    weights: dict[str, torch.Tensor] = {}
    for layer in range(2):
        place = f"base_model.model.model.layers.{layer}.self_attn.q_proj"
        weights[f"{place}.lora_A.weight"] = torch.randn(1, 8, generator=generator)
        weights[f"{place}.lora_B.weight"] = torch.randn(8, 1, generator=generator)
    save_file(weights, folder / "adapter_model.safetensors")
    return folder


def test_beside_the_base_are_refused_without_peft(adapter, monkeypatch):
    monkeypatch.setattr("tasks.model_folder.find_spec", lambda name: None)
    (line,) = problems_of(adapter)
    assert line.startswith(f"{adapter / 'adapter_config.json'}: an adapter (such as LoRA) beside its base")
    assert "merge_and_unload" in line
    assert "remove the adapter's files to measure the base alone" in line


def test_beside_the_base_are_merged_with_peft(adapter, made):
    pytest.importorskip("peft", reason=BY_PEFT)
    lora = load_file(adapter / "adapter_model.safetensors")
    merged = {name: weights.clone() for name, weights in made.state_dict().items()}
    for layer in range(2):
        place = f"layers.{layer}.self_attn.q_proj"
        a, b = (lora[f"base_model.model.model.{place}.lora_{side}.weight"] for side in "AB")
        merged[f"model.{place}.weight"] += 2 * b @ a
    wanted = LlamaForCausalLM(made.config)
    wanted.load_state_dict(merged)
    with torch.no_grad():
        own = wanted(input_ids=IDS).logits
        base = made(input_ids=IDS).logits
    torch.testing.assert_close(logits(Model(name=str(adapter))), own, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(own, base, atol=0.01)


def test_belong_to_the_identity(adapter, monkeypatch):
    monkeypatch.setattr("tasks.model_folder.find_spec", lambda name: True)
    before = facts(Model(name=str(adapter))).fingerprint
    settings = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**settings, "lora_alpha": 8}))
    assert facts(Model(name=str(adapter))).fingerprint != before


@pytest.mark.parametrize("peft", [None, True])
def test_alone_are_refused(adapter, monkeypatch, peft):
    monkeypatch.setattr("tasks.model_folder.find_spec", lambda name: peft)
    (adapter / "config.json").unlink()
    (adapter / "model.safetensors").unlink()
    (line,) = problems_of(adapter)
    assert "an adapter (such as LoRA) without its base; wanted one model" in line


@pytest.mark.parametrize("kept", ["adapter_model.safetensors", "adapter_model-1.safetensors", "adapter_model.bin"])
def test_weights_without_their_settings_are_refused(adapter, kept):
    (adapter / "adapter_config.json").unlink()
    (adapter / "adapter_model.safetensors").rename(adapter / kept)
    (line,) = problems_of(adapter)
    assert line.startswith(f"{adapter / kept}: weights of an adapter (such as LoRA) without their adapter_config.json")
    assert "or remove the weights to measure the base alone" in line


@pytest.mark.parametrize("only", [None, "adapter_model.bin"])
def test_settings_without_their_weights_are_refused(adapter, monkeypatch, only):
    monkeypatch.setattr("tasks.model_folder.find_spec", lambda name: True)
    (adapter / "adapter_model.safetensors").rename(adapter / (only or "gone"))
    (line,) = problems_of(adapter)
    assert "an adapter (such as LoRA) without adapter_model.safetensors" in line
    assert (only is None) != (f", only {only}." in line)


class TestTheBase:
    """It is checked as if it were alone: what is missing would be random."""

    def test_without_some_of_its_weights(self, adapter):
        pytest.importorskip("peft", reason=BY_PEFT)
        rewrite(
            adapter / "model.safetensors",
            lambda weights: {name: part for name, part in weights.items() if "layers.1.mlp" not in name},
        )
        with pytest.raises(WrongModelError, match=r"3 weights that config\.json asks for are not in the weight files"):
            logits(Model(name=str(adapter)))

    def test_of_another_size(self, adapter):
        pytest.importorskip("peft", reason=BY_PEFT)
        config = json.loads((adapter / "config.json").read_text())
        (adapter / "config.json").write_text(json.dumps({**config, "intermediate_size": 16}))
        with pytest.raises(WrongModelError, match=r"6 weights have other shapes than config\.json asks for"):
            logits(Model(name=str(adapter)))

    def test_with_more_than_its_configuration_asks_for(self, adapter):
        pytest.importorskip("peft", reason=BY_PEFT)
        rewrite(
            adapter / "model.safetensors",
            lambda weights: {**weights, "model.layers.2.mlp.up_proj.weight": torch.zeros(8, 8)},
        )
        (note,) = LanguageModel(Model(name=str(adapter)), device="cpu").readings.notes
        assert "1 weight fewer" in note

    def test_quantized(self, adapter):
        for package in ("peft", "bitsandbytes", "accelerate"):
            pytest.importorskip(package, reason="quantization and adapters need it")
        with_adapter = logits(Model(name=str(adapter), quantization="int8"))
        (adapter / "adapter_config.json").unlink()
        (adapter / "adapter_model.safetensors").unlink()
        assert not torch.allclose(logits(Model(name=str(adapter), quantization="int8")), with_adapter, atol=0.1)


PLACE = "base_model.model.model.layers.{}.{}_proj.lora_{}.weight"
OTHERS: dict[str, tuple[Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]], str]] = {
    "a layer that the base lacks": (
        lambda weights: {
            **weights,
            PLACE.format(7, "self_attn.q", "A"): torch.ones(1, 8),
            PLACE.format(7, "self_attn.q", "B"): torch.ones(8, 1),
        },
        r"2 weights that neither its settings nor the base have a place for, such as .*layers\.7\.",
    ),
    "a projection that its settings leave out": (
        lambda weights: {
            **weights,
            PLACE.format(0, "self_attn.v", "A"): torch.ones(1, 8),
            PLACE.format(0, "self_attn.v", "B"): torch.ones(8, 1),
        },
        r"2 weights that neither",
    ),
    "one layer only": (
        lambda weights: {name: part for name, part in weights.items() if "layers.0." in name},
        r"2 weights missing that its settings ask for",
    ),
    "another rank": (
        lambda weights: {
            name: (part.repeat(2, 1) if "lora_A" in name else part.repeat(1, 2)) for name, part in weights.items()
        },
        r"4 weights of other shapes than its settings ask for",
    ),
}


@pytest.mark.parametrize("case", OTHERS)
def test_weights_of_another_adapter_are_refused(adapter, case):
    pytest.importorskip("peft", reason=BY_PEFT)
    change, message = OTHERS[case]
    rewrite(adapter / "adapter_model.safetensors", change)
    with pytest.raises(
        WrongModelError, match=rf"adapter_model\.safetensors: {message}.*Wanted an adapter of this base"
    ):
        logits(Model(name=str(adapter)))


class TestOnTheHub:
    """The base is that of the repository, wherever its adapter says that it was trained."""

    @pytest.fixture
    def pushed(self, adapter: Path, hub: Hub) -> Callable[[str], Model]:
        def push(base: str) -> Model:
            settings = json.loads((adapter / "adapter_config.json").read_text())
            (adapter / "adapter_config.json").write_text(json.dumps({**settings, "base_model_name_or_path": base}))
            hub.push("org/beside", {file.name: file.read_bytes() for file in adapter.iterdir()})
            return pinned(Model(name="org/beside"))

        return push

    @pytest.mark.parametrize("base", ["org/base", "org/beside", "org/gone", "/gone", "a folder"])
    def test_is_the_same_as_in_a_folder(self, hub, pushed, adapter, folder, tmp_path, base):
        pytest.importorskip("peft", reason=BY_PEFT)
        other = {file.name: file.read_bytes() for file in folder.iterdir() if "adapter" not in file.name}
        hub.push("org/base", other)
        if base == "a folder":
            base = str(tmp_path / "trained")
            shutil.copytree(folder, base, ignore=shutil.ignore_patterns("adapter*"))
        rewrite(adapter / "model.safetensors", lambda weights: {name: part * 1.5 for name, part in weights.items()})
        wanted = logits(Model(name=str(adapter)))
        model = pushed(base)
        hub.push("org/beside", {"config.json": b"{}"})  # the hub moves on
        torch.testing.assert_close(logits(model), wanted)

    def test_is_checked_as_if_it_were_alone(self, pushed, adapter):
        pytest.importorskip("peft", reason=BY_PEFT)
        config = json.loads((adapter / "config.json").read_text())
        (adapter / "config.json").write_text(json.dumps({**config, "intermediate_size": 16}))
        with pytest.raises(WrongModelError, match=r"org/beside: 6 weights have other shapes than config\.json asks"):
            logits(pushed("org/base"))

    def test_without_the_weights_of_its_adapter(self, pushed, adapter):
        pytest.importorskip("peft", reason=BY_PEFT)
        weights = load_file(adapter / "adapter_model.safetensors")
        (adapter / "adapter_model.safetensors").unlink()
        torch.save(weights, adapter / "adapter_model.bin")
        with pytest.raises(TaskError, match=r"does not appear to have a file named adapter_model\.safetensors"):
            logits(pushed("org/base"))
