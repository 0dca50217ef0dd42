"""The tensor side of a task: what stands at each input position, where the targets stand, and how a text is proven.

A layout names *inputs*: `token_input(i)` is the embedding of the text's token i, `memory_input(j)` is vector j of the
memory, and `before_input(i)` is the embedding of token i of those that stand before the memory. The engine builds every
batch by picking inputs, so a layout places inputs without knowing of other slots, padding or devices.

Knows nothing of optimizers, probes or searches.
"""

# Axes: B slots, P tokens before a memory, K vectors of a memory, L tokens, T input positions, D embedding width.

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from tasks.decoding import Decoded, hold_against
from tasks.language_model import LanguageModel
from tasks.values import Question


def token_input(index: int) -> int:
    """Input of the embedding of the text's token `index`, counted from 0."""
    return index


def before_input(index: int) -> int:
    """Input of the embedding of token `index` before the memory. Negative, because inputs from 0 are tokens."""
    return -1 - index


def memory_input(index: int, *, num_before: int) -> int:
    """Input of vector `index` of the memory, counted from 0, if `num_before` tokens stand before it."""
    return -1 - num_before - index


@dataclass(frozen=True, slots=True)
class ModelInputs:
    """What a model reads."""

    inputs_BTD: Tensor
    """Input vectors in the model's precision."""
    pairs_BKW: Tensor | None = None
    """Key-value pairs that every layer reads before the inputs; None: none."""
    num_texts: int = 1
    """Texts whose inputs take turns; the model reads each by itself."""

    def hidden(self, model: LanguageModel) -> Tensor:
        """The input of the head (B, T, H) at each input."""
        if self.num_texts == 1:
            return model.hidden(self.inputs_BTD, pairs_BKW=self.pairs_BKW)
        num_slots, num_inputs, _ = self.inputs_BTD.shape
        # Texts whose turn has not come are padded at their end, which the model is too causal to see.
        padded_BTD = torch.nn.functional.pad(self.inputs_BTD, (0, 0, 0, -num_inputs % self.num_texts))
        apart_XTD = padded_BTD.unflatten(1, (-1, self.num_texts)).transpose(1, 2).flatten(0, 1)
        hidden_BTH = model.hidden(apart_XTD).unflatten(0, (num_slots, -1)).transpose(1, 2).flatten(1, 2)
        return hidden_BTH[:, :num_inputs]


class Layout(Protocol):
    """What a task puts into the model and expects from it.

    What an implementation owes to the engine:

    - Order of calls. `build_inputs` and `target_positions` are called when a run is planned and whenever a slot is
      made, in any order and for any length, even longer than the text. `memory_shape`, `unit` and `inputs` are called
      by engines and provers only. `decode` is called for slots that have stopped, and by a prover at any time.
    - Purity. The same arguments give the same answer. A layout holds nothing but what its question decides.
    - Causality. The model is causal: at t_i's target position, and before it, no input may be t_i or a later token. The
      tokens before the memory are the same for every length, and may be the text's own if the question says so.
    - Ownership. `decode` must not change its arguments. Tensors that it returns belong to the caller.
    - Independence. In `decode`, no memory's answer depends on another memory of the batch, except in the last bits.
    - Threads. Calls of one layout never overlap.
    - Out of memory. A layout lets the error pass. The engine then calls `decode` again with fewer memories.
    """

    packs: bool
    """Whether several slots may stand in one row of inputs."""

    def memory_shape(self, num_vectors: int, model: LanguageModel) -> tuple[int, int]:
        """Shape (K, D) of the trainable vectors."""
        ...

    def unit(self, model: LanguageModel) -> float | Tensor:
        """Scale of the numbers of a vector, one for all or (D,), for cold memories and steps of AdamW."""
        ...

    def inputs(
        self, model: LanguageModel, memory_BKD: Tensor, tokens_BL: Tensor, inputs_BT: Tensor, before_BP: Tensor
    ) -> "ModelInputs":
        """What the model reads: `inputs_BT` names the inputs, each by what `build_inputs` calls it."""
        ...

    def build_inputs(self, num_vectors: int, length: int) -> list[int]:
        """The input at each of the T input positions for a text of `length` tokens.

        The inputs for a shorter text are the first ones of those for a longer text: a growing slot reads more of them.
        """
        ...

    def target_positions(self, num_vectors: int, length: int) -> list[int]:
        """Input positions whose outputs must be t_1, t_2, .. t_length, in ascending order.

        The positions for a shorter text are the first ones of those for a longer text.
        """
        ...

    def prompt(self, model: LanguageModel, memory_BKD: Tensor, before_BP: Tensor) -> Tensor | None:
        """What the model reads before t_1, (B, T, D) in float32; None if no server can continue it token by token."""
        ...

    def decode(self, model: LanguageModel, memory_BKD: Tensor, tokens_BL: Tensor, before_BP: Tensor) -> Decoded:
        """Decode the memories after what stands before them, and compare the result with the texts, without a gradient.

        Args:
            model: The frozen model.
            memory_BKD: Memories in float32, on the model's device.
            tokens_BL: The texts, on the model's device. 0 pads shorter ones; the results there are not read.
            before_BP: Token ids that stand before each memory, on the model's device.
        """
        ...


