"""The slots of a batch: one tensor per property, one entry per slot.

Memories, optimizer state and tokens, with which a step computes, lie on the engine's device. The numbers that decide
about a slot lie on the host, so that deciding never waits for the device. Slots join and leave only every few steps, so
joining and leaving may copy all of them.

Knows nothing of models, losses or why a slot leaves.
"""

# Axes: B slots, P tokens before a memory, K vectors of a memory, L tokens, T input positions, D embedding width.

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from tasks.layout import Layout
from tasks.values import Probe

WIDTH_STEP = 16
"""Fixed shapes have widths that are multiples of this many tokens: few shapes, and at most 15 tokens of padding."""
FIRST_ADDED = 4
"""Increment of adaptive growth before the first stage, in tokens, unless the first length is shorter. A quick first
stage doubles it."""
NO_LIMIT = 2**62
"""More tokens than any slot can train on, and still an int64."""
MARKS = tuple(50 * 2**i for i in range(8))
"""Optimizer steps after which a copy of the memory that has proved most is kept, to be certified at the end. They show
how the certified length rises with the steps, up to more of them than a start takes."""


def round_up(length: int) -> int:
    """The next multiple of WIDTH_STEP."""
    return -(-length // WIDTH_STEP) * WIDTH_STEP


@dataclass(slots=True, kw_only=True)
class Slots:
    """State of B slots. Shorter texts, inputs and memories are padded at the end.

    On the device, a slot takes four memories in float32 (its own, Adam's two means, and the one that proved most) and
    its tokens and inputs as integers. On the host it takes some twenty numbers, and one memory for each of MARKS.
    """

    memory_BKD: Tensor
    """Memories in float32, as the next step will measure them. On the engine's device, like the next six."""
    first_BKD: Tensor
    """Adam's mean of gradients."""
    second_BKD: Tensor
    """Adam's mean of squared gradients."""
    proof_memory_BKD: Tensor
    """The memory that proved most, as it was measured: before the optimizer step that followed."""
    before_BP: Tensor
    """Token ids that stand before the memory, the same number in every slot."""
    tokens_BL: Tensor
    """Token ids of the text, up to the longest length that may be reached; 0 pads."""
    inputs_BT: Tensor
    """What stands at each input position, as the layout defines it; 0 pads."""
    positions_BL: Tensor
    """For each token, the input position whose output must be that token; 0 pads. On the host, like all that follows
    except `asked_correct_BL`."""
    num_vectors_B: Tensor
    """Vectors in the slot's memory."""
    length_B: Tensor
    """Tokens that the slot must reproduce now."""
    limit_B: Tensor
    """Most tokens that it may grow to."""
    asked_B: Tensor
    """Tokens that its probe asks for."""
    max_trained_tokens_B: Tensor
    """Most `trained_tokens_B`; NO_LIMIT if there is none."""
    step_B: Tensor
    """Optimizer steps taken."""
    since_growth_B: Tensor
    """Steps since the length last changed."""
    since_better_B: Tensor
    """Steps since `best_correct_B` last rose."""
    since_gain_B: Tensor
    """Steps since the last gain (tasks/stopping.py)."""
    moment_step_B: Tensor
    """Optimizer steps since the memory began, or began again: the steps that Adam's means hold."""
    added_B: Tensor
    """Tokens that the last growth added, if growth adapts; before the first growth, FIRST_ADDED or the length."""
    share_correct_B: Tensor
    """Share of the tokens that were correct at the last step."""
    num_restarts_B: Tensor
    """How often the memory began again from another direction."""
    is_warm_B: Tensor
    """Whether the memory began from the memory of another probe."""
    best_correct_B: Tensor
    """Most tokens correct since the length last changed; -1 before the first step."""
    asked_correct_B: Tensor
    """Most tokens correct while the length was the one asked for."""
    asked_prefix_B: Tensor
    """Correct tokens before the first wrong one at that step."""
    asked_nats_B: Tensor
    """Summed cross-entropy at that step."""
    asked_correct_BL: Tensor
    """Which tokens were correct at that step. On the engine's device."""
    proven_B: Tensor
    """Longest length at which the criterion was met."""
    proof_step_B: Tensor
    """Steps taken when `proof_memory_BKD` was kept."""
    reached_step_BL: Tensor
    """Steps taken when each length, from 1, was first proven; 0 beyond the proven length."""
    reached_tokens_BL: Tensor
    """Trained tokens at those steps."""
    mark_memory_BKMD: Tensor
    """The memory that had proved most at each mark of MARKS (M); zeros until the slot has taken that many steps."""
    mark_proven_BM: Tensor
    """Length that this memory had proven."""
    mark_tokens_BM: Tensor
    """Trained tokens at each mark."""
    trained_tokens_B: Tensor
    """Sum of the length over the steps."""
    seconds_B: Tensor
    """The slot's share of the engine's time."""
    rate_scale_B: Tensor
    """Factor on the recipe's rate: 1, or less if the slot begins again after numbers that were not finite."""

    def __len__(self) -> int:
        return len(self.length_B)

    def num_inputs(self) -> Tensor:
        """Input positions up to the one whose output must be the last token, (B,)."""
        return self.positions_BL.gather(1, self.length_B[:, None] - 1)[:, 0] + 1

    def select(self, index: Tensor) -> "Slots":
        """Copy the slots at `index`."""
        on_device = index.to(self.memory_BKD.device)
        return Slots(
            **{f.name: getattr(self, f.name)[on_device if f.name in ON_DEVICE else index] for f in fields(self)}
        )

    def to(self, device: torch.device) -> "Slots":
        """The same slots, with the fields of ON_DEVICE on `device`."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return Slots(**{name: value.to(device) if name in ON_DEVICE else value for name, value in values.items()})

    def keep_correct(self, which_B: Tensor, correct_BL: Tensor) -> None:
        """For the slots in `which_B`, keep which tokens are correct as the best at the length asked for, in place."""
        if which_B.any():
            which_B1 = which_B.to(correct_BL.device)[:, None]
            self.asked_correct_BL = torch.where(which_B1, correct_BL, self.asked_correct_BL)

    def keep_proofs(self, which_B: Tensor) -> None:
        """For the slots in `which_B`, keep the memory as the one that proved most, in place."""
        if which_B.any():
            which_B11 = which_B.to(self.memory_BKD.device)[:, None, None]
            self.proof_memory_BKD = torch.where(which_B11, self.memory_BKD, self.proof_memory_BKD)

    def keep_at_marks(self) -> None:
        """For the slots that have just reached a mark, keep the memory that has proved most so far, in place."""
        for place, mark in enumerate(MARKS):
            for i in (self.step_B == mark).nonzero()[:, 0].tolist():
                self.mark_memory_BKMD[i, :, place] = self.proof_memory_BKD[i].cpu()
                self.mark_proven_BM[i, place] = self.proven_B[i]
                self.mark_tokens_BM[i, place] = self.trained_tokens_B[i]


ON_DEVICE = frozenset(
    {
        *("memory_BKD", "first_BKD", "second_BKD", "proof_memory_BKD"),
        *("before_BP", "tokens_BL", "inputs_BT", "asked_correct_BL"),
    }
)
"""Properties that lie on the engine's device; all others lie on the host."""


FROM_PROBE = frozenset(
    {
        *("before_BP", "tokens_BL", "inputs_BT", "positions_BL"),
        *("num_vectors_B", "limit_B", "asked_B", "max_trained_tokens_B"),
    }
)
"""Properties that follow from the probe and never change: a snapshot leaves them out."""


def stack(parts: Sequence[Slots]) -> Slots:
    """The slots of all parts, in their order."""
    return Slots(**{f.name: _concatenate([getattr(part, f.name) for part in parts]) for f in fields(Slots)})


def _concatenate(parts: list[Tensor]) -> Tensor:
    """Concatenate along the slots; pad the second axis to the widest part."""
    if parts[0].ndim == 1:
        return torch.cat(parts)
    width = max(part.shape[1] for part in parts)
    padded = [
        torch.cat([part, part.new_zeros(part.shape[0], width - part.shape[1], *part.shape[2:])], dim=1)
        if part.shape[1] < width
        else part
        for part in parts
    ]
    return torch.cat(padded)


def new_slot(
    probe: Probe, memory_KD: Tensor, *, layout: Layout, before: Sequence[int] = (), most_inputs: int | None = None
) -> Slots:
    """One slot on the host that begins `probe` from `memory_KD`, after the token ids `before`.

    Its text is padded to a multiple of WIDTH_STEP tokens, unless that takes more than `most_inputs` positions.
    """
    from_probe = _from_probe(probe, layout=layout, before=before, most_inputs=most_inputs)
    width = from_probe["tokens_BL"].shape[1]
    memory_BKD = memory_KD[None].to(torch.float32)
    zero = torch.tensor([0])
    return Slots(
        **from_probe,
        memory_BKD=memory_BKD,
        first_BKD=torch.zeros_like(memory_BKD),
        second_BKD=torch.zeros_like(memory_BKD),
        length_B=torch.tensor([probe.length]),
        step_B=zero,
        since_growth_B=zero,
        since_better_B=zero,
        since_gain_B=zero,
        moment_step_B=zero,
        added_B=torch.tensor([min(probe.length, FIRST_ADDED)]),
        share_correct_B=torch.zeros(1),
        num_restarts_B=zero,
        is_warm_B=torch.tensor([probe.start_memory is not None]),
        best_correct_B=torch.tensor([-1]),
        asked_correct_B=torch.tensor([-1]),
        asked_prefix_B=zero,
        asked_nats_B=torch.zeros(1),
        proven_B=zero,
        proof_step_B=zero,
        proof_memory_BKD=torch.zeros_like(memory_BKD),
        asked_correct_BL=torch.zeros(1, width, dtype=torch.bool),
        reached_step_BL=torch.zeros(1, width, dtype=torch.int64),
        reached_tokens_BL=torch.zeros(1, width, dtype=torch.int64),
        mark_memory_BKMD=torch.zeros(1, probe.num_vectors, len(MARKS), memory_BKD.shape[2]),
        mark_proven_BM=torch.zeros(1, len(MARKS), dtype=torch.int64),
        mark_tokens_BM=torch.zeros(1, len(MARKS), dtype=torch.int64),
        trained_tokens_B=zero,
        seconds_B=torch.zeros(1),
        rate_scale_B=torch.ones(1),
    )


def _from_probe(probe: Probe, *, layout: Layout, before: Sequence[int], most_inputs: int | None) -> dict[str, Tensor]:
    """The properties of FROM_PROBE."""
    limit, num_vectors = len(probe.tokens), probe.num_vectors
    width = round_up(limit)
    if most_inputs is not None and layout.target_positions(num_vectors, width)[-1] >= most_inputs:
        width = limit
    most_tokens = NO_LIMIT if probe.max_trained_tokens is None else probe.max_trained_tokens
    return {
        "before_BP": torch.tensor([list(before)], dtype=torch.int64),
        "tokens_BL": torch.tensor([[*probe.tokens, *[0] * (width - limit)]]),
        "inputs_BT": torch.tensor([layout.build_inputs(num_vectors, width)]),
        "positions_BL": torch.tensor([layout.target_positions(num_vectors, width)]),
        "num_vectors_B": torch.tensor([num_vectors]),
        "limit_B": torch.tensor([limit]),
        "asked_B": torch.tensor([probe.length]),
        "max_trained_tokens_B": torch.tensor([most_tokens]),
    }


def to_bytes(slot: Slots) -> bytes:
    """The state of one slot: everything that `new_slot` cannot make from its probe."""
    num_vectors = int(slot.num_vectors_B)
    state = {f.name: getattr(slot, f.name).cpu() for f in fields(Slots) if f.name not in FROM_PROBE}
    # In a batch, memories are padded to the one with most vectors; the snapshot has no padding.
    return save(
        {name: (value[:, :num_vectors] if value.ndim >= 3 else value).contiguous() for name, value in state.items()}
    )


def from_bytes(
    probe: Probe, state: bytes, *, layout: Layout, before: Sequence[int] = (), most_inputs: int | None = None
) -> Slots:
    """The slot of `probe` on the host, from the state that `to_bytes` saved.

    Raises:
        ValueError: when `state` is not the state of a slot, or another version saved it.
    """
    try:
        saved = load(state)
    except SafetensorError as error:
        raise ValueError(f"not the state of a slot: {error}") from error
    if saved.keys() != {f.name for f in fields(Slots)} - FROM_PROBE:
        raise ValueError(f"the state of a slot of another version: {sorted(saved)}")
    slot = new_slot(probe, saved["memory_BKD"][0], layout=layout, before=before, most_inputs=most_inputs)
    for name in (name for name in saved if name.endswith("_BL")):
        # It was saved with the width of its batch; the other slots of the new batch may need another one.
        saved[name] = torch.nn.functional.pad(saved[name], (0, slot.tokens_BL.shape[1] - saved[name].shape[1]))
    return replace(slot, **saved)
