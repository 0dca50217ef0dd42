"""Scores a text under teacher forcing, with its memory or without.

Knows nothing of decoding, slots or searches.
"""

# Axes: B slots, K vectors of a memory, L tokens, T input positions, D embedding width, H hidden size.

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tasks.cross_entropy import cross_entropy
from tasks.language_model import LanguageModel
from tasks.layout import Layout, token_ids
from tasks.turns import apart, in_turns
from tasks.values import Question


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """Scores of a text under teacher forcing: each token is predicted from the correct ones before it."""

    length: int
    """Tokens of the text, given ones included."""
    nats: float
    """Summed cross-entropy."""
    num_correct: int
    """Number of correct tokens, given ones included."""
    first_error: int | None
    """Index from 0 of the first wrong token; None if all are correct."""
    correct: tuple[bool, ...]
    """Which tokens are correct."""
    nats_by_token: tuple[float, ...]
    """Cross-entropy in nats of each token; empty if it was not kept."""

    @classmethod
    def nothing(cls) -> "Scored":
        """The scores of an empty text."""
        return cls(length=0, nats=0.0, num_correct=0, first_error=None, correct=(), nats_by_token=())

    @classmethod
    def in_turns(cls, parts: Sequence["Scored"]) -> "Scored":
        """The scores of texts whose tokens take turns."""
        correct = in_turns([part.correct for part in parts])
        return cls(
            length=len(correct),
            nats=sum(part.nats for part in parts),
            num_correct=sum(correct),
            first_error=None if all(correct) else correct.index(False),
            correct=correct,
            nats_by_token=in_turns([part.nats_by_token for part in parts]),
        )

    def after(self, nats: float, *, correct: bool) -> "Scored":
        """The scores with one more token in front."""
        first_error = None if self.first_error is None else self.first_error + 1
        return Scored(
            length=self.length + 1,
            nats=self.nats + nats,
            num_correct=self.num_correct + correct,
            first_error=first_error if correct else 0,
            correct=(correct, *self.correct),
            nats_by_token=(nats, *self.nats_by_token),
        )


@torch.no_grad()
def score_with_memory(
    model: LanguageModel,
    layout: Layout,
    memory_BKD: Tensor,
    tokens: Sequence[int],
    *,
    num_vectors: int,
    context: Sequence[int] = (),
    question: Question,
) -> Scored:
    """Score the text with its memory, (1, K, D), after its context."""
    length = len(tokens)
    before = model.tokens_before(question, context)
    tokens_BL, before_BP = (token_ids([ids], model.device) for ids in (tokens, before))
    inputs_BT = torch.tensor([layout.build_inputs(num_vectors, length)], device=model.device)
    positions_L = torch.tensor(layout.target_positions(num_vectors, length), device=model.device)
    inputs_BT = inputs_BT[:, : int(positions_L.max()) + 1]
    inputs = layout.inputs(model, memory_BKD, tokens_BL, inputs_BT, before_BP)
    # A given t_1 costs nothing and counts as correct.
    given = question.num_given
    hidden_LH = inputs.hidden(model)[0, positions_L[given:]]
    scored = _score(model, hidden_LH, tokens_BL[0, given:], question=question)
    return scored.after(0.0, correct=True) if given else scored


@torch.no_grad()
def score_without_memory(
    model: LanguageModel, tokens: Sequence[int], *, context: Sequence[int] = (), question: Question
) -> Scored:
    """Score the text without its memory, after its context.

    A given t_1 costs nothing and counts as correct, as it does with the memory. Otherwise, with neither BOS nor context
    before it, nothing predicts t_1: it costs ln V and counts as wrong.
    """
    if not tokens:
        return Scored.nothing()
    if question.num_texts > 1:
        alone = replace(question, num_texts=1)
        texts = [text for text in apart(tokens, question.num_texts) if text]
        return Scored.in_turns([score_without_memory(model, text, context=context, question=alone) for text in texts])
    before = model.tokens_before(question, context)
    read_BT = torch.tensor([[*before, *tokens]], device=model.device)
    hidden_TH, targets_L = model.hidden(model.embed(read_BT))[0, :-1], read_BT[0, len(before) :]
    given = question.num_given
    if before and not given:
        return _score(model, hidden_TH[len(before) - 1 :], targets_L, question=question)
    rest = _score(model, hidden_TH[len(before) :], targets_L[1:], question=question)
    return rest.after(0.0, correct=True) if given else rest.after(math.log(model.vocabulary), correct=False)


def _score(model: LanguageModel, hidden_LH: Tensor, targets_L: Tensor, *, question: Question) -> Scored:
    nats_L, correct_L = cross_entropy(model, hidden_LH, targets_L, least_margin=question.least_margin)
    wrong = (~correct_L).nonzero()[:, 0].tolist()
    return Scored(
        length=len(targets_L),
        nats=float(nats_L.sum()),
        num_correct=len(targets_L) - len(wrong),
        first_error=wrong[0] if wrong else None,
        correct=tuple(correct_L.tolist()),
        nats_by_token=tuple(nats_L.tolist()),
    )
