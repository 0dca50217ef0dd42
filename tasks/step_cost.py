"""What a step of a model costs on this device, by the clock: so much a batch, and so much each of its tokens.

The only place where a stopwatch decides something. It decides nothing but which slots are computed together, and so
the last bits of a result; what it chose is rounded to a power of two and kept with every probe.
"""

# Axes: B slots, T input positions, D embedding width, H hidden size, N tokens of all slots.

import math
import time

import torch

from tasks.cross_entropy import cross_entropy_and_gradient
from tasks.language_model import LanguageModel
from tasks.values import StepCost

WIDTH = 16
"""Tokens of a slot while the clock runs."""
FIRST_TOKENS = 4
"""Of the smallest batch, whose time is mostly that of any batch."""
MOST_TOKENS = 4096
ENOUGH = 4.0
"""A batch that takes so many times as long as the smallest shows what its tokens cost."""
MOST_SECONDS = 3.0
"""Larger batches are not tried once this is spent: a step of SmolLM2 with 64 tokens takes .7 s on two cores."""
REPEATS = 2
"""The shorter of so many passes counts: other work on the machine only ever makes a pass longer."""


def measure_step_cost(model: LanguageModel) -> StepCost:
    """Time forward and backward passes of small batches, and then larger ones, until tokens outweigh the batch."""
    began, tokens = time.perf_counter(), FIRST_TOKENS
    _pass_seconds(model, 1, tokens)
    first = last = min(_pass_seconds(model, 1, tokens) for _ in range(REPEATS))
    while last < ENOUGH * first and tokens < MOST_TOKENS and time.perf_counter() - began < MOST_SECONDS:
        more = max(WIDTH, 2 * tokens)
        try:
            last = min(_pass_seconds(model, more // WIDTH, WIDTH) for _ in range(REPEATS))
        except (RuntimeError, MemoryError):
            # It does not fit: what smaller batches took will do.
            break
        tokens = more
    token_seconds = max(last - first, first * 1e-3) / max(1, tokens - FIRST_TOKENS)
    return StepCost(batch_seconds=max(0.0, first - FIRST_TOKENS * token_seconds), token_seconds=token_seconds)


def batch_cost_tokens(cost: StepCost) -> int:
    """What a batch costs beside its tokens, in tokens: the nearest power of two."""
    return 2 ** max(0, round(math.log2(max(1.0, cost.batch_seconds / cost.token_seconds))))


def _pass_seconds(model: LanguageModel, num_slots: int, width: int) -> float:
    """Seconds of one forward and backward pass, the head with its loss among it."""
    generator = torch.Generator().manual_seed(0)
    tokens_BT = torch.randint(model.vocabulary, (num_slots, width), generator=generator).to(model.device)
    started = _now(model.device)
    inputs_BTD = model.embed(tokens_BT).requires_grad_()
    hidden_NH = model.hidden(inputs_BTD).flatten(0, 1)
    *_, gradient_NH = cross_entropy_and_gradient(model, hidden_NH, tokens_BT.flatten())
    torch.autograd.grad(hidden_NH, inputs_BTD, gradient_NH)
    return _now(model.device) - started


def _now(device: torch.device) -> float:
    """The clock, once the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
    return time.perf_counter()
