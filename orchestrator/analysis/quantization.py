"""Memories in fewer bits: floats of half the size, and whole numbers with a scale for each vector or block.

Knows nothing of models, texts or files.
"""

# Axes: K vectors of a memory, D embedding width, G blocks of a vector, N values of a block.

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from math import ceil

import numpy as np
from numpy.typing import NDArray

SCALE_BYTES = 4
"""A scale is one float32."""
BLOCK = 32
"""Values that share a scale in a format with blocks, as in llama.cpp's Q8_0 and Q4_0."""
INTEGER_BITS = (8, 6, 4, 3, 2)

Memory = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantized:
    """A memory in fewer bits."""

    num_bytes: int
    """Size when stored."""
    values: Memory
    """The values when read back, (K, D)."""


def to_float32(memory_KD: Memory) -> Quantized:
    """The memory as it is."""
    return Quantized(num_bytes=memory_KD.nbytes, values=memory_KD)


def to_float16(memory_KD: Memory) -> Quantized:
    """Rounded to nearest."""
    return Quantized(num_bytes=memory_KD.nbytes // 2, values=memory_KD.astype("<f2").astype("<f4"))


def to_bfloat16(memory_KD: Memory) -> Quantized:
    """The upper half of each float32, rounded to nearest, ties to even."""
    bits = memory_KD.astype("<f4").view("<u4")
    upper = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return Quantized(num_bytes=memory_KD.nbytes // 2, values=(upper << 16).astype("<u4").view("<f4"))


def to_integers(memory_KD: Memory, *, bits: int, block: int | None = None) -> Quantized:
    """Whole numbers from -m to m with m = 2^(bits - 1) - 1, times a scale: the largest value of its group over m.

    Args:
        memory_KD: The memory.
        bits: Bits of a whole number, 2 to 8. With 2 bits it is -1, 0 or 1.
        block: Neighbouring values that share a scale; None: all of a vector. The last block may be shorter.
    """
    num_vectors, width = memory_KD.shape
    size = block or width
    most = 2 ** (bits - 1) - 1
    values_KGN = np.pad(memory_KD, ((0, 0), (0, -width % size))).reshape(num_vectors, -1, size)
    largest_KG1 = np.abs(values_KGN).max(axis=2, keepdims=True)
    scale_KG1 = np.where(largest_KG1 > 0, largest_KG1 / most, 1).astype("<f4")
    whole_KGN = np.rint(values_KGN / scale_KG1).astype(np.int8)
    read_KD = (whole_KGN * scale_KG1).astype("<f4").reshape(num_vectors, -1)[:, :width]
    return Quantized(
        num_bytes=ceil(memory_KD.size * bits / 8) + SCALE_BYTES * scale_KG1.size, values=np.ascontiguousarray(read_KD)
    )


FLOATS: Mapping[str, Callable[[Memory], Quantized]] = {
    "float32": to_float32,
    "bfloat16": to_bfloat16,
    "float16": to_float16,
}
INTEGERS: Mapping[str, Callable[[Memory], Quantized]] = {
    f"int{bits}" + (f"/{block}" if block else ""): partial(to_integers, bits=bits, block=block)
    for bits in INTEGER_BITS
    for block in (None, BLOCK)
}
"""`int4` has one scale for each vector, `int4/32` one for each block of 32 values."""
