"""The batched engine: many probes, each in a slot, optimized side by side on one device.

The life of one probe, in order:

1. `submit` queues the probe. The next `step` with room for its tokens lets it in, and `Starts` makes its slot: from its
   snapshot, from the memory of an earlier probe, or from seeded random vectors.
2. In every step, `DeviceRoom` cuts the slots into batches that the device memory holds, and `measure_step` computes
   each batch: which tokens are correct, and the gradient of the memories.
3. `judge` decides from these numbers whether a slot has proven more, and whether it grows, retreats, begins again from
   another direction or stops. A memory that proves more is kept as it was measured. Then the optimizer moves all
   memories.
4. A slot that stops gives its place to a waiting probe in the next step. `Certifier` gathers slots that left and
   decodes their kept memories together.
5. `outcome_of` turns what was decoded and counted into the outcome, and `step` returns the probe as `Finished`.

A slot also leaves when its loss or gradient is not finite, or when the device cannot hold it even alone. If it has
proven the length asked for, steps 4 and 5 follow. Otherwise, a probe with numbers that are not finite is tried once
more, cold and at a lower rate; the second time, or if the device cannot hold it, it ends as `Failed`.

A sphere recipe needs the model's radius: it is measured when the run is planned, and comes with the question's recipe.

Knows nothing of Ray, runs, files or which probe comes next.
"""

# Axes: B slots, K vectors of a memory, L tokens, D embedding width.

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from tasks.batches import DETERMINISTIC_SLOTS, Batch
from tasks.certificate import Leaving
from tasks.certifier import Certifier
from tasks.device_room import DeviceRoom
from tasks.language_model import LanguageModel
from tasks.layout import Layout
from tasks.optimizer import adamw_step, sphere_step, turn_of
from tasks.recipe import AdamWRecipe, make_recipe
from tasks.slots import Slots, stack, to_bytes
from tasks.starts import Starts
from tasks.step import StepResult, measure_step
from tasks.stopping import Judgement, StepNumbers, judge
from tasks.values import EngineSettings, EngineStats, Failed, Finished, Outcome, Probe, Question, Snapshot
from tasks.wording import counted

EXPECTED_SLOT_TOKENS = 24
"""Room in tokens that a new slot is given, unless its text is shorter: a sphere recipe begins with 4 tokens and grows.
If only those 4 were reserved, a step of 256 tokens would admit 64 probes of a real model; they would grow together, and
the first result would come after hours."""
NOT_FINITE = "not finite: loss or gradient"
"""Reason of a failed probe, and remark on one that had proven its length before."""
SNAPSHOT_LOST = "begun anew: its snapshot could not be read"
"""Remark on a probe."""


