"""Makes the outcome of a slot from what its steps counted, what its certificate proves, and scores of its text.

Knows nothing of decoding, device memory or which slots leave.
"""

# Axes: B slots, K vectors of a memory, L tokens, D embedding width.

from dataclasses import dataclass, replace
from functools import partial

from tasks.certificate import Certificate, Decoding, Leaving
from tasks.language_model import LanguageModel
from tasks.layout import Layout
from tasks.scoring import Scored, score_with_memory, score_without_memory
from tasks.slots import MARKS
from tasks.values import Lossless, Lossy, Measurement, Question

BEGUN_SLOWLY = "begun again cold and at a lower rate, after a loss or gradient that was not finite"
"""Remark on a probe whose rate was scaled down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scores:
    """Scores of the text of a slot, over two lengths, with memory and without."""

    at_proof: Scored
    """Over the proven length, with the stored memory."""
    at_proof_without_memory: Scored
    """The same without memory."""
    measured: Scored
    """Over the length that the outcome reports: the proven length if lossless, else the length asked for."""
    measured_without_memory: Scored
    """The same without memory."""


def outcome_of(
    model: LanguageModel, layout: Layout, leaving: Leaving, certificate: Certificate, *, question: Question
) -> Lossless | Lossy:
    """Score the text of a slot with memory and without, and state what its probe found out."""
    proven = certificate.decoding.exact_prefix if question.criterion is None else int(leaving.slot.proven_B)
    scores = _scores(model, layout, leaving, certificate, question=question, proven=proven)
    measurement = _measurement(leaving, certificate, scores, question=question, proven=proven)
    lossless = proven >= leaving.probe.length
    return Lossless(measurement=measurement) if lossless else Lossy(measurement=measurement)


def _scores(
    model: LanguageModel,
    layout: Layout,
    leaving: Leaving,
    certificate: Certificate,
    *,
    question: Question,
    proven: int,
) -> _Scores:
    probe = leaving.probe
    at_proof = Scored.nothing()
    if proven:
        at_proof = score_with_memory(
            model,
            layout,
            certificate.memory_KD[None].to(model.device),
            probe.tokens[:proven],
            num_vectors=probe.num_vectors,
            context=probe.context,
            question=question,
        )
        if question.criterion is None:
            by_token = certificate.decoding.nats_by_token
            at_proof = replace(at_proof, nats=sum(by_token), nats_by_token=by_token)
    without_memory = partial(score_without_memory, model, context=probe.context, question=question)
    at_proof_without_memory = without_memory(probe.tokens[:proven])
    if proven >= probe.length:
        measured, measured_without_memory = at_proof, at_proof_without_memory
    else:
        measured = _best_at_asked(leaving, certificate.decoding)
        measured_without_memory = without_memory(probe.tokens[: probe.length])
    return _Scores(
        at_proof=at_proof,
        at_proof_without_memory=at_proof_without_memory,
        measured=measured,
        measured_without_memory=measured_without_memory,
    )


def _best_at_asked(leaving: Leaving, decoding: Decoding) -> Scored:
    """Scores at the best step of the slot while its length was the one asked for."""
    slot, length = leaving.slot, leaving.probe.length
    num_correct, first_error = int(slot.asked_correct_B), int(slot.asked_prefix_B)
    if num_correct == length:
        # Every token was correct under teacher forcing, but decoding went wrong: the first error is where it did.
        first_error = min(first_error, decoding.exact_prefix)
    return Scored(
        length=length,
        nats=float(slot.asked_nats_B),
        num_correct=num_correct,
        first_error=first_error,
        correct=tuple(slot.asked_correct_BL[0, :length].tolist()),
        nats_by_token=(),
    )


def _failed_length(leaving: Leaving, proven: int) -> int | None:
    """The length that the probe gave up on; None if it reached its limit or the machine ended it."""
    probe, slot = leaving.probe, leaving.slot
    if proven >= int(slot.limit_B) or leaving.is_cut_short:
        return None
    return max(int(slot.length_B), proven + 1) if proven >= probe.length else probe.length


def _measurement(
    leaving: Leaving, certificate: Certificate, scores: _Scores, *, question: Question, proven: int
) -> Measurement:
    slot, decoding, at_marks = leaving.slot, certificate.decoding, certificate.at_marks
    at_proof, at_proof_without_memory = scores.at_proof, scores.at_proof_without_memory
    measured, measured_without_memory = scores.measured, scores.measured_without_memory
    # Decoding may prove less than teacher forcing reached: the step is the one that reached the proven length.
    is_step_of_length = proven and question.criterion is None
    memory = certificate.memory_KD.numpy().astype("<f4")
    remarks = [*leaving.remarks, *([BEGUN_SLOWLY] if float(slot.rate_scale_B) < 1 else [])]
    return Measurement(
        proven_length=proven,
        exact_prefix=decoding.exact_prefix,
        failed_length=_failed_length(leaving, proven),
        measured_length=measured.length,
        steps=int(slot.step_B),
        steps_to_proof=int(slot.reached_step_BL[0, proven - 1] if is_step_of_length else slot.proof_step_B),
        trained_tokens=int(slot.trained_tokens_B),
        seconds=float(slot.seconds_B),
        token_accuracy=measured.num_correct / measured.length,
        token_accuracy_without_memory=measured_without_memory.num_correct / measured.length,
        first_error=measured.first_error,
        margin=decoding.margin,
        nats_without_memory=measured_without_memory.nats,
        nats_with_memory=measured.nats,
        proven_nats_without_memory=at_proof_without_memory.nats,
        proven_nats_with_memory=at_proof.nats,
        proven_token_gain=at_proof.num_correct - at_proof_without_memory.num_correct,
        memory=memory.tobytes() if max(proven, decoding.exact_prefix) > 0 else None,
        memory_shape=memory.shape,
        correct=measured.correct,
        correct_without_memory=measured_without_memory.correct,
        nats_by_token=at_proof.nats_by_token,
        nats_by_token_without_memory=at_proof_without_memory.nats_by_token,
        margin_by_token=decoding.margin_by_token,
        steps_by_length=tuple(slot.reached_step_BL[0, : int(slot.proven_B)].tolist()),
        trained_tokens_by_length=tuple(slot.reached_tokens_BL[0, : int(slot.proven_B)].tolist()),
        certified_steps=MARKS[: len(at_marks)],
        certified_trained_tokens=tuple(slot.mark_tokens_BM[0, : len(at_marks)].tolist()),
        certified_lengths=at_marks,
        exact_in_float32=certificate.in_float32,
        remark="; ".join(remarks) or None,
    )
