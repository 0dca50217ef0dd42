"""Measures what a step of a model costs on this device: a fixed time for each batch, and a time for each of its tokens.

This is the only place where a clock decides something. It decides which slots are computed together, and thereby the
last bits of a result. The measured cost is rounded to a power of two and kept with every probe.
"""

# Axes: B slots, T input positions, D embedding width, H hidden size, N tokens of all slots, V vocabulary.

import math
import time

import torch

from tasks.cross_entropy import cross_entropy_and_gradient
from tasks.facts import StepCost
from tasks.language_model import LanguageModel

WIDTH = 16
"""Tokens of each slot in a timed batch, close to the lengths of slots in a run."""
FIRST_TOKENS = 4
"""Tokens of the smallest batch: so few that its time is mostly the fixed cost of a batch."""
MOST_TOKENS = 4096
"""Tokens of the largest batch that is tried: as many as the first step on a GPU has."""
ENOUGH = 4.0
"""Batches grow until one takes this many times as long as the smallest: its time is mostly the cost of its tokens."""
MOST_SECONDS = 3.0
"""No larger batch is tried after this time: a step of SmolLM2 with 64 tokens takes 0.7 s on two cores."""
REPEATS = 2
"""Passes of each batch, of which the shortest counts: other work on the machine can only lengthen a pass."""


def measure_step_cost(model: LanguageModel) -> StepCost:
    """Time forward and backward passes of ever larger batches, until their tokens cost more than the batch itself."""
    began, tokens = time.perf_counter(), FIRST_TOKENS
    _pass_seconds(model, 1, tokens)
    first = last = min(_pass_seconds(model, 1, tokens) for _ in range(REPEATS))
    while last < ENOUGH * first and tokens < MOST_TOKENS and time.perf_counter() - began < MOST_SECONDS:
        more = max(WIDTH, 2 * tokens)
        try:
            last = min(_pass_seconds(model, more // WIDTH, WIDTH) for _ in range(REPEATS))
        except (RuntimeError, MemoryError):
            # This batch does not fit; the times of the smaller ones are enough.
            break
        tokens = more
    token_seconds = max(last - first, first * 1e-3) / max(1, tokens - FIRST_TOKENS)
    return StepCost(batch_seconds=max(0.0, first - FIRST_TOKENS * token_seconds), token_seconds=token_seconds)


def batch_cost_tokens(cost: StepCost) -> int:
    """The fixed cost of a batch, expressed in tokens and rounded to the nearest power of two."""
    return 2 ** max(0, round(math.log2(max(1.0, cost.batch_seconds / cost.token_seconds))))


def _pass_seconds(model: LanguageModel, num_slots: int, width: int) -> float:
    """Seconds of one forward and backward pass, including the head and the loss."""
    generator = torch.Generator().manual_seed(0)
    tokens_BT = torch.randint(model.vocabulary, (num_slots, width), generator=generator).to(model.device)
    started = _now(model.device)
    inputs_BTD = model.embed(tokens_BT).requires_grad_()
    hidden_NH = model.hidden(inputs_BTD).flatten(0, 1)
    *_, gradient_NH = cross_entropy_and_gradient(model, hidden_NH, tokens_BT.flatten())
    torch.autograd.grad(hidden_NH, inputs_BTD, gradient_NH)
    return _now(model.device) - started


def _now(device: torch.device) -> float:
    """The clock, after the device has finished its queued work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
    return time.perf_counter()
