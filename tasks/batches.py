"""Cuts the slots of a step into batches, which are computed together.

Where a model keeps packed slots apart, a batch is as large as the device holds. Elsewhere a batch is as wide as its
longest slot, so slots of different lengths in one batch compute padding; every batch has a fixed cost, so very small
batches do not pay either.

Knows nothing of models, tensors on devices or why a slot has its length.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tasks.packing import Rows, pack
from tasks.slots import round_up

MOST_CUTS = 32
"""Places at which a batch may end. The search for the best cut takes time with their square, in every step."""
DETERMINISTIC_SLOTS = 16
"""Slots of every batch when shapes are fixed; widths are then multiples of WIDTH_STEP tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Slots that are computed together."""

    index_B: Tensor
    """Indices of the slots; the last one may be repeated to fill a fixed shape."""
    num_real: int
    """Number of indices before the repetitions."""
    width: int
    """Tokens of the longest slot, to which others are padded if `rows` is None."""
    rows: Rows | None = None
    """Where the slots stand in the rows that the model reads; None if each has a row of its own."""

    @property
    def num_tokens(self) -> int:
        """Positions that the model computes, padding included; without rows, tokens stand for them."""
        return len(self.index_B) * self.width if self.rows is None else self.rows.num_rows * self.rows.width


def packed_batches(
    lengths: Sequence[int], num_inputs: Sequence[int], *, most_tokens: int, num_texts: int = 1
) -> list[Batch]:
    """Cut slots, sorted by length, into as few batches as hold their inputs, and pack each into rows.

    Args:
        lengths: Tokens of each slot.
        num_inputs: Input positions of each slot.
        most_tokens: Most input positions of one batch, without padding; a batch of one slot may have more.
        num_texts: Texts of each slot, whose inputs take turns.
    """
    parts: list[list[int]] = []
    room = 0
    for slot in sorted(range(len(lengths)), key=lambda slot: -lengths[slot]):
        if not parts or num_inputs[slot] > room:
            parts.append([])
            room = most_tokens
        parts[-1].append(slot)
        room -= num_inputs[slot]
    return [
        Batch(
            index_B=torch.tensor(part),
            num_real=len(part),
            width=lengths[part[0]],
            rows=pack([num_inputs[slot] for slot in part], num_texts=num_texts),
        )
        for part in parts
    ]


def cheapest_batches(lengths: Sequence[int], *, most_tokens: int, batch_cost: int) -> list[Batch]:
    """Cut slots, sorted by length, such that padding and fixed costs add up to least.

    Args:
        lengths: Tokens of each slot.
        most_tokens: Most tokens of one batch, padding included; a batch of one slot may have more.
        batch_cost: Fixed cost of a batch, expressed in tokens.
    """
    order = sorted(range(len(lengths)), key=lambda slot: -lengths[slot])
    stride = max(1, len(order) // MOST_CUTS)
    ends = [*range(stride, len(order), stride), len(order)]
    # For each end: the least cost of all slots before it, and where the last batch of that cut begins.
    cost, begins = {0: 0}, {0: 0}
    for end in ends:
        options = [
            (cost[begin] + lengths[order[begin]] * (end - begin) + batch_cost, begin)
            for begin in cost
            if lengths[order[begin]] * (end - begin) <= most_tokens
        ]
        # If not even one stride fits into a batch, it becomes a batch here and is divided below.
        last = max(cost)
        cost[end], begins[end] = min(options, default=(cost[last] + lengths[order[last]] * (end - last), last))
    batches: list[Batch] = []
    end = len(order)
    while end:
        begin = begins[end]
        width = lengths[order[begin]]
        # A stride that has more than `most_tokens` is divided into batches that fit, of at least one slot.
        slots = max(1, min(end - begin, most_tokens // width))
        for first in range(begin, end, slots):
            index = order[first : min(first + slots, end)]
            batches.append(Batch(index_B=torch.tensor(index), num_real=len(index), width=lengths[index[0]]))
        end = begin
    return batches


def fixed_batches(lengths: Sequence[int], num_vectors: Sequence[int]) -> list[Batch]:
    """Cut slots into batches whose shapes do not depend on which slots there are.

    A batch holds slots of the same number of vectors and the same length, rounded up. Its last slot is repeated until
    the batch is full, so each slot is computed in the same shapes whatever its neighbours are.
    """
    shapes = [(round_up(length), k) for length, k in zip(lengths, num_vectors, strict=True)]
    batches: list[Batch] = []
    for shape in sorted(set(shapes)):
        same = torch.tensor([slot for slot, other in enumerate(shapes) if other == shape])
        for part in same.split(DETERMINISTIC_SLOTS):
            filled = torch.cat([part, part[-1:].expand(DETERMINISTIC_SLOTS - len(part))])
            batches.append(Batch(index_B=filled, num_real=len(part), width=shape[0]))
    return batches