def token_ids(rows: Sequence[Sequence[int]], device: torch.device) -> Tensor:
    """Token ids (B, L) of rows of equal length, which may be 0."""
    return torch.tensor([list(row) for row in rows], dtype=torch.int64, device=device)


def pick_inputs(
    model: LanguageModel, memory_BKD: Tensor | None, tokens_BL: Tensor, inputs_BT: Tensor, before_BP: Tensor
) -> Tensor:
    """The vectors that the inputs name, (B, T, D), in the model's precision."""
    sources_BXD = model.embed(torch.cat([tokens_BL, before_BP], dim=1))
    if memory_BKD is not None:
        sources_BXD = torch.cat([sources_BXD, memory_BKD.to(model.dtype)], dim=1)
    # Tokens come first, then those before the memory, then the memory: negative inputs continue after the last token.
    index_BT = torch.where(inputs_BT < 0, tokens_BL.shape[1] - 1 - inputs_BT, inputs_BT)
    # As rows of one table: where a vector stands at several positions, `gather` would add up their gradients in any
    # order on CUDA, and no two runs would end with the same bits.
    first_B1 = sources_BXD.shape[1] * torch.arange(len(index_BT), device=index_BT.device)[:, None]
    return torch.nn.functional.embedding(first_B1 + index_BT, sources_BXD.flatten(0, 1))


class AfterContext:
    """What layouts have in common whose memory is read like embeddings: the BOS, then the context, then the memory."""

    packs = True

    def __init__(self, question: Question) -> None:
        self._num_before = question.num_before
        self._num_texts = question.num_texts
        self._before = [before_input(index) for index in range(question.num_before)]

    def memory_shape(self, num_vectors: int, model: LanguageModel) -> tuple[int, int]:
        """Shape (K, D) of the trainable vectors."""
        return num_vectors, model.embedding_width

    def unit(self, model: LanguageModel) -> float:
        """The standard deviation of the embedding table."""
        return model.embedding_std

    def inputs(
        self, model: LanguageModel, memory_BKD: Tensor, tokens_BL: Tensor, inputs_BT: Tensor, before_BP: Tensor
    ) -> ModelInputs:
        """Every vector is an input."""
        inputs_BTD = pick_inputs(model, memory_BKD, tokens_BL, inputs_BT, before_BP)
        return ModelInputs(inputs_BTD, num_texts=self._num_texts)

    def _memory(self, index: int) -> int:
        """Input of vector `index` of the memory."""
        return memory_input(index, num_before=self._num_before)


class Cramming(AfterContext):
    """Input `[memory, t_1 .. t_{L-1}]`, targets `t_1 .. t_L`, proof by greedy decoding from the memory alone."""

    def build_inputs(self, num_vectors: int, length: int) -> list[int]:
        """What stands before the memory, the memory, then all tokens but the last."""
        return [*self._before, *map(self._memory, range(num_vectors)), *map(token_input, range(length - 1))]

    def target_positions(self, num_vectors: int, length: int) -> list[int]:
        """The last vector of the memory predicts t_1; each token predicts the next one."""
        first = self._num_before + num_vectors - 1
        return list(range(first, first + length))

    def prompt(self, model: LanguageModel, memory_BKD: Tensor, before_BP: Tensor) -> Tensor:
        """What stands before the memory, and the memory."""
        return torch.cat([model.embed(before_BP).float(), memory_BKD], dim=1)

    def decode(self, model: LanguageModel, memory_BKD: Tensor, tokens_BL: Tensor, before_BP: Tensor) -> Decoded:
        """Greedy decoding with the key-value cache."""
        return model.decode(self.prompt(model, memory_BKD, before_BP).to(model.dtype), tokens_BL)


