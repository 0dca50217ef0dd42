"""When a probe grows, retreats, begins again and stops: numbers worked out by hand, no model."""

from typing import Any

import pytest
import torch

from tasks.layout import Cramming
from tasks.recipe import AdamWRecipe, Recipe, SphereRecipe
from tasks.slots import Slots, new_slot
from tasks.stopping import Judgement, StepNumbers, judge
from tasks.values import Probe, Question

SPHERE = SphereRecipe(radius=30.0)
ADAPTIVE, TENTH = Question(growth=None), Question(growth=1.1)
MOST = Question(criterion=0.9, growth=None)


def slot(*, length: int = 4, limit: int = 100, warm: bool = False, **changes: Any) -> Slots:
    probe = Probe(
        probe_id="probe",
        search_id="search",
        number=0,
        sample_id="sample",
        tokens=tuple(range(limit)),
        length=length,
        num_vectors=1,
        start_memory=bytes(16) if warm else None,
    )
    made = new_slot(probe, torch.ones(1, 4), layout=Cramming(Question()))
    for name, value in changes.items():
        setattr(made, name, torch.tensor([value]))
    return made


def step(slots: Slots, correct: int, *, question: Question = ADAPTIVE, recipe: Recipe = SPHERE) -> Judgement:
    """One step whose first `correct` tokens are correct."""
    numbers = StepNumbers(
        correct_B=torch.tensor([correct]),
        prefix_B=torch.tensor([correct]),
        nats_B=torch.tensor([1.0]),
        finite_B=torch.tensor([True]),
    )
    judged = judge(slots, numbers, question=question, recipe=recipe)
    slots.moment_step_B = slots.moment_step_B + 1
    return judged


def lengths(slots: Slots, steps_of_stages: list[int]) -> list[int]:
    """Lengths after stages that took so many steps each."""
    found: list[int] = []
    for steps in steps_of_stages:
        for _ in range(steps - 1):
            step(slots, int(slots.proven_B))
        step(slots, int(slots.length_B))
        found.append(int(slots.length_B))
    return found


class TestGrowth:
    def test_quick_stages_double_what_is_added_and_slow_ones_halve_it(self):
        # Adds min(2 * 4, 4), 8, 16, then 16 after a stage of 9 steps, then 8 after one of 25.
        assert lengths(slot(), [1, 8, 2, 9, 25]) == [8, 16, 32, 48, 56]

    def test_it_adds_one_at_least_and_ends_at_the_limit(self):
        assert lengths(slot(length=1, limit=3), [1, 1]) == [2, 3]
        at_limit = slot(length=3, limit=3)
        assert bool(step(at_limit, 3).stops_B)

    def test_a_fixed_factor_adds_a_tenth(self):
        grown = slot(length=40)
        step(grown, 40, question=TENTH)
        assert int(grown.length_B) == 44

    def test_a_warm_start_adds_little_at_first(self):
        assert lengths(slot(length=30, warm=True), [1]) == [38]


class TestRetreat:
    def test_half_of_what_is_beyond_the_proven_length_is_taken_back(self):
        slots = slot(length=4, proven_B=12, length_B=32, best_correct_B=20, since_better_B=39, moment_step_B=60)
        judged = step(slots, 15)
        # It proved 15, of 32: beyond are 17, kept are 8.
        assert bool(judged.longer_B)
        assert int(slots.length_B) == 23
        assert (int(slots.added_B), int(slots.best_correct_B), int(slots.since_better_B)) == (8, -1, 0)

    def test_not_before_its_time_and_never_below_what_was_asked_for(self):
        early = slot(length=4, proven_B=12, length_B=32, best_correct_B=20, since_better_B=38)
        step(early, 12)
        assert int(early.length_B) == 32
        asked = slot(length=30, proven_B=12, length_B=32, best_correct_B=20, since_better_B=39)
        step(asked, 12)
        assert int(asked.length_B) == 30
        step(asked, 12)
        assert int(asked.length_B) == 30

    def test_with_one_token_beyond_there_is_nothing_to_take_back(self):
        slots = slot(length=4, proven_B=12, length_B=13, best_correct_B=12, since_better_B=60)
        step(slots, 12)
        assert int(slots.length_B) == 13

    def test_a_fixed_growth_never_retreats(self):
        slots = slot(length=4, proven_B=12, length_B=32, best_correct_B=20, since_better_B=60)
        step(slots, 12, question=TENTH)
        assert int(slots.length_B) == 32


