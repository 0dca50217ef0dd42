"""The forward and backward pass of a step: which tokens the slots get right, and the gradient of their memories.

Knows nothing of how slots are cut into batches, of device memory, or of what follows from a step.
"""

# Axes: B slots, K vectors of a memory, L tokens, T input positions, N scored tokens of all slots, D embedding width,
# H hidden size.

from dataclasses import dataclass

import torch
from torch import Tensor

from tasks.batches import Batch
from tasks.cross_entropy import cross_entropy_and_gradient
from tasks.decoding import near_tie
from tasks.language_model import LanguageModel
from tasks.layout import Layout, ModelInputs
from tasks.optimizer import temperatures, token_weights
from tasks.packing import Rows
from tasks.recipe import Recipe, SphereRecipe
from tasks.slots import Slots
from tasks.values import Question


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """What a forward and backward pass measures, on the engine's device."""

    correct_B: Tensor
    """Tokens correct."""
    prefix_B: Tensor
    """Correct tokens before the first wrong one."""
    nats_B: Tensor
    """Summed cross-entropy over the slot's tokens."""
    correct_BL: Tensor
    """Which tokens are correct; False beyond the slot's length."""
    gradient_BKD: Tensor
    """Gradient of the recipe's loss with respect to the memory."""

    @classmethod
    def zeros(cls, slots: Slots) -> "StepResult":
        """A result for all of these slots, with nothing measured yet."""
        zeros_B = torch.zeros(len(slots), device=slots.memory_BKD.device)
        return cls(
            correct_B=zeros_B,
            prefix_B=zeros_B.clone(),
            nats_B=zeros_B.clone(),
            correct_BL=torch.zeros_like(slots.tokens_BL, dtype=torch.bool),
            gradient_BKD=torch.zeros_like(slots.memory_BKD),
        )

    def put(self, batch: Batch, part: "StepResult") -> None:
        """Copy the result of a batch to the places of its slots."""
        real = batch.index_B[: batch.num_real].to(self.correct_B.device)
        for name in ("correct_B", "prefix_B", "nats_B", "gradient_BKD"):
            whole: Tensor = getattr(self, name)
            whole[real] = getattr(part, name)[: batch.num_real].to(whole.dtype)
        self.correct_BL[real, : part.correct_BL.shape[1]] = part.correct_BL[: batch.num_real]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scored:
    """Which tokens of a batch are scored, and where their values stand in a tensor over all of its tokens."""

    inside_BL: Tensor
    """Which tokens are within the length of their slot."""
    scored_BL: Tensor
    """Those of them that are not given."""
    slot_N: Tensor
    """On the host, as `token_N` is: input positions are looked up there, without a transfer."""
    token_N: Tensor
    at_N: Tensor
    """Index into the flattened B x L tokens."""

    @classmethod
    def of(cls, slots: Slots, batch: Batch, *, width: int, num_given: int, is_fixed: bool) -> "_Scored":
        inside_BL = torch.arange(width) < slots.length_B[batch.index_B][:, None]
        scored_BL = inside_BL.clone()
        scored_BL[:, :num_given] = False
        # Fixed shapes include the head: it computes the padding, too, which has no weight in the loss.
        taken_BL = torch.ones_like(scored_BL) if is_fixed else scored_BL
        slot_N, token_N = taken_BL.nonzero(as_tuple=True)
        device = slots.memory_BKD.device
        return cls(
            inside_BL=inside_BL.to(device),
            scored_BL=scored_BL.to(device),
            slot_N=slot_N,
            token_N=token_N,
            at_N=(slot_N * width + token_N).to(device),
        )

    def pick(self, values_BL: Tensor) -> Tensor:
        """The values (N) of the scored tokens."""
        return values_BL.flatten().index_select(0, self.at_N)

    def over_tokens(self, values_N: Tensor) -> Tensor:
        """A tensor (B, L) with these values at the scored tokens and zeros elsewhere."""
        zeros_BL = torch.zeros_like(self.scored_BL, dtype=values_N.dtype)
        return zeros_BL.flatten().index_copy(0, self.at_N, values_N).view_as(zeros_BL)