class BatchedEngine:
    """One frozen model on one device, which optimizes many probes side by side, each in a slot."""

    def __init__(self, model: LanguageModel, layout: Layout, question: Question, settings: EngineSettings) -> None:
        if settings.cpus is not None:
            torch.set_num_threads(settings.cpus)
        self._model = model
        self._layout = layout
        self._question = question
        self._recipe = make_recipe(question.recipe)
        self._starts = Starts(model, layout, question, self._recipe)
        # DeviceRoom measures the device memory, so the second set of weights is loaded before it.
        float32 = model.in_float32()
        self._room = DeviceRoom(model, settings, packs=layout.packs, num_texts=question.num_texts)
        self._certifier = Certifier(model, layout, question, self._room, float32=float32)
        self._waiting: deque[Probe] = deque()
        self._slots: Slots | None = None
        self._probes: list[Probe] = []
        self._started_at: list[float] = []
        self._to_begin_slowly: set[str] = set()
        """probe_ids of waiting probes that begin again, cold and at a lower rate."""
        self._steps = 0
        self._num_open = 0
        self._stats = EngineStats()
        self._slot_tokens = float(EXPECTED_SLOT_TOKENS)

    @property
    def num_slots(self) -> int:
        """About how many slots fit into a step, at the current lengths."""
        return max(1, int(self._room.tokens_per_step / self._slot_tokens))

    @property
    def num_held(self) -> int:
        """Probes submitted and not yet finished."""
        return self.num_busy + len(self._certifier.waiting)

    @property
    def num_busy(self) -> int:
        """Held probes that are being optimized or wait for a slot; the other held probes wait for their certificate."""
        return len(self._waiting) + len(self._probes)

    def submit(self, probes: Sequence[Probe], *, num_open: int) -> None:
        """Queue probes; they start as slots become free."""
        self._waiting.extend(probes)
        self._num_open = num_open

    def snapshots(self) -> list[Snapshot]:
        """All slots that have taken a step, including those that wait for their certificate."""
        running = (
            [] if self._slots is None else [self._slots.select(torch.tensor([i])) for i in range(len(self._slots))]
        )
        slots = [
            *zip(self._probes, running, strict=True),
            *((leaving.probe, leaving.slot) for leaving in self._certifier.waiting),
        ]
        return [
            Snapshot(probe_id=probe.probe_id, steps=int(slot.step_B), state=to_bytes(slot))
            for probe, slot in slots
            if int(slot.step_B)
        ]

    def stats(self) -> EngineStats:
        """What the engine has done since it was opened."""
        return self._stats

    def step(self) -> list[Finished]:
        """Advance every slot by one optimizer step and return the probes that finished."""
        started = time.perf_counter()
        finished: list[Finished] = []
        self._fill_slots()
        if self._slots is not None:
            slots, trained_B = self._slots, self._slots.length_B
            measured, too_long_B = self._room.measure(slots, partial(self._measure, slots))
            numbers = _read(measured)
            judged = judge(slots, numbers, question=self._question, recipe=self._recipe)
            # Memories are kept as they were measured, before the optimizer moves them.
            slots.keep_correct(judged.closer_B, measured.correct_BL)
            slots.keep_proofs(judged.longer_B)
            self._update(slots, measured.gradient_BKD, judged)
            slots.keep_at_marks()
            self._count(slots, trained_B, time.perf_counter() - started)
            leaves_B = judged.stops_B | ~numbers.finite_B | too_long_B
            if leaves_B.any():
                finished += self._take_out(leaves_B, numbers.finite_B, too_long_B)
        nothing_else = self._slots is None and bool(self._certifier.waiting)
        if nothing_else or self._certifier.is_due(step=self._steps):
            certified = self._certifier.certify(step=self._steps)
            finished += [self._finish(left.probe, outcome, left.started_at) for left, outcome in certified]
        self._stats += EngineStats(step_seconds=time.perf_counter() - started)
        return finished

    def _fill_slots(self) -> None:
        """Let waiting probes in while their tokens fit into a step; a first slot is always let in."""
        if not self._waiting:
            return
        tokens = int(_expected_tokens(self._slots).sum()) if self._slots is not None else 0
        joining: list[Slots] = []
        while self._waiting:
            probe = self._waiting[0]
            tokens += max(probe.length, min(EXPECTED_SLOT_TOKENS, len(probe.tokens)))
            if self._probes and tokens > self._room.tokens_per_step:
                break
            self._waiting.popleft()
            self._probes.append(probe)
            self._started_at.append(time.time())
            joining.append(self._slot_of(probe))
        if joining:
            joined = stack(joining).to(self._model.device)
            self._slots = joined if self._slots is None else stack([self._slots, joined])

    def _slot_of(self, probe: Probe) -> Slots:
        if probe.probe_id not in self._to_begin_slowly:
            return self._starts.slot_of(probe)
        self._to_begin_slowly.remove(probe.probe_id)
        return self._starts.slow_slot_of(probe)

    def _measure(self, slots: Slots, batch: Batch) -> StepResult:
        return measure_step(
            self._model,
            self._layout,
            slots,
            batch,
            question=self._question,
            recipe=self._recipe,
            radius=self._starts.radius,
            is_fixed=self._room.is_fixed,
        )

    def _update(self, slots: Slots, gradient_BKD: Tensor, judged: Judgement) -> None:
        slots.step_B, slots.moment_step_B = slots.step_B + 1, slots.moment_step_B + 1
        state = (slots.memory_BKD, gradient_BKD, slots.first_BKD, slots.second_BKD, slots.moment_step_B)
        if isinstance(self._recipe, AdamWRecipe):
            adamw_step(*state, slots.rate_scale_B, recipe=self._recipe, unit=self._layout.unit(self._model))
            return
        turn_B = turn_of(
            slots.since_gain_B, slots.moment_step_B, slots.rate_scale_B, slots.is_warm_B, recipe=self._recipe
        )
        sphere_step(*state, turn_B, recipe=self._recipe, radius=self._starts.radius)
        for i in judged.again_B.nonzero()[:, 0].tolist():
            self._starts.begin_again(slots, i, self._probes[i])

    def _count(self, slots: Slots, trained_B: Tensor, seconds: float) -> None:
        """Count a step in which each slot trained on `trained_B` tokens."""
        tokens = trained_B.sum()
        slots.seconds_B = slots.seconds_B + seconds * trained_B / tokens
        self._slot_tokens = float(_expected_tokens(slots).sum()) / len(slots)
        self._steps += 1
        self._stats += EngineStats(
            steps=1,
            slot_steps=len(slots),
            possible_slot_steps=max(len(slots), min(self.num_slots, self._num_open)),
            trained_tokens=int(tokens),
            longest=int(slots.proven_B.max()),
        )

    def _take_out(self, leaves_B: Tensor, finite_B: Tensor, too_long_B: Tensor) -> list[Finished]:
        """Remove slots from the batch and return the probes that the machine failed."""
        slots = self._slots
        assert slots is not None
        finished: list[Finished] = []
        leaving = leaves_B.nonzero()[:, 0]
        out = slots.select(leaving).to(torch.device("cpu"))
        for place, i in enumerate(leaving.tolist()):
            slot = out.select(torch.tensor([place]))
            fault = self._does_not_fit(int(slot.length_B)) if too_long_B[i] else None if finite_B[i] else NOT_FINITE
            finished += self._end(self._probes[i], slot, fault, started_at=self._started_at[i])
        stay = (~leaves_B).nonzero()[:, 0]
        self._probes = [self._probes[i] for i in stay.tolist()]
        self._started_at = [self._started_at[i] for i in stay.tolist()]
        self._slots = slots.select(stay) if len(stay) else None
        return finished

    def _end(self, probe: Probe, slot: Slots, fault: str | None, *, started_at: float) -> list[Finished]:
        """What becomes of a slot that left: a certificate, a slower start, or a failure of the machine.

        Returns:
            The probe if the machine failed it; otherwise nothing yet.
        """
        # What a slot proved before the arithmetic or the device memory failed stays proven: that memory is finite.
        if fault is None or int(slot.proven_B) >= probe.length:
            remarks = [] if fault is None else [f"ended at {counted(int(slot.length_B), 'token')}: {fault}"]
            if probe.probe_id in self._starts.lost_snapshots:
                self._starts.lost_snapshots.remove(probe.probe_id)
                remarks.append(SNAPSHOT_LOST)
            leaving = Leaving(
                probe=probe,
                slot=slot,
                started_at=started_at,
                is_cut_short=fault is not None,
                remarks=tuple(remarks),
            )
            self._certifier.add(leaving, step=self._steps)
            return []
        if fault == NOT_FINITE and float(slot.rate_scale_B) == 1.0:
            self._to_begin_slowly.add(probe.probe_id)
            self._waiting.appendleft(replace(probe, snapshot=None))
            return []
        reason = f"{fault}, and again from a cold start at a lower rate" if fault == NOT_FINITE else fault
        return [self._finish(probe, Failed(reason=reason), started_at)]

    def _does_not_fit(self, length: int) -> str:
        copies = f" {DETERMINISTIC_SLOTS} times, as deterministic: true asks for" if self._room.is_fixed else ""
        return f"out of memory: no room for {counted(length, 'token')} on {self._model.device}{copies}"

    def _finish(self, probe: Probe, outcome: Outcome, started_at: float) -> Finished:
        return Finished(
            probe=probe,
            outcome=outcome,
            device=str(self._model.device),
            started_at=started_at,
            finished_at=time.time(),
            tokens_per_step=self._room.tokens_per_step,
            batch_cost_tokens=self._room.batch_cost,
        )


def _expected_tokens(slots: Slots) -> Tensor:
    """Tokens that each slot has now or will soon have, (B,)."""
    return torch.maximum(slots.length_B, slots.limit_B.clamp_max(EXPECTED_SLOT_TOKENS))


def _read(measured: StepResult) -> StepNumbers:
    """Copy the numbers of a step to the host in one transfer."""
    finite_B = torch.isfinite(measured.nats_B) & torch.isfinite(measured.gradient_BKD).flatten(1).all(1)
    # float32 holds every whole number up to 2**24 exactly, more than a slot can have tokens.
    numbers_4B = torch.stack([measured.correct_B, measured.prefix_B, measured.nats_B, finite_B.float()]).cpu()
    return StepNumbers(
        correct_B=numbers_4B[0].long(), prefix_B=numbers_4B[1].long(), nats_B=numbers_4B[2], finite_B=numbers_4B[3] > 0
    )
