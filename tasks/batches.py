"""Which slots are computed together: a step's slots, cut into batches of like lengths.

A batch is as wide as its longest slot, so slots of unlike lengths together compute padding; every batch costs something
by itself, so very small ones do not pay either.

Knows nothing of models, tensors on devices or why a slot has its length.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tasks.slots import round_up

MOST_CUTS = 32
"""Places where a batch may end; more are not worth the time to weigh them."""
DETERMINISTIC_SLOTS = 16
"""Fixed shapes: batches of exactly so many slots, with widths rounded up to a multiple of WIDTH_STEP tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Slots that are computed together."""

    index_B: Tensor
    """Which slots; the last may be repeated to fill a fixed shape."""
    num_real: int
    """How many of them are no repetition."""
    width: int
    """Tokens that each is padded to."""


def cheapest_batches(lengths: Sequence[int], *, most_tokens: int, batch_cost: int) -> list[Batch]:
    """Cut slots, sorted by length, where padding and the cost of batches come to least.

    Args:
        lengths: Tokens of each slot.
        most_tokens: Most tokens of one batch, padding included; a single slot may have more.
        batch_cost: What a batch costs beside its tokens, in tokens.
    """
    order = sorted(range(len(lengths)), key=lambda slot: -lengths[slot])
    stride = max(1, len(order) // MOST_CUTS)
    ends = [*range(stride, len(order), stride), len(order)]
    # Least cost of the first so many slots, and where the last batch of them begins.
    cost, begins = {0: 0}, {0: 0}
    for end in ends:
        options = [
            (cost[begin] + lengths[order[begin]] * (end - begin) + batch_cost, begin)
            for begin in cost
            if lengths[order[begin]] * (end - begin) <= most_tokens
        ]
        # Slots that fit into no batch as they are become batches of one stride, halved below.
        last = max(cost)
        cost[end], begins[end] = min(options, default=(cost[last] + lengths[order[last]] * (end - last), last))
    batches: list[Batch] = []
    end = len(order)
    while end:
        begin = begins[end]
        width = lengths[order[begin]]
        # A stride may be more than the device memory holds: then as many slots at a time as fit, and at least one.
        slots = max(1, min(end - begin, most_tokens // width))
        for first in range(begin, end, slots):
            index = order[first : min(first + slots, end)]
            batches.append(Batch(index_B=torch.tensor(index), num_real=len(index), width=lengths[index[0]]))
        end = begin
    return batches


def fixed_batches(lengths: Sequence[int], num_vectors: Sequence[int]) -> list[Batch]:
    """Cut slots into batches of one shape, whatever slots there are.

    Slots of like length and with as many vectors come together; the last of them is repeated until the batch is full.
    So each slot is computed in the same shapes with any neighbours.
    """
    shapes = [(round_up(length), k) for length, k in zip(lengths, num_vectors, strict=True)]
    batches: list[Batch] = []
    for shape in sorted(set(shapes)):
        same = torch.tensor([slot for slot, other in enumerate(shapes) if other == shape])
        for part in same.split(DETERMINISTIC_SLOTS):
            filled = torch.cat([part, part[-1:].expand(DETERMINISTIC_SLOTS - len(part))])
            batches.append(Batch(index_B=filled, num_real=len(part), width=shape[0]))
    return batches
