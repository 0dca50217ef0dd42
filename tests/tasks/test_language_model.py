"""A model of transformers as vectors in, logits out: from a folder, or as it was made."""

from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tasks.contract import Model
from tasks.language_model import LanguageModel


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
    given, loaded = LanguageModel(made, device="cpu"), LanguageModel(Model(name=str(tmp_path)), device="cpu")
    inputs_BTD = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(given.head(given.hidden(inputs_BTD)), loaded.head(loaded.hidden(inputs_BTD)))
    for name in ("dtype", "context", "bos", "vocabulary", "embedding_width", "embedding_std"):
        assert getattr(given, name) == getattr(loaded, name)
    assert (given.context, given.bos) == (12, 3)


def test_its_weights_are_frozen(made: LlamaForCausalLM):
    LanguageModel(made, device="cpu")
    assert not any(part.requires_grad for part in made.parameters())
    assert not made.training
