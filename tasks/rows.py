"""The rows of a batch: one tensor per property, one entry per row.

Rows join and leave rarely (every some steps), so joining and leaving copy; stepping never does.
Knows nothing of models, losses or why a row leaves.
"""

# Axes: B rows, K vectors of a memory, L tokens, T input positions, D embedding width.

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from tasks.contract import Probe
from tasks.layout import Layout

WIDTH_STEP = 16
"""Widths of batches are multiples of this many tokens where shapes are fixed."""


def round_up(length: int) -> int:
    """The next multiple of WIDTH_STEP."""
    return -(-length // WIDTH_STEP) * WIDTH_STEP


@dataclass(slots=True, kw_only=True)
class Rows:
    """State of B rows. Shorter texts, inputs and memories are padded at the end."""

    memory_BKD: Tensor
    """Memories in float32, as the next step will measure them."""
    first_BKD: Tensor
    """AdamW's mean of gradients."""
    second_BKD: Tensor
    """AdamW's mean of squared gradients."""
    num_vectors_B: Tensor
    """Vectors in the row's memory."""
    tokens_BL: Tensor
    """Token ids of the whole text that may be reached; 0 pads."""
    slots_BT: Tensor
    """What stands at each input position, as the layout says; 0 pads."""
    positions_BL: Tensor
    """Input position whose output must be each token; 0 pads."""
    length_B: Tensor
    """Tokens the row is asked to reproduce now."""
    limit_B: Tensor
    """Tokens it can be asked for at most."""
    asked_B: Tensor
    """Tokens it was asked for at first."""
    step_B: Tensor
    """Optimizer steps taken."""
    since_growth_B: Tensor
    """Steps since the length last grew."""
    since_better_B: Tensor
    """Steps since `best_right_B` last rose."""
    best_right_B: Tensor
    """Most tokens right since the length last grew; -1 before the first step."""
    asked_right_B: Tensor
    """Most tokens right while the length was the one asked for."""
    asked_prefix_B: Tensor
    """Right tokens before the first wrong one at that step."""
    asked_nats_B: Tensor
    """Summed cross-entropy at that step."""
    proven_B: Tensor
    """Longest length at which the criterion was met."""
    proof_step_B: Tensor
    """Step at which that was."""
    proof_memory_BKD: Tensor
    """The memory it was met with: measured before the step that follows."""
    row_steps_tokens_B: Tensor
    """Sum of the length over the steps."""
    seconds_B: Tensor
    """Share of the engine's time."""

    def __len__(self) -> int:
        return len(self.length_B)

    def select(self, index: Tensor) -> "Rows":
        """Copy the rows at `index`."""
        return Rows(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    def join(self, other: "Rows") -> "Rows":
        """These rows, then the other ones."""
        return Rows(**{f.name: _stack(getattr(self, f.name), getattr(other, f.name)) for f in fields(self)})


def _stack(a: Tensor, b: Tensor) -> Tensor:
    """Concatenate rows, padding the second axis to the wider of the two."""
    if a.ndim > 1 and a.shape[1] != b.shape[1]:
        width = max(a.shape[1], b.shape[1])
        a, b = (
            torch.cat([t, t.new_zeros(t.shape[0], width - t.shape[1], *t.shape[2:])], dim=1)
            if t.shape[1] < width
            else t
            for t in (a, b)
        )
    return torch.cat([a, b])


def new_row(
    probe: Probe, memory_KD: Tensor, *, layout: Layout, device: torch.device, most_inputs: int | None = None
) -> Rows:
    """One row that begins `probe` from `memory_KD`.

    Its text is padded to a multiple of WIDTH_STEP tokens, unless that takes more than `most_inputs` positions.
    """
    limit = len(probe.tokens)
    width = round_up(limit)
    if most_inputs is not None and layout.target_positions(probe.num_vectors, width)[-1] >= most_inputs:
        width = limit

    def integers(values: list[int]) -> Tensor:
        return torch.tensor([values], device=device)

    def integer(value: int) -> Tensor:
        return torch.tensor([value], device=device)

    memory_BKD = memory_KD[None].to(device, torch.float32)
    zero = integer(0)
    return Rows(
        memory_BKD=memory_BKD,
        first_BKD=torch.zeros_like(memory_BKD),
        second_BKD=torch.zeros_like(memory_BKD),
        num_vectors_B=integer(probe.num_vectors),
        tokens_BL=integers([*probe.tokens, *[0] * (width - limit)]),
        slots_BT=integers(layout.build_inputs(probe.num_vectors, width)),
        positions_BL=integers(layout.target_positions(probe.num_vectors, width)),
        length_B=integer(probe.length),
        limit_B=integer(limit),
        asked_B=integer(probe.length),
        step_B=zero,
        since_growth_B=zero,
        since_better_B=zero,
        best_right_B=integer(-1),
        asked_right_B=integer(-1),
        asked_prefix_B=zero,
        asked_nats_B=torch.zeros(1, device=device),
        proven_B=zero,
        proof_step_B=zero,
        proof_memory_BKD=torch.zeros_like(memory_BKD),
        row_steps_tokens_B=zero,
        seconds_B=torch.zeros(1, device=device),
    )
