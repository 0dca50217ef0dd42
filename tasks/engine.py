"""The batched engine: many probes as slots of one batch, on one device.

Each slot has its own memory, optimizer state and step count. A slot that is lossless takes more tokens and continues;
a slot that stalls leaves, is certified by decoding, and a waiting probe takes its place at once.

Knows nothing of Ray, runs, files or which probe comes next.
"""

# Axes: B slots, K vectors of a memory, L tokens, T input positions, N scored tokens of all slots, D embedding width,
# H hidden size, V vocabulary.

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from tasks.batches import DETERMINISTIC_SLOTS, Batch
from tasks.certificate import Leaving
from tasks.certifier import Certifier
from tasks.fitting import Fitting, is_out_of_memory
from tasks.language_model import LanguageModel
from tasks.layout import Layout
from tasks.optimizer import adamw_step, cold_memory, on_sphere, sphere_step, turn_of
from tasks.recipe import AdamWRecipe, SphereRecipe, make_recipe
from tasks.slots import MARKS, Slots, from_bytes, new_slot, stack, to_bytes
from tasks.step import StepResult, measure_step
from tasks.stopping import Judgement, StepNumbers, judge
from tasks.values import EngineSettings, EngineStats, Failed, Finished, Outcome, Probe, Question, Snapshot

EXPECTED_SLOT_TOKENS = 24
"""Tokens that a slot is let in for, unless its text is shorter: it begins with 4 and grows. Without that, a step of a
real model on a CPU takes in 64 searches that end after hours, all at once."""
NOT_FINITE_RATE_SCALE = 0.1
"""Rate, in units of the recipe's, of the one cold start that follows a loss that was not finite."""
NOT_FINITE = "not finite: loss or gradient"
BEGUN_ANEW = "begun anew: its snapshot could not be read"


