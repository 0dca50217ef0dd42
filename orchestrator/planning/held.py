"""The samples that a run holds, in place of texts that are no longer where they came from.

Knows nothing of files or searches.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from orchestrator.planning.identity import sample_id_of
from orchestrator.planning.inputs import Found
from orchestrator.planning.plan import Sample

HeldSamples = Mapping[str, Sequence[Sample]]
"""Model, as rows name it -> the samples that the run holds for it, in its order."""


def held_samples(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[Sample]]:
    """The samples in rows of SAMPLES; whether a text was cut is seen by its hash, which is that of the whole text."""
    held: dict[str, list[Sample]] = {}
    names = [field.name for field in fields(Sample)]
    for row in rows:
        known: dict[str, Any] = {
            name: tuple(row[name]) if isinstance(row[name], list) else row[name]
            for name in names
            # Earlier versions had no context.
            if row.get(name) is not None
        }
        is_whole = hashlib.sha256(row["text"].encode()).hexdigest() == row["text_sha256"]
        held.setdefault(row["model"], []).append(Sample(**known, cut=not is_whole))
    return held


def excused(texts: Found[Any], models: Iterable[str], held: HeldSamples) -> Found[Any]:
    """The texts without the problems of reading them, if the run holds samples for each of these models."""
    if not texts.problems or not held or not all(held.get(model) for model in models):
        return texts
    notes = tuple(f"{problem} The texts that the run holds are used." for problem in texts.problems)
    return replace(texts, problems=(), notes=(*texts.notes, *notes))


def with_held(
    samples: Sequence[Sample], held: Sequence[Sample], *, tokenizer: str, longest: int | None
) -> Found[list[Sample]]:
    """The samples, and those of the run whose texts were not read again, in the order of the run.

    Args:
        samples: What was read and cut now.
        held: What the run holds for the model.
        tokenizer: Fingerprint of the model's tokenizer: tokens of another one are no sample of this model.
        longest: Most tokens of a sample; None if only the text limits it.
    """
    # Texts of two folders may have one name: then one that was read does not stand for the other.
    lacking = _sources(held)
    lacking.subtract(_sources(samples))
    ids = {sample.sample_id: sample for sample in samples}
    kept: dict[str, Sample] = {}
    lost: list[str] = []
    for sample in held:
        if sample.sample_id in ids:
            kept[sample.sample_id] = _named_as(sample, ids[sample.sample_id])
        elif lacking[sample.source] > 0 and _is_of(sample, tokenizer):
            lacking[sample.source] -= 1
            # A text that is shorter than the limit was not cut there.
            kept[sample.sample_id] = replace(sample, cut=sample.cut and len(sample.tokens) == longest)
            lost.append(sample.source)
    notes: tuple[str, ...] = ()
    if lost:
        named = ", ".join(lost[:3]) + (f" and {len(lost) - 3} more" if len(lost) > 3 else "")
        notes = (f"{named}: not found where the text came from; the run's own copy is used.",)
    new = [sample for sample in samples if sample.sample_id not in kept]
    return Found(value=[*kept.values(), *new], notes=notes)


def _named_as(held: Sample, read: Sample) -> Sample:
    """The sample that was read, by the name that the run has for it: of equal texts, the first may be gone."""
    if held.source in (read.source, *read.other_sources):
        return read
    others = dict.fromkeys((*held.other_sources, read.source, *read.other_sources))
    return replace(read, source=held.source, other_sources=tuple(name for name in others if name != held.source))


def _sources(samples: Iterable[Sample]) -> Counter[str]:
    """How many texts have each name."""
    return Counter(source for sample in samples for source in (sample.source, *sample.other_sources))


def _is_of(sample: Sample, tokenizer: str) -> bool:
    return sample_id_of(tokenizer, sample.tokens, sample.context) == sample.sample_id
