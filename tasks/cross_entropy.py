"""Cross-entropy of scored tokens and its gradient with respect to the input of the head, in one pass.

Two ways give the same answer: plain torch for any head, and the Triton kernel of liger-kernel (the extra `fast`) on
CUDA for a head that only multiplies.

Knows nothing of slots, weights of tokens or memories: the gradient of a token is the gradient of its own nats.
"""

# Axes: N scored tokens of all slots, H hidden size, V vocabulary.

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from tasks.language_model import LanguageModel

LOGITS_PER_CHUNK = {"cpu": 1 << 24, "cuda": 1 << 27}
"""Logits computed at a time, by kind of device. Each chunk reads the head twice. On a CPU a chunk takes 64 MB in
float32; a step of SmolLM2 spent an eighth more in its head with 16 MB. On a GPU it takes 512 MB, so that its matrix
products have enough tokens (2,600 at a vocabulary of 50k) to fill the device; this is an estimate, not a
measurement."""
LIGER_IS_INSTALLED = find_spec("liger_kernel") is not None


def cross_entropy_and_gradient(
    model: LanguageModel,
    hidden_NH: Tensor,
    targets_N: Tensor,
    temperature_N: Tensor | None = None,
    *,
    least_margin: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Cross-entropy in nats (N,), whether the target is correct (N,), and d loss / d hidden (N, H).

    A target is correct if its logit is the largest, by at least `least_margin`.

    The loss of a token is its cross-entropy after its logits are divided by its temperature. The returned nats are
    those of the undivided logits. Without temperatures both are the same.

    Logits are computed in chunks and not kept. Of equal logits, the first one counts as the largest.
    """
    weight_VH = _plain_weight(model)
    if (
        temperature_N is None
        and not least_margin
        and LIGER_IS_INSTALLED
        and hidden_NH.is_cuda
        and weight_VH is not None
        and len(hidden_NH) > 0
    ):
        return with_liger(weight_VH, hidden_NH, targets_N)
    return with_torch(model, hidden_NH, targets_N, temperature_N, least_margin=least_margin)


def with_torch(
    model: LanguageModel,
    hidden_NH: Tensor,
    targets_N: Tensor,
    temperature_N: Tensor | None = None,
    *,
    least_margin: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """The same for any head: the loss is differentiated by hand, the head by autograd."""
    nats: list[Tensor] = []
    correct: list[Tensor] = []
    gradients: list[Tensor] = []
    first = 0
    for part_NH, wanted_N in _chunks(model, hidden_NH.detach(), targets_N):
        leaf_NH = part_NH.requires_grad_()
        logits_NV = model.head(leaf_NH)
        with torch.no_grad():
            correct.append(_is_correct(logits_NV, wanted_N, least_margin))
            log_shares_NV = logits_NV.float().log_softmax(-1)
            nats.append(torch.nn.functional.nll_loss(log_shares_NV, wanted_N, reduction="none"))
            scale_N1 = None
            if temperature_N is not None:
                scale_N1 = 1 / temperature_N[first : first + len(wanted_N), None]
                log_shares_NV = (logits_NV.float() * scale_N1).log_softmax(-1)
            first += len(wanted_N)
            # d loss / d logits is the softmax minus 1 at the target. A third faster than autograd on small models.
            slope_NV = log_shares_NV.exp_()
            slope_NV.scatter_add_(1, wanted_N[:, None], slope_NV.new_full((len(wanted_N), 1), -1.0))
            if scale_N1 is not None:
                slope_NV *= scale_N1
        gradients += torch.autograd.grad(logits_NV, leaf_NH, slope_NV.to(logits_NV.dtype))
    return torch.cat(nats), torch.cat(correct), torch.cat(gradients)


@torch.no_grad()
def cross_entropy(
    model: LanguageModel, hidden_NH: Tensor, targets_N: Tensor, *, least_margin: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Cross-entropy in nats (N,) and whether the target is correct (N,), without a gradient."""
    nats, correct = [hidden_NH.new_zeros(0, dtype=torch.float32)], [targets_N.new_zeros(0, dtype=torch.bool)]
    for part_NH, wanted_N in _chunks(model, hidden_NH, targets_N):
        logits_NV = model.head(part_NH)
        correct.append(_is_correct(logits_NV, wanted_N, least_margin))
        nats.append(torch.nn.functional.cross_entropy(logits_NV.float(), wanted_N, reduction="none"))
    return torch.cat(nats), torch.cat(correct)


@torch.no_grad()
def with_liger(weight_VH: Tensor, hidden_NH: Tensor, targets_N: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The same for a head that multiplies by `weight_VH`: softmax, loss and slope in one kernel over the logits.

    Liger's autograd function computes the logits twice when it returns losses of single tokens, because it does not
    know their weights in the forward pass. Here weights are applied after the head, so the forward function is called
    directly: it returns the gradient of each token's own nats in the same pass.
    """
    from liger_kernel.ops.fused_linear_cross_entropy import (  # pyright: ignore[reportMissingImports]
        fused_linear_cross_entropy_forward,
    )

    nats_N, _, _, predicted_N, gradient_NH, _, _ = fused_linear_cross_entropy_forward(
        hidden_NH.detach(),
        weight_VH,
        targets_N,
        reduction="none",
        return_predicted_tokens=True,
        compute_gradients=True,
        weight_requires_grad=False,
        # In units of the size of `hidden_NH`, such that a chunk has as many logits as in plain torch.
        chunk_mem_const=max(1, _logits_per_chunk(hidden_NH) // hidden_NH.numel()),
    )
    return nats_N, predicted_N == targets_N, gradient_NH


def _is_correct(logits_NV: Tensor, wanted_N: Tensor, least_margin: float) -> Tensor:
    """Whether the wanted logit is the largest, by at least `least_margin`, (N,)."""
    if not least_margin:
        return logits_NV.argmax(-1) == wanted_N
    best_two = logits_NV.float().topk(2, dim=-1)
    return (best_two.indices[:, 0] == wanted_N) & (best_two.values[:, 0] - best_two.values[:, 1] >= least_margin)


def _plain_weight(model: LanguageModel) -> Tensor | None:
    """The head's matrix (V, H) if the head only multiplies by it; None for any other head."""
    head: Any = model.head
    # Not isinstance: quantized heads are subclasses that multiply in another way.
    return head.weight if type(head) is torch.nn.Linear and head.bias is None else None


def _chunks(model: LanguageModel, hidden_NH: Tensor, targets_N: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Hidden states and their targets, in parts whose logits fit into a chunk."""
    size = max(1, _logits_per_chunk(hidden_NH) // model.vocabulary)
    return zip(hidden_NH.split(size), targets_N.split(size), strict=True)


def _logits_per_chunk(hidden_NH: Tensor) -> int:
    return LOGITS_PER_CHUNK.get(hidden_NH.device.type, LOGITS_PER_CHUNK["cpu"])
