"""The context ends where a model begins to read otherwise, and a note says why."""

from typing import Any

import pytest
import torch
import transformers
from transformers import BloomConfig, DogeConfig, Phi3Config

from tasks.language_model import LanguageModel
from tasks.load_checks import check_ways
from tasks.model_config import context_of, notes_on_context
from tasks.values import WrongModelError
from tests.tasks.conftest import DEEPSEEK

BEGINS_AT = 8
SMALL: dict[str, Any] = {
    "vocab_size": 24,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
INDEXED: dict[str, Any] = {
    **SMALL,
    **DEEPSEEK,
    "index_head_dim": 8,
    "index_n_heads": 2,
    "index_topk": BEGINS_AT,
}
SPARSE: dict[str, dict[str, Any]] = {
    "Doge": {**SMALL, "keep_window_size": BEGINS_AT},
    "DeepseekV32": INDEXED,
    "GlmMoeDsa": INDEXED,
    "AXK2": INDEXED,
    "HYV4": INDEXED,
}
"""Families of transformers whose attention leaves tokens out of long texts, and a small configuration of each."""


def make(family: str) -> Any:
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**SPARSE[family])
    made = getattr(transformers, f"{family}ForCausalLM")(config).eval()
    with torch.no_grad():
        for weights in made.parameters():
            if weights.ndim == 2:
                weights.mul_(6)  # as they begin, random models hardly tell tokens apart
    return made


@pytest.mark.parametrize("family", SPARSE)
def test_texts_end_where_attention_begins_to_leave_tokens_out(family):
    made = make(family)
    model = LanguageModel(made, device="cpu")
    assert model.context == BEGINS_AT
    (note,) = notes_on_context(made.config)
    assert "leaves tokens out once a text has more than 8 positions" in note
    assert "texts are limited to 8 positions of its 64" in note
    # Up to there, no token depends on later ones.
    tokens = torch.randint(3, 24, (1, BEGINS_AT), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        whole, half = (model.head(model.hidden(model.embed(read))) for read in (tokens, tokens[:, : BEGINS_AT // 2]))
    torch.testing.assert_close(whole[:, : BEGINS_AT // 2], half)


@pytest.mark.parametrize("family", SPARSE)
def test_the_check_at_load_sees_such_attention_if_it_reaches_it(family):
    with pytest.raises(WrongModelError):
        check_ways(make(family), family, device=torch.device("cpu"), context=64)


@pytest.mark.parametrize("begins_at", [64, 2048])
def test_attention_that_leaves_nothing_out_of_the_longest_input_is_no_matter(begins_at):
    config = DogeConfig(**{**SMALL, "keep_window_size": begins_at})
    assert context_of(config) == 64
    assert notes_on_context(config) == ()


def test_the_first_length_counts_and_its_reason_is_said():
    rope: dict[str, Any] = {"type": "longrope", "short_factor": [1.0] * 4, "long_factor": [9.0] * 4}
    settings: dict[str, Any] = {**SMALL, "original_max_position_embeddings": 32, "rope_scaling": rope}
    for begins_at, reason in ((16, "its attention leaves tokens out"), (48, "its RoPE factors change")):
        settings["keep_window_size"] = begins_at
        config = Phi3Config(**settings)
        assert context_of(config) == min(begins_at, 32)
        (note,) = notes_on_context(config)
        assert note.startswith(reason)


def test_without_a_longest_input_the_note_names_none():
    more: dict[str, Any] = {"index_topk": 16}
    config = BloomConfig(**more)
    assert context_of(config) == 16
    (note,) = notes_on_context(config)
    assert note.endswith("texts are limited to 16 positions.")
