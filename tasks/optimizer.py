"""The arithmetic of recipes: cold memories, token weights and optimizer updates for a whole batch of slots.

Maps tensors to tensors. Knows nothing of models, probes or which slots stop.
"""

# Axes: B slots, K vectors of a memory, L tokens, D embedding width.

import hashlib
import struct

import torch
from torch import Tensor

from tasks.recipe import AdamWRecipe, Recipe, SphereRecipe

TINY = 1e-12
"""Least divisor: far below every length and weight that occurs, it only keeps 0 / 0 at 0."""


def cold_memory(seed: str, shape: tuple[int, int], *, std: float | Tensor) -> Tensor:
    """Random vectors (K, D) that depend only on the seed: a probe_id, and which of its starts it is."""
    number = struct.unpack("<q", hashlib.sha256(seed.encode()).digest()[:8])[0]
    generator = torch.Generator().manual_seed(number)
    return torch.randn(shape, generator=generator) * std


def on_sphere(memory_KD: Tensor, *, radius: float) -> Tensor:
    """Scale every vector to the norm `radius`; zeros, which pad a memory, stay zeros."""
    return memory_KD * (radius / memory_KD.norm(dim=-1, keepdim=True).clamp_min(TINY))


def temperatures(share_correct_B: Tensor, *, recipe: SphereRecipe) -> Tensor:
    """Divisor of each slot's logits in the loss, (B,): 1 if no token is correct, `recipe.temperature` if all are."""
    return 1 - (1 - recipe.temperature) * share_correct_B


def token_weights(correct_BL: Tensor, scored_BL: Tensor, *, recipe: Recipe) -> Tensor:
    """Weight of each token in the loss of its slot, (B, L). The weights of a slot add up to 1."""
    weights = torch.where(correct_BL, recipe.correct_token_weight, 1.0) * scored_BL
    return weights / weights.sum(1, keepdim=True).clamp_min(TINY)


def adamw_step(
    memory_BKD: Tensor,
    gradient_BKD: Tensor,
    first_BKD: Tensor,
    second_BKD: Tensor,
    step_B: Tensor,
    rate_scale_B: Tensor,
    *,
    recipe: AdamWRecipe,
    unit: float | Tensor,
) -> None:
    """One AdamW update of every slot, in place. `step_B` counts from 1 and includes this step.

    `unit` is the scale of the numbers of a vector, one for all or (D,).

    Steps and scales of the rate are on the host; memories, gradients and means may be on a device.

    Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization", algorithm 2.
    """
    first_BKD.lerp_(gradient_BKD, 1 - recipe.beta_1)
    second_BKD.mul_(recipe.beta_2).addcmul_(gradient_BKD, gradient_BKD, value=1 - recipe.beta_2)
    factors_3B = torch.stack([1 - recipe.beta_1**step_B, 1 - recipe.beta_2**step_B, rate_scale_B])
    correction_1, correction_2, scale = factors_3B.to(memory_BKD.device)[:, :, None, None]
    update = (first_BKD / correction_1) / ((second_BKD / correction_2).sqrt_().add_(1e-8))
    if recipe.rate_unit == "absolute":
        unit = 1.0
    if isinstance(unit, Tensor):
        update, unit = update.mul_(unit), 1.0
    rate = recipe.learning_rate * unit
    memory_BKD.mul_(1 - scale * recipe.learning_rate * recipe.weight_decay).sub_(update.mul_(scale), alpha=rate)


WARM_UP_STEPS = 10
"""Steps over which the turn of a warm start rises to its full size. Adam's first steps have full size however small the
gradient is: they would turn a memory that is nearly right by about twenty degrees."""


def turn_of(
    since_gain_B: Tensor, moment_step_B: Tensor, rate_scale_B: Tensor, is_warm_B: Tensor, *, recipe: SphereRecipe
) -> Tensor:
    """Turn of each slot's next step, (B,): it falls with the steps since the slot's last gain."""
    annealed_B = recipe.turn * rate_scale_B / (1 + since_gain_B / recipe.anneal_steps)
    return torch.where(is_warm_B, annealed_B * (moment_step_B / WARM_UP_STEPS).clamp_max(1), annealed_B)


def sphere_step(
    memory_BKD: Tensor,
    gradient_BKD: Tensor,
    first_BKD: Tensor,
    second_BKD: Tensor,
    moment_step_B: Tensor,
    turn_B: Tensor,
    *,
    recipe: SphereRecipe,
    radius: float,
) -> None:
    """Turn every vector of every slot on its sphere, in place. `moment_step_B` counts from 1 and includes this step.

    A vector is `radius * u`, and the gradient is taken with respect to the direction u. Vectors that pad a memory are
    zero and stay zero. Steps and turns are on the host; the other tensors may be on a device.

    Source: Kingma and Ba, "Adam: A Method for Stochastic Optimization", algorithm 1, for the means. The update is taken
    in the tangent plane, and the result is scaled back to the sphere.
    """
    direction_BKD = memory_BKD / radius
    tangent_BKD = _less_radial(gradient_BKD, direction_BKD)
    first_BKD.lerp_(tangent_BKD, 1 - recipe.beta_1)
    second_BKD.mul_(recipe.beta_2).addcmul_(tangent_BKD, tangent_BKD, value=1 - recipe.beta_2)
    factors_3B = torch.stack([1 - recipe.beta_1**moment_step_B, 1 - recipe.beta_2**moment_step_B, turn_B])
    correction_1, correction_2, turn = factors_3B.to(memory_BKD.device)[:, :, None, None]
    update_BKD = (first_BKD / correction_1) / ((second_BKD / correction_2).sqrt_().add_(1e-8))
    turned_BKD = direction_BKD - turn / memory_BKD.shape[-1] ** 0.5 * _less_radial(update_BKD, direction_BKD)
    memory_BKD.copy_(on_sphere(turned_BKD, radius=radius))


def _less_radial(vector_BKD: Tensor, direction_BKD: Tensor) -> Tensor:
    """The part of each vector that is orthogonal to `direction_BKD`."""
    return vector_BKD - (vector_BKD * direction_BKD).sum(-1, keepdim=True) * direction_BKD
