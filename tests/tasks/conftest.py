from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tasks.contract import Engine
from tasks.cramming import CrammingTask
from tasks.language_model import LanguageModel
from tasks.tokenizer import HubCodec
from tasks.values import EngineSettings, Finished, Model, Probe, Question
from tests.device import DEVICE

SIZES: dict[str, Any] = {
    "vocab_size": 16,
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 32,
}
"""Of a Llama that is made in no time."""
DEEPSEEK: dict[str, Any] = {
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "first_k_dense_replace": 1,
    "q_lora_rank": 8,
    "kv_lora_rank": 8,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 4,
    "v_head_dim": 8,
    "n_group": 1,
    "topk_group": 1,
}
"""What DeepSeek V3, and models made after it, have beside the sizes of a Llama of width 16."""
DEFAULT = Question(recipe={"radius": 10.0}, growth=None)
"""What a sweep of stories260K asks: its radius is 10."""


@pytest.fixture(scope="module")
def made() -> LlamaForCausalLM:
    """A random model."""
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**SIZES, initializer_range=0.5))


@pytest.fixture
def folder(made: LlamaForCausalLM, tmp_path: Path) -> Path:
    """The same, as transformers saves it."""
    made.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture(scope="session")
def model(stories_model: Path) -> Model:
    return Model(name=str(stories_model))


@pytest.fixture(scope="session")
def language_model(model: Model) -> LanguageModel:
    """The one that all tests read: who changes a model loads his own."""
    return LanguageModel(model, device=DEVICE)


@pytest.fixture(scope="session")
def open_engine(model: Model) -> Callable[..., Engine]:
    def make(question: Question | None = None, *, deterministic: bool = False) -> Engine:
        settings = EngineSettings(device=DEVICE, deterministic=deterministic, batch_cost_tokens=64)
        return CrammingTask().open_engine(model, question or DEFAULT, settings)

    return make


@pytest.fixture(scope="session")
def story_probes(model: Model, stories: list[str]) -> Callable[..., list[Probe]]:
    codec = HubCodec(model)

    def make(count: int, *, longest: int = 10, length: int = 4, num_vectors: int = 1) -> list[Probe]:
        """Probes of the first stories, cut short so that a test stays quick."""
        return [
            Probe(
                probe_id=f"probe {number} {num_vectors}",
                search_id=f"search {number} {num_vectors}",
                number=0,
                sample_id=f"sample {number}",
                tokens=codec.encode(text).tokens[:longest],
                length=length,
                num_vectors=num_vectors,
            )
            for number, text in enumerate(stories[:count])
        ]

    return make


@pytest.fixture(scope="session")
def run_engine() -> Callable[..., dict[str, Finished]]:
    def run(engine: Engine, probes: Sequence[Probe]) -> dict[str, Finished]:
        engine.submit(probes, num_open=len(probes))
        finished: dict[str, Finished] = {}
        while engine.num_held:
            finished.update({item.probe.probe_id: item for item in engine.step()})
        return finished

    return run
