"""What stands visibly before a memory, and the controls: on stories260K."""

import math

import pytest
import torch
from safetensors.torch import load
from transformers import AutoModelForCausalLM

from tasks.coder import compress, decompress
from tasks.cramming import CrammingTask
from tasks.layout import Cramming
from tasks.one_step import OneStepTask
from tasks.prover import LayoutProver
from tasks.recipe import RANDOM
from tasks.scoring import score_without_memory
from tasks.values import EngineSettings, Lossless, Lossy, Probe, Question
from tests.device import DEVICE

CONTEXT = 16
AFTER = Question(recipe={"radius": 30.0}, growth=None, context=CONTEXT)


def probe_of(tokens: tuple[int, ...], context: tuple[int, ...], *, num_vectors: int = 1, length: int = 4) -> Probe:
    return Probe(
        probe_id="probe",
        search_id="search",
        number=0,
        sample_id="sample",
        tokens=tokens,
        context=context,
        length=length,
        num_vectors=num_vectors,
    )


@pytest.fixture(scope="module")
def text(story_probes) -> tuple[int, ...]:
    (probe,) = story_probes(1, longest=CONTEXT + 8)
    return probe.tokens


@pytest.fixture(scope="module")
def finished(open_engine, run_engine, text):
    (item,) = run_engine(open_engine(AFTER), [probe_of(text[CONTEXT:], text[:CONTEXT])]).values()
    return item


def test_a_memory_is_proven_after_its_context_by_plain_transformers(finished, stories_model, text):
    assert isinstance(finished.outcome, Lossless)
    found = finished.outcome.measurement
    assert found.proven_length == 8
    assert found.memory is not None
    plain = AutoModelForCausalLM.from_pretrained(stories_model).eval()
    memory = torch.frombuffer(bytearray(found.memory), dtype=torch.float32).view(1, 1, -1)
    embed = plain.get_input_embeddings()
    inputs, given = torch.cat([embed(torch.tensor([text[:CONTEXT]])), memory], dim=1), []
    for _ in range(8):
        logits = plain(inputs_embeds=inputs).logits[0, -1]
        given.append(int(logits.argmax()))
        inputs = torch.cat([inputs, embed(torch.tensor([given[-1:]]))], dim=1)
    assert tuple(given) == text[CONTEXT:]


def test_without_memory_the_context_predicts_every_token(finished, stories_model, text):
    """Nothing is charged ln V: the last token of the context predicts t_1."""
    plain = AutoModelForCausalLM.from_pretrained(stories_model).eval()
    logits = plain(torch.tensor([text])).logits[0, CONTEXT - 1 : -1]
    wanted = torch.nn.functional.cross_entropy(logits, torch.tensor(text[CONTEXT:]), reduction="sum")
    assert finished.outcome.measurement.nats_without_memory == pytest.approx(float(wanted.detach()), rel=1e-4)


def test_a_prover_needs_the_same_context(finished, language_model, text):
    found = finished.outcome.measurement
    prover = LayoutProver(language_model, Cramming(AFTER), AFTER)
    tokens, context = text[CONTEXT:], text[:CONTEXT]
    assert prover(found.memory, num_vectors=1, tokens=tokens, context=context).exact_prefix == 8
    assert prover.accuracy(found.memory, num_vectors=1, tokens=tokens, context=context) == 1.0
    assert prover(found.memory, num_vectors=1, tokens=tokens, context=context[::-1]).exact_prefix < 8


def test_the_coder_reads_it_first(language_model, text):
    context, tokens = text[:CONTEXT], text[CONTEXT:]
    packed = compress(language_model, tokens, question=AFTER, context=context)
    assert decompress(language_model, packed, 8, question=AFTER, context=context) == tokens
    ideal = score_without_memory(language_model, tokens, context=context, question=AFTER).nats / math.log(2)
    assert len(packed) * 8 <= ideal + 64


def test_a_snapshot_continues_after_it(open_engine, run_engine, finished, text):
    probe = probe_of(text[CONTEXT:], text[:CONTEXT])
    first = open_engine(AFTER, deterministic=True)
    first.submit([probe], num_open=1)
    first.step()
    (saved,) = first.snapshots()
    whole, continued = (
        run_engine(open_engine(AFTER, deterministic=True), [each])["probe"].outcome.measurement
        for each in (probe, Probe(**{f: getattr(probe, f) for f in probe.__slots__} | {"snapshot": saved.state}))
    )
    assert (whole.memory, whole.steps) == (continued.memory, continued.steps)


def test_one_step_reads_it_too(model, run_engine, text):
    asked = Question(recipe=OneStepTask().recipe({"radius": 3.0}), context=CONTEXT, prefix="bos")
    engine = OneStepTask().open_engine(model, asked, EngineSettings(device=DEVICE))
    probe = probe_of(text[CONTEXT : CONTEXT + 2], text[:CONTEXT], num_vectors=2, length=2)
    (item,) = run_engine(engine, [probe]).values()
    assert item.outcome.measurement.proven_length == 2


def test_it_takes_its_part_of_the_models_context(model):
    task = CrammingTask()
    facts = task.facts(model)
    limits = [
        task.longest_text(facts, num_vectors=2, question=question)
        for question in (Question(), AFTER, Question(prefix="bos", context=CONTEXT))
    ]
    assert limits == [511, 511 - CONTEXT, 510 - CONTEXT]


@pytest.mark.parametrize("optimizer", RANDOM)
def test_a_random_memory_stays_as_it_was_drawn(model, run_engine, text, optimizer):
    recipe = RANDOM[optimizer].model_dump() | ({"radius": 30.0} if optimizer == "sphere" else {})
    settings, probe = EngineSettings(device=DEVICE), probe_of(text, (), length=len(text))
    (item,) = run_engine(
        CrammingTask().open_engine(model, Question(recipe=recipe, growth=None), settings), [probe]
    ).values()
    assert isinstance(item.outcome, Lossy)
    assert (item.outcome.measurement.steps, item.outcome.measurement.proven_length) == (1, 0)
    patient = Question(recipe={**recipe, "steps": 9, "patience": 9}, growth=None)
    engine = CrammingTask().open_engine(model, patient, settings)
    engine.submit([probe], num_open=1)
    memories: list[torch.Tensor] = []
    for _ in range(3):
        engine.step()
        memories.append(load(engine.snapshots()[0].state)["memory_BKD"])
    assert torch.allclose(memories[2], memories[0], rtol=1e-5)
