"""Fits a step to its device: how many tokens it may have, and how its slots are cut into batches that fit.

Knows nothing of probes, recipes or what a step computes.
"""

# Axes: B slots.

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from tasks.batches import Batch, cheapest_batches, fixed_batches, packed_batches
from tasks.devices import is_out_of_memory
from tasks.language_model import LanguageModel
from tasks.slots import Slots
from tasks.step import StepResult
from tasks.step_cost import batch_cost_tokens, measure_step_cost
from tasks.values import EngineSettings

CPU_BATCH_COSTS_PER_STEP = 32
"""Tokens of a step on a CPU, as a multiple of the fixed cost of a batch. Slots begin short and with different lengths,
so a step has a third of these tokens at first, in two or three batches."""
CPU_LEAST_TOKENS = 256
"""Least tokens of a step on a CPU: fewer are too few slots to be cut into batches of similar lengths."""
FIXED_BATCH_COST = 128
"""Fixed cost of a batch in tokens under `deterministic: true`, where no clock may decide. It decides shapes,
hence the last bits of a memory: changing it moves the golden values."""
GPU_FIRST_TOKENS = 4096
"""Tokens of the first step on a GPU. The device memory that it takes decides how many tokens later steps may have."""
GPU_MOST_TOKENS = 65536
"""Most tokens of a step on a GPU, however much device memory is free."""
GPU_MEMORY_SHARE = 0.8
"""Share of the free device memory that steps may take. The rest is for slots that grow after they were let in."""


class DeviceRoom:
    """How much of a step fits on the device of one engine."""

    def __init__(self, model: LanguageModel, settings: EngineSettings, *, packs: bool, num_texts: int) -> None:
        """`packs`: whether the task lets several texts stand in one row; `num_texts`: how many each slot has."""
        self._device = model.device
        self._gpus = settings.gpus
        self.is_fixed = settings.deterministic
        """Whether batches have fixed shapes."""
        self._num_texts = num_texts
        self._can_pack = packs and not self.is_fixed and model.can_pack()
        self.batch_cost = settings.batch_cost_tokens or (
            FIXED_BATCH_COST if self.is_fixed else batch_cost_tokens(measure_step_cost(model))
        )
        """Fixed cost of a batch, expressed in tokens."""
        on_gpu = model.device.type == "cuda"
        on_cpu_tokens = max(CPU_LEAST_TOKENS, CPU_BATCH_COSTS_PER_STEP * self.batch_cost)
        self.tokens_per_step = settings.tokens_per_step or (GPU_FIRST_TOKENS if on_gpu else on_cpu_tokens)
        """Tokens of all slots together in one optimizer step; only a batch of a single slot may have more."""
        self._is_known = not on_gpu or settings.tokens_per_step is not None
        if not self._is_known:
            torch.cuda.reset_peak_memory_stats(model.device)

    def measure(self, slots: Slots, measure_batch: Callable[[Batch], StepResult]) -> tuple[StepResult, Tensor]:
        """Measure every slot, in batches that the device memory holds.

        Args:
            slots: All slots of the engine.
            measure_batch: One forward and backward pass of the slots of a batch.

        Returns:
            What it measured, and which slots are too long for the device even alone, (B,); those are not measured.
        """
        too_long_B = torch.zeros(len(slots), dtype=torch.bool)
        while True:
            batches = self._cut(slots, ~too_long_B)
            try:
                return self._measure_all(slots, batches, measure_batch), too_long_B
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            if (alone := self._shrink(batches)) is not None:
                too_long_B[alone] = True

    def free(self) -> None:
        """Give cached device memory back. To be called when no traceback holds tensors of the failed step any more."""
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _measure_all(
        self, slots: Slots, batches: Sequence[Batch], measure_batch: Callable[[Batch], StepResult]
    ) -> StepResult:
        """Measure the slots of these batches; the result is 0 for slots in none of them."""
        whole = StepResult.zeros(slots)
        for batch in batches:
            whole.put(batch, measure_batch(batch))
        self._learn(batches)
        return whole

    def _cut(self, slots: Slots, fits_B: Tensor) -> list[Batch]:
        """Cut the slots that fit at all into the batches of a step."""
        fitting = fits_B.nonzero()[:, 0]
        if not len(fitting):
            return []
        lengths, num_vectors = slots.length_B[fitting].tolist(), slots.num_vectors_B[fitting].tolist()
        if self.is_fixed:
            batches = fixed_batches(lengths, num_vectors)
        elif self._can_pack:
            num_inputs = slots.num_inputs()[fitting].tolist()
            batches = packed_batches(lengths, num_inputs, most_tokens=self.tokens_per_step, num_texts=self._num_texts)
        else:
            batches = cheapest_batches(lengths, most_tokens=self.tokens_per_step, batch_cost=self.batch_cost)
        return [replace(batch, index_B=fitting[batch.index_B]) for batch in batches]

    def _learn(self, batches: Sequence[Batch]) -> None:
        """Choose once how many tokens a step may have, by the device memory that the largest of these batches took."""
        if self._is_known or not batches:
            return
        tokens = max(batch.num_tokens for batch in batches)
        held, most = torch.cuda.memory_allocated(self._device), torch.cuda.max_memory_allocated(self._device)
        free, whole = torch.cuda.mem_get_info(self._device)
        # Other engines on this GPU may not have taken their share yet: at most this engine's own share counts as free.
        free = min(free + torch.cuda.memory_reserved(self._device), int(min(1.0, self._gpus) * whole)) - held
        bytes_per_token = max(1, (most - held) // tokens)
        self.tokens_per_step = min(GPU_MOST_TOKENS, max(1, int(GPU_MEMORY_SHARE * free / bytes_per_token)))
        self._is_known = True

    def _shrink(self, batches: Sequence[Batch]) -> Tensor | None:
        """After these batches did not fit, halve the tokens of a step, or return slots that do not fit even alone."""
        self.free()
        largest = max(batches, key=lambda batch: batch.num_tokens)
        if largest.num_real == 1 or self.is_fixed:
            return largest.index_B
        self.tokens_per_step = max(1, min(self.tokens_per_step, largest.num_tokens) // 2)
        self._is_known = True
        return None
