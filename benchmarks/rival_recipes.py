"""The recipes of capsweep's rivals, from the protocols of their papers, and the state of a text that one optimizes.

- published: AdamW at 0.01, plain loss, t_1 given, one length at a time from a fresh memory, lengths by bisection.
  Source: "Cramming 1568 Tokens into a Single Vector and Back Again" (ACL 2025).
- progressive: AdamW at 0.1 with a cosine schedule, every token predicted, one token more at each exact match.
  Source: "Progressive Cramming" (ICML 2026).
- low_rank: as progressive, but the memory is e = W z + b with 256 columns, and W, z and b are trained: that paper's
  strongest row.

A step is a forward and backward pass of one text; a text that matches takes no update, so the memory that counts is the
one that matched.
"""

# Axes: B texts, L tokens, D embedding width, H hidden size, M columns of W, N scored tokens of all texts.

import hashlib
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import measure
import torch
from torch import Tensor


@dataclass(kw_only=True)
class Racer:
    """One text optimized by one rival's recipe."""

    key: str
    tokens: tuple[int, ...]
    seed: int
    length: int
    """Tokens asked for now."""
    parameters: dict[str, Tensor] = field(default_factory=dict)
    optimizer: torch.optim.Optimizer | None = None
    steps: int = 0
    trained_tokens: int = 0
    """Sum over the steps of the tokens asked for, t_1 included."""
    seconds: float = 0.0
    steps_at_length: int = 0
    best_accuracy: float = 0.0
    since_better: int = 0
    claimed: int = 0
    """Longest length that matched, teacher forced."""
    claimed_memory_D: Tensor | None = None
    failed: int | None = None
    """Shortest length that was given up on; bisection only."""
    is_over: bool = False
    steps_by_length: list[int] = field(default_factory=list)
    trained_tokens_by_length: list[int] = field(default_factory=list)
    marks: list[tuple[int, int, int, Tensor]] = field(default_factory=list)
    """Steps, trained tokens, the length claimed by then, and its memory."""

    def claim(self, memory_D: Tensor) -> None:
        """Note that the length asked for matched."""
        new = self.length - len(self.steps_by_length)
        self.steps_by_length += [self.steps] * new
        self.trained_tokens_by_length += [self.trained_tokens] * new
        self.claimed, self.claimed_memory_D = self.length, memory_D.detach().clone()


@dataclass(frozen=True, kw_only=True)
class Published:
    """Constants and protocol of the ACL 2025 paper; lengths double from 8, then bisect, and each is tried once."""

    num_given: int = 1
    """Tokens of the text that are neither trained nor scored."""
    first_length: int = 8
    learning_rate: float = 0.01
    betas: tuple[float, float] = (0.9, 0.9)
    weight_decay: float = 0.01
    steps: int = 5000
    patience: int = 2000

    def begin(self, racer: Racer, table_VD: Tensor) -> None:
        """Give the text a fresh memory of normal numbers with the standard deviation of the embedding table."""
        memory_D = torch.randn(table_VD.shape[1], generator=generator_of(racer)) * table_VD.std()
        prepare(racer, self, {"memory": memory_D})

    def memory(self, parameters: dict[str, Tensor]) -> Tensor:
        """The memory, (D,)."""
        return parameters["memory"]

    def rate(self, step: int) -> float:
        """Learning rate, which is constant."""
        del step
        return self.learning_rate

    def judge(self, racer: Racer, accuracy: float, memory_D: Tensor) -> bool:
        """Decide what follows a step; returns whether another length begins from a fresh memory."""
        if accuracy == 1.0:
            racer.claim(memory_D)
        else:
            racer.since_better = 0 if accuracy > racer.best_accuracy else racer.since_better + 1
            racer.best_accuracy = max(racer.best_accuracy, accuracy)
            if racer.steps_at_length < self.steps and racer.since_better < self.patience:
                return False
            racer.failed = racer.length
        # t_1 is given, so a length of one token always counts as proven.
        proven, limit = max(1, racer.claimed), len(racer.tokens)
        failed = racer.failed or limit + 1
        racer.is_over = failed - proven <= 1
        racer.length = min(2 * proven, limit) if racer.failed is None else (proven + failed) // 2
        return not racer.is_over