class BatchedEngine:
    """One frozen model on one device, optimizing many probes as slots of one batch."""

    def __init__(self, model: LanguageModel, layout: Layout, question: Question, settings: EngineSettings) -> None:
        if settings.cpus is not None:
            torch.set_num_threads(settings.cpus)
        self._model = model
        # The second set of weights comes before the device memory is measured.
        float32 = model.in_float32()
        self._layout = layout
        self._question = question
        self._recipe = make_recipe(question.recipe)
        self._radius = 0.0
        """Length of a vector under a recipe of the sphere; 0 under any other."""
        if isinstance(self._recipe, SphereRecipe):
            if self._recipe.radius is None:
                raise ValueError("a recipe of the sphere needs its radius; Task.recipe_for finds it")
            self._radius = self._recipe.radius * model.cold_length
        self._fitting = Fitting(model, settings)
        self._certifier = Certifier(model, layout, question, self._fitting, float32=float32)
        self._waiting: deque[Probe] = deque()
        self._slots: Slots | None = None
        self._probes: list[Probe] = []
        self._started_at: list[float] = []
        self._not_finite: set[str] = set()
        """probe_ids of slots that begin again, cold and at a lower rate."""
        self._begun_anew: set[str] = set()
        """probe_ids of slots whose snapshot could not be read."""
        self._steps = 0
        self._num_open = 0
        self._stats = EngineStats()
        self._slot_tokens = float(EXPECTED_SLOT_TOKENS)

    @property
    def num_slots(self) -> int:
        """About how many slots fit into a step, at the lengths there are now."""
        return max(1, int(self._fitting.tokens_per_step / self._slot_tokens))

    @property
    def num_held(self) -> int:
        """Probes submitted and not yet finished."""
        return self.num_busy + len(self._certifier.waiting)

    @property
    def num_busy(self) -> int:
        """Probes that are optimized or wait for it; the others of `num_held` wait for their certificate."""
        return len(self._waiting) + len(self._probes)

    def submit(self, probes: Sequence[Probe], *, num_open: int) -> None:
        """Queue probes; they start as slots become free."""
        self._waiting.extend(probes)
        self._num_open = num_open

    def snapshots(self) -> list[Snapshot]:
        """All slots that have taken a step, those that wait for their certificate among them."""
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
        """What it has done since it was opened."""
        return self._stats

    def step(self) -> list[Finished]:
        """Advance every slot by one optimizer step and return the probes that finished."""
        started = time.perf_counter()
        finished: list[Finished] = []
        self._fill_slots()
        if self._slots is not None:
            slots, trained_B = self._slots, self._slots.length_B
            measured, too_long_B = self._measure_within_device_memory(slots)
            numbers = _read(measured)
            judged = judge(slots, numbers, question=self._question, recipe=self._recipe)
            _keep(slots, measured, judged)
            self._update(slots, measured.gradient_BKD, judged)
            _keep_at_marks(slots)
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
        """Let waiting probes in while their tokens fit into a step; one slot always fits."""
        if not self._waiting:
            return
        tokens = int(_expected_tokens(self._slots).sum()) if self._slots is not None else 0
        joining: list[Slots] = []
        while self._waiting:
            probe = self._waiting[0]
            tokens += max(probe.length, min(EXPECTED_SLOT_TOKENS, len(probe.tokens)))
            if self._probes and tokens > self._fitting.tokens_per_step:
                break
            self._waiting.popleft()
            self._probes.append(probe)
            self._started_at.append(time.time())
            joining.append(self._slot_of(probe))
        if joining:
            joined = stack(joining).to(self._model.device)
            self._slots = joined if self._slots is None else stack([self._slots, joined])

    def _slot_of(self, probe: Probe) -> Slots:
        """The slot of a probe: as it was saved, or at its beginning."""
        context = self._model.context
        if probe.snapshot is not None:
            try:
                return from_bytes(probe, probe.snapshot, layout=self._layout, most_inputs=context)
            except ValueError:  # a state that another version wrote is of no use
                self._begun_anew.add(probe.probe_id)
        slot = new_slot(probe, self._start(probe), layout=self._layout, most_inputs=context)
        if probe.probe_id in self._not_finite:
            slot.rate_scale_B = slot.rate_scale_B * NOT_FINITE_RATE_SCALE
        return slot

    def _start(self, probe: Probe) -> Tensor:
        if probe.start_memory is None or probe.probe_id in self._not_finite:
            return self._cold_start(probe.probe_id, probe.num_vectors)
        shape = self._layout.memory_shape(probe.num_vectors, self._model.embedding_width)
        memory_KD = torch.from_numpy(np.frombuffer(probe.start_memory, dtype="<f4").reshape(shape).copy())
        return memory_KD if not self._radius else on_sphere(memory_KD, radius=self._radius)

    def _cold_start(self, seed: str, num_vectors: int) -> Tensor:
        shape = self._layout.memory_shape(num_vectors, self._model.embedding_width)
        if isinstance(self._recipe, AdamWRecipe):
            return cold_memory(seed, shape, std=self._model.embedding_std * self._recipe.init_scale)
        return on_sphere(cold_memory(seed, shape, std=1.0), radius=self._radius)

    def _measure_within_device_memory(self, slots: Slots) -> tuple[StepResult, Tensor]:
        """One forward and backward pass of every slot, in batches that the device memory holds.

        Returns:
            What it measured, and which slots are too long for the device even alone, (B,); those are not measured.
        """
        too_long_B = torch.zeros(len(slots), dtype=torch.bool)
        while True:
            batches = self._fitting.cut(slots, ~too_long_B)
            try:
                return self._measure_all(slots, batches), too_long_B
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            if (alone := self._fitting.shrink(batches)) is not None:
                too_long_B[alone] = True

    def _measure_all(self, slots: Slots, batches: Sequence[Batch]) -> StepResult:
        """One forward and backward pass of the slots of these batches; zeros for slots in none of them."""
        whole = StepResult(
            correct_B=torch.zeros(len(slots), device=self._model.device),
            prefix_B=torch.zeros(len(slots), device=self._model.device),
            nats_B=torch.zeros(len(slots), device=self._model.device),
            correct_BL=torch.zeros_like(slots.tokens_BL, dtype=torch.bool),
            gradient_BKD=torch.zeros_like(slots.memory_BKD),
        )
        for batch in batches:
            part = self._measure(slots, batch)
            real = batch.index_B[: batch.num_real].to(self._model.device)
            for name in ("correct_B", "prefix_B", "nats_B", "gradient_BKD"):
                getattr(whole, name)[real] = getattr(part, name)[: batch.num_real].to(getattr(whole, name).dtype)
            whole.correct_BL[real, : part.correct_BL.shape[1]] = part.correct_BL[: batch.num_real]
        self._fitting.learn(batches)
        return whole

    def _measure(self, slots: Slots, batch: Batch) -> StepResult:
        return measure_step(
            self._model,
            slots,
            batch,
            question=self._question,
            recipe=self._recipe,
            radius=self._radius,
            is_fixed=self._fitting.is_fixed,
        )

    def _update(self, slots: Slots, gradient_BKD: Tensor, judged: Judgement) -> None:
        slots.step_B, slots.moment_step_B = slots.step_B + 1, slots.moment_step_B + 1
        state = (slots.memory_BKD, gradient_BKD, slots.first_BKD, slots.second_BKD, slots.moment_step_B)
        if isinstance(self._recipe, AdamWRecipe):
            std = self._model.embedding_std
            adamw_step(*state, slots.rate_scale_B, recipe=self._recipe, embedding_std=std)
            return
        turn_B = turn_of(
            slots.since_gain_B, slots.moment_step_B, slots.rate_scale_B, slots.is_warm_B, recipe=self._recipe
        )
        sphere_step(*state, turn_B, recipe=self._recipe, radius=self._radius)
        for i in judged.again_B.nonzero()[:, 0].tolist():
            self._begin_again(slots, i)

    def _begin_again(self, slots: Slots, i: int) -> None:
        """Put another cold memory into slot i, with nothing left of the last one but what it proved."""
        probe, num_restarts = self._probes[i], int(slots.num_restarts_B[i]) + 1
        memory_KD = self._cold_start(f"{probe.probe_id}/start {num_restarts}", probe.num_vectors)
        slots.memory_BKD[i, : probe.num_vectors] = memory_KD.to(slots.memory_BKD.device)
        slots.first_BKD[i], slots.second_BKD[i] = 0.0, 0.0
        slots.moment_step_B[i], slots.num_restarts_B[i] = 0, num_restarts

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
        """Remove slots from the batch; those that ended well wait for their certificate."""
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
        """Send a slot to its certificate, or back to a slower start, or return that the machine failed it."""
        # What was proven before the arithmetic or the device memory failed stays proven: its memory is finite.
        if fault is None or int(slot.proven_B) >= probe.length:
            remarks = [] if fault is None else [f"ended at {int(slot.length_B)} tokens: {fault}"]
            if probe.probe_id in self._begun_anew:
                self._begun_anew.remove(probe.probe_id)
                remarks.append(BEGUN_ANEW)
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
            self._not_finite.add(probe.probe_id)
            self._waiting.appendleft(replace(probe, snapshot=None))
            return []
        self._not_finite.discard(probe.probe_id)
        reason = f"{fault}, and again from a cold start at a lower rate" if fault == NOT_FINITE else fault
        return [self._finish(probe, Failed(reason=reason), started_at)]

    def _does_not_fit(self, length: int) -> str:
        copies = f" {DETERMINISTIC_SLOTS} times, as deterministic: true asks for" if self._fitting.is_fixed else ""
        return f"out of memory: {length} tokens do not fit on {self._model.device}{copies}"

    def _finish(self, probe: Probe, outcome: Outcome, started_at: float) -> Finished:
        return Finished(
            probe=probe,
            outcome=outcome,
            device=str(self._model.device),
            started_at=started_at,
            finished_at=time.time(),
            tokens_per_step=self._fitting.tokens_per_step,
            batch_cost_tokens=self._fitting.batch_cost,
        )


