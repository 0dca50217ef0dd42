"""Arithmetic coding with a model: it gives the tokens back, in about as many bits as the model predicts."""

import itertools
import math

import pytest

from tasks.coder import compress, decompress
from tasks.scoring import score_without_memory
from tasks.values import Question

WORD_BITS = 32
"""The coder writes whole words, and up to two of them more than the tokens need."""


@pytest.mark.parametrize(
    ("num_tokens", "prefix", "decode_from"),
    [
        *itertools.product([1, 2, 20], [None, "bos"], ["memory", "memory+first_token"]),
        (120, None, "memory"),  # so many that a bit lost now and then is more than the words that may be lost
    ],
)
def test_the_tokens_come_back_at_the_models_price(language_model, story_probes, num_tokens, prefix, decode_from):
    question = Question(prefix=prefix, decode_from=decode_from)
    (probe,) = story_probes(1, longest=num_tokens)
    packed = compress(language_model, probe.tokens, question=question)
    given = probe.tokens[: question.num_given]
    assert decompress(language_model, packed, len(probe.tokens), question=question, given=given) == probe.tokens
    ideal = score_without_memory(language_model, probe.tokens, question=question).nats / math.log(2)
    assert ideal - 1 <= 8 * len(packed) <= ideal + 2 * WORD_BITS


def test_a_token_that_is_given_is_not_charged(language_model, story_probes):
    (probe,) = story_probes(1, longest=1)
    assert compress(language_model, probe.tokens, question=Question(decode_from="memory+first_token")) == b""
    assert compress(language_model, probe.tokens, question=Question()) != b""


def test_other_bytes_give_other_tokens(language_model, story_probes):
    (probe,) = story_probes(1, longest=10)
    packed = bytearray(compress(language_model, probe.tokens, question=Question()))
    packed[3] ^= 0x80
    assert decompress(language_model, bytes(packed), 10, question=Question()) != probe.tokens
