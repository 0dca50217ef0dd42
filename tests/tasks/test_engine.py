"""The batched engine on a real model: what it calls lossless has been decoded, whoever its neighbours are."""

from dataclasses import replace

import pytest
import torch

from tasks.engine import BatchedEngine
from tasks.language_model import LanguageModel
from tasks.layout import Cramming
from tasks.prover import LayoutProver
from tasks.recipe import make_recipe
from tasks.slots import MARKS
from tasks.starts import Starts
from tasks.values import EngineSettings, Failed, Finished, Lossless, Lossy, Measurement, Question
from tests.device import DEVICE


def measurement(finished: Finished) -> Measurement:
    assert not isinstance(finished.outcome, Failed)
    return finished.outcome.measurement


@pytest.fixture(scope="module")
def finished(open_engine, run_engine, story_probes) -> dict[str, Finished]:
    return run_engine(open_engine(), [*story_probes(3, longest=8), *story_probes(1, longest=8, num_vectors=2)])


def test_short_texts_are_lossless_and_grow_to_their_end(finished):
    for item in finished.values():
        assert isinstance(item.outcome, Lossless)
        found = measurement(item)
        assert found.exact_prefix == found.proven_length == len(item.probe.tokens)
        assert found.failed_length is None
        assert (found.token_accuracy, found.first_error) == (1.0, None)
        assert found.steps_to_proof <= found.steps


def test_the_stored_memory_gives_the_text_back_by_itself(finished, language_model):
    prover = LayoutProver(language_model, Cramming(Question()), Question())
    for item in finished.values():
        memory = measurement(item).memory
        assert memory is not None
        proof = prover(memory, num_vectors=item.probe.num_vectors, tokens=item.probe.tokens)
        assert proof.tokens == item.probe.tokens
        assert proof.margin == pytest.approx(measurement(item).margin, abs=1e-3)


def test_a_memory_lowers_the_cross_entropy(finished):
    for item in finished.values():
        assert 0 < measurement(item).nats_with_memory < measurement(item).nats_without_memory


def test_a_damaged_memory_is_not_a_proof(finished, language_model):
    prover = LayoutProver(language_model, Cramming(Question()), Question())
    item = next(iter(finished.values()))
    proof = prover(bytes(256), num_vectors=1, tokens=item.probe.tokens)
    assert proof.exact_prefix < len(item.probe.tokens)


def test_a_length_out_of_reach_is_lossy_and_its_exact_prefix_still_counts(open_engine, run_engine, story_probes):
    (probe,) = story_probes(1, longest=60, length=60)
    question = Question(recipe={"radius": 30.0, "steps": 10, "patience": 10})
    (item,) = run_engine(open_engine(question), [probe]).values()
    assert isinstance(item.outcome, Lossy)
    found = measurement(item)
    assert found.failed_length == 60
    assert found.measured_length == 60
    assert 0 < found.exact_prefix < 60
    # Measured over the length asked for, and over what it proved all the same.
    assert 0 < found.proven_nats_without_memory < found.nats_without_memory
    assert 0 < found.proven_nats_with_memory < found.nats_with_memory
    assert found.token_accuracy < 1
    assert found.first_error is not None
    assert found.steps == 10
    assert found.trained_tokens == 10 * 60


def test_one_token_can_be_asked_for(open_engine, run_engine, story_probes):
    (item,) = run_engine(open_engine(), story_probes(1, longest=1, length=1)).values()
    assert measurement(item).proven_length == 1


def test_a_warm_start_begins_from_the_memory_it_is_given(open_engine, run_engine, story_probes, finished):
    (cold,) = story_probes(1, longest=8)
    warm = replace(
        cold, probe_id="warm", start=cold.probe_id, start_memory=measurement(finished[cold.probe_id]).memory, length=8
    )
    (item,) = run_engine(open_engine(), [warm]).values()
    # The memory is lossless as it is given: no step is needed to prove it.
    assert measurement(item).steps_to_proof == 0
    assert measurement(item).memory == warm.start_memory


def test_the_published_criterion_gives_the_first_token_and_claims_no_certificate(open_engine, run_engine, story_probes):
    question = Question(criterion=0.9, decode_from="memory+first_token", recipe={"radius": 30.0, "steps": 300})
    for item in run_engine(open_engine(question), story_probes(2)).values():
        found = measurement(item)
        assert isinstance(item.outcome, Lossless)
        assert found.proven_length == 10
        assert found.token_accuracy >= 0.9
        assert found.exact_prefix <= found.proven_length


def test_a_probe_that_is_not_finite_begins_again_cold_at_a_lower_rate_with_a_remark(
    open_engine, run_engine, story_probes
):
    (probe,) = story_probes(1, longest=4)
    broken = replace(probe, start="broken", start_memory=torch.full((64,), torch.nan).numpy().tobytes())
    (item,) = run_engine(open_engine(), [broken]).values()
    assert isinstance(item.outcome, Lossless)
    assert "not finite" in (measurement(item).remark or "")


