"""Texts that share a vector, on stories260K: each has an e of its own, all have one m, and their tokens take turns."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tasks.coder import compress, decompress
from tasks.layout import OneStep
from tasks.one_step import OneStepTask
from tasks.scoring import score_with_memory, score_without_memory
from tasks.turns import apart, in_turns
from tasks.values import EngineSettings, Lossless, Probe, Question, TaskError
from tests.device import DEVICE

TASK = OneStepTask()
NUM_TEXTS = 3
RECIPE = TASK.recipe({"radius": 3.0, "steps": 150, "patience": 40})
SHARED = Question(num_texts=NUM_TEXTS, recipe=RECIPE)


def group_of(probes: list[Probe], name: str, *, limit: int) -> Probe:
    """One probe of the texts of several, which take turns, up to `limit` tokens."""
    tokens = in_turns([probe.tokens for probe in probes])[:limit]
    changes = {"probe_id": f"probe {name}", "search_id": f"search {name}", "num_vectors": len(probes) + 1}
    return replace(probes[0], tokens=tokens, length=2, **changes)


@pytest.fixture(scope="module")
def groups(story_probes: Callable[..., list[Probe]]) -> list[Probe]:
    """Two groups, one of which ends within a turn."""
    stories = story_probes(2 * NUM_TEXTS, longest=12)
    return [
        group_of(stories[:NUM_TEXTS], "whole", limit=36),
        group_of(stories[NUM_TEXTS:], "within a turn", limit=19),
    ]


@pytest.mark.parametrize(
    ("prefix", "deterministic"),
    [
        (None, False),
        pytest.param("bos", False, marks=pytest.mark.slow),
        pytest.param("bos", True, marks=pytest.mark.slow),
    ],
)
def test_each_text_comes_out_of_its_own_pass_of_plain_torch(
    language_model, model, groups, run_engine, prefix, deterministic
):
    question = replace(SHARED, prefix=prefix)
    engine = TASK.open_engine(model, question, EngineSettings(device=DEVICE, deterministic=deterministic))
    for item in run_engine(engine, groups).values():
        assert isinstance(item.outcome, Lossless)
        found = item.outcome.measurement
        assert found.exact_prefix > NUM_TEXTS
        assert found.memory_shape == (NUM_TEXTS + 1, 64)
        assert found.memory is not None
        *first, m = torch.frombuffer(bytearray(found.memory), dtype=torch.float32).view(found.memory_shape).to(DEVICE)
        wanted = apart(item.probe.tokens[: found.exact_prefix], NUM_TEXTS)
        before = [] if prefix is None else [language_model.embed(torch.tensor([language_model.bos], device=DEVICE))[0]]
        for e, text in zip(first, wanted, strict=True):
            inputs = torch.stack([*before, e, *[m] * (len(text) - 1)])[None]
            decoded = language_model.head(language_model.hidden(inputs)[:, len(before) :]).argmax(-1)[0]
            assert tuple(decoded.tolist()) == text


def test_the_prover_and_the_scores_agree_with_those_of_each_text(language_model, model, groups):
    probe = groups[1]
    memory_KD = torch.randn(NUM_TEXTS + 1, 64, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    both = score_with_memory(
        language_model, OneStep(SHARED), memory_KD[None], probe.tokens, num_vectors=NUM_TEXTS + 1, question=SHARED
    )
    alone = [
        score_with_memory(
            language_model,
            OneStep(Question()),
            memory_KD[None, [text, NUM_TEXTS]],
            tokens,
            num_vectors=2,
            question=Question(),
        )
        for text, tokens in enumerate(apart(probe.tokens, NUM_TEXTS))
    ]
    assert both.nats_by_token == pytest.approx(in_turns([scored.nats_by_token for scored in alone]), abs=1e-3)
    assert both.correct == in_turns([scored.correct for scored in alone])
    proofs = TASK.open_prover(model, SHARED, DEVICE).together(
        [memory_KD.cpu().numpy().tobytes()] * 2, num_vectors=NUM_TEXTS + 1, texts=[probe.tokens, probe.tokens[:4]]
    )
    assert proofs[0].exact_prefix == (both.length if both.first_error is None else both.first_error)
    assert proofs[1].tokens == proofs[0].tokens[:4]


@pytest.mark.parametrize("prefix", [None, "bos"])
def test_without_memory_each_text_is_read_and_compressed_by_itself(language_model, groups, prefix):
    question = replace(SHARED, prefix=prefix)
    tokens = groups[1].tokens
    both = score_without_memory(language_model, tokens, question=question)
    alone = [
        score_without_memory(language_model, text, question=Question(prefix=prefix))
        for text in apart(tokens, NUM_TEXTS)
    ]
    assert both.nats == pytest.approx(sum(scored.nats for scored in alone))
    assert both.nats_by_token == in_turns([scored.nats_by_token for scored in alone])
    assert both.num_correct == sum(scored.num_correct for scored in alone)
    first_error = next(i for i, correct in enumerate(both.correct) if not correct)
    assert both.first_error == first_error
    packed = compress(language_model, tokens, question=question)
    assert decompress(language_model, packed, len(tokens), question=question) == tokens
    assert score_without_memory(language_model, tokens[:2], question=question).length == 2


@pytest.mark.slow
def test_a_slot_goes_on_from_its_snapshot(model, groups, run_engine):
    settings = EngineSettings(device=DEVICE, deterministic=True)
    asked = replace(SHARED, recipe=TASK.recipe({"radius": 3.0, "steps": 20}))
    first = TASK.open_engine(model, asked, settings)
    first.submit(groups[:1], num_open=1)
    for _ in range(10):
        first.step()
    (saved,) = first.snapshots()
    whole, continued = (
        run_engine(TASK.open_engine(model, asked, settings), [probe])["probe whole"].outcome.measurement
        for probe in (groups[0], replace(groups[0], snapshot=saved.state))
    )
    assert (whole.memory, whole.steps) == (continued.memory, continued.steps)


def test_each_text_has_the_whole_context(model):
    facts = TASK.facts(model)
    limits = [
        TASK.longest_text(facts, num_vectors=NUM_TEXTS + 1, question=replace(SHARED, prefix=prefix))
        for prefix in (None, "bos")
    ]
    assert limits == [NUM_TEXTS * 512, NUM_TEXTS * 511]


def test_the_whole_context_of_each_text_can_be_read(language_model):
    question = Question(num_texts=2)
    memory_KD = torch.randn(3, 64, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    tokens_BL = torch.ones(1, 2 * 512, dtype=torch.int64, device=DEVICE)
    decoded = OneStep(question).decode(language_model, memory_KD[None], tokens_BL, tokens_BL[:, :0])
    assert decoded.tokens_BL.shape == (1, 1024)


def test_any_other_number_of_vectors_is_refused(model):
    with pytest.raises(TaskError, match=r"an e for each of 3 texts, and m\. Wanted \[4\]"):
        TASK.longest_text(TASK.facts(model), num_vectors=2, question=SHARED)


@given(st.integers(1, 5).flatmap(lambda n: st.lists(st.integers(), max_size=30).map(lambda values: (n, tuple(values)))))
def test_turns_are_taken_and_given_back(drawn: tuple[int, tuple[int, ...]]):
    num_texts, sequence = drawn
    parts = apart(sequence, num_texts)
    assert in_turns(parts) == sequence
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
