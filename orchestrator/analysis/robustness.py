"""What a stored memory survives: whole numbers of few bits, and turns in random directions.

Knows nothing of runs or files.
"""

# Axes: K vectors of a memory, D embedding width.

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import degrees
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.analysis.noise import bound_bits, largest_angles
from orchestrator.analysis.quantization import INTEGERS
from orchestrator.analysis.sphere import angles_between
from tasks.contract import Prover
from tasks.values import Question

Memory = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A memory that meets the criterion of its question, its text, and the model that reads it."""

    search_id: str
    tokens: Sequence[int]
    """Token ids of the text up to the capacity."""
    context: Sequence[int] = ()
    """Token ids that stand visibly before the memory."""
    memory_KD: Memory
    prover: Prover
    question: Question

    def exact_prefixes(self, memories: Sequence[Memory]) -> list[int]:
        """Tokens that each of several memories gives back."""
        stored = [memory_KD.astype("<f4").tobytes() for memory_KD in memories]
        return self.prover.exact_prefixes(
            stored, num_vectors=len(self.memory_KD), tokens=self.tokens, context=self.context
        )

    def accuracy(self, memory_KD: Memory) -> float:
        """Share of the tokens that are correct with another memory, teacher forced."""
        return self.prover.accuracy(
            memory_KD.tobytes(), num_vectors=len(self.memory_KD), tokens=self.tokens, context=self.context
        )

    def is_lossless(self, memory_KD: Memory, exact_prefix: int) -> bool:
        """Whether another memory, which gives back `exact_prefix` tokens, meets the criterion."""
        if self.question.criterion is None:
            return exact_prefix == len(self.tokens)
        return self.question.is_met(self.accuracy(memory_KD), len(self.tokens))


def quantized_rows(stored: Stored) -> Iterator[dict[str, Any]]:
    """Rows of QUANTIZED: the memory as whole numbers of each format."""
    memories = {name: convert(stored.memory_KD) for name, convert in INTEGERS.items()}
    prefixes = stored.exact_prefixes([smaller.values for smaller in memories.values()])
    for (name, smaller), prefix in zip(memories.items(), prefixes, strict=True):
        bits, _, block = name.removeprefix("int").partition("/")
        yield {
            "search_id": stored.search_id,
            "tokens": len(stored.tokens),
            "format": name,
            "bits": int(bits),
            "block": int(block) if block else None,
            "bytes": smaller.num_bytes,
            "turn_degrees": degrees(float(angles_between(stored.memory_KD, smaller.values).max())),
            "exact_prefix": prefix,
            "lossless": stored.is_lossless(smaller.values, prefix),
        }


def noise_rows(stored: Stored) -> Iterator[dict[str, Any]]:
    """Rows of NOISE; none if the text does not come out of the memory alone, or if vectors are single numbers."""
    num_vectors, width = stored.memory_KD.shape
    num_tokens = len(stored.tokens)
    if width < 2 or stored.exact_prefixes([stored.memory_KD]) != [num_tokens]:
        return

    def gives_text(memories: Sequence[Memory]) -> list[bool]:
        return [prefix == num_tokens for prefix in stored.exact_prefixes(memories)]

    for draw, angle in enumerate(largest_angles(stored.memory_KD, gives_text, seed=stored.search_id)):
        yield {
            "search_id": stored.search_id,
            "tokens": num_tokens,
            "width": width,
            "draw": draw,
            "angle_degrees": angle,
            "bound_bits": bound_bits(angle, num_vectors=num_vectors, width=width),
        }
