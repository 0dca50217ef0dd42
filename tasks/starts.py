"""Makes the slot of a probe: from its snapshot, from the memory of an earlier probe, or from seeded random vectors.

Knows nothing of batches, steps, or why a memory begins again.
"""

# Axes: B slots, K vectors of a memory, D embedding width.

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tasks.language_model import LanguageModel
from tasks.layout import Layout
from tasks.optimizer import cold_memory, on_sphere
from tasks.recipe import AdamWRecipe, Recipe, SphereRecipe
from tasks.slots import Slots, from_bytes, new_slot
from tasks.values import Probe, Question

SLOW_RATE_SCALE = 0.1
"""Rate, as a share of the recipe's, of the one cold start that follows a loss or gradient that was not finite."""


class Starts:
    """Makes the slots of one engine, on the host."""

    def __init__(self, model: LanguageModel, layout: Layout, question: Question, recipe: Recipe) -> None:
        """Raises ValueError when a sphere recipe has no radius."""
        self._model = model
        self._layout = layout
        self._question = question
        self._recipe = recipe
        self.radius = 0.0
        """Norm of a memory vector under a sphere recipe; 0 under any other."""
        if isinstance(recipe, SphereRecipe):
            if recipe.radius is None:
                raise ValueError("a sphere recipe needs a radius; Task.examine measures it")
            self.radius = recipe.radius * model.cold_length
        self.lost_snapshots: set[str] = set()
        """probe_ids of probes that began anew because their snapshot could not be read."""

    def slot_of(self, probe: Probe) -> Slots:
        """The slot of a probe, as it was saved or at its beginning."""
        if probe.snapshot is not None:
            try:
                return from_bytes(probe, probe.snapshot, **self._around(probe))
            except ValueError:  # another version wrote it
                self.lost_snapshots.add(probe.probe_id)
        memory_KD = self._cold(probe.probe_id, probe.num_vectors) if probe.start_memory is None else self._warm(probe)
        return new_slot(probe, memory_KD, **self._around(probe))

    def slow_slot_of(self, probe: Probe) -> Slots:
        """The slot of a probe that begins again after a fault, cold and at a lower rate."""
        probe = replace(probe, start_memory=None)
        slot = new_slot(probe, self._cold(probe.probe_id, probe.num_vectors), **self._around(probe))
        slot.rate_scale_B = slot.rate_scale_B * SLOW_RATE_SCALE
        return slot

    def begin_again(self, slots: Slots, i: int, probe: Probe) -> None:
        """Put another cold memory into slot i. Of the old memory, only what it proved is kept."""
        num_restarts = int(slots.num_restarts_B[i]) + 1
        memory_KD = self._cold(f"{probe.probe_id}/start {num_restarts}", probe.num_vectors)
        slots.memory_BKD[i, : probe.num_vectors] = memory_KD.to(slots.memory_BKD.device)
        slots.first_BKD[i], slots.second_BKD[i] = 0.0, 0.0
        slots.moment_step_B[i], slots.num_restarts_B[i] = 0, num_restarts

    def _around(self, probe: Probe) -> dict[str, Any]:
        """What a slot's inputs depend on beside its probe's text and memory."""
        before = self._model.tokens_before(self._question, probe.context)
        context = self._model.context
        most_inputs = None if context is None else context * self._question.num_texts
        return {"layout": self._layout, "before": before, "most_inputs": most_inputs}

    def _cold(self, seed: str, num_vectors: int) -> Tensor:
        shape = self._layout.memory_shape(num_vectors, self._model)
        if isinstance(self._recipe, AdamWRecipe):
            unit = self._layout.unit(self._model)
            std = unit.cpu() if isinstance(unit, Tensor) else unit
            return cold_memory(seed, shape, std=std * self._recipe.init_scale)
        return on_sphere(cold_memory(seed, shape, std=1.0), radius=self.radius)

    def _warm(self, probe: Probe) -> Tensor:
        assert probe.start_memory is not None
        shape = self._layout.memory_shape(probe.num_vectors, self._model)
        memory_KD = torch.from_numpy(np.frombuffer(probe.start_memory, dtype="<f4").reshape(shape).copy())
        return memory_KD if not self.radius else on_sphere(memory_KD, radius=self.radius)
