"""The batched engine: many probes as rows of one batch, on one device.

Each row has its own memory, optimizer state and step count. A row that is lossless takes more tokens and goes on;
a row that stalls leaves, is certified by decoding, and a waiting probe takes its place at once.

Knows nothing of Ray, runs, files or which probe comes next.
"""

# Axes: B rows, K vectors of a memory, L tokens, T input positions, N scored tokens of all rows, D embedding width,
# H hidden size, V vocabulary.

import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tasks.certificate import Leaving, certify
from tasks.contract import EngineSettings, EngineStats, Failed, Finished, Outcome, Probe, Question
from tasks.cross_entropy import cross_entropy_and_gradient
from tasks.language_model import LanguageModel
from tasks.layout import Layout, pick_inputs
from tasks.optimizer import adamw_step, cold_memory, token_weights
from tasks.recipe import make_recipe
from tasks.rows import Rows, new_row, round_up

CPU_TOKENS_PER_STEP = 1024
"""More tokens a step are no faster on two cores: the cost per token is flat from about here."""
GPU_TOKENS_PER_STEP = 16384
EXPECTED_ROW_TOKENS = 24
"""Row length assumed for `num_rows` before any row has been seen."""
DETERMINISTIC_ROWS = 16
"""Fixed shapes: batches of exactly so many rows, with widths rounded up to a multiple of WIDTH_STEP tokens."""
CERTIFY_ROWS = 8
CERTIFY_WAIT_STEPS = 12
"""Leaving rows are decoded together: when so many have gathered, or the first has waited so many steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """What one forward and backward pass says of each row, before the optimizer steps."""

    right_B: Tensor
    """Tokens right."""
    prefix_B: Tensor
    """Right tokens before the first wrong one."""
    nats_B: Tensor
    """Summed cross-entropy over the row's tokens."""
    gradient_BKD: Tensor
    """Gradient of the recipe's loss with respect to the memory."""


