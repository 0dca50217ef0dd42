"""What a batch costs by the clock, and that the clock decides nothing where it was told not to."""

import pytest

from tasks import device_room, step_cost
from tasks.device_room import CPU_BATCH_COSTS_PER_STEP
from tasks.engine import BatchedEngine
from tasks.facts import StepCost
from tasks.language_model import LanguageModel
from tasks.layout import Cramming
from tasks.step_cost import batch_cost_tokens, measure_step_cost
from tasks.values import EngineSettings, Question

QUESTION = Question(recipe={"radius": 30.0}, growth=None)


@pytest.mark.parametrize(
    ("batch_seconds", "token_seconds", "tokens"),
    [(6e-3, 3e-5, 256), (0.15, 0.0095, 16), (0.0, 0.01, 1), (0.01, 0.02, 1), (0.09, 0.01, 8)],
)
def test_it_is_rounded_to_the_nearest_power_of_two(batch_seconds, token_seconds, tokens):
    assert batch_cost_tokens(StepCost(batch_seconds=batch_seconds, token_seconds=token_seconds)) == tokens


def test_a_model_is_timed_and_its_tokens_cost_something(language_model):
    cost = measure_step_cost(language_model)
    assert cost.token_seconds > 0
    assert cost.batch_seconds >= 0


def test_batches_that_do_not_fit_end_the_measurement_and_not_the_engine(language_model, monkeypatch):
    whole = step_cost._pass_seconds

    def little_memory(model, num_slots, width):
        if num_slots > 1:
            raise RuntimeError("CUDA out of memory")
        return whole(model, num_slots, width)

    monkeypatch.setattr(step_cost, "_pass_seconds", little_memory)
    assert measure_step_cost(language_model).token_seconds > 0


@pytest.mark.parametrize("settings", [{"batch_cost_tokens": 32}, {"deterministic": True}])
def test_the_clock_is_not_asked_where_the_cost_is_given_or_shapes_are_fixed(
    model, run_engine, story_probes, monkeypatch, settings
):
    monkeypatch.setattr(device_room, "measure_step_cost", lambda model: pytest.fail("asked the clock"))
    on_cpu = LanguageModel(model, device="cpu")
    opened = BatchedEngine(on_cpu, Cramming(QUESTION), QUESTION, EngineSettings(device="cpu", **settings))
    (found,) = run_engine(opened, story_probes(1, longest=4)).values()
    cost = settings.get("batch_cost_tokens", device_room.FIXED_BATCH_COST)
    assert found.batch_cost_tokens == cost
    assert found.tokens_per_step == CPU_BATCH_COSTS_PER_STEP * cost
