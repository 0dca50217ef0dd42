"""Packs the inputs of many texts into a few rows, so that a model reads them in one pass without padding.

A slot has one text, or several whose inputs take turns; each text stands in a row as if it were alone.

A pass costs a fixed time, because it reads every weight, and time for each input position, padding included. A model
whose attention is told the positions keeps the texts of a row apart (`LanguageModel.can_pack`).

Knows nothing of tasks, memories, losses or why a slot has its length.
"""

# Axes: B slots, S texts of all slots, T input positions of a slot, D embedding width, N any positions, X all positions
# of all rows.

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

LEAST_WIDTH = 32
"""Least input positions of a row, if there are as many. Shorter rows leave more padding; longer ones need more
attention for nothing: on two cores, that takes a model of 260 thousand parameters a tenth longer in rows of 64 than of
32, and SmolLM2 an eighth longer in rows of 128."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Where the inputs of a batch's slots stand in the rows that the model reads. On the host."""

    num_inputs_B: Tensor
    """Input positions of each slot."""
    num_texts: int
    """Texts of each slot, whose inputs take turns."""
    row_S: Tensor
    """The row of each text."""
    first_S: Tensor
    """Position in that row of the text's first input."""
    num_rows: int
    width: int
    """Positions of each row; those after its last text are padding."""

    def place(self, slot_N: Tensor, position_N: Tensor) -> Tensor:
        """Places (N,) of these positions of these slots, counted through all rows."""
        text_N = slot_N * self.num_texts + position_N % self.num_texts
        return self.row_S[text_N] * self.width + self.first_S[text_N] + position_N // self.num_texts

    def lay(self, inputs_BTD: Tensor) -> tuple[Tensor, Tensor]:
        """The rows (R, W, D) of these inputs, and each position within its text (R, W).

        Padding repeats an input at position 0, which makes each of its positions a text of its own.
        """
        slot_N = torch.arange(len(self.num_inputs_B)).repeat_interleave(self.num_inputs_B)
        before_B = self.num_inputs_B.cumsum(0) - self.num_inputs_B
        position_N = torch.arange(len(slot_N)) - before_B[slot_N]
        place_N = self.place(slot_N, position_N)
        nothing_X = torch.zeros(self.num_rows * self.width, dtype=torch.int64)
        position_X = nothing_X.index_copy(0, place_N, position_N // self.num_texts)
        from_X = nothing_X.index_copy(0, place_N, slot_N * inputs_BTD.shape[1] + position_N)
        rows_XD = inputs_BTD.flatten(0, 1).index_select(0, from_X.to(inputs_BTD.device))
        position_RW = position_X.view(self.num_rows, self.width).to(inputs_BTD.device)
        return rows_XD.unflatten(0, (self.num_rows, self.width)), position_RW


def pack(num_inputs: Sequence[int], *, num_texts: int = 1) -> Rows:
    """Rows of about equal width for slots with these numbers of input positions, of which each text has every n-th.

    The longest text that is left goes to the row with most room.
    """
    widths = [len(range(text, total, num_texts)) for total in num_inputs for text in range(num_texts)]
    num_rows = max(1, sum(widths) // max(*widths, LEAST_WIDTH))
    rows = [(0, row) for row in range(num_rows)]
    row_S, first_S = [0] * len(widths), [0] * len(widths)
    for text in sorted(range(len(widths)), key=lambda text: -widths[text]):
        first_S[text], row_S[text] = rows[0]
        heapq.heapreplace(rows, (first_S[text] + widths[text], row_S[text]))
    return Rows(
        num_inputs_B=torch.tensor(num_inputs),
        num_texts=num_texts,
        row_S=torch.tensor(row_S),
        first_S=torch.tensor(first_S),
        num_rows=num_rows,
        width=max(rows)[0],
    )