class OneStep(AfterContext):
    """Input `[e, m, m, .. m]`, targets `t_1 .. t_L` in one forward pass, which is also the proof.

    Several texts have an e each and one m for all: the inputs take turns as their tokens do.
    """

    def build_inputs(self, num_vectors: int, length: int) -> list[int]:
        """What stands before the memory, then e, then m once for each further token; of each text in its turn."""
        num_texts = self._num_texts
        before = [place for place in self._before for _ in range(num_texts)]
        first = [self._memory(index) for index in range(min(length, num_texts))]
        return [*before, *first, *[self._memory(num_texts)] * (length - len(first))]

    def target_positions(self, num_vectors: int, length: int) -> list[int]:
        """Position i after what stands before the memory outputs t_i."""
        first = self._num_before * self._num_texts
        return list(range(first, first + length))

    def prompt(self, model: LanguageModel, memory_BKD: Tensor, before_BP: Tensor) -> None:
        """None: it is one forward pass, in which no token is read."""
        return

    def decode(self, model: LanguageModel, memory_BKD: Tensor, tokens_BL: Tensor, before_BP: Tensor) -> Decoded:
        """One forward pass, which reads no token of the text."""
        length = tokens_BL.shape[1]
        num_vectors = memory_BKD.shape[1]
        inputs_BT = torch.tensor([self.build_inputs(num_vectors, length)] * len(tokens_BL), device=tokens_BL.device)
        nothing_B1 = torch.zeros_like(tokens_BL[:, :1])
        with torch.no_grad():
            hidden_BTH = self.inputs(model, memory_BKD, nothing_B1, inputs_BT, before_BP).hidden(model)
            logits_BLV = model.head(hidden_BTH[:, self.target_positions(num_vectors, length)])
            return hold_against(logits_BLV, tokens_BL)


class KeyValues:
    """Pairs in the cache, then input `[before, t_1 .. t_{L-1}]`, where the last token before the text predicts t_1."""

    packs = False

    def __init__(self, question: Question) -> None:
        self._num_before = question.num_before

    def memory_shape(self, num_vectors: int, model: LanguageModel) -> tuple[int, int]:
        """One pair of each layer and head is a vector."""
        return num_vectors, model.pair_width

    def unit(self, model: LanguageModel) -> Tensor:
        """The standard deviation of each number over the model's own pairs."""
        return model.pair_std

    def build_inputs(self, num_vectors: int, length: int) -> list[int]:
        """What stands before the text, then all tokens but the last."""
        return [*map(before_input, range(self._num_before)), *map(token_input, range(length - 1))]

    def target_positions(self, num_vectors: int, length: int) -> list[int]:
        """The last token before the text predicts t_1; each token predicts the next one."""
        return list(range(self._num_before - 1, self._num_before - 1 + length))

    def inputs(
        self, model: LanguageModel, memory_BKD: Tensor, tokens_BL: Tensor, inputs_BT: Tensor, before_BP: Tensor
    ) -> ModelInputs:
        """Tokens are inputs, and the memory stands before them in every layer."""
        return ModelInputs(pick_inputs(model, None, tokens_BL, inputs_BT, before_BP), memory_BKD)

    def prompt(self, model: LanguageModel, memory_BKD: Tensor, before_BP: Tensor) -> None:
        """None: a server takes no pairs."""
        return

    def decode(self, model: LanguageModel, memory_BKD: Tensor, tokens_BL: Tensor, before_BP: Tensor) -> Decoded:
        """Greedy decoding with the key-value cache, which begins with the memory."""
        return model.decode(model.embed(before_BP), tokens_BL, pairs_BKW=memory_BKD)