@dataclass(frozen=True, kw_only=True)
class Progressive:
    """Constants and protocol of the ICML 2026 paper: one token more at each exact match, the optimizer carried over."""

    num_given: int = 0
    first_length: int = 1
    learning_rate: float = 0.1
    last_rate: float = 0.001
    warm_up: int = 100
    betas: tuple[float, float] = (0.9, 0.9)
    weight_decay: float = 0.01
    steps: int = 10_000
    steps_a_token: int = 1_000
    init_scale: float = 0.02
    columns: int = 0
    """Columns of W; 0: the memory itself is trained."""

    def begin(self, racer: Racer, table_VD: Tensor) -> None:
        """Give the text a fresh memory, or a fresh W, b and z."""
        width, generator = table_VD.shape[1], generator_of(racer)

        def uniform(*shape: int, low: float, high: float) -> Tensor:
            return torch.rand(shape, generator=generator) * (high - low) + low

        if not self.columns:
            prepare(racer, self, {"memory": uniform(width, low=0.0, high=self.init_scale)})
            return
        bound = self.columns**-0.5
        parameters = {
            "W": uniform(width, self.columns, low=-bound, high=bound),
            "b": uniform(width, low=-bound, high=bound),
            "z": uniform(self.columns, low=0.0, high=self.init_scale),
        }
        prepare(racer, self, parameters)

    def memory(self, parameters: dict[str, Tensor]) -> Tensor:
        """The memory, (D,)."""
        if not self.columns:
            return parameters["memory"]
        return parameters["W"] @ parameters["z"] + parameters["b"]

    def rate(self, step: int) -> float:
        """Learning rate of step `step` of a text, from 0: warm-up, then half a cosine over the other steps."""
        if step < self.warm_up:
            return self.learning_rate * (step + 1) / self.warm_up
        share = (step - self.warm_up) / (self.steps - self.warm_up)
        return self.last_rate + (self.learning_rate - self.last_rate) * (1 + math.cos(math.pi * share)) / 2

    def judge(self, racer: Racer, accuracy: float, memory_D: Tensor) -> bool:
        """Ask for one token more at a match; returns False, because no memory is ever replaced."""
        if accuracy == 1.0:
            racer.claim(memory_D)
            racer.is_over = racer.length == len(racer.tokens)
            racer.length, racer.steps_at_length = min(racer.length + 1, len(racer.tokens)), 0
        racer.is_over |= racer.steps_at_length >= self.steps_a_token or racer.steps >= self.steps
        return False


RIVALS: dict[str, Published | Progressive] = {
    "published": Published(),
    "progressive": Progressive(),
    "low_rank": Progressive(columns=256),
}


def generator_of(racer: Racer) -> torch.Generator:
    """Random numbers of a fresh memory, decided by the text, the seed and the steps taken."""
    number = hashlib.sha256(f"{racer.key}/{racer.seed}/{racer.steps}".encode()).digest()[:7]
    return torch.Generator().manual_seed(int.from_bytes(number, "little"))


def prepare(racer: Racer, rival: Published | Progressive, parameters: dict[str, Tensor]) -> None:
    """Begin to optimize from these parameters."""
    racer.parameters = {name: torch.nn.Parameter(value) for name, value in parameters.items()}
    racer.optimizer = torch.optim.AdamW(
        racer.parameters.values(), lr=rival.learning_rate, betas=rival.betas, weight_decay=rival.weight_decay
    )
    racer.steps_at_length, racer.best_accuracy, racer.since_better = 0, 0.0, 0


def advance(model: Any, rival: Published | Progressive, racers: Sequence[Racer]) -> None:
    """One forward and backward pass of all racers together, and an update of each that did not match."""
    started = time.perf_counter()
    embedding = model.get_input_embeddings()
    lengths_B = torch.tensor([racer.length for racer in racers])
    longest = int(lengths_B.max())
    tokens_BL = torch.tensor([[*racer.tokens[:longest], *[0] * (longest - len(racer.tokens))] for racer in racers])
    memory_BD = torch.stack([rival.memory(racer.parameters) for racer in racers])
    inputs_BLD = torch.cat([memory_BD[:, None], embedding(tokens_BL[:, :-1])], dim=1)
    hidden_BLH = model.base_model(inputs_embeds=inputs_BLD, use_cache=False).last_hidden_state
    place_L = torch.arange(longest)
    scored_BL = (place_L < lengths_B[:, None]) & (place_L >= rival.num_given)
    of_text_N = scored_BL.nonzero()[:, 0]
    logits_NV = model.get_output_embeddings()(hidden_BLH[scored_BL])
    targets_N = tokens_BL[scored_BL]
    correct_N = logits_NV.argmax(-1) == targets_N
    nats_N = torch.nn.functional.cross_entropy(logits_NV, targets_N, reduction="none")
    scored_B = scored_BL.sum(1)
    accuracy_B = torch.zeros(len(racers)).index_add(0, of_text_N, correct_N.float()) / scored_B
    loss_B = torch.zeros(len(racers)).index_add(0, of_text_N, nats_N) / scored_B
    moves = [accuracy < 1.0 for accuracy in accuracy_B.tolist()]
    if any(moves):
        loss_B[torch.tensor(moves)].sum().backward()
    seconds = (time.perf_counter() - started) / int(lengths_B.sum())
    for racer, memory_D, accuracy, move in zip(racers, memory_BD, accuracy_B.tolist(), moves, strict=True):
        racer.steps, racer.steps_at_length = racer.steps + 1, racer.steps_at_length + 1
        racer.trained_tokens += racer.length
        racer.seconds += seconds * racer.length
        assert racer.optimizer is not None
        if move:
            for group in racer.optimizer.param_groups:
                group["lr"] = rival.rate(racer.steps - 1)
            racer.optimizer.step()
        racer.optimizer.zero_grad()
        # The judged memory is the measured one, from before the step.
        if rival.judge(racer, accuracy, memory_D):
            rival.begin(racer, embedding.weight)
        if racer.steps in measure.STEPS and racer.claimed_memory_D is not None:
            racer.marks.append((racer.steps, racer.trained_tokens, racer.claimed, racer.claimed_memory_D))
