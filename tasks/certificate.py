"""Certificates: the stored memory of a slot that left is decoded greedily, and only the tokens it gives back count.

Knows nothing of optimizers or of which slots leave.
"""

# Axes: B slots, K vectors of a memory, L tokens, D embedding width.

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain

import torch
from torch import Tensor

from tasks.decoding import Decoded, near_tie
from tasks.language_model import LanguageModel
from tasks.layout import Layout, token_ids
from tasks.slots import MARKS, Slots
from tasks.values import Probe, Question


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaving:
    """A slot that left the batch and waits for its certificate."""

    probe: Probe
    """The probe that occupied the slot."""
    slot: Slots
    """The slot alone, on the host."""
    started_at: float
    """Unix time in seconds when the slot was let in."""
    is_cut_short: bool = False
    """Whether the machine ended it before it stalled or reached its limit."""
    remarks: tuple[str, ...] = ()
    """Anything unusual about it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding:
    """What one memory gave back."""

    exact_prefix: int
    """Longest prefix in tokens whose margins are as large as the question asks, at most as long as the claim."""
    margin: float | None
    """Smallest logit margin over the exact prefix; None if that is empty."""
    nats_by_token: tuple[float, ...]
    """Cross-entropy in nats of each token of the exact prefix."""
    margin_by_token: tuple[float, ...]
    """Difference of the two largest logits at each token of the exact prefix."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """What decoding proved about one slot."""

    memory_KD: Tensor
    """The memory that proves most, on the host: the last one, or one kept at a mark."""
    decoding: Decoding
    """What it gave back."""
    at_marks: tuple[int, ...]
    """Longest prefix in tokens that the memory kept at each mark gives back, for the marks that the slot passed."""
    in_float32: int | None
    """Longest prefix in tokens that `memory_KD` gives back in float32; None if it proves nothing or the model has no
    float32 form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A memory, on the host, and the tokens that it is expected to give back."""

    memory_KD: Tensor
    """On the host, in float32."""
    tokens: tuple[int, ...]
    """Token ids that it is expected to give back."""
    before: tuple[int, ...]
    """Token ids that stand before the memory."""

    @property
    def key(self) -> tuple[bytes, tuple[int, ...], tuple[int, ...]]:
        """Equal for equal claims: one memory is kept at several marks if nothing longer was proven between them."""
        return self.memory_KD.numpy().tobytes(), self.tokens, self.before

    def shortened(self, length: int) -> "Claim":
        """The claim of the first `length` tokens."""
        return replace(self, tokens=self.tokens[:length])


def certify(
    model: LanguageModel,
    layout: Layout,
    leaving: Sequence[Leaving],
    *,
    question: Question,
    float32: LanguageModel | None,
    num_slots: int,
    is_fixed: bool,
) -> list[Certificate]:
    """Decode each slot's last memory and those kept at its marks.

    Args:
        model: The frozen model.
        layout: How the task decodes a memory.
        leaving: Slots with any number of vectors.
        question: Whether decoding decides which memory counts, and how large a margin must be.
        float32: The same model in float32, possibly `model` itself; None if it has no such form.
        num_slots: Largest number of memories that are decoded together.
        is_fixed: Whether every batch is filled to `num_slots`, so that shapes do not depend on neighbours.
    """
    finals = [_final_claim(slot) for slot in leaving]
    marks = [_mark_claims(slot) for slot in leaving]
    claims = {claim.key: claim for claim in chain(finals, *marks)}
    least_margin = question.least_margin
    decode = partial(_decode, layout=layout, least_margin=least_margin, num_slots=num_slots, is_fixed=is_fixed)
    decoded = decode(model, claims=list(claims.values()))
    by_key = dict(zip(claims, decoded, strict=True))
    # In bfloat16 the last memory may claim more than an earlier one and give back less: then the earlier one counts.
    stored = [
        max([final, *reversed(kept)], key=lambda claim: by_key[claim.key].exact_prefix)
        if question.criterion is None
        else final
        for final, kept in zip(finals, marks, strict=True)
    ]
    decodings = [by_key[claim.key] for claim in stored]
    again: Sequence[Decoding | None] = decodings if float32 is model else [None] * len(leaving)
    if float32 is not None and float32 is not model:
        shorter = [claim.shortened(decoding.exact_prefix) for claim, decoding in zip(stored, decodings, strict=True)]
        again = decode(float32, claims=shorter)
    return [
        Certificate(
            memory_KD=stored[i].memory_KD,
            decoding=decodings[i],
            at_marks=tuple(by_key[claim.key].exact_prefix for claim in marks[i]),
            in_float32=None if (found := again[i]) is None or not decodings[i].exact_prefix else found.exact_prefix,
        )
        for i in range(len(leaving))
    ]


def _final_claim(leaving: Leaving) -> Claim:
    memory_KD = leaving.slot.proof_memory_BKD[0, : leaving.probe.num_vectors]
    return _claim(leaving, memory_KD, int(leaving.slot.proven_B))


def _mark_claims(leaving: Leaving) -> list[Claim]:
    """The memory that had proved most when the slot passed each of its marks, and what it had proved."""
    slot = leaving.slot
    passed = sum(mark <= int(slot.step_B) for mark in MARKS)
    memory_KMD = slot.mark_memory_BKMD[0, : leaving.probe.num_vectors]
    proven = slot.mark_proven_BM[0].tolist()
    return [_claim(leaving, memory_KMD[:, m], proven[m]) for m in range(passed)]


def _claim(leaving: Leaving, memory_KD: Tensor, length: int) -> Claim:
    """The claim that a memory of a slot gives the first `length` tokens of its text back."""
    before = tuple(leaving.slot.before_BP[0].tolist())
    return Claim(memory_KD=memory_KD, tokens=leaving.probe.tokens[:length], before=before)


def _decode(
    model: LanguageModel,
    *,
    layout: Layout,
    claims: Sequence[Claim],
    least_margin: float,
    num_slots: int,
    is_fixed: bool,
) -> list[Decoding]:
    """Decode memories in batches of one shape and similar lengths."""
    found = [Decoding(exact_prefix=0, margin=None, nats_by_token=(), margin_by_token=()) for _ in claims]
    for num_vectors in sorted({len(claim.memory_KD) for claim in claims}):
        same = [i for i, claim in enumerate(claims) if len(claim.memory_KD) == num_vectors and claim.tokens]
        same.sort(key=lambda i: -len(claims[i].tokens))
        for first in range(0, len(same), num_slots):
            part = same[first : first + num_slots]
            filled = num_slots if is_fixed else len(part)
            decoded = _decode_batch(model, layout, [claims[i] for i in part], filled, least_margin=least_margin)
            for i, decoding in zip(part, decoded, strict=True):
                found[i] = decoding
    return found


def _decode_batch(
    model: LanguageModel, layout: Layout, claims: Sequence[Claim], num_slots: int, *, least_margin: float
) -> list[Decoding]:
    """Decode memories of one shape in a batch of `num_slots`, which repeats the last of them to be full.

    A memory that meets the least margin only just is decoded again by itself, and the shorter of its two prefixes
    counts.
    """
    padded = [*claims, *[claims[-1]] * (num_slots - len(claims))]
    num_tokens = max(len(claim.tokens) for claim in claims)
    memory_BKD = torch.stack([claim.memory_KD for claim in padded]).to(model.device)
    rows = [[*claim.tokens, *[0] * (num_tokens - len(claim.tokens))] for claim in padded]
    tokens_BL = torch.tensor(rows, device=model.device)
    before_BP = token_ids([claim.before for claim in padded], model.device)
    decoded = layout.decode(model, memory_BKD, tokens_BL, before_BP)
    prefix_B = decoded.firm_prefix(least_margin=least_margin)
    just = least_margin + near_tie(model.dtype)
    found: list[Decoding] = []
    for i, claim in enumerate(claims):
        decoding = _decoding(decoded, i, claim, int(prefix_B[i]))
        if decoding.margin is not None and decoding.margin < just:
            alone = layout.decode(model, memory_BKD[i : i + 1], tokens_BL[i : i + 1], before_BP[i : i + 1])
            prefix = int(alone.firm_prefix(least_margin=least_margin)[0])
            decoding = min(decoding, _decoding(alone, 0, claim, prefix), key=lambda d: d.exact_prefix)
        found.append(decoding)
    return found


def _decoding(decoded: Decoded, i: int, claim: Claim, prefix: int) -> Decoding:
    # Tokens beyond the claim may be correct by chance. They are padding or were not asked for, and do not count.
    prefix = min(prefix, len(claim.tokens))
    margins_L, nats_L = decoded.margins_BL[i, :prefix], decoded.nats_BL[i, :prefix]
    return Decoding(
        exact_prefix=prefix,
        margin=float(margins_L.min()) if prefix else None,
        nats_by_token=tuple(nats_L.tolist()),
        margin_by_token=tuple(margins_L.tolist()),
    )