class BatchedEngine:
    """One frozen model on one device, optimizing many probes as rows of one batch."""

    def __init__(self, model: LanguageModel, layout: Layout, question: Question, settings: EngineSettings) -> None:
        if settings.cpus is not None:
            torch.set_num_threads(settings.cpus)
        self._model = model
        self._layout = layout
        self._question = question
        self._recipe = make_recipe(question.recipe)
        self._deterministic = settings.deterministic
        default_tokens = CPU_TOKENS_PER_STEP if model.device.type == "cpu" else GPU_TOKENS_PER_STEP
        self._tokens_per_step = settings.tokens_per_step or default_tokens
        self._waiting: deque[Probe] = deque()
        self._rows: Rows | None = None
        self._probes: list[Probe] = []
        self._started_at: list[float] = []
        self._leaving: list[Leaving] = []
        self._first_left_at_step = 0
        self._steps = 0
        self._stats = EngineStats()
        self._longest_row = EXPECTED_ROW_TOKENS

    @property
    def num_rows(self) -> int:
        """About how many rows fit into a step, at the lengths seen so far."""
        return max(1, self._tokens_per_step // self._longest_row)

    @property
    def num_held(self) -> int:
        """Probes submitted and not yet finished."""
        return len(self._waiting) + len(self._probes) + len(self._leaving)

    def submit(self, probes: Sequence[Probe]) -> None:
        """Queue probes; they start as rows become free."""
        self._waiting.extend(probes)

    def stats(self) -> EngineStats:
        """What it has done since it was opened."""
        return self._stats

    def step(self) -> list[Finished]:
        """Advance every row by one optimizer step and return the probes that finished."""
        started = time.perf_counter()
        finished: list[Finished] = []
        self._fill_rows()
        if self._rows is not None:
            result = self._measure_all(self._rows)
            finite_B = torch.isfinite(result.nats_B) & torch.isfinite(result.gradient_BKD).all(2).all(1)
            trained_B = self._rows.length_B
            stops_B = self._judge(self._rows, result)
            self._update(self._rows, result.gradient_BKD)
            self._count(self._rows, trained_B, time.perf_counter() - started)
            leaves_B = stops_B | ~finite_B
            if leaves_B.any():
                finished += self._take_out(leaves_B, finite_B)
        waited = self._steps - self._first_left_at_step >= CERTIFY_WAIT_STEPS
        if self._leaving and (len(self._leaving) >= CERTIFY_ROWS or waited or self._rows is None):
            finished += self._certify()
        return finished

    def _fill_rows(self) -> None:
        """Let waiting probes in while their tokens fit into a step; one row always fits."""
        if not self._waiting:
            return
        widest = int(self._rows.length_B.max()) if self._rows is not None else 0
        joining: list[Rows] = []
        while self._waiting:
            probe = self._waiting[0]
            widest = max(widest, probe.length)
            if self._probes and (len(self._probes) + 1) * widest > self._tokens_per_step:
                break
            self._waiting.popleft()
            self._probes.append(probe)
            self._started_at.append(time.time())
            joining.append(
                new_row(
                    probe,
                    self._start(probe),
                    layout=self._layout,
                    device=self._model.device,
                    most_inputs=self._model.context,
                )
            )
        for row in joining:
            self._rows = row if self._rows is None else self._rows.join(row)

    def _start(self, probe: Probe) -> Tensor:
        shape = self._layout.memory_shape(probe.num_vectors, self._model.embedding_width)
        if probe.start_memory is None:
            return cold_memory(probe.probe_id, shape, std=self._model.embedding_std * self._recipe.init_scale)
        return torch.from_numpy(np.frombuffer(probe.start_memory, dtype="<f4").reshape(shape).copy())

    def _measure_all(self, rows: Rows) -> StepResult:
        """One forward and backward pass of every row."""
        if not self._deterministic:
            return self._measure(rows, int(rows.length_B.max()))
        whole = StepResult(
            right_B=torch.zeros_like(rows.length_B),
            prefix_B=torch.zeros_like(rows.length_B),
            nats_B=torch.zeros_like(rows.seconds_B),
            gradient_BKD=torch.zeros_like(rows.memory_BKD),
        )
        for index, num_real, width in fixed_batches(rows.length_B, rows.num_vectors_B):
            part = self._measure(rows.select(index), width)
            real = index[:num_real]
            whole.right_B[real] = part.right_B[:num_real]
            whole.prefix_B[real] = part.prefix_B[:num_real]
            whole.nats_B[real] = part.nats_B[:num_real]
            whole.gradient_BKD[real] = part.gradient_BKD[:num_real]
        return whole

    def _measure(self, rows: Rows, width: int) -> StepResult:
        """One forward and backward pass of rows no longer than `width` tokens."""
        # 1. Pick what stands at each input position: a token of the text, the prefix, or a vector of the memory.
        width = min(width, rows.tokens_BL.shape[1])
        memory_BKD = rows.memory_BKD.detach().requires_grad_()
        tokens_BL = rows.tokens_BL[:, :width]
        positions_BL = rows.positions_BL[:, :width]
        slots_BT = rows.slots_BT[:, : int(positions_BL.max()) + 1]
        prefix = self._question.prefix is not None
        inputs_BTD = pick_inputs(self._model, memory_BKD, tokens_BL, slots_BT, prefix=prefix)

        # 2. Forward to the positions that predict a scored token.
        hidden_BTH = self._model.hidden(inputs_BTD)
        inside_BL = torch.arange(width, device=tokens_BL.device) < rows.length_B[:, None]
        scored_BL = inside_BL.clone()
        if self._question.decode_from == "memory+first_token":
            scored_BL[:, 0] = False
        # Fixed shapes reach to the head: there the padding is computed too, and weighs nothing.
        taken_BL = torch.ones_like(scored_BL) if self._deterministic else scored_BL
        picked_BLH = hidden_BTH.gather(1, positions_BL[..., None].expand(-1, -1, hidden_BTH.shape[2]))
        picked_NH = picked_BLH[taken_BL]

        # 3. Cross-entropy and its gradient in the same pass, then weigh each token's gradient by the recipe.
        nats_N, right_N, gradient_NH = cross_entropy_and_gradient(self._model, picked_NH, tokens_BL[taken_BL])
        # A token that is not scored, but inside the row, is t_1 where it is given: it counts as right.
        right_BL = torch.zeros_like(scored_BL).masked_scatter(taken_BL, right_N) & scored_BL | inside_BL & ~scored_BL
        nats_BL = torch.zeros_like(scored_BL, dtype=torch.float32).masked_scatter(taken_BL, nats_N) * scored_BL
        weights_N = token_weights(right_BL, scored_BL, recipe=self._recipe)[taken_BL]
        weighted_NH = gradient_NH * weights_N[:, None].to(gradient_NH.dtype)
        (gradient_BKD,) = torch.autograd.grad(picked_NH, memory_BKD, weighted_NH)
        return StepResult(
            right_B=right_BL.sum(1),
            prefix_B=right_BL.long().cumprod(1).sum(1),
            nats_B=nats_BL.sum(1),
            gradient_BKD=gradient_BKD,
        )

    def _judge(self, rows: Rows, result: StepResult) -> Tensor:
        """Note what this measurement proves, grow the rows that met the criterion; return which rows stop, (B,)."""
        recipe, length_B = self._recipe, rows.length_B
        # 1. A longer proof: the memory as it was measured, before the optimizer moves it.
        if self._question.criterion is None:
            met_B, proof_B = result.right_B >= length_B, result.prefix_B
        else:
            met_B = result.right_B >= torch.ceil(self._question.criterion * length_B - 1e-6)
            proof_B = torch.where(met_B, length_B, 0)
        longer_B = proof_B > rows.proven_B
        rows.proven_B = torch.where(longer_B, proof_B, rows.proven_B)
        rows.proof_step_B = torch.where(longer_B, rows.step_B, rows.proof_step_B)
        rows.proof_memory_BKD = torch.where(longer_B[:, None, None], rows.memory_BKD, rows.proof_memory_BKD)

        # 2. Progress at this length; at the length asked for it is what a lossy row reports.
        better_B = result.right_B > rows.best_right_B
        rows.best_right_B = torch.where(better_B, result.right_B, rows.best_right_B)
        rows.since_better_B = torch.where(better_B, 0, rows.since_better_B + 1)
        rows.since_growth_B = rows.since_growth_B + 1
        asked_B = better_B & (length_B == rows.asked_B)
        rows.asked_right_B = torch.where(asked_B, result.right_B, rows.asked_right_B)
        rows.asked_prefix_B = torch.where(asked_B, result.prefix_B, rows.asked_prefix_B)
        rows.asked_nats_B = torch.where(asked_B, result.nats_B, rows.asked_nats_B)

        # 3. Grow in place, with memory and optimizer state; the patience begins anew.
        grown_B = torch.maximum((length_B * self._question.growth).long(), length_B + 1).minimum(rows.limit_B)
        at_end_B = met_B & (length_B >= rows.limit_B)
        stalled_B = ~met_B & ((rows.since_growth_B >= recipe.steps) | (rows.since_better_B >= recipe.patience))
        rows.row_steps_tokens_B = rows.row_steps_tokens_B + length_B
        rows.length_B = torch.where(met_B, grown_B, length_B)
        rows.best_right_B = torch.where(met_B, -1, rows.best_right_B)
        rows.since_better_B = torch.where(met_B, 0, rows.since_better_B)
        rows.since_growth_B = torch.where(met_B, 0, rows.since_growth_B)
        return at_end_B | stalled_B

    def _update(self, rows: Rows, gradient_BKD: Tensor) -> None:
        rows.step_B = rows.step_B + 1
        adamw_step(rows.memory_BKD, gradient_BKD, rows.first_BKD, rows.second_BKD, rows.step_B, recipe=self._recipe)

    def _count(self, rows: Rows, trained_B: Tensor, seconds: float) -> None:
        """Count a step in which each row trained on `trained_B` tokens."""
        tokens = trained_B.sum()
        rows.seconds_B = rows.seconds_B + seconds * trained_B / tokens
        self._longest_row = int(rows.length_B.max())
        self._steps += 1
        self._stats += EngineStats(
            row_steps=len(rows),
            possible_row_steps=max(len(rows), self.num_rows),
            row_steps_tokens=int(tokens),
            step_seconds=seconds,
        )

    def _take_out(self, leaves_B: Tensor, finite_B: Tensor) -> list[Finished]:
        """Remove rows from the batch; those that ended well wait for their certificate."""
        rows = self._rows
        assert rows is not None
        finished: list[Finished] = []
        if not self._leaving:
            self._first_left_at_step = self._steps
        for i in leaves_B.nonzero()[:, 0].tolist():
            probe, started_at = self._probes[i], self._started_at[i]
            # What was proven before the arithmetic failed stays proven: its memory is finite.
            if finite_B[i] or int(rows.proven_B[i]) >= probe.length:
                row = rows.select(torch.tensor([i], device=leaves_B.device))
                self._leaving.append(Leaving(probe=probe, row=row, started_at=started_at))
            else:
                finished.append(self._finish(probe, Failed(reason="not finite: loss or gradient"), started_at))
        stay = (~leaves_B).nonzero()[:, 0]
        self._probes = [self._probes[i] for i in stay.tolist()]
        self._started_at = [self._started_at[i] for i in stay.tolist()]
        self._rows = rows.select(stay) if len(stay) else None
        return finished

    def _certify(self) -> list[Finished]:
        """Decode the memories of the rows that left, and turn what came out into outcomes."""
        leaving, self._leaving = self._leaving[:CERTIFY_ROWS], self._leaving[CERTIFY_ROWS:]
        self._first_left_at_step = self._steps
        outcomes = certify(
            self._model,
            self._layout,
            leaving,
            question=self._question,
            num_rows=CERTIFY_ROWS if self._deterministic else None,
        )
        return [
            self._finish(row.probe, outcome, row.started_at) for row, outcome in zip(leaving, outcomes, strict=True)
        ]

    def _finish(self, probe: Probe, outcome: Outcome, started_at: float) -> Finished:
        return Finished(
            probe=probe, outcome=outcome, device=str(self._model.device), started_at=started_at, finished_at=time.time()
        )


def fixed_batches(length_B: Tensor, num_vectors_B: Tensor) -> Iterator[tuple[Tensor, int, int]]:
    """Cut rows into batches of one shape, whatever rows there are.

    Rows of like length and with as many vectors come together; the last of them is repeated until the batch is full.
    So each row is computed in the same shapes with any neighbours.

    Yields:
        Indices of DETERMINISTIC_ROWS rows, how many of them are no repetition, and the width in tokens.
    """
    shapes = [(round_up(length), k) for length, k in zip(length_B.tolist(), num_vectors_B.tolist(), strict=True)]
    for shape in sorted(set(shapes)):
        same = torch.tensor([i for i, other in enumerate(shapes) if other == shape], device=length_B.device)
        for index in same.split(DETERMINISTIC_ROWS):
            yield torch.cat([index, index[-1:].expand(DETERMINISTIC_ROWS - len(index))]), len(index), shape[0]
