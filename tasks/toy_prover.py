"""Decodes the memories of the task `toy`, each of which holds the number of tokens that it gives back.

Knows nothing of torch.
"""

import struct
from collections.abc import Sequence

from tasks.facts import ForGeneration
from tasks.values import Proof, TaskError

MARGIN = 1.0
"""Of every token that a toy memory holds."""


class ToyProver:
    """A toy memory holds the number of tokens it gives back."""

    def __call__(self, memory: bytes, *, num_vectors: int, tokens: Sequence[int], context: Sequence[int] = ()) -> Proof:
        """Compare the number in the memory with the tokens wanted."""
        prefix = min(len(tokens), round(struct.unpack("<f", memory)[0]))
        return Proof(tokens=tuple(tokens[:prefix]), exact_prefix=prefix, margin=MARGIN if prefix else None)

    def together(
        self,
        memories: Sequence[bytes],
        *,
        num_vectors: int,
        texts: Sequence[Sequence[int]],
        contexts: Sequence[Sequence[int]] = (),
    ) -> list[Proof]:
        """Each by itself."""
        return [
            self(memory, num_vectors=num_vectors, tokens=tokens) for memory, tokens in zip(memories, texts, strict=True)
        ]

    def prompt(self, memory: bytes, *, num_vectors: int, context: Sequence[int] = ()) -> bytes:
        """Raises TaskError: nothing else reads a toy's memory."""
        raise TaskError("task: toy has no model that a server could load.")

    def for_generation(self, memory: bytes, *, num_vectors: int, context: Sequence[int] = ()) -> ForGeneration:
        """Raises TaskError: a toy has no model."""
        raise TaskError("task: toy has no model of transformers that could generate.")

    def exact_prefixes(
        self, memories: Sequence[bytes], *, num_vectors: int, tokens: Sequence[int], context: Sequence[int] = ()
    ) -> list[int]:
        """The numbers in the memories, as far as there are tokens."""
        return [self(memory, num_vectors=num_vectors, tokens=tokens).exact_prefix for memory in memories]

    def accuracy(self, memory: bytes, *, num_vectors: int, tokens: Sequence[int], context: Sequence[int] = ()) -> float:
        """Share of the tokens that the memory holds."""
        return self(memory, num_vectors=num_vectors, tokens=tokens).exact_prefix / len(tokens)

    def compress(self, tokens: Sequence[int], *, context: Sequence[int] = ()) -> bytes:
        """The text of the tokens in UTF-8, because the toy predicts nothing."""
        return "".join(map(chr, tokens)).encode()

    def decompress(
        self, data: bytes, num_tokens: int, *, given: Sequence[int] = (), context: Sequence[int] = ()
    ) -> tuple[int, ...]:
        """The code points of the text. The bytes hold given tokens, too."""
        return tuple(map(ord, data.decode()))
