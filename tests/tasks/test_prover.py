"""A prover decodes several memories together: as each by itself, within device memory, and under other settings."""

import numpy as np
import pytest
import torch

from tasks.cramming import CrammingTask
from tasks.layout import Cramming
from tasks.prover import LayoutProver
from tasks.values import DecodeSettings, Question, TaskError
from tests.device import DEVICE

TASK = CrammingTask()
MEMORIES = [row.tobytes() for row in np.random.default_rng(0).normal(size=(3, 2, 64)).astype("<f4")]
LENGTHS = (6, 12, 9)


@pytest.fixture(scope="module")
def prover(model):
    return TASK.open_prover(model, Question(), DEVICE)


@pytest.fixture(scope="module")
def texts(language_model) -> list[list[int]]:
    """What the memories give, decoded by the layout itself."""
    memory_BKD = torch.stack([torch.frombuffer(bytearray(m), dtype=torch.float32).view(2, 64) for m in MEMORIES])
    memory_BKD = memory_BKD.to(DEVICE)
    nothing_BL = torch.zeros(3, max(LENGTHS), dtype=torch.long, device=DEVICE)
    tokens_BL = (
        Cramming(Question()).decode(language_model, memory_BKD, nothing_BL, nothing_BL[:, :0]).tokens_BL.tolist()
    )
    return [tokens[:length] for tokens, length in zip(tokens_BL, LENGTHS, strict=True)]


def test_memories_of_several_lengths_are_decoded_together(prover, texts):
    wrong = [texts[0], [*texts[1][:5], texts[1][5] + 1, *texts[1][6:]], texts[2]]
    proofs = prover.together(MEMORIES, num_vectors=2, texts=wrong)
    assert [proof.exact_prefix for proof in proofs] == [6, 5, 9]
    for memory, tokens, proof in zip(MEMORIES, wrong, proofs, strict=True):
        alone = prover(memory, num_vectors=2, tokens=tokens)
        assert (proof.tokens, proof.exact_prefix) == (alone.tokens, alone.exact_prefix)
        assert proof.margin == pytest.approx(alone.margin, abs=1e-4)


@pytest.mark.parametrize("settings", [DecodeSettings(attention="eager"), DecodeSettings(cache=False)])
def test_another_kernel_or_no_cache_gives_the_same_up_to_the_last_bits(model, prover, texts, settings):
    other = TASK.open_prover(model, Question(), DEVICE, settings)
    found = other.together(MEMORIES, num_vectors=2, texts=texts)
    wanted = prover.together(MEMORIES, num_vectors=2, texts=texts)
    assert [proof.exact_prefix for proof in found] == list(LENGTHS)
    assert [proof.margin for proof in found] != [proof.margin for proof in wanted]
    assert [proof.margin for proof in found] == pytest.approx([proof.margin for proof in wanted], abs=1e-4)


def test_another_precision_moves_the_margins(model, prover, texts):
    coarse = TASK.open_prover(model, Question(), DEVICE, DecodeSettings(dtype="bfloat16"))
    found = coarse.together([MEMORIES[0]], num_vectors=2, texts=[texts[0][:1]])[0]
    exact = prover.together([MEMORIES[0]], num_vectors=2, texts=[texts[0][:1]])[0]
    assert found.tokens == exact.tokens
    assert 1e-4 < abs(found.margin - exact.margin) < 1


def test_attention_that_is_not_here_is_named(model):
    with pytest.raises(TaskError, match="could not be loaded with attention=flash_attention_2"):
        TASK.open_prover(model, Question(), DEVICE, DecodeSettings(attention="flash_attention_2"))


class SmallDevice(Cramming):
    """A device on which three memories fit together."""

    sizes: list[int]

    def decode(self, model, memory_BKD, tokens_BL, before_BP):
        """Decode them if they fit."""
        self.sizes.append(len(memory_BKD))
        if len(memory_BKD) > 3:
            raise torch.OutOfMemoryError("out of memory")
        return super().decode(model, memory_BKD, tokens_BL, before_BP)


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
