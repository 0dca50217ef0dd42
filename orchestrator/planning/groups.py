"""Joins samples of one text each to samples of several, for a task whose texts share vectors.

Pure. Knows nothing of models or searches.
"""

import hashlib
from collections.abc import Sequence

from orchestrator.planning.identity import sample_id_of
from orchestrator.planning.inputs import Found
from orchestrator.planning.plan import Sample
from tasks.turns import apart, in_turns
from tasks.wording import counted


def grouped(samples: Sequence[Sample], num_texts: int, *, tokenizer: str, longest: int | None) -> Found[list[Sample]]:
    """Each `num_texts` samples in a row as one, whose tokens take turns; the last ones are left out if they are fewer.

    Args:
        samples: Samples of one text each.
        num_texts: Texts of a group.
        tokenizer: Fingerprint of the tokenizer.
        longest: Most tokens of a group; None if only its shortest text limits it.
    """
    if num_texts == 1:
        return Found(value=list(samples))
    whole = len(samples) - len(samples) % num_texts
    groups = [_group(samples[first : first + num_texts], tokenizer, longest) for first in range(0, whole, num_texts)]
    notes: tuple[str, ...] = ()
    if left := samples[whole:]:
        notes = (f"{left[0].model}: {counted(len(left), 'text')} beyond groups of {num_texts}; left out.",)
    return Found(value=groups, notes=notes)


def held_groups(groups: Sequence[Sample], held: Sequence[Sample], *, tokenizer: str) -> Found[list[Sample]]:
    """The groups that were read, if they begin with those of the run; else those of the run.

    A text that is lost or changed moves all later ones to other groups, which would be other searches. Tokens of
    another tokenizer are no group of this model.
    """
    is_other = any(sample_id_of(tokenizer, group.tokens) != group.sample_id for group in held)
    if is_other or [group.sample_id for group in groups[: len(held)]] == [group.sample_id for group in held]:
        return Found(value=list(groups))
    note = f"{held[0].model}: the texts do not make the groups of the run any more; the run's own copies are used."
    return Found(value=list(held), notes=(note,))


def _group(samples: Sequence[Sample], tokenizer: str, longest: int | None) -> Sample:
    """All texts are as long as the shortest, but for a token where `longest` ends within a turn."""
    shortest = min(len(sample.tokens) for sample in samples)
    whole = in_turns([sample.tokens[:shortest] for sample in samples])
    tokens = whole[:longest]
    first = samples[0]
    begin = 0
    parts: list[str] = []
    ends: list[tuple[int, ...]] = []
    for sample, own in zip(samples, apart(tokens, len(samples)), strict=True):
        text = sample.text[: sample.token_ends[len(own) - 1]] if own else ""
        ends.append(tuple(begin + end for end in sample.token_ends[: len(own)]))
        parts.append(text)
        begin += len(text)
    hashes = "\n".join(sample.text_sha256 for sample in samples)
    return Sample(
        sample_id=sample_id_of(tokenizer, tokens),
        model=first.model,
        source=f"{first.source} and {len(samples) - 1} more",
        other_sources=tuple(name for sample in samples for name in (sample.source, *sample.other_sources))[1:],
        text_sha256=hashlib.sha256(hashes.encode()).hexdigest(),
        text="".join(parts),
        tokens=tokens,
        token_ends=in_turns(ends),
        num_texts=len(samples),
        cut=len(tokens) < len(whole) or all(sample.cut for sample in samples if len(sample.tokens) == shortest),
        first_change=next((sample.first_change for sample in samples if sample.first_change), None),
    )
