"""Arithmetic coding with a model: it gives the tokens back, in about as many bits as the model predicts."""

import math

import pytest

from tasks.certificate import score_without_memory
from tasks.coder import compress, decompress
from tasks.contract import Question
from tasks.language_model import LanguageModel

WORD_BITS = 32
"""The coder writes whole words, and up to two of them more than the tokens need."""


@pytest.mark.parametrize("decode_from", ["memory", "memory+first_token"])
@pytest.mark.parametrize("prefix", [None, "bos"])
@pytest.mark.parametrize("num_tokens", [1, 2, 40, 200])
def test_the_tokens_come_back_at_the_models_price(model, story_probes, prefix, num_tokens, decode_from):
    frozen, question = LanguageModel(model, device="cpu"), Question(prefix=prefix, decode_from=decode_from)
    (probe,) = story_probes(1, longest=num_tokens)
    packed = compress(frozen, probe.tokens, question=question)
    given = probe.tokens[: question.num_given]
    assert decompress(frozen, packed, len(probe.tokens), question=question, given=given) == probe.tokens
    ideal = score_without_memory(frozen, probe.tokens, question=question).nats / math.log(2)
    assert ideal - 1 <= 8 * len(packed) <= ideal + 2 * WORD_BITS


def test_a_token_that_is_given_is_not_charged(model, story_probes):
    frozen = LanguageModel(model, device="cpu")
    (probe,) = story_probes(1, longest=1)
    assert compress(frozen, probe.tokens, question=Question(decode_from="memory+first_token")) == b""
    assert compress(frozen, probe.tokens, question=Question()) != b""


def test_other_bytes_give_other_tokens(model, story_probes):
    frozen = LanguageModel(model, device="cpu")
    (probe,) = story_probes(1, longest=40)
    packed = bytearray(compress(frozen, probe.tokens, question=Question()))
    packed[3] ^= 0x80
    assert decompress(frozen, bytes(packed), 40, question=Question()) != probe.tokens
