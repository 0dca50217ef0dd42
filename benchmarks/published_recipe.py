"""The published recipe in plain torch: one text, one fresh memory, one length at a time.

Written from the paper's protocol and its public code; nothing of our engine, recipe or search takes part. It is kinder
than that code where that is simple to explain: the model is loaded once, each forward pass keeps neither a cache nor
the hidden states of every layer, t_L is not fed, the step that succeeds needs no backward pass, and the memory that
counts is the one that passed, not the one a step later.

Source: "Cramming 1568 Tokens into a Single Vector and Back Again" (ACL 2025), github.com/yurakuratov/hidden_capacity.
Knows nothing of files, runs, certificates or capsweep.
"""

# Axes: K vectors of the memory, L tokens of the text, D embedding width, V vocabulary.

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

FIRST_LENGTH = 8
"""Shortest length of the published grid; the search over lengths doubles from here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedRecipe:
    """The constants of the paper."""

    num_vectors: int = 1
    learning_rate: float = 0.01
    beta_1: float = 0.9
    beta_2: float = 0.9
    weight_decay: float = 0.01
    steps: int = 5000
    """Most optimizer steps of one length."""
    patience: int = 2000
    """Steps without a better accuracy after which a length is given up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One length, tried once from one random memory."""

    length: int
    """Tokens of the text, t_1 included."""
    steps: int
    """Forward passes taken."""
    seconds: float
    memory_KD: Tensor | None
    """The memory that passed; None if none did."""


def search_lengths(
    model: Any, tokens: tuple[int, ...], *, recipe: PublishedRecipe, seed: str
) -> tuple[int, list[Attempt]]:
    """The longest length that passes, and every attempt made on the way.

    Lengths double from 8 until one fails or the text ends, then the gap is halved; each is tried once, and one that
    fails bounds the search. That asks fewer lengths than the fixed grid of the paper and finds the length to the token.

    Args:
        model: A frozen causal language model of transformers.
        tokens: The text, as far as the search may go.
        recipe: The paper's constants.
        seed: Equal seeds begin from equal memories.
    """
    attempts: list[Attempt] = []

    def passes(length: int) -> bool:
        number = int.from_bytes(hashlib.sha256(f"{seed}/{length}".encode()).digest()[:7], "little")
        generator = torch.Generator().manual_seed(number)
        attempts.append(cram(model, tokens[:length], recipe=recipe, generator=generator))
        return attempts[-1].memory_KD is not None

    return longest_passing(passes, limit=len(tokens)), attempts


def longest_passing(passes: Callable[[int], bool], *, limit: int) -> int:
    """Doubling, then bisection; a length of 1 passes unasked, since t_1 is given."""
    proven, failed = 1, limit + 1
    length = min(FIRST_LENGTH, limit)
    while failed - proven > 1:
        if passes(length):
            proven = length
        else:
            failed = length
        length = min(2 * proven, limit) if failed > limit else (proven + failed) // 2
    return proven


def cram(model: Any, tokens: tuple[int, ...], *, recipe: PublishedRecipe, generator: torch.Generator) -> Attempt:
    """Optimize a fresh memory until t_2 .. t_L come out with t_1 .. t_{L-1} given, or until it is given up."""
    started = time.perf_counter()
    embedding = model.get_input_embeddings()
    table_VD: Tensor = embedding.weight
    tokens_L = torch.tensor(tokens, device=table_VD.device)
    text_LD, targets_L = embedding(tokens_L[:-1]), tokens_L[1:]
    start_KD = torch.randn((recipe.num_vectors, table_VD.shape[1]), generator=generator)
    memory_KD = torch.nn.Parameter(start_KD.to(table_VD.device) * table_VD.std())
    optimizer = torch.optim.AdamW(
        [memory_KD],
        lr=recipe.learning_rate,
        betas=(recipe.beta_1, recipe.beta_2),
        weight_decay=recipe.weight_decay,
    )
    best_accuracy, since_better, steps, passed = 0.0, 0, 0, None
    while steps < recipe.steps and since_better < recipe.patience:
        # The last vector of the memory would predict t_1, which is neither trained nor scored.
        inputs_LD = torch.cat([memory_KD, text_LD])
        logits_LV = model(inputs_embeds=inputs_LD[None], use_cache=False).logits[0, recipe.num_vectors :]
        steps += 1
        accuracy = (logits_LV.argmax(-1) == targets_L).float().mean().item()
        if accuracy == 1.0:
            passed = memory_KD.detach().clone()
            break
        torch.nn.functional.cross_entropy(logits_LV, targets_L).backward()
        optimizer.step()
        optimizer.zero_grad()
        since_better = 0 if accuracy > best_accuracy else since_better + 1
        best_accuracy = max(best_accuracy, accuracy)
    return Attempt(length=len(tokens), steps=steps, seconds=time.perf_counter() - started, memory_KD=passed)