def test_a_warm_probe_that_begins_slowly_is_cold_in_all_that_follows(model, story_probes):
    (probe,) = story_probes(1, longest=4)
    warm = replace(probe, start="other", start_memory=torch.full((64,), torch.nan).numpy().tobytes())
    question = Question(recipe={"radius": 30.0})
    starts = Starts(LanguageModel(model, device=DEVICE), Cramming(question), question, make_recipe(question.recipe))
    assert bool(starts.slot_of(warm).is_warm_B)
    slot = starts.slow_slot_of(warm)
    assert not slot.is_warm_B  # else it neither begins again from another direction, nor turns as far
    assert torch.equal(slot.memory_BKD, starts.slot_of(probe).memory_BKD)


def test_a_loss_that_stays_not_finite_is_a_failure_of_the_machine(model, run_engine, story_probes):
    question = Question(recipe={"radius": 30.0})
    spoiled = LanguageModel(model, device=DEVICE)
    head = spoiled.head
    spoiled.head = lambda hidden: head(hidden) * torch.nan
    engine = BatchedEngine(spoiled, Cramming(question), question, EngineSettings(device=DEVICE))
    found = run_engine(engine, story_probes(3))
    assert len(found) == 3
    for item in found.values():
        assert isinstance(item.outcome, Failed)
        assert "not finite" in item.outcome.reason


def test_slots_of_unlike_memories_are_saved_each_in_its_own_shape(open_engine, run_engine, story_probes):
    question = Question(recipe={"radius": 30.0, "steps": 8})
    probes = [*story_probes(1, longest=30), *story_probes(2, longest=20, num_vectors=3)]
    engine = open_engine(question)
    engine.submit(probes, num_open=3)
    for _ in range(3):
        engine.step()
    states = {snapshot.probe_id: snapshot.state for snapshot in engine.snapshots()}
    assert len(states) == 3
    found = run_engine(open_engine(question), [replace(p, snapshot=states[p.probe_id]) for p in probes])
    assert [measurement(found[p.probe_id]).memory_shape for p in probes] == [(1, 64), (3, 64), (3, 64)]
    assert all(measurement(item).steps > 3 for item in found.values())


def test_a_snapshot_of_another_version_is_not_used(open_engine, run_engine, story_probes):
    (probe,) = story_probes(1, longest=4)
    (item,) = run_engine(open_engine(), [replace(probe, snapshot=b"something else")]).values()
    assert isinstance(item.outcome, Lossless)
    assert measurement(item).remark == "begun anew: its snapshot could not be read"


@pytest.mark.slow
def test_memories_kept_on_the_way_are_certified_too(open_engine, run_engine, story_probes):
    question = Question(recipe={"radius": 30.0, "patience": 60}, growth=None)
    probes = [*story_probes(2, longest=60), *story_probes(1, longest=60, num_vectors=2)]
    for item in run_engine(open_engine(question), probes).values():
        found = measurement(item)
        assert found.steps > 50
        assert found.certified_steps == tuple(mark for mark in MARKS if mark <= found.steps)
        assert list(found.certified_lengths) == sorted(found.certified_lengths)
        assert found.certified_lengths[-1] <= found.exact_prefix
        for steps, trained, length in zip(
            found.certified_steps, found.certified_trained_tokens, found.certified_lengths, strict=True
        ):
            # What stood there teacher forced: float32 decodes it all.
            assert length == sum(reached < steps for reached in found.steps_by_length)
            assert trained <= found.trained_tokens


@pytest.mark.slow
def test_what_was_kept_on_the_way_survives_a_snapshot(language_model, run_engine, story_probes):
    question = Question(recipe={"radius": 30.0, "patience": 30}, growth=None)

    def open_engine() -> BatchedEngine:
        settings = EngineSettings(device=DEVICE, deterministic=True)
        return BatchedEngine(language_model, Cramming(question), question, settings)

    (probe,) = story_probes(1, longest=60)
    whole = measurement(run_engine(open_engine(), [probe])[probe.probe_id])
    engine = open_engine()
    engine.submit([probe], num_open=1)
    for _ in range(55):
        engine.step()
    (snapshot,) = engine.snapshots()
    resumed = run_engine(open_engine(), [replace(probe, snapshot=snapshot.state)])
    again = measurement(resumed[probe.probe_id])
    assert whole.certified_lengths
    assert again.certified_lengths == whole.certified_lengths
    assert again.certified_trained_tokens == whole.certified_trained_tokens


