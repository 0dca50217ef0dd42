"""What a sweep will cost: capacity from the bits of its texts, time from the clock of this machine."""

from dataclasses import replace

import pytest
import torch
from rich.console import Console

from orchestrator.planning.estimate import (
    BITS_PER_DIMENSION,
    CERTIFICATES,
    LENGTH_OF_A_STEP,
    LENGTH_OF_GROWTH,
    SHARE_OF_GROWTH,
    START_POWER,
    START_TOKENS,
    estimate,
)
from orchestrator.planning.plan import Plan
from orchestrator.planning.planner import make_plan
from orchestrator.planning.pricing import prices_here
from orchestrator.spec.sweep_file import load_sweep
from tasks.facts import Price, StepCost
from tasks.language_model import LanguageModel
from tasks.scoring import score_without_memory
from tasks.values import Model

LN2 = 0.6931
STEP = StepCost(batch_seconds=0.01, token_seconds=0.001)


@pytest.fixture
def plan(toy_sweep) -> Plan:
    """Twelve texts of a model 100 wide."""
    plan = make_plan(load_sweep(toy_sweep))
    (model,) = plan.models
    return replace(plan, models=(replace(model, facts=replace(model.facts, embedding_width=100)),))


def priced(plan: Plan, *texts: tuple[float, ...], step: StepCost = STEP):
    (found,) = estimate(plan, {"toy/model": Price(step=step, nats_by_token=texts)})
    return found


def test_as_many_tokens_are_expected_as_the_dimensions_have_bits_for(plan):
    bits = BITS_PER_DIMENSION * 100
    four_bits, three_bits = (4 * LN2,) * 40, (3 * LN2,) * 40
    assert priced(plan, four_bits).expected_tokens == int(bits / 4)
    assert priced(plan, four_bits, three_bits).expected_tokens == (int(bits / 4) + int(bits / 3)) / 2


def test_beyond_what_was_read_tokens_cost_what_those_before_them_did(plan):
    assert priced(plan, (4 * LN2,) * 5).expected_tokens == pytest.approx(BITS_PER_DIMENSION * 100 / 4, rel=1e-3)


def test_without_a_price_it_is_a_share_of_the_theory_and_has_no_time(plan):
    (found,) = estimate(plan)
    assert found.seconds is None
    assert found.expected_tokens > 0


def test_time_is_that_of_the_tokens_and_of_their_batches(plan):
    text = (4 * LN2,) * 40
    tokens_alone = priced(plan, text, step=StepCost(batch_seconds=0.0, token_seconds=0.001))
    starts = 1 + plan.sweep.search.retries
    trained = 12 * starts * START_TOKENS * tokens_alone.expected_tokens**START_POWER
    assert tokens_alone.seconds == pytest.approx(CERTIFICATES * trained * 0.001)
    with_batches = priced(plan, text).seconds
    assert with_batches is not None
    # Twelve searches of half of 15 tokens fill 90 tokens of a step, which are cut into two batches.
    assert with_batches == pytest.approx(CERTIFICATES * trained * (0.001 + 2 * 0.01 / 90))


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_a_search_that_its_limit_stops_is_cheaper_than_one_that_stalls_and_is_not_tried_again(plan, share):
    step, text = StepCost(batch_seconds=0.0, token_seconds=0.001), (4 * LN2,) * 40
    whole = priced(plan, text, step=step)
    limit = int(share * whole.expected_tokens)
    short = replace(plan, searches=tuple(replace(search, limit=limit) for search in plan.searches))
    stopped = priced(short, text, step=step)
    assert (stopped.expected_tokens, stopped.probes) == (limit, 12)
    assert whole.seconds is not None
    starts, left = 1 + plan.sweep.search.retries, (limit / whole.expected_tokens) ** 2
    assert stopped.seconds == pytest.approx(whole.seconds * SHARE_OF_GROWTH * left / starts)


def test_a_context_is_read_at_every_step(plan):
    """Trained tokens are those of the text, but a step computes the context before them as well."""
    step, text = StepCost(batch_seconds=0.0, token_seconds=0.001), (4 * LN2,) * 40
    after = replace(plan, question=replace(plan.question, context=30))
    alone, found = priced(plan, text, step=step), priced(after, text, step=step)
    assert (found.expected_tokens, found.probes) == (alone.expected_tokens, alone.probes)
    more = 1 + 30 / (LENGTH_OF_A_STEP * alone.expected_tokens)
    assert alone.seconds is not None
    assert found.seconds == pytest.approx(alone.seconds * more)
    assert found.tera_operations == pytest.approx(alone.tera_operations * more)


def test_under_a_limit_a_context_is_read_before_the_shorter_text_of_each_step(plan):
    step, text = StepCost(batch_seconds=0.0, token_seconds=0.001), (4 * LN2,) * 40
    short = replace(plan, searches=tuple(replace(search, limit=5) for search in plan.searches))
    after = replace(short, question=replace(plan.question, context=30))
    alone, found = priced(short, text, step=step), priced(after, text, step=step)
    assert alone.seconds is not None
    assert found.seconds == pytest.approx(alone.seconds * (1 + 30 / (LENGTH_OF_GROWTH * 5)))


def test_a_grid_reads_its_context_at_every_step_too(plan):
    step, text = StepCost(batch_seconds=0.0, token_seconds=0.001), (4 * LN2,) * 40
    grid = replace(plan, searches=tuple(replace(search, grid=(5,)) for search in plan.searches))
    after = replace(grid, question=replace(plan.question, context=30))
    alone, found = priced(grid, text, step=step), priced(after, text, step=step)
    assert alone.seconds is not None
    assert found.seconds == pytest.approx(alone.seconds * (1 + 30 / 5))


def test_what_a_text_costs_is_read_after_its_context(stories_model, stories, tmp_path):
    (tmp_path / "story.txt").write_text(stories[0])
    spec = tmp_path / "spec.yaml"
    spec.write_text(
        f"name: after\nmodels: [{{name: {stories_model}, radius: 30}}]\ncontext: 16\n"
        "texts: [{source: files, path: story.txt}]\nengines: {device: cpu}\n"
    )
    plan = make_plan(load_sweep(spec), measure=False)
    (sample,), (price,) = plan.samples.values(), prices_here(plan, Console()).values()
    model = LanguageModel(Model(name=str(stories_model)), device="cpu")
    scored = score_without_memory(model, sample.tokens[:256], context=sample.context, question=plan.question)
    assert len(sample.context) == 16
    assert price.nats_by_token == (pytest.approx(scored.nats_by_token),)


def test_check_times_the_models_here(capsweep, toy_sweep):
    ended = capsweep("check", toy_sweep)
    assert ended.returncode == 0
    assert "this machine" in ended.stdout
    other = capsweep("check", toy_sweep, "--tflops", "200")
    assert "200 Tflop/s" in other.stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_model_that_cannot_be_loaded_here_is_planned_without_a_time(capsweep, tmp_path, shipped_model):
    (tmp_path / "text.txt").write_text("A text of some length, for one search.")
    spec = tmp_path / "spec.yaml"
    spec.write_text(
        f"name: elsewhere\nmodels: [{{name: {shipped_model}, radius: 1.0}}]\n"
        "texts: [{source: files, path: text.txt}]\nengines: {device: cuda}\n"
    )
    ended = capsweep("check", spec)
    assert ended.returncode == 0, ended.stderr
    assert "was not timed" in " ".join(ended.stdout.split())
    assert "?" in ended.stdout
