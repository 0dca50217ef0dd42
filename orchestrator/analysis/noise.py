"""How far a memory can be turned in random directions while its whole text still comes out, and what that bounds.

Knows nothing of models, tokens or files: whoever calls it says whether a memory still gives its text.
"""

# Axes: K vectors of a memory, D embedding width.

from collections.abc import Callable, Sequence
from hashlib import sha256
from math import radians

import numpy as np
from numpy.typing import NDArray

from orchestrator.analysis.sphere import cap_bits, turned

NUM_DRAWS = 8
"""Random directions of a memory."""
STEPS_PER_OCTAVE = 16
"""Angles are tried in steps of 4.4 %."""
OCTAVES = 10
"""Angles below 90 degrees that are tried: halved so often, down to 0.09 degrees."""
ANGLES = tuple(90 * 2 ** (-step / STEPS_PER_OCTAVE) for step in range(STEPS_PER_OCTAVE * OCTAVES + 1))
"""The angles that are tried, in degrees, from the largest. At 90 degrees a memory is as far from itself as from any
other: a text that comes out there is not in the memory."""

GivesText = Callable[[Sequence[NDArray[np.float32]]], Sequence[bool]]
"""Memories, each (K, D) -> whether the whole text comes out of each."""


def largest_angles(memory_KD: NDArray[np.float32], gives_text: GivesText, *, seed: str) -> list[float]:
    """For each of NUM_DRAWS random directions, the largest of ANGLES by which all vectors can be turned, in degrees.

    Each vector turns on a great circle of its own, all of them by the same angle, and keeps its length. The angle is
    bisected: the text came out there, and did not at the next larger one. 0: it does not come out at the least angle.

    Args:
        memory_KD: A memory that gives its text.
        gives_text: Asked once a round, for one memory of each direction that is not done.
        seed: Decides the directions.
    """
    directions = [direction(f"{seed}/noise {draw}", memory_KD.shape) for draw in range(NUM_DRAWS)]
    # By place in ANGLES: beyond the last one the text comes out, because there the memory is hardly turned.
    fails, holds = [-1] * NUM_DRAWS, [len(ANGLES)] * NUM_DRAWS
    while asked := [draw for draw in range(NUM_DRAWS) if holds[draw] - fails[draw] > 1]:
        places = [(fails[draw] + holds[draw]) // 2 for draw in asked]
        memories = [
            turned(memory_KD, directions[draw], radians(ANGLES[place])).astype("<f4")
            for draw, place in zip(asked, places, strict=True)
        ]
        for draw, place, still in zip(asked, places, gives_text(memories), strict=True):
            (holds if still else fails)[draw] = place
    return [ANGLES[place] if place < len(ANGLES) else 0.0 for place in holds]


def bound_bits(angle_degrees: float, *, num_vectors: int, width: int) -> float | None:
    """Bits that memories of k directions can hold at most if each gives its text from a whole cap of this angle.

    No vector gives two texts, so the caps of two texts do not overlap, and the sphere has room for its area over that
    of a cap; k vectors turn independently. None: an angle of 0 bounds nothing.
    """
    return num_vectors * cap_bits(radians(angle_degrees), width) if angle_degrees > 0 else None


def direction(seed: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Where to turn the vectors: normally distributed, so that no direction is likelier than another."""
    number = int.from_bytes(sha256(seed.encode()).digest()[:8], "little")
    return np.random.default_rng(number).standard_normal(shape)
