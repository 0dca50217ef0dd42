"""The task prefix, on stories260K: k trained key-value pairs in every layer, by the engine that crams."""

import pytest
import torch
from transformers import AutoModelForCausalLM, DynamicCache, MambaConfig, MambaForCausalLM

from tasks.language_model import LanguageModel
from tasks.prefix import PrefixTask
from tasks.values import EngineSettings, Lossless, Probe, Question, TaskError
from tests.device import DEVICE

TASK = PrefixTask()
ASKED = Question(prefix="bos", recipe=TASK.recipe({"steps": 60, "patience": 30}))
HEADS, NUMBERS, LAYERS = 4, 8, 5
WIDTH = LAYERS * 2 * HEADS * NUMBERS
"""Of stories260K."""


@pytest.fixture(scope="module")
def outcomes(model, run_engine, story_probes):
    """Memories of one pair and of two in one batch."""
    engine = TASK.open_engine(model, ASKED, EngineSettings(device=DEVICE, batch_cost_tokens=64))
    probes: list[Probe] = [*story_probes(2, longest=8), *story_probes(1, longest=8, num_vectors=2)]
    return list(run_engine(engine, probes).values())


def test_what_is_proven_comes_out_of_plain_transformers(outcomes, stories_model):
    plain = AutoModelForCausalLM.from_pretrained(stories_model).eval()
    for item in outcomes:
        assert isinstance(item.outcome, Lossless)
        found = item.outcome.measurement
        assert found.memory_shape == (item.probe.num_vectors, WIDTH)
        assert found.memory is not None
        pairs = torch.frombuffer(bytearray(found.memory), dtype=torch.float32)
        layers = pairs.view(-1, LAYERS, 2, HEADS, NUMBERS).permute(1, 2, 3, 0, 4)
        cache = DynamicCache()
        for number, (keys, values) in enumerate(layers):
            cache.update(keys[None], values[None], number)
        token, given = plain.config.bos_token_id, []
        for _ in range(found.exact_prefix):
            token = int(plain(torch.tensor([[token]]), past_key_values=cache, use_cache=True).logits[0, -1].argmax())
            given.append(token)
        assert tuple(given) == item.probe.tokens[: found.exact_prefix]


def test_the_prover_agrees(model, outcomes):
    prove = TASK.open_prover(model, ASKED, DEVICE)
    for item in outcomes:
        found, tokens = item.outcome.measurement, item.probe.tokens
        proof = prove(found.memory, num_vectors=item.probe.num_vectors, tokens=tokens[: found.exact_prefix])
        assert proof.exact_prefix == found.exact_prefix
        assert proof.margin == pytest.approx(found.margin, abs=1e-3)


def test_a_pair_of_zeros_is_none(language_model):
    """Memories of unlike k are padded with zeros in a batch, and attention does not see them."""
    generator = torch.Generator().manual_seed(0)
    pairs_BKW = torch.randn(1, 2, WIDTH, generator=generator).to(DEVICE)
    inputs_BTD = language_model.embed(torch.tensor([[1, 5, 9]], device=DEVICE))
    padded_BKW = torch.nn.functional.pad(pairs_BKW, (0, 0, 0, 3))
    alone, padded = (language_model.hidden(inputs_BTD, pairs_BKW=each) for each in (pairs_BKW, padded_BKW))
    assert torch.allclose(alone, padded, atol=1e-5)
    assert not torch.allclose(alone, language_model.hidden(inputs_BTD), atol=1e-2)


def test_the_configuration_states_the_width(model, language_model):
    facts = TASK.facts(model)
    assert facts.memory_width == language_model.pair_width == WIDTH
    assert (facts.context, TASK.longest_text(facts, num_vectors=3, question=ASKED)) == (512, 509)


def test_a_model_without_keys_and_values_is_refused():
    torch.manual_seed(0)
    config = MambaConfig(vocab_size=60, hidden_size=16, num_hidden_layers=2, state_size=4)
    mamba = LanguageModel(MambaForCausalLM(config), device=DEVICE)
    with pytest.raises(TaskError, match="Wanted a transformer"):
        _ = mamba.pair_width


def test_what_it_cannot_be_asked(model):
    with pytest.raises(TaskError, match="Wanted prefix: bos, or a context"):
        TASK.longest_text(TASK.facts(model), num_vectors=1, question=Question())
    with pytest.raises(TaskError, match="Wanted optimizer: adamw"):
        TASK.recipe({"optimizer": "sphere"})
    assert TASK.recipe("default") == TASK.recipe({})
    assert TASK.recipe({})["learning_rate"] == TASK.recipe({"patience": 9})["learning_rate"] == TASK.learning_rate
    assert TASK.recipe({"learning_rate": 1.0})["learning_rate"] == 1.0
    absolute = TASK.recipe({"rate_unit": "absolute"})
    assert absolute["learning_rate"] != TASK.learning_rate
    assert (
        TASK.tunable(absolute)["learning_rate"] != TASK.learning_rates == TASK.tunable(TASK.recipe({}))["learning_rate"]
    )
    assert TASK.recipe("default")["optimizer"] == TASK.recipe("random")["optimizer"] == "adamw"
