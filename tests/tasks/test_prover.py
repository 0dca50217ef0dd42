"""A prover that decodes several memories together: as each by itself, and within device memory."""

import numpy as np
import pytest
import torch

from tasks.layout import Cramming
from tasks.prover import LayoutProver
from tasks.values import Question


class SmallDevice(Cramming):
    """A device on which three memories fit together."""

    sizes: list[int]

    def prove(self, model, memory_BKD, tokens_BL):
        """Decode them if they fit."""
        self.sizes.append(len(memory_BKD))
        if len(memory_BKD) > 3:
            raise torch.OutOfMemoryError("out of memory")
        return super().prove(model, memory_BKD, tokens_BL)


def memories_and_text(prover: LayoutProver, count: int) -> tuple[list[bytes], tuple[int, ...]]:
    """Random memories, and the text that the first of them gives."""
    memories = [np.random.default_rng(i).normal(size=(1, 64)).astype("<f4").tobytes() for i in range(count)]
    return memories, prover(memories[0], num_vectors=1, tokens=[0] * 6).tokens


def test_each_gives_what_it_gives_by_itself(language_model):
    prover = LayoutProver(language_model, Cramming(Question()), Question())
    memories, text = memories_and_text(prover, 20)
    found = prover.exact_prefixes(memories, num_vectors=1, tokens=text)
    assert found == [prover(memory, num_vectors=1, tokens=text).exact_prefix for memory in memories]
    assert found[0] == 6 > min(found)


def test_out_of_memory_decodes_fewer_together(language_model):
    layout = SmallDevice(Question())
    layout.sizes = []
    prover = LayoutProver(language_model, layout, Question())
    memories, text = memories_and_text(prover, 8)
    layout.sizes.clear()
    assert prover.exact_prefixes(memories, num_vectors=1, tokens=text)[0] == 6
    assert layout.sizes == [8, 4, 2, 2, 2, 2]


def test_any_other_fault_is_raised(language_model):
    prover = LayoutProver(language_model, Cramming(Question()), Question())
    with pytest.raises(ValueError, match="reshape"):
        prover.exact_prefixes([b"1234"], num_vectors=1, tokens=[1, 2])
