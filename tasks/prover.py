"""Answers questions about stored memories and their texts, one at a time.

Knows nothing of slots, probes or searches.
"""

# Axes: B slots, L tokens, K vectors of a memory, D embedding width.

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tasks.coder import compress, decompress
from tasks.language_model import LanguageModel
from tasks.layout import Layout, token_ids
from tasks.scoring import score_with_memory
from tasks.values import Proof, Question


class LayoutProver:
    """A loaded model and a layout that answer questions about one memory or text at a time."""

    def __init__(self, model: LanguageModel, layout: Layout, question: Question) -> None:
        self._model = model
        self._layout = layout
        self._question = question

    def __call__(self, memory: bytes, *, num_vectors: int, tokens: Sequence[int], context: Sequence[int] = ()) -> Proof:
        """Decode `len(tokens)` tokens from the memory and compare them with the text's."""
        before = self._model.tokens_before(self._question, context)
        tokens_BL, before_BP = (token_ids([ids], self._model.device) for ids in (tokens, before))
        decoded = self._layout.prove(self._model, self._memory(memory, num_vectors), tokens_BL, before_BP)
        prefix = int(decoded.firm_prefix(least_margin=self._question.least_margin)[0])
        return Proof(
            tokens=tuple(decoded.tokens_BL[0].tolist()),
            exact_prefix=prefix,
            margin=float(decoded.margins_BL[0, :prefix].min()) if prefix else None,
        )

    def accuracy(self, memory: bytes, *, num_vectors: int, tokens: Sequence[int], context: Sequence[int] = ()) -> float:
        """Share of the tokens that are correct with this memory under teacher forcing."""
        memory_BKD = self._memory(memory, num_vectors)
        scored = score_with_memory(
            self._model,
            self._layout,
            memory_BKD,
            tokens,
            num_vectors=num_vectors,
            context=context,
            question=self._question,
        )
        return scored.num_correct / scored.length

    def compress(self, tokens: Sequence[int], *, context: Sequence[int] = ()) -> bytes:
        """Arithmetic coding with the model's own predictions."""
        return compress(self._model, tokens, question=self._question, context=context)

    def decompress(
        self, data: bytes, num_tokens: int, *, given: Sequence[int] = (), context: Sequence[int] = ()
    ) -> tuple[int, ...]:
        """Invert `compress`."""
        return decompress(self._model, data, num_tokens, question=self._question, given=given, context=context)

    def _memory(self, memory: bytes, num_vectors: int) -> Tensor:
        shape = self._layout.memory_shape(num_vectors, self._model)
        values = np.frombuffer(memory, dtype="<f4").reshape(1, *shape).copy()
        return torch.from_numpy(values).to(self._model.device)
