"""Geometry against closed forms."""

from math import cos, log2, pi, sin

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.analysis.sphere import angles_between, cap_bits, on_great_circle, turned

angles = st.floats(1e-3, 3.1)
seeds = st.integers(0, 2**32)


def memories(seed: int, count: int, shape: tuple[int, int] = (3, 5)) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    return [generator.normal(size=shape) * generator.uniform(0.1, 9, size=(shape[0], 1)) for _ in range(count)]


class TestCapBits:
    @pytest.mark.parametrize("width", [2, 3, 64, 576, 8192])
    def test_a_cap_of_90_degrees_is_half_of_the_sphere(self, width):
        assert cap_bits(pi / 2, width) == pytest.approx(1, abs=1e-9)

    @given(angle=st.floats(0.01, pi))
    def test_on_a_circle_it_is_an_arc(self, angle):
        assert cap_bits(angle, 2) == pytest.approx(log2(pi / angle), abs=1e-9)

    @given(angle=st.floats(0.01, pi))
    def test_in_three_dimensions_it_is_archimedes(self, angle):
        assert cap_bits(angle, 3) == pytest.approx(-log2((1 - cos(angle)) / 2), abs=1e-9)

    @given(angle=st.floats(0.01, pi))
    def test_in_five_dimensions_it_is_the_integral_of_the_third_power(self, angle):
        share = (cos(angle) ** 3 / 3 - cos(angle) + 2 / 3) / (4 / 3)
        # For small angles the closed form loses digits, not the integral.
        assert cap_bits(angle, 5) == pytest.approx(-log2(share), abs=1e-5 + 1e-15 / share)

    @given(width=st.integers(2, 2048), angle=st.floats(0.01, pi / 2))
    def test_a_cap_and_its_opposite_fill_the_sphere(self, width, angle):
        share = 2 ** -cap_bits(angle, width) + 2 ** -cap_bits(pi - angle, width)
        assert share == pytest.approx(1, abs=1e-9)

    def test_a_small_cap_in_many_dimensions_is_no_underflow(self):
        """The cap is close to its rim's power, sin^575 / (575 cos); the whole, by Laplace, to sqrt(2 pi / 574)."""
        angle = 0.05
        wanted = log2((2 * pi / 574) ** 0.5) + log2(575 * cos(angle)) - 575 * log2(sin(angle))
        assert cap_bits(angle, 576) == pytest.approx(wanted, abs=0.01)


class TestTurned:
    @given(seed=seeds, angle=angles)
    def test_every_vector_turns_by_the_angle_and_keeps_its_length(self, seed, angle):
        memory, towards = memories(seed, 2)
        found = turned(memory, towards, angle)
        assert angles_between(memory, found) == pytest.approx(angle, abs=1e-7)
        assert np.linalg.norm(found, axis=1) == pytest.approx(np.linalg.norm(memory, axis=1))

    @given(seed=seeds)
    def test_by_the_angle_between_them_it_arrives(self, seed):
        memory, towards = memories(seed, 2)
        found = turned(memory, towards, angles_between(memory, towards))
        lengths = np.linalg.norm(memory, axis=1, keepdims=True) / np.linalg.norm(towards, axis=1, keepdims=True)
        assert found == pytest.approx(towards * lengths)

    def test_zeros_stay_zeros(self):
        zeros, (towards,) = np.zeros((3, 5)), memories(0, 1)
        assert not turned(zeros, towards, 0.3).any()
        assert not angles_between(zeros, towards).any()


class TestOnGreatCircle:
    @given(seed=seeds, share=st.floats(0, 1))
    def test_angle_and_length_are_interpolated(self, seed, share):
        first, second = memories(seed, 2)
        found = on_great_circle(first, second, share)
        whole = angles_between(first, second)
        assert angles_between(first, found) == pytest.approx(share * whole, abs=1e-7)
        assert angles_between(found, second) == pytest.approx((1 - share) * whole, abs=1e-7)
        lengths = [np.linalg.norm(end, axis=1) for end in (first, second)]
        assert np.linalg.norm(found, axis=1) == pytest.approx((1 - share) * lengths[0] + share * lengths[1])

    @given(seed=seeds)
    def test_it_begins_and_ends_at_the_memories(self, seed):
        first, second = memories(seed, 2)
        assert on_great_circle(first, second, 0) == pytest.approx(first)
        assert on_great_circle(first, second, 1) == pytest.approx(second)

    def test_parallel_and_opposite_vectors_take_the_straight_line(self):
        first = np.array([[1.0, 2.0], [1.0, 2.0], [0.0, 0.0]])
        second = np.array([[2.0, 4.0], [-1.0, -2.0], [4.0, 0.0]])
        wanted = np.array([[1.5, 3.0], [0.0, 0.0], [2.0, 0.0]])
        assert on_great_circle(first, second, 0.5) == pytest.approx(wanted)
