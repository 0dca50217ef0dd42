"""The recipe's arithmetic: starting vectors, token weights and AdamW updates for a whole batch of slots.

Knows nothing of models, probes or stopping slots: it maps tensors to tensors.
"""

# Axes: B slots, K vectors of a memory, L tokens, D embedding width.

import hashlib
import struct

import torch
from torch import Tensor

from tasks.recipe import Recipe


def cold_memory(probe_id: str, shape: tuple[int, int], *, std: float) -> Tensor:
    """Random vectors (K, D) that depend on the probe's identity only."""
    seed = struct.unpack("<q", hashlib.sha256(probe_id.encode()).digest()[:8])[0]
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator) * std


def token_weights(correct_BL: Tensor, scored_BL: Tensor, *, recipe: Recipe) -> Tensor:
    """Weight of each token in its slot's loss, (B, L), summing to 1 in each slot."""
    weights = torch.where(correct_BL, recipe.correct_token_weight, 1.0) * scored_BL
    return weights / weights.sum(1, keepdim=True).clamp_min(1e-12)


def adamw_step(
    memory_BKD: Tensor,
    gradient_BKD: Tensor,
    first_BKD: Tensor,
    second_BKD: Tensor,
    step_B: Tensor,
    rate_scale_B: Tensor,
    *,
    recipe: Recipe,
    embedding_std: float,
) -> None:
    """One AdamW update of every slot in place; `step_B` counts this step, from 1.

    Steps and scales of the rate are on the host; the memories, gradients and means may be on a device.

    Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization", algorithm 2.
    """
    first_BKD.lerp_(gradient_BKD, 1 - recipe.beta_1)
    second_BKD.mul_(recipe.beta_2).addcmul_(gradient_BKD, gradient_BKD, value=1 - recipe.beta_2)
    factors_3B = torch.stack([1 - recipe.beta_1**step_B, 1 - recipe.beta_2**step_B, rate_scale_B])
    correction_1, correction_2, scale = factors_3B.to(memory_BKD.device)[:, :, None, None]
    update = (first_BKD / correction_1) / ((second_BKD / correction_2).sqrt_().add_(1e-8))
    rate = recipe.learning_rate * (embedding_std if recipe.rate_unit == "embedding" else 1.0)
    memory_BKD.mul_(1 - scale * recipe.learning_rate * recipe.weight_decay).sub_(update.mul_(scale), alpha=rate)