def measure_step(
    model: LanguageModel,
    layout: Layout,
    slots: Slots,
    batch: Batch,
    *,
    question: Question,
    recipe: Recipe,
    radius: float,
    is_fixed: bool,
) -> StepResult:
    """One forward and backward pass of the slots of a batch.

    Args:
        model: The frozen model.
        layout: What the task puts into it.
        slots: All slots of the engine.
        batch: Which of them are computed together; none is longer than its width.
        question: Which tokens are given, and which count as correct.
        recipe: How the tokens of the loss are weighed.
        radius: Norm of a memory vector under a sphere recipe; 0 under any other.
        is_fixed: Whether the head computes padding, too, so that shapes do not depend on neighbours.
    """
    index_B = batch.index_B.to(model.device)
    width = min(batch.width, slots.tokens_BL.shape[1])
    # 1. Pick what stands at each input position: a token of the text or before it, or a vector of the memory.
    memory_BKD = slots.memory_BKD[index_B].requires_grad_()
    tokens_BL = slots.tokens_BL[index_B, :width]
    positions_BL = slots.positions_BL[batch.index_B, :width]
    inputs_BT = slots.inputs_BT[index_B, : int(positions_BL.max()) + 1]
    inputs = layout.inputs(model, memory_BKD, tokens_BL, inputs_BT, slots.before_BP[index_B])

    # 2. Forward to the positions that predict a scored token.
    scored = _Scored.of(slots, batch, width=width, num_given=question.num_given, is_fixed=is_fixed)
    position_N = positions_BL[scored.slot_N, scored.token_N]
    picked_NH = _hidden_at(model, inputs, scored.slot_N, position_N, rows=batch.rows)

    # 3. Cross-entropy and its gradient in one pass; then the recipe weighs the gradient of each token.
    nats_N, correct_N, gradient_NH = cross_entropy_and_gradient(
        model,
        picked_NH,
        scored.pick(tokens_BL),
        _temperatures(slots, batch, scored, recipe=recipe),
        least_margin=_least_margin(question, model),
    )
    # A token inside the slot that is not scored is a given t_1, which counts as correct.
    correct_BL = scored.over_tokens(correct_N) & scored.scored_BL | scored.inside_BL & ~scored.scored_BL
    # This is the gradient of the unit direction. That of the vector is `radius` times smaller, and would underflow in
    # float16.
    weights_BL = token_weights(correct_BL, scored.scored_BL, recipe=recipe) * (radius or 1.0)
    weights_N1 = scored.pick(weights_BL)[:, None]
    (gradient_BKD,) = torch.autograd.grad(picked_NH, memory_BKD, gradient_NH * weights_N1.to(gradient_NH.dtype))
    return StepResult(
        correct_B=correct_BL.sum(1),
        prefix_B=correct_BL.long().cumprod(1).sum(1),
        nats_B=(scored.over_tokens(nats_N) * scored.scored_BL).sum(1),
        correct_BL=correct_BL,
        gradient_BKD=gradient_BKD,
    )


def _least_margin(question: Question, model: LanguageModel) -> float:
    """The margin that a step asks for: more than the question's, as decoding may differ by a near tie; 0 for none."""
    return question.least_margin + near_tie(model.dtype) if question.least_margin else 0.0


def _temperatures(slots: Slots, batch: Batch, scored: _Scored, *, recipe: Recipe) -> Tensor | None:
    """The temperature (N) of each scored token, which a sphere recipe lowers as its slot gets more tokens right."""
    if not isinstance(recipe, SphereRecipe):
        return None
    temperature_B = temperatures(slots.share_correct_B[batch.index_B], recipe=recipe)
    return temperature_B[scored.slot_N].to(scored.at_N.device)


def _hidden_at(
    model: LanguageModel, inputs: ModelInputs, slot_N: Tensor, position_N: Tensor, *, rows: Rows | None
) -> Tensor:
    """The input of the head (N, H) at these positions of these slots."""
    if rows is None:
        place_N = slot_N * inputs.inputs_BTD.shape[1] + position_N
        hidden_BTH = inputs.hidden(model)
    else:
        place_N = rows.place(slot_N, position_N)
        hidden_BTH = model.hidden(*rows.lay(inputs.inputs_BTD))
    return hidden_BTH.flatten(0, 1).index_select(0, place_N.to(model.device))