def _expected_tokens(slots: Slots) -> Tensor:
    """Tokens that each slot has, or will soon have, (B,)."""
    return torch.maximum(slots.length_B, slots.limit_B.clamp_max(EXPECTED_SLOT_TOKENS))


def _read(measured: StepResult) -> StepNumbers:
    """Bring the numbers of a step to the host, in one transfer."""
    finite_B = torch.isfinite(measured.nats_B) & torch.isfinite(measured.gradient_BKD).flatten(1).all(1)
    # Counts are whole in float32 up to 16 million.
    numbers_4B = torch.stack([measured.correct_B, measured.prefix_B, measured.nats_B, finite_B.float()]).cpu()
    return StepNumbers(
        correct_B=numbers_4B[0].long(), prefix_B=numbers_4B[1].long(), nats_B=numbers_4B[2], finite_B=numbers_4B[3] > 0
    )


def _keep(slots: Slots, measured: StepResult, judged: Judgement) -> None:
    """Keep memories as they were measured, before the optimizer moves them, and which tokens were correct at best."""
    if judged.asked_B.any():
        asked_B1 = judged.asked_B.to(measured.correct_BL.device)[:, None]
        slots.asked_correct_BL = torch.where(asked_B1, measured.correct_BL, slots.asked_correct_BL)
    if judged.longer_B.any():
        longer_B11 = judged.longer_B.to(slots.memory_BKD.device)[:, None, None]
        slots.proof_memory_BKD = torch.where(longer_B11, slots.memory_BKD, slots.proof_memory_BKD)


def _keep_at_marks(slots: Slots) -> None:
    """Keep what has proved most so far, of the slots that have taken as many steps as a mark says."""
    for place, mark in enumerate(MARKS):
        for i in (slots.step_B == mark).nonzero()[:, 0].tolist():
            slots.mark_memory_BKMD[i, :, place] = slots.proof_memory_BKD[i].cpu()
            slots.mark_proven_BM[i, place] = slots.proven_B[i]
            slots.mark_tokens_BM[i, place] = slots.trained_tokens_B[i]