class TestInFloat32:
    def test_of_a_model_in_float32_every_memory_holds(self, finished):
        assert [measurement(item).exact_in_float32 for item in finished.values()] == [
            measurement(item).exact_prefix for item in finished.values()
        ]

    def test_it_is_read_as_it_is(self, language_model):
        assert language_model.in_float32() is language_model

    def test_a_model_in_bfloat16_is_read_in_float32_with_the_same_weights(self, model):
        coarse = LanguageModel(replace(model, dtype="bfloat16"), device=DEVICE)
        plain = coarse.in_float32()
        assert plain is not None
        assert (coarse.dtype, plain.dtype) == (torch.bfloat16, torch.float32)
        assert torch.equal(plain._embedding.weight, coarse._embedding.weight.float())

    @pytest.mark.slow
    def test_what_is_exact_in_bfloat16_alone_is_counted_as_lost(self, model, run_engine, story_probes):
        question = Question(recipe={"radius": 30.0, "patience": 40}, growth=None)
        coarse = LanguageModel(replace(model, dtype="bfloat16"), device=DEVICE)
        engine = BatchedEngine(coarse, Cramming(question), question, EngineSettings(device=DEVICE))
        plain = coarse.in_float32()
        assert plain is not None
        prover, own = (LayoutProver(read, Cramming(question), question) for read in (plain, coarse))
        for item in run_engine(engine, story_probes(4, longest=40)).values():
            found = measurement(item)
            assert found.memory is not None
            proof = prover(found.memory, num_vectors=1, tokens=item.probe.tokens[: found.exact_prefix])
            assert found.exact_in_float32 == proof.exact_prefix
            # Training, certificate and proof read the same numbers.
            again = own(found.memory, num_vectors=1, tokens=item.probe.tokens[: found.exact_prefix])
            assert again.exact_prefix == found.exact_prefix
            # The longest of what was certified counts, also where the last memory claims more and gives back less.
            assert found.exact_prefix >= max(found.certified_lengths, default=0)


def test_deterministic_slots_do_not_depend_on_their_neighbours(open_engine, run_engine, story_probes):
    """To the last bit, whoever is before, behind or not there; those beside it are longer or have other vectors."""
    probes = [*story_probes(2, longest=6), *story_probes(1, longest=6, num_vectors=2)]
    others = [*story_probes(1, longest=20, length=20, num_vectors=2), *story_probes(1, longest=4, num_vectors=3)]
    others = [replace(probe, probe_id=f"beside {probe.probe_id}") for probe in others]
    question = Question(recipe={"radius": 30.0, "steps": 8})

    def outcomes(batch):
        found = run_engine(open_engine(question, deterministic=True), batch)
        return {probe.probe_id: replace(measurement(found[probe.probe_id]), seconds=0.0) for probe in batch}

    together = outcomes(probes)
    assert all(found.memory is not None and found.steps > 3 for found in together.values())
    beside_others = outcomes([*others, *reversed(probes)])
    assert {probe.probe_id: beside_others[probe.probe_id] for probe in probes} == together
    alone = outcomes(probes[:1])
    assert alone == {probes[0].probe_id: together[probes[0].probe_id]}


class LittleDeviceMemory(BatchedEngine):
    """Runs out of device memory as a small GPU would: above so many tokens in a batch."""

    most = 60

    def _measure(self, slots, batch):
        if batch.num_tokens > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super()._measure(slots, batch)


def test_out_of_memory_halves_the_step_and_loses_no_probe(language_model, run_engine, story_probes):
    question = Question(recipe={"radius": 30.0, "steps": 3})
    engine = LittleDeviceMemory(language_model, Cramming(question), question, EngineSettings(device=DEVICE))
    probes = story_probes(7, length=10)
    found = run_engine(engine, probes)
    assert found.keys() == {probe.probe_id for probe in probes}
    assert all(measurement(item).steps == 3 for item in found.values())


def test_a_probe_that_fits_no_device_memory_is_a_failure_of_the_machine(language_model, run_engine, story_probes):
    question = Question(recipe={"radius": 30.0, "steps": 10})
    engine = LittleDeviceMemory(language_model, Cramming(question), question, EngineSettings(device=DEVICE))
    short, long = story_probes(1, longest=4)[0], replace(story_probes(1, longest=80)[0], probe_id="long", length=80)
    found = run_engine(engine, [short, long])
    assert isinstance(found[short.probe_id].outcome, Lossless)
    outcome = found["long"].outcome
    assert isinstance(outcome, Failed)
    assert "out of memory" in outcome.reason


def test_what_was_proven_before_the_device_memory_ended_stays_proven(language_model, run_engine, story_probes):
    question = Question(recipe={"radius": 30.0})
    engine = LittleDeviceMemory(language_model, Cramming(question), question, EngineSettings(device=DEVICE))
    engine.most = 9
    (probe,) = story_probes(1, longest=30)
    found = run_engine(engine, [replace(probe, length=8)])[probe.probe_id].outcome
    assert isinstance(found, Lossless)
    assert (found.measurement.proven_length, found.measurement.failed_length) == (9, None)
    assert "no room for 10 tokens" in (found.measurement.remark or "")
