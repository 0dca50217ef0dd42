"""When a probe grows, retreats, begins again or stops: one rule over the numbers of a step, for all slots of a batch.

Works on what lies on the host, one number per slot. Knows nothing of models, devices, losses or certificates.
"""

# Axes: B slots.

from dataclasses import dataclass

import torch
from torch import Tensor

from tasks.recipe import Recipe, SphereRecipe
from tasks.slots import Slots
from tasks.values import CRITERION_TOLERANCE, Question

QUICK_STAGE_STEPS, SLOW_STAGE_STEPS = 8, 24
"""Steps of a stage, from one growth to the next. A quick stage doubles the tokens added by the next one, a slow one
halves them. Chosen on book passages of SmolLM2 and stories of tinystories-656k, where any growth then ends alike."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepNumbers:
    """What a step measured: one number of it for each slot, on the host."""

    correct_B: Tensor
    prefix_B: Tensor
    """Correct tokens before the first wrong one."""
    nats_B: Tensor
    finite_B: Tensor
    """Whether loss and gradient are finite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What follows of a step, (B,) each."""

    longer_B: Tensor
    """Which slots proved more than before."""
    asked_B: Tensor
    """Which came closer to the length that was asked for."""
    stops_B: Tensor
    """Which stop: at their limit, stalled, or with their budget of trained tokens spent."""
    again_B: Tensor
    """Which begin again from another direction."""


def judge(slots: Slots, numbers: StepNumbers, *, question: Question, recipe: Recipe) -> Judgement:
    """Note what a step proved, and decide what each slot does next. Changes `slots` in place."""
    length_B, sphere = slots.length_B, recipe if isinstance(recipe, SphereRecipe) else None
    # 1. A longer proof; of a criterion that may be met more or less, also a better one of the same length.
    better_B = numbers.correct_B > slots.best_correct_B
    every_B = numbers.correct_B >= length_B
    if question.criterion is None:
        met_B, proof_B = every_B, numbers.prefix_B
        longer_B = proof_B > slots.proven_B
    else:
        # The same rule as Question.is_met, for all slots.
        given = question.num_given
        met_B = numbers.correct_B - given >= question.criterion * (length_B - given) - CRITERION_TOLERANCE
        proof_B = torch.where(met_B, length_B, 0)
        longer_B = (proof_B > slots.proven_B) | (met_B & better_B)
    if longer_B.any():
        number_L = torch.arange(slots.reached_step_BL.shape[1])
        reached_BL = longer_B[:, None] & (number_L >= slots.proven_B[:, None]) & (number_L < proof_B[:, None])
        slots.reached_step_BL = torch.where(reached_BL, slots.step_B[:, None], slots.reached_step_BL)
        slots.reached_tokens_BL = torch.where(reached_BL, slots.trained_tokens_B[:, None], slots.reached_tokens_BL)
    slots.proven_B = torch.where(longer_B, proof_B, slots.proven_B)
    slots.proof_step_B = torch.where(longer_B, slots.step_B, slots.proof_step_B)
    if recipe.stop_at == "every_token":
        met_B = every_B

    # 2. Progress at this length; at the length asked for it is what a lossy probe reports.
    slots.best_correct_B = torch.where(better_B, numbers.correct_B, slots.best_correct_B)
    slots.since_better_B = torch.where(better_B, 0, slots.since_better_B + 1)
    slots.since_growth_B = slots.since_growth_B + 1
    slots.share_correct_B = numbers.correct_B / length_B
    asked_B = better_B & (length_B == slots.asked_B)
    slots.asked_correct_B = torch.where(asked_B, numbers.correct_B, slots.asked_correct_B)
    slots.asked_prefix_B = torch.where(asked_B, numbers.prefix_B, slots.asked_prefix_B)
    slots.asked_nats_B = torch.where(asked_B, numbers.nats_B, slots.asked_nats_B)
    # Under a criterion nothing is proven before all that was asked for is: until then more correct tokens are a gain.
    gained_B = longer_B if question.criterion is None else longer_B | asked_B
    slots.since_gain_B = torch.where(gained_B, 0, slots.since_gain_B + 1)

    # 3. What is over.
    at_end_B = met_B & (length_B >= slots.limit_B)
    idle_B = slots.since_better_B if sphere is None else slots.since_gain_B
    stalled_B = ~met_B & ((slots.since_growth_B >= recipe.steps) | (idle_B >= recipe.patience))
    slots.trained_tokens_B = slots.trained_tokens_B + length_B
    spent_B = slots.trained_tokens_B >= slots.max_trained_tokens_B

    # 4. Grow in place, with memory and optimizer state; or take some of it back, never below what was asked for.
    added_B = _added(slots, question.growth)
    slots.added_B = torch.where(met_B, added_B, slots.added_B)
    next_B = torch.where(met_B, (length_B + added_B).minimum(slots.limit_B), length_B)
    changed_B = met_B
    if sphere is not None and question.growth is None:
        beyond_B = length_B - slots.proven_B
        kept_B = torch.maximum(slots.proven_B + beyond_B // 2, slots.asked_B)
        retreats_B = ~met_B & (slots.since_better_B >= sphere.retreat_steps) & (beyond_B > 1) & (kept_B < length_B)
        slots.added_B = torch.where(retreats_B, (beyond_B // 2).clamp_min(1), slots.added_B)
        next_B = torch.where(retreats_B, kept_B, next_B)
        changed_B = met_B | retreats_B

    # 5. A memory that has not begun begins again elsewhere.
    again_B = torch.zeros_like(met_B)
    if sphere is not None:
        needed_B = slots.asked_B.clamp_max(sphere.restart_below)
        begun_B = slots.proven_B if question.criterion is None else slots.asked_correct_B
        # Each start gets twice the steps of the one before: a weak model holds less than `restart_below` from any.
        overdue_B = slots.moment_step_B + 1 >= sphere.restart_steps * 2**slots.num_restarts_B
        again_B = ~slots.is_warm_B & (begun_B < needed_B) & overdue_B
        next_B = torch.where(again_B, slots.asked_B, next_B)
        changed_B = changed_B | again_B
        slots.share_correct_B = torch.where(again_B, 0.0, slots.share_correct_B)
    slots.length_B = next_B
    slots.best_correct_B = torch.where(changed_B, -1, slots.best_correct_B)
    slots.since_better_B = torch.where(changed_B, 0, slots.since_better_B)
    slots.since_growth_B = torch.where(changed_B, 0, slots.since_growth_B)
    return Judgement(longer_B=longer_B, asked_B=asked_B, stops_B=at_end_B | stalled_B | spent_B, again_B=again_B)


def _added(slots: Slots, growth: float | None) -> Tensor:
    """Tokens that each slot would take on if it met the criterion now, (B,)."""
    length_B = slots.length_B
    if growth is not None:
        return torch.maximum((length_B * growth).long(), length_B + 1) - length_B
    added_B = torch.where(slots.since_growth_B <= QUICK_STAGE_STEPS, 2 * slots.added_B, slots.added_B)
    added_B = torch.where(slots.since_growth_B > SLOW_STAGE_STEPS, slots.added_B // 2, added_B)
    return added_B.clamp_min(1).minimum(length_B)
