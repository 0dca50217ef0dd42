"""A model of transformers as vectors in, logits out: from a folder, or as it was made."""

import json
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tasks import model_files
from tasks.language_model import LanguageModel
from tasks.model_cache import weights_are_here
from tasks.values import Model, TaskError
from tests.device import DEVICE


@pytest.fixture
def made() -> LlamaForCausalLM:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=16,
            hidden_size=8,
            intermediate_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=12,
            bos_token_id=3,
        )
    )


def test_a_model_as_it_was_made_is_that_of_its_folder(made: LlamaForCausalLM, tmp_path: Path):
    made.save_pretrained(tmp_path)
    given, loaded = LanguageModel(made, device=DEVICE), LanguageModel(Model(name=str(tmp_path)), device=DEVICE)
    inputs_BTD = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    assert torch.equal(given.head(given.hidden(inputs_BTD)), loaded.head(loaded.hidden(inputs_BTD)))
    for name in ("dtype", "context", "bos", "vocabulary", "embedding_width", "embedding_std"):
        assert getattr(given, name) == getattr(loaded, name)
    assert (given.context, given.bos) == (12, 3)


def test_its_weights_are_frozen(made: LlamaForCausalLM):
    LanguageModel(made, device=DEVICE)
    assert not any(part.requires_grad for part in made.parameters())
    assert not made.training


@pytest.mark.parametrize("quantization", ["int8", "nf4"])
def test_weights_are_quantized_as_they_are_loaded_and_the_memory_gets_its_gradient(stories_model, quantization, caplog):
    pytest.importorskip("bitsandbytes", reason="needs the extra `quantized`")
    plain = Model(name=str(stories_model))
    quantized = replace(plain, quantization=quantization)
    assert model_files.facts(quantized).fingerprint != model_files.facts(plain).fingerprint
    model, whole = LanguageModel(quantized, device=DEVICE), LanguageModel(plain, device=DEVICE)
    memory = torch.randn(1, 4, 64, generator=torch.Generator().manual_seed(0)) * model.embedding_std
    memory = memory.to(DEVICE).requires_grad_()
    logits = model.head(model.hidden(memory))
    (gradient,) = torch.autograd.grad(logits.logsumexp(-1).sum(), memory)
    assert gradient.isfinite().all()
    assert gradient.abs().sum() > 0
    own = whole.head(whole.hidden(memory))
    # The arithmetic of the training pass is that of the verdict.
    assert torch.equal(logits, model.head(model.hidden(memory.detach())))
    # Other numbers, and not far from those of the whole weights.
    assert not torch.equal(logits, own)
    assert torch.nn.functional.cosine_similarity(logits.flatten(), own.flatten(), dim=0) > 0.9
    assert not caplog.records, "a line for each layer and step"


def test_quantization_without_its_library_reports_what_to_install(stories_model, monkeypatch):
    monkeypatch.setattr(model_files, "find_spec", lambda name: None)
    with pytest.raises(TaskError, match=r"needs bitsandbytes and accelerate.*capsweep\[quantized\]"):
        model_files.facts(Model(name=str(stories_model), quantization="int8"))


class TestWeightsAreHere:
    """In the hub's cache as huggingface_hub lays it out."""

    @pytest.fixture
    def snapshot(self, tmp_path, monkeypatch) -> Path:
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
        repository = tmp_path / "models--org--name"
        (repository / "refs").mkdir(parents=True)
        (repository / "refs" / "main").write_text("c0ffee")
        snapshot = repository / "snapshots" / "c0ffee"
        snapshot.mkdir(parents=True)
        (snapshot / "config.json").write_text("{}")
        return snapshot

    def test_not_with_nothing_but_its_configuration(self, snapshot):
        assert not weights_are_here(Model(name="org/name"))
        assert not weights_are_here(Model(name="org/other"))

    def test_with_its_weights_of_that_revision(self, snapshot):
        (snapshot / "model.safetensors").write_bytes(b"")
        assert weights_are_here(Model(name="org/name"))
        assert not weights_are_here(Model(name="org/name", revision="step1000"))

    def test_in_shards_only_with_all_of_them(self, snapshot):
        shards = {"a.weight": "model-00001-of-00002.safetensors", "b.weight": "model-00002-of-00002.safetensors"}
        (snapshot / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
        (snapshot / shards["a.weight"]).write_bytes(b"")
        assert not weights_are_here(Model(name="org/name"))
        (snapshot / shards["b.weight"]).write_bytes(b"")
        assert weights_are_here(Model(name="org/name"))

    def test_a_folder_is_here(self, stories_model):
        assert weights_are_here(Model(name=str(stories_model)))
