"""Answers questions about stored memories and their texts.

Knows nothing of slots, probes or searches.
"""

# Axes: B slots, L tokens, K vectors of a memory, D embedding width.

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tasks.coder import compress, decompress
from tasks.devices import is_out_of_memory
from tasks.language_model import LanguageModel
from tasks.layout import Layout
from tasks.scoring import score_with_memory
from tasks.values import Proof, Question

TOGETHER = 16
"""Most memories that are decoded together, as many as certificates of an engine on a processor: decoding takes one
forward pass for each token, however few memories there are."""


class LayoutProver:
    """A loaded model and a layout that answer questions about memories of a text."""

    def __init__(self, model: LanguageModel, layout: Layout, question: Question) -> None:
        self._model = model
        self._layout = layout
        self._question = question

    def __call__(self, memory: bytes, *, num_vectors: int, tokens: Sequence[int]) -> Proof:
        """Decode `len(tokens)` tokens from the memory and compare them with the text's."""
        tokens_BL = torch.tensor([list(tokens)], device=self._model.device)
        decoded = self._layout.prove(self._model, self._memory(memory, num_vectors), tokens_BL)
        prefix = int(decoded.exact_prefix_B[0])
        return Proof(
            tokens=tuple(decoded.tokens_BL[0].tolist()),
            exact_prefix=prefix,
            margin=float(decoded.margins_BL[0, :prefix].min()) if prefix else None,
        )

    def exact_prefixes(self, memories: Sequence[bytes], *, num_vectors: int, tokens: Sequence[int]) -> list[int]:
        """Tokens that each of several memories gives back; as many are decoded together as device memory holds."""
        found: list[int] = []
        together = TOGETHER
        while len(found) < len(memories):
            part = memories[len(found) : len(found) + together]
            try:
                memory_BKD = torch.cat([self._memory(memory, num_vectors) for memory in part])
                tokens_BL = torch.tensor([list(tokens)] * len(part), device=self._model.device)
                found += self._layout.prove(self._model, memory_BKD, tokens_BL).exact_prefix_B.tolist()
            except (RuntimeError, MemoryError) as error:
                if len(part) == 1 or not is_out_of_memory(error):
                    raise
                together = len(part) // 2
        return found

    def accuracy(self, memory: bytes, *, num_vectors: int, tokens: Sequence[int]) -> float:
        """Share of the tokens that are correct with this memory under teacher forcing."""
        memory_BKD = self._memory(memory, num_vectors)
        scored = score_with_memory(
            self._model, self._layout, memory_BKD, tokens, num_vectors=num_vectors, question=self._question
        )
        return scored.num_correct / scored.length

    def compress(self, tokens: Sequence[int]) -> bytes:
        """Arithmetic coding with the model's own predictions."""
        return compress(self._model, tokens, question=self._question)

    def decompress(self, data: bytes, num_tokens: int, *, given: Sequence[int] = ()) -> tuple[int, ...]:
        """Invert `compress`."""
        return decompress(self._model, data, num_tokens, question=self._question, given=given)

    def _memory(self, memory: bytes, num_vectors: int) -> Tensor:
        shape = self._layout.memory_shape(num_vectors, self._model.embedding_width)
        values = np.frombuffer(memory, dtype="<f4").reshape(1, *shape).copy()
        return torch.from_numpy(values).to(self._model.device)
