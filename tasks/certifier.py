"""Gathers the slots that left the batch until it pays to decode them together, then certifies them.

Knows nothing of optimizers, of the slots that are still optimized, or of why a slot left.
"""

import time
from collections.abc import Sequence
from dataclasses import replace

from tasks.certificate import Leaving, certify
from tasks.device_room import DeviceRoom
from tasks.devices import is_out_of_memory
from tasks.language_model import LanguageModel
from tasks.layout import Layout
from tasks.outcome import outcome_of
from tasks.values import Failed, Outcome, Question

CERTIFY_SLOTS = {"cpu": 16, "cuda": 64}
"""Slots that left are decoded together once this many have gathered. Decoding takes one forward pass for each token,
however few slots there are; on a GPU such a pass takes as long as a step of all slots."""
CERTIFY_WAIT_STEPS = {"cpu": 20, "cuda": 50}
"""Most steps that a slot waits for others to be decoded with it."""


class Certifier:
    """The slots of one engine that wait for their certificate."""

    def __init__(
        self,
        model: LanguageModel,
        layout: Layout,
        question: Question,
        room: DeviceRoom,
        *,
        float32: LanguageModel | None,
    ) -> None:
        """`float32` is the same model in float32, possibly `model` itself; None if it has no such form."""
        self._model = model
        self._layout = layout
        self._question = question
        self._room = room
        self._float32 = float32
        kind = "cuda" if model.device.type == "cuda" else "cpu"
        self._num_slots, self._wait_steps = CERTIFY_SLOTS[kind], CERTIFY_WAIT_STEPS[kind]
        self._waiting_since_step = 0
        self.waiting: list[Leaving] = []
        """Slots without a certificate, in the order in which they left."""

    def add(self, leaving: Leaving, *, step: int) -> None:
        """Take a slot that left after the engine's step number `step`."""
        if not self.waiting:
            self._waiting_since_step = step
        self.waiting.append(leaving)

    def is_due(self, *, step: int) -> bool:
        """Whether enough slots wait, or the first has waited long enough, after the engine's step number `step`."""
        waited = step - self._waiting_since_step >= self._wait_steps
        return bool(self.waiting) and (len(self.waiting) >= self._num_slots or waited)

    def certify(self, *, step: int) -> list[tuple[Leaving, Outcome]]:
        """Decode the slots that have waited longest, CERTIFY_SLOTS at most, and return their outcomes."""
        started = time.perf_counter()
        leaving = self.waiting[: self._num_slots]
        outcomes = self._within_device_memory(leaving, num_slots=self._num_slots)
        self.waiting = self.waiting[self._num_slots :]
        self._waiting_since_step = step
        share = (time.perf_counter() - started) / len(leaving)
        return [(slot, _with_seconds(outcome, share)) for slot, outcome in zip(leaving, outcomes, strict=True)]

    def _within_device_memory(self, leaving: Sequence[Leaving], *, num_slots: int) -> list[Outcome]:
        """Decode these slots together if the device memory holds them, else in smaller parts."""
        try:
            return self._outcomes(leaving, num_slots=num_slots)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        self._room.free()
        fewer = num_slots if self._room.is_fixed else max(1, num_slots // 2)
        if len(leaving) == 1 and fewer == num_slots:
            return [Failed(reason=f"out of memory: its certificate does not fit on {self._model.device}")]
        half = max(1, len(leaving) // 2)
        parts = (leaving[:half], leaving[half:])
        return [outcome for part in parts if part for outcome in self._within_device_memory(part, num_slots=fewer)]

    def _outcomes(self, leaving: Sequence[Leaving], *, num_slots: int) -> list[Outcome]:
        certificates = certify(
            self._model,
            self._layout,
            leaving,
            question=self._question,
            float32=self._float32,
            num_slots=num_slots,
            is_fixed=self._room.is_fixed,
        )
        return [
            outcome_of(self._model, self._layout, slot, certificate, question=self._question)
            for slot, certificate in zip(leaving, certificates, strict=True)
        ]


def _with_seconds(outcome: Outcome, seconds: float) -> Outcome:
    """Add a share of the certificate's time to the outcome."""
    if isinstance(outcome, Failed):
        return outcome
    measurement = outcome.measurement
    return replace(outcome, measurement=replace(measurement, seconds=measurement.seconds + seconds))
