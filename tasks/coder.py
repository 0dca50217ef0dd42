"""Arithmetic coding of tokens with a language model: the size of a text when the model itself compresses it.

Texts are really encoded and decoded. Both sides read token by token, so that on one machine they compute the same
numbers to the last bit. Another machine may fail to decode what was encoded on this one.

Source: Rissanen and Langdon, IBM Journal of Research and Development 23 (1979), 149-162; the range coder is that of
the library constriction.
"""

# Axes: L tokens, V vocabulary.

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tasks.language_model import LanguageModel
from tasks.values import Question


def compress(model: LanguageModel, tokens: Sequence[int], *, question: Question, context: Sequence[int] = ()) -> bytes:
    """Encode tokens into a multiple of 4 bytes.

    The bytes hold neither the number of tokens, nor given ones, nor the context before them.
    """
    encoder, shares = _stream().queue.RangeEncoder(), _Shares(model, question, context)
    for token in tokens[: question.num_given]:
        shares.read(token)
    for token in tokens[question.num_given :]:
        encoder.encode(np.array([token], dtype=np.int32), _categorical(shares.following()))
        shares.read(token)
    return encoder.get_compressed().astype("<u4").tobytes()


def decompress(
    model: LanguageModel,
    data: bytes,
    num_tokens: int,
    *,
    question: Question,
    given: Sequence[int] = (),
    context: Sequence[int] = (),
) -> tuple[int, ...]:
    """Decode the bytes of `compress` on the same machine; `given` and `context` hold the tokens that it left out."""
    words = np.frombuffer(data, dtype="<u4").astype(np.uint32)
    decoder, shares = _stream().queue.RangeDecoder(words), _Shares(model, question, context)
    for token in given:
        shares.read(token)
    return (*given, *_decoded(decoder, shares, num_tokens - len(given)))


def _decoded(decoder: Any, shares: "_Shares", num_tokens: int) -> Iterator[int]:
    for _ in range(num_tokens):
        token = int(decoder.decode(_categorical(shares.following())))
        shares.read(token)
        yield token


def _categorical(shares_V: NDArray[np.float64]) -> Any:
    return _stream().model.Categorical(shares_V, perfect=False)


class _Shares:
    """The model's probabilities of the next token, while it reads texts whose tokens take turns."""

    def __init__(self, model: LanguageModel, question: Question, context: Sequence[int]) -> None:
        before = model.tokens_before(question, context)
        # Each text is read by a reader of its own; the first of them is the one whose turn it is.
        self._texts = deque(_SharesOfText(model, before) for _ in range(question.num_texts))

    def following(self) -> NDArray[np.float64]:
        """The probability of each token to be the next, (V,)."""
        return self._texts[0].following()

    def read(self, token: int) -> None:
        self._texts[0].read(token)
        self._texts.rotate(-1)


class _SharesOfText:
    """The model's probabilities of the next token, while it reads one text."""

    def __init__(self, model: LanguageModel, before: Sequence[int]) -> None:
        """`before` are the tokens before the text."""
        self._reading = model.reading()
        # With nothing before it, nothing predicts t_1: all tokens are equally likely.
        self._next_V = np.full(model.vocabulary, 1 / model.vocabulary)
        self._model = model
        if before:
            self._read(before)

    def following(self) -> NDArray[np.float64]:
        """The probability of each token to be the next, (V,)."""
        return self._next_V

    def read(self, token: int) -> None:
        self._read([token])

    def _read(self, tokens: Sequence[int]) -> None:
        logits_BV = self._reading.read(self._model.embed(torch.tensor([tokens], device=self._model.device)))
        self._next_V = logits_BV[0].double().softmax(-1).cpu().numpy()


def _stream() -> Any:
    # Any: a compiled module without types.
    import constriction

    return constriction.stream  # pyright: ignore[reportAttributeAccessIssue]
