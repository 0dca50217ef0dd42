"""Decides when a probe grows, retreats, begins again or stops, from the numbers of one step, for all slots of a batch.

Works on the host, with one number for each slot. Knows nothing of models, devices, losses or certificates.
"""

# Axes: B slots.

from dataclasses import dataclass

import torch
from torch import Tensor

from tasks.recipe import Recipe, SphereRecipe
from tasks.slots import Slots
from tasks.values import CRITERION_TOLERANCE, Question

QUICK_STAGE_STEPS, SLOW_STAGE_STEPS = 8, 24
"""Steps of a stage: of a slot at one length. A stage of at most QUICK_STAGE_STEPS doubles the tokens that the next
growth adds; one of more than SLOW_STAGE_STEPS halves them. Chosen on books_choose for SmolLM2 and on stories_choose
for tinystories-656k; there, other rules of growth ended at similar lengths."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepNumbers:
    """What a step measured, (B,) each, on the host."""

    correct_B: Tensor
    """Tokens correct."""
    prefix_B: Tensor
    """Correct tokens before the first wrong one."""
    nats_B: Tensor
    """Summed cross-entropy."""
    finite_B: Tensor
    """Whether loss and gradient are finite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What follows from a step, (B,) each."""

    longer_B: Tensor
    """Slots that proved more than before; under a criterion of teacher forcing also those that proved the same length
    with more correct tokens."""
    closer_B: Tensor
    """Slots that came closer to the length asked for."""
    stops_B: Tensor
    """Slots that stop: they are at their limit, have stalled, or have spent their trained tokens."""
    again_B: Tensor
    """Slots that begin again from another direction."""


def judge(slots: Slots, numbers: StepNumbers, *, question: Question, recipe: Recipe) -> Judgement:
    """Note what a step proved, and decide what each slot does next. Changes `slots` in place."""
    sphere = recipe if isinstance(recipe, SphereRecipe) else None
    # 1. Proofs, then progress. A criterion of teacher forcing is met or not at the current length, and proves nothing
    # shorter, so more correct tokens at the length asked for count as a gain, too.
    better_B = numbers.correct_B > slots.best_correct_B
    met_B, longer_B = _note_proofs(slots, numbers, better_B, question=question)
    closer_B = _note_progress(slots, numbers, better_B)
    gained_B = longer_B if question.criterion is None else longer_B | closer_B
    slots.since_gain_B = torch.where(gained_B, 0, slots.since_gain_B + 1)
    if recipe.stop_at == "every_token":
        met_B = numbers.correct_B >= slots.length_B

    # 2. What is over.
    at_end_B = met_B & (slots.length_B >= slots.limit_B)
    idle_B = slots.since_better_B if sphere is None else slots.since_gain_B
    stalled_B = ~met_B & ((slots.since_growth_B >= recipe.steps) | (idle_B >= recipe.patience))
    slots.trained_tokens_B = slots.trained_tokens_B + slots.length_B
    spent_B = slots.trained_tokens_B >= slots.max_trained_tokens_B

    # 3. Grow, retreat, or begin again at the length asked for. Each of them resets the counters of the current length.
    next_B, changed_B = _grow(slots, met_B, question.growth)
    again_B = torch.zeros_like(met_B)
    if sphere is not None:
        if question.growth is None:
            next_B, changed_B = _retreat(slots, met_B, next_B, recipe=sphere)
        again_B = _begins_again(slots, question=question, recipe=sphere)
        next_B, changed_B = torch.where(again_B, slots.asked_B, next_B), changed_B | again_B
        slots.share_correct_B = torch.where(again_B, 0.0, slots.share_correct_B)
    slots.length_B = next_B
    slots.best_correct_B = torch.where(changed_B, -1, slots.best_correct_B)
    slots.since_better_B = torch.where(changed_B, 0, slots.since_better_B)
    slots.since_growth_B = torch.where(changed_B, 0, slots.since_growth_B)
    return Judgement(longer_B=longer_B, closer_B=closer_B, stops_B=at_end_B | stalled_B | spent_B, again_B=again_B)


def _note_proofs(slots: Slots, numbers: StepNumbers, better_B: Tensor, *, question: Question) -> tuple[Tensor, Tensor]:
    """Note longer proofs; under a criterion of teacher forcing also better ones of the same length.

    Returns:
        Which slots meet the criterion, and which proved more than before, (B,) each.
    """
    if question.criterion is None:
        met_B, proof_B = numbers.correct_B >= slots.length_B, numbers.prefix_B
        longer_B = proof_B > slots.proven_B
    else:
        # The same rule as Question.is_met, for all slots.
        given = question.num_given
        met_B = numbers.correct_B - given >= question.criterion * (slots.length_B - given) - CRITERION_TOLERANCE
        proof_B = torch.where(met_B, slots.length_B, 0)
        longer_B = (proof_B > slots.proven_B) | (met_B & better_B)
    if longer_B.any():
        number_L = torch.arange(slots.reached_step_BL.shape[1])
        reached_BL = longer_B[:, None] & (number_L >= slots.proven_B[:, None]) & (number_L < proof_B[:, None])
        slots.reached_step_BL = torch.where(reached_BL, slots.step_B[:, None], slots.reached_step_BL)
        slots.reached_tokens_BL = torch.where(reached_BL, slots.trained_tokens_B[:, None], slots.reached_tokens_BL)
    slots.proven_B = torch.where(longer_B, proof_B, slots.proven_B)
    slots.proof_step_B = torch.where(longer_B, slots.step_B, slots.proof_step_B)
    return met_B, longer_B


def _note_progress(slots: Slots, numbers: StepNumbers, better_B: Tensor) -> Tensor:
    """Note progress at the current length. A lossy probe reports its best step at the length asked for, so keep that.

    Returns:
        Which slots came closer to the length asked for, (B,).
    """
    slots.best_correct_B = torch.where(better_B, numbers.correct_B, slots.best_correct_B)
    slots.since_better_B = torch.where(better_B, 0, slots.since_better_B + 1)
    slots.since_growth_B = slots.since_growth_B + 1
    slots.share_correct_B = numbers.correct_B / slots.length_B
    closer_B = better_B & (slots.length_B == slots.asked_B)
    slots.asked_correct_B = torch.where(closer_B, numbers.correct_B, slots.asked_correct_B)
    slots.asked_prefix_B = torch.where(closer_B, numbers.prefix_B, slots.asked_prefix_B)
    slots.asked_nats_B = torch.where(closer_B, numbers.nats_B, slots.asked_nats_B)
    return closer_B


def _grow(slots: Slots, met_B: Tensor, growth: float | None) -> tuple[Tensor, Tensor]:
    """Let slots that met the criterion take more tokens; memory and optimizer state stay.

    Returns:
        Each slot's next length, and which lengths change, (B,) each.
    """
    added_B = _added(slots, growth)
    slots.added_B = torch.where(met_B, added_B, slots.added_B)
    return torch.where(met_B, (slots.length_B + added_B).minimum(slots.limit_B), slots.length_B), met_B


def _retreat(slots: Slots, met_B: Tensor, next_B: Tensor, *, recipe: SphereRecipe) -> tuple[Tensor, Tensor]:
    """Let slots that make no progress give back half of the tokens beyond their proven length.

    A slot never retreats below the length asked for.

    Returns:
        Each slot's next length, and which lengths change by growth or retreat, (B,) each.
    """
    beyond_B = slots.length_B - slots.proven_B
    kept_B = torch.maximum(slots.proven_B + beyond_B // 2, slots.asked_B)
    is_idle_B = ~met_B & (slots.since_better_B >= recipe.retreat_steps)
    retreats_B = is_idle_B & (beyond_B > 1) & (kept_B < slots.length_B)
    slots.added_B = torch.where(retreats_B, (beyond_B // 2).clamp_min(1), slots.added_B)
    return torch.where(retreats_B, kept_B, next_B), met_B | retreats_B


def _begins_again(slots: Slots, *, question: Question, recipe: SphereRecipe) -> Tensor:
    """Slots with a cold memory that holds too few tokens after its steps, (B,)."""
    needed_B = slots.asked_B.clamp_max(recipe.restart_below)
    begun_B = slots.proven_B if question.criterion is None else slots.asked_correct_B
    # Under a weak model no start holds `restart_below` tokens, so each start gets twice the steps of the one before.
    overdue_B = slots.moment_step_B + 1 >= recipe.restart_steps * 2**slots.num_restarts_B
    return ~slots.is_warm_B & (begun_B < needed_B) & overdue_B


def _added(slots: Slots, growth: float | None) -> Tensor:
    """Tokens that each slot adds if it meets the criterion now, (B,)."""
    length_B = slots.length_B
    if growth is not None:
        return torch.maximum((length_B * growth).long(), length_B + 1) - length_B
    added_B = torch.where(slots.since_growth_B <= QUICK_STAGE_STEPS, 2 * slots.added_B, slots.added_B)
    added_B = torch.where(slots.since_growth_B > SLOW_STAGE_STEPS, slots.added_B // 2, added_B)
    return added_B.clamp_min(1).minimum(length_B)
