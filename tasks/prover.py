"""Answers questions about stored memories and their texts.

Knows nothing of slots, probes or searches.
"""

# Axes: B slots, L tokens, K vectors of a memory, D embedding width.

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tasks.coder import compress, decompress
from tasks.decoding import Decoded
from tasks.devices import is_out_of_memory
from tasks.facts import ForGeneration
from tasks.language_model import LanguageModel
from tasks.layout import Layout, token_ids
from tasks.scoring import score_with_memory
from tasks.values import Proof, Question, TaskError
from tasks.wording import counted

TOGETHER = 16
"""Most memories that are decoded together, as many as certificates of an engine on a processor: decoding takes one
forward pass for each token, however few memories there are."""


class LayoutProver:
    """A loaded model and a layout that answer questions about memories and texts."""

    def __init__(self, model: LanguageModel, layout: Layout, question: Question) -> None:
        self._model = model
        self._layout = layout
        self._question = question

    def __call__(self, memory: bytes, *, num_vectors: int, tokens: Sequence[int], context: Sequence[int] = ()) -> Proof:
        """Decode `len(tokens)` tokens from the memory and compare them with the text's."""
        return self.together([memory], num_vectors=num_vectors, texts=[tokens], contexts=[context])[0]

    def together(
        self,
        memories: Sequence[bytes],
        *,
        num_vectors: int,
        texts: Sequence[Sequence[int]],
        contexts: Sequence[Sequence[int]] = (),
    ) -> list[Proof]:
        """Decode several memories in one batch."""
        try:
            decoded = self._decode(memories, num_vectors, texts, contexts or [()] * len(memories))
        except Exception as error:  # each device has its own
            if not is_out_of_memory(error):
                raise
            longest = counted(max(map(len, texts)), "token")
            raise TaskError(
                f"batch: {counted(len(memories), 'memory')} of up to {longest} do not fit into the "
                f"memory of {self._model.device}. Wanted a smaller batch, or another device."
            ) from error
        firm_B = decoded.firm_prefix(least_margin=self._question.least_margin)
        return [_proof(decoded, i, int(firm_B[i]), len(tokens)) for i, tokens in enumerate(texts)]

    def prompt(self, memory: bytes, *, num_vectors: int, context: Sequence[int] = ()) -> bytes:
        """The vectors that another implementation of this model reads before the first token."""
        vectors_BTD = self._prompt(memory, num_vectors, context)
        if vectors_BTD is None:
            raise TaskError("this task reads no token that has come out, and a server always does. Wanted cramming.")
        if change := self._model.change_to_inputs():
            raise TaskError(
                f"{change}, and servers do so before or after the place at which they take embeddings, depending on "
                "their version. Wanted a model that reads embeddings as they are; --format safetensors always works."
            )
        return vectors_BTD[0].float().cpu().numpy().astype("<f4").tobytes()

    def for_generation(self, memory: bytes, *, num_vectors: int, context: Sequence[int] = ()) -> ForGeneration:
        """The loaded model, and the vectors that it reads before the first token."""
        vectors_BTD = self._prompt(memory, num_vectors, context)
        if vectors_BTD is None:
            raise TaskError(
                "memories of this task are not input vectors before a text, which `generate` of transformers takes. "
                "Wanted a run of task: cramming; `capsweep decode` decodes this one."
            )
        return ForGeneration(model=self._model.transformers_model, inputs_embeds=vectors_BTD.to(self._model.dtype))

    def _prompt(self, memory: bytes, num_vectors: int, context: Sequence[int]) -> Tensor | None:
        return self._layout.prompt(self._model, self._memory(memory, num_vectors), self._before([context]))

    def exact_prefixes(
        self, memories: Sequence[bytes], *, num_vectors: int, tokens: Sequence[int], context: Sequence[int] = ()
    ) -> list[int]:
        """Tokens that each of several memories gives back; as many are decoded together as device memory holds."""
        found: list[int] = []
        together = TOGETHER
        while len(found) < len(memories):
            part = memories[len(found) : len(found) + together]
            try:
                decoded = self._decode(part, num_vectors, [tokens] * len(part), [context] * len(part))
                found += decoded.firm_prefix(least_margin=self._question.least_margin).tolist()
            except (RuntimeError, MemoryError) as error:
                if len(part) == 1 or not is_out_of_memory(error):
                    raise
                together = len(part) // 2
        return found

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

    def _decode(
        self,
        memories: Sequence[bytes],
        num_vectors: int,
        texts: Sequence[Sequence[int]],
        contexts: Sequence[Sequence[int]],
    ) -> Decoded:
        """Decode these memories in one batch; shorter texts are padded on the right."""
        longest = max(map(len, texts))
        rows = [[*tokens, *[0] * (longest - len(tokens))] for tokens in texts]
        tokens_BL = torch.tensor(rows, device=self._model.device)
        memory_BKD = torch.cat([self._memory(memory, num_vectors) for memory in memories])
        return self._layout.decode(self._model, memory_BKD, tokens_BL, self._before(contexts))

    def _before(self, contexts: Sequence[Sequence[int]]) -> Tensor:
        """Token ids (B, P) before each memory."""
        rows = [self._model.tokens_before(self._question, context) for context in contexts]
        return token_ids(rows, self._model.device)

    def _memory(self, memory: bytes, num_vectors: int) -> Tensor:
        shape = self._layout.memory_shape(num_vectors, self._model)
        values = np.frombuffer(memory, dtype="<f4").reshape(1, *shape).copy()
        return torch.from_numpy(values).to(self._model.device)


def _proof(decoded: Decoded, i: int, prefix: int, num_tokens: int) -> Proof:
    """What memory `i` of a batch gave back; tokens beyond its text are padding."""
    prefix = min(prefix, num_tokens)
    return Proof(
        tokens=tuple(decoded.tokens_BL[i, :num_tokens].tolist()),
        exact_prefix=prefix,
        margin=float(decoded.margins_BL[i, :prefix].min()) if prefix else None,
    )
