"""The tensor side of a task: what stands at each input position, where the targets stand, and how a text is proven.

A layout names *inputs*: `token_input(i)` is the embedding of the text's token i, `memory_input(j)` is vector j of the
memory, and `PREFIX_INPUT` is the fixed vector before it. The engine builds every batch by picking inputs, so a layout
places inputs without knowing of other slots, padding or devices.

Knows nothing of optimizers, probes or searches.
"""

# Axes: B slots, K vectors of a memory, L tokens, T input positions, D embedding width.

from typing import Protocol

import torch
from torch import Tensor

from tasks.decoding import Decoded, hold_against
from tasks.language_model import LanguageModel
from tasks.values import Question

PREFIX_INPUT = -1
"""Input of the fixed vector before the memory. Negative, because inputs from 0 are tokens."""


def token_input(index: int) -> int:
    """Input of the embedding of the text's token `index`, counted from 0."""
    return index


def memory_input(index: int) -> int:
    """Input of vector `index` of the memory, counted from 0."""
    return -2 - index


class Layout(Protocol):
    """What a task puts into the model and expects from it.

    What an implementation owes to the engine:

    - Order of calls. `memory_shape`, `build_inputs` and `target_positions` are called when a run is planned and
      whenever a slot is made, in any order and for any length, even longer than the text. `prove` is called for slots
      that have left the batch, and by a prover at any time.
    - Purity. The same arguments give the same answer. A layout holds nothing but what its question decides.
    - Causality. The model is causal: at t_i's target position, and before it, no input may be t_i or a later token.
    - Ownership. `prove` must not change its arguments. Tensors that it returns belong to the caller.
    - Independence. In `prove`, no memory's answer depends on another memory of the batch, except in the last bits.
    - Threads. Calls of one layout never overlap.
    - Out of memory. A layout lets the error pass. The engine then calls `prove` again with fewer memories.
    """

    def memory_shape(self, num_vectors: int, embedding_width: int) -> tuple[int, int]:
        """Shape (K, D) of the trainable vectors."""
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

    def prompt(self, model: LanguageModel, memory_BKD: Tensor) -> Tensor | None:
        """What the model reads before t_1, (B, T, D) in float32; None if no server can continue it token by token."""
        ...

    def prove(self, model: LanguageModel, memory_BKD: Tensor, tokens_BL: Tensor) -> Decoded:
        """Decode the memories alone and compare the result with the texts, without a gradient.

        Args:
            model: The frozen model.
            memory_BKD: Memories in float32, on the model's device.
            tokens_BL: The texts, on the model's device. 0 pads shorter ones; the results there are not read.
        """
        ...


def pick_inputs(
    model: LanguageModel, memory_BKD: Tensor, tokens_BL: Tensor, inputs_BT: Tensor, *, prefix: bool
) -> Tensor:
    """The vectors that the inputs name, (B, T, D), in the model's precision."""
    embedded_BLD = model.embed(tokens_BL)
    before_BD = model.prefix(len(tokens_BL)) if prefix else torch.zeros_like(embedded_BLD[:, :1])
    sources = torch.cat([embedded_BLD, before_BD, memory_BKD.to(model.dtype)], dim=1)
    # Tokens come first, then the prefix, then the memory: negative inputs continue after the last token.
    index_BT = torch.where(inputs_BT < 0, tokens_BL.shape[1] + PREFIX_INPUT - inputs_BT, inputs_BT)
    return sources.gather(1, index_BT[..., None].expand(-1, -1, memory_BKD.shape[2]))


class Cramming:
    """Input `[memory, t_1 .. t_{L-1}]`, targets `t_1 .. t_L`, proof by greedy decoding from the memory alone."""

    def __init__(self, question: Question) -> None:
        self._prefix = [PREFIX_INPUT] if question.prefix == "bos" else []

    def memory_shape(self, num_vectors: int, embedding_width: int) -> tuple[int, int]:
        """Shape (K, D) of the trainable vectors."""
        return num_vectors, embedding_width

    def build_inputs(self, num_vectors: int, length: int) -> list[int]:
        """Prefix, memory, then all tokens but the last."""
        return [*self._prefix, *map(memory_input, range(num_vectors)), *map(token_input, range(length - 1))]

    def target_positions(self, num_vectors: int, length: int) -> list[int]:
        """The last vector of the memory predicts t_1; each token predicts the next one."""
        first = len(self._prefix) + num_vectors - 1
        return list(range(first, first + length))

    def prompt(self, model: LanguageModel, memory_BKD: Tensor) -> Tensor:
        """Prefix and memory."""
        return torch.cat([model.prefix(len(memory_BKD)).float(), memory_BKD], dim=1) if self._prefix else memory_BKD

    def prove(self, model: LanguageModel, memory_BKD: Tensor, tokens_BL: Tensor) -> Decoded:
        """Greedy decoding with the key-value cache."""
        return model.decode(self.prompt(model, memory_BKD).to(model.dtype), tokens_BL)


class OneStep:
    """Input `[e, m, m, .. m]`, targets `t_1 .. t_L` in one forward pass, which is also the proof."""

    def __init__(self, question: Question) -> None:
        self._prefix = [PREFIX_INPUT] if question.prefix == "bos" else []

    def memory_shape(self, num_vectors: int, embedding_width: int) -> tuple[int, int]:
        """Shape (K, D) of the trainable vectors."""
        return num_vectors, embedding_width

    def build_inputs(self, num_vectors: int, length: int) -> list[int]:
        """Prefix, then e, then m once for each further token."""
        return [*self._prefix, memory_input(0), *[memory_input(1)] * (length - 1)]

    def target_positions(self, num_vectors: int, length: int) -> list[int]:
        """Position i after the prefix outputs t_i."""
        return list(range(len(self._prefix), len(self._prefix) + length))

    def prompt(self, model: LanguageModel, memory_BKD: Tensor) -> None:
        """None: it is one forward pass, in which no token is read."""
        return

    def prove(self, model: LanguageModel, memory_BKD: Tensor, tokens_BL: Tensor) -> Decoded:
        """One forward pass, which reads no token of the text."""
        length = tokens_BL.shape[1]
        inputs_BT = torch.tensor([self.build_inputs(2, length)] * len(tokens_BL), device=tokens_BL.device)
        nothing_B1 = torch.zeros_like(tokens_BL[:, :1])
        with torch.no_grad():
            inputs_BTD = pick_inputs(model, memory_BKD, nothing_B1, inputs_BT, prefix=bool(self._prefix))
            logits_BLV = model.head(model.hidden(inputs_BTD)[:, len(self._prefix) :])
            return hold_against(logits_BLV, tokens_BL)
