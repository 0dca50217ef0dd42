"""Which files of weights belong to a model's identity: another model never passes for the one that was measured."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

from tasks.language_model import LanguageModel
from tasks.model_files import facts
from tasks.model_folder import folder_problems
from tasks.values import Model, TaskError
from tasks.weight_files import weight_files

IDS = torch.arange(8)[None]
Weights = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def made() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=16, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2)
    return LlamaForCausalLM(config)


@pytest.fixture
def folder(made: LlamaForCausalLM, tmp_path: Path) -> Path:
    """A model without weights."""
    made.save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    return tmp_path / "model"


def index(folder: Path, name: str, weights: Weights, places: list[str]) -> dict[str, Weights]:
    """Write an index that puts the weights into these places by turns; return what belongs into each."""
    shards: dict[str, Weights] = {place: {} for place in places}
    for number, (key, part) in enumerate(weights.items()):
        shards[places[number % len(places)]][key] = part
    places_of = {key: place for place, shard in shards.items() for key in shard}
    (folder / name).write_text(json.dumps({"metadata": {}, "weight_map": places_of}))
    return shards


def pickled(folder: Path, weights: Weights) -> None:
    torch.save(weights, folder / "pytorch_model.bin")


def pickled_shards(folder: Path, weights: Weights) -> None:
    (folder / "more").mkdir(exist_ok=True)
    for place, shard in index(
        folder, "pytorch_model.bin.index.json", weights, ["pytorch_model-1.bin", "weights-2.bin", "more/3.bin"]
    ).items():
        torch.save(shard, folder / place)


def tell(folder: Path, place: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "transformers_weights": place}))


def elsewhere(folder: Path, weights: Weights) -> None:
    tell(folder, "sub/w.safetensors")
    (folder / "sub").mkdir(exist_ok=True)
    save_file(weights, folder / "sub" / "w.safetensors", metadata={"format": "pt"})


def shards_elsewhere(folder: Path, weights: Weights) -> None:
    tell(folder, "sub/w.safetensors.index.json")
    (folder / "sub").mkdir(exist_ok=True)
    shards = index(folder, "sub/w.safetensors.index.json", weights, ["sub/1.safetensors", "sub/2.safetensors"])
    for place, shard in shards.items():
        save_file(shard, folder / place, metadata={"format": "pt"})


@pytest.mark.parametrize("stray", [None, "training_state.safetensors"])
@pytest.mark.parametrize("write", [pickled, pickled_shards, elsewhere, shards_elsewhere])
def test_whatever_transformers_opens_belongs_to_the_identity(
    folder: Path, made: LlamaForCausalLM, write: Callable[[Path, Weights], None], stray: str | None
):
    model = Model(name=str(folder), allow_pickle=True)
    if stray:
        save_file({"step": torch.zeros(1)}, folder / stray)
    found: list[tuple[str, torch.Tensor]] = []
    for factor in (1, 1.5):
        write(folder, {name: (part * factor).clone() for name, part in made.state_dict().items()})
        loaded = LanguageModel(model, device="cpu")
        with torch.no_grad():
            found.append((facts(model).fingerprint, loaded.head(loaded.hidden(loaded.embed(IDS)))))
    assert not torch.allclose(found[0][1], found[1][1])
    assert found[0][0] != found[1][0]


def test_pickles_that_transformers_does_not_open_do_not_belong_to_it(folder, made):
    model = Model(name=str(folder), allow_pickle=True)
    made.save_pretrained(folder)
    before = facts(model).fingerprint
    pickled(folder, made.state_dict())
    assert facts(model).fingerprint == before
    assert weight_files(model) == [folder / "model.safetensors"]


@pytest.mark.parametrize("stray", ["training_state.safetensors", "adapter_model.safetensors"])
def test_other_weights_are_no_model(folder, stray, monkeypatch):
    monkeypatch.setattr("tasks.model_folder.find_spec", lambda name: True)  # as if peft were installed
    save_file({"step": torch.zeros(1)}, folder / stray)
    if "adapter" in stray:
        (folder / "adapter_config.json").write_text("{}")
    (line,) = folder_problems(Model(name=str(folder)))
    assert f"no model.safetensors or model.safetensors.index.json in this folder, only {stray}" in line


def test_weights_that_the_configuration_names_and_that_are_not_there(folder, made):
    made.save_pretrained(folder)
    tell(folder, "sub/w.safetensors")
    with pytest.raises(TaskError, match=r"config\.json: names sub/w\.safetensors as the file of the weights, which"):
        facts(Model(name=str(folder)))
