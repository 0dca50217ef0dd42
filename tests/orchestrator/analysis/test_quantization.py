"""Memories in fewer bits: sizes and errors worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.analysis.quantization import FLOATS, INTEGERS, to_integers

MEMORY = np.random.default_rng(0).normal(size=(3, 50)).astype("<f4")


@pytest.mark.parametrize(("precision", "num_bytes", "error"), [("float32", 600, 0), ("float16", 300, 2**-11)])
def test_floats(precision, num_bytes, error):
    found = FLOATS[precision](MEMORY)
    assert found.num_bytes == num_bytes
    assert np.abs(found.values - MEMORY).max() <= error * np.abs(MEMORY).max()


def test_bfloat16_is_torchs():
    import torch

    wanted = torch.from_numpy(MEMORY.copy()).bfloat16().float().numpy()
    assert (FLOATS["bfloat16"](MEMORY).values == wanted).all()


def test_int8_is_off_by_half_a_step_of_its_vector():
    found = INTEGERS["int8"](MEMORY)
    assert found.num_bytes == 150 + 3 * 4
    step_K1 = np.abs(MEMORY).max(axis=1, keepdims=True) / 127
    assert (np.abs(found.values - MEMORY) <= step_K1 * 0.501).all()


def test_two_bits_worked_out_by_hand():
    memory = np.array([[4, 1.9, -2.1, 0, -1, 0.4, 0.6, 0]], dtype="<f4")
    assert to_integers(memory, bits=2).values.tolist() == [[4, 0, -4, 0, 0, 0, 0, 0]]
    in_blocks = to_integers(memory, bits=2, block=4)
    assert in_blocks.values.tolist() == [[4, 0, -4, 0, -1, 0, 1, 0]]
    assert in_blocks.num_bytes == 2 + 2 * 4


@pytest.mark.parametrize(("name", "num_bytes"), [("int6", 113 + 3 * 4), ("int3", 57 + 3 * 4), ("int4/32", 75 + 6 * 4)])
def test_a_short_last_block_has_a_scale_and_bits_are_packed(name, num_bytes):
    assert INTEGERS[name](MEMORY).num_bytes == num_bytes


@given(
    seed=st.integers(0, 2**32),
    bits=st.integers(2, 8),
    block=st.sampled_from([None, 1, 7, 32, 100]),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 70)),
)
def test_no_value_is_off_by_more_than_half_a_step_of_its_group(seed, bits, block, shape):
    memory = np.random.default_rng(seed).normal(size=shape).astype("<f4")
    found = to_integers(memory, bits=bits, block=block).values
    assert (found.shape, found.dtype) == (shape, np.dtype("<f4"))
    size = block or shape[1]
    for first in range(0, shape[1], size):
        part = np.s_[:, first : first + size]
        step = np.abs(memory[part]).max(axis=1, keepdims=True) / (2 ** (bits - 1) - 1)
        assert (np.abs(found[part] - memory[part]) <= step * 0.501).all()
        assert all(len(set(row)) <= 2**bits - 1 for row in found[part].tolist())


def test_zeros_stay_zeros():
    assert all(not convert(np.zeros((2, 40), dtype="<f4")).values.any() for convert in INTEGERS.values())