class TestRestart:
    def test_a_memory_that_does_not_begin_begins_again_after_fifteen_steps_then_thirty(self):
        slots = slot()
        assert not any(bool(step(slots, 1).again_B) for _ in range(14))
        assert bool(step(slots, 1).again_B)
        # The engine counts, and forgets the moments.
        slots.num_restarts_B, slots.moment_step_B = slots.num_restarts_B + 1, slots.moment_step_B * 0
        assert not any(bool(step(slots, 1).again_B) for _ in range(29))
        assert bool(step(slots, 1).again_B)

    @pytest.mark.parametrize(("proven", "asked", "warm"), [(4, 4, False), (2, 2, False), (0, 4, True)])
    def test_not_once_it_has_begun_nor_from_a_given_memory(self, proven, asked, warm):
        slots = slot(length=asked, warm=warm, proven_B=proven, moment_step_B=30, length_B=9)
        assert not bool(step(slots, 0).again_B)

    def test_what_it_proved_stays_and_it_asks_as_at_first(self):
        slots = slot(proven_B=3, moment_step_B=14, length_B=4)
        judged = step(slots, 1)
        assert bool(judged.again_B)
        assert (int(slots.proven_B), int(slots.length_B), float(slots.share_correct_B)) == (3, 4, 0.0)

    def test_under_a_criterion_correct_tokens_have_begun_though_nothing_is_proven(self):
        slots = slot(length=50, moment_step_B=14)
        assert not bool(step(slots, 20, question=MOST).again_B)
        idle = slot(length=50, moment_step_B=14)
        assert bool(step(idle, 3, question=MOST).again_B)

    def test_free_memories_never_begin_again(self):
        slots = slot(moment_step_B=100)
        assert not bool(step(slots, 0, question=TENTH, recipe=AdamWRecipe()).again_B)


class TestStop:
    @pytest.mark.parametrize(
        ("recipe", "question", "counter"),
        [(SPHERE, ADAPTIVE, "since_gain_B"), (AdamWRecipe(), TENTH, "since_better_B")],
    )
    def test_the_sphere_waits_for_a_longer_proof_and_adamw_for_more_correct_tokens(self, recipe, question, counter):
        begun = {"length": 20, "proven_B": 5, "best_correct_B": 9, "moment_step_B": 99}
        waiting = slot(**begun, **{counter: recipe.patience - 2})
        assert not bool(step(waiting, 5, question=question, recipe=recipe).stops_B)
        assert bool(step(waiting, 5, question=question, recipe=recipe).stops_B)

    def test_a_longer_proof_begins_the_patience_anew_though_fewer_tokens_are_correct(self):
        slots = slot(length=20, proven_B=5, best_correct_B=9, since_gain_B=149, moment_step_B=99)
        assert not bool(step(slots, 6).stops_B)
        assert int(slots.since_gain_B) == 0

    def test_under_a_criterion_more_correct_tokens_begin_it_anew_until_it_is_met(self):
        slots = slot(length=50, best_correct_B=30, asked_correct_B=30, since_gain_B=149, moment_step_B=200)
        assert not bool(step(slots, 31, question=MOST).stops_B)
        assert int(slots.since_gain_B) == 0
        idle = slot(length=50, best_correct_B=30, asked_correct_B=30, since_gain_B=149, moment_step_B=200)
        assert bool(step(idle, 30, question=MOST).stops_B)

    def test_a_spent_budget_ends_it(self):
        slots = slot(length=20, max_trained_tokens_B=40)
        assert not bool(step(slots, 3).stops_B)
        assert bool(step(slots, 3).stops_B)
        assert int(slots.trained_tokens_B) == 40
