"""The largest angle, of memories whose answer is known."""

from math import pi

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.analysis.noise import ANGLES, NUM_DRAWS, bound_bits, largest_angles
from orchestrator.analysis.sphere import angles_between, cap_bits

MEMORY = np.random.default_rng(1).normal(size=(2, 30)).astype("<f4")


@settings(max_examples=30)
@given(wanted=st.floats(0.1, 89))
def test_the_largest_angle_of_a_cap_is_found_in_every_direction(wanted):
    asked: list[int] = []

    def gives_text(memories) -> list[bool]:
        asked.append(len(memories))
        return [bool((np.degrees(angles_between(MEMORY, one)) <= wanted).all()) for one in memories]

    found = largest_angles(MEMORY, gives_text, seed="s")
    assert len(found) == NUM_DRAWS
    # Within a step of 4.4 %; memories are float32, so an angle of the grid may fall on either side.
    assert all(wanted / 2 ** (1 / 16) - 1e-3 <= angle <= wanted + 1e-3 for angle in found)
    # All directions of a round are asked together, and a bisection of 162 places takes 8 rounds.
    assert len(asked) <= 8
    assert max(asked) == NUM_DRAWS


def test_what_never_and_what_always_comes_out():
    assert largest_angles(MEMORY, lambda memories: [False] * len(memories), seed="s") == [0.0] * NUM_DRAWS
    assert largest_angles(MEMORY, lambda memories: [True] * len(memories), seed="s") == [ANGLES[0]] * NUM_DRAWS


def test_directions_differ_and_are_those_of_the_seed():
    def turned_by(seed: str) -> np.ndarray:
        seen: list[np.ndarray] = []
        largest_angles(MEMORY, lambda memories: [not seen.extend(memories)] * len(memories), seed=seed)
        return np.stack(seen[:NUM_DRAWS])

    assert (turned_by("a") == turned_by("a")).all()
    assert not (turned_by("a") == turned_by("b")).any()
    assert len({one.tobytes() for one in turned_by("a")}) == NUM_DRAWS


def test_the_bound_is_what_caps_fit_and_adds_up_over_vectors():
    # On a circle, 18 arcs of 20 degrees: caps of 10 degrees.
    assert bound_bits(10, num_vectors=1, width=2) == pytest.approx(np.log2(18))
    assert bound_bits(10, num_vectors=3, width=64) == pytest.approx(3 * cap_bits(pi / 18, 64))
    assert bound_bits(0, num_vectors=1, width=64) is None
