"""Cuts texts to samples: tokens of one tokenizer, each text once.

Knows nothing of files, models or searches: it receives a tokenizer and texts.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

from orchestrator.planning.identity import sample_id_of
from orchestrator.planning.inputs import Found
from orchestrator.planning.plan import Sample
from tasks.contract import TextCodec
from tasks.values import Encoding, Text

CHARACTERS_PER_TOKEN = 16
"""A long text is tokenized from this many characters per token first; twice as many while they give too few tokens."""
WINDOW = 8
"""Tokens that are decoded before a token to find how many characters it adds: some join with their neighbours."""
CUT_MARGIN = 4096
"""Characters read beyond the last token kept: tokens near the cut may differ from those of the whole text."""


def cut_to_samples(
    texts: Sequence[Text], model: str, codec: TextCodec, limit: int | None, *, special: bool
) -> Found[list[Sample]]:
    """Each text as tokens; texts with the same tokens give one sample.

    Args:
        texts: The texts; the first one with the same tokens names the sample.
        model: Name of the model that reads them.
        codec: Its tokenizer.
        limit: Most tokens to keep; None keeps all.
        special: Whether a sample begins with the special tokens that the tokenizer puts before a text.
    """
    before = codec.special_before if special else ()
    cut: dict[str, Sample] = {}
    notes: list[str] = []
    for text in texts:
        encoding, whole = _encode(codec, text, limit)
        if not encoding.tokens:
            notes.append(f"{text.source}: no tokens in this text; left out.")
            continue
        whole_tokens, whole_ends = (*before, *encoding.tokens), (*[0] * len(before), *encoding.ends)
        tokens, ends = whole_tokens[:limit], whole_ends[:limit]
        sample_id = sample_id_of(codec.fingerprint, tokens)
        if (same := cut.get(sample_id)) is not None:
            cut[sample_id] = replace(same, other_sources=(*same.other_sources, text.source))
            continue
        cut[sample_id] = Sample(
            sample_id=sample_id,
            model=model,
            source=text.source,
            text_sha256=hashlib.sha256(text.text.encode()).hexdigest(),
            text=text.text[: ends[-1]],
            tokens=tokens,
            token_ends=ends,
            cut=len(tokens) < len(whole_tokens) or not whole,
        )
    notes += [_copies_note(sample) for sample in cut.values() if sample.other_sources]
    return Found(value=list(cut.values()), notes=tuple(notes))


def _copies_note(sample: Sample) -> str:
    others = sample.other_sources
    named = ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
    return f"{sample.source}: the same tokens in {named}; searched once."


def _encode(codec: TextCodec, read: Text, limit: int | None) -> tuple[Encoding, bool]:
    """The text as tokens, and whether they are the whole text; of a book only the beginning is tokenized."""
    text = read.text
    if read.tokens is not None:
        return Encoding(tokens=read.tokens, ends=_ends_of(codec, read)), True
    length = len(text) if limit is None else CHARACTERS_PER_TOKEN * limit + CUT_MARGIN
    while length < len(text):
        encoding = codec.encode(text[:length])
        if limit is not None and len(encoding.tokens) > limit and encoding.ends[limit] <= length - CUT_MARGIN:
            return encoding, False
        length *= 2
    return codec.encode(text), True


def _ends_of(codec: TextCodec, read: Text) -> tuple[int, ...]:
    """Where each of the source's own tokens ends in its text: the sum of the characters that each token adds."""
    assert read.tokens is not None
    longer: list[int] = []
    for i in range(len(read.tokens)):
        before = read.tokens[max(0, i - WINDOW) : i]
        longer.append(max(0, len(codec.decode((*before, read.tokens[i]))) - len(codec.decode(before))))
    return tuple(min(end, len(read.text)) for end in accumulate(longer))
