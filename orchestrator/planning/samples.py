"""Cuts texts to samples: tokens of one tokenizer, each text once.

Knows nothing of files, models or searches: it receives a tokenizer and texts.
"""

import hashlib
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate

from orchestrator.planning.identity import sample_id_of
from orchestrator.planning.inputs import Found
from orchestrator.planning.plan import Sample
from tasks.contract import TextCodec
from tasks.values import Encoding, Text
from tasks.wording import counted

CHARACTERS_PER_TOKEN = 16
"""A long text is tokenized from this many characters per token first; twice as many while they give too few tokens."""
WINDOW = 8
"""Tokens that are decoded before a token to find how many characters it adds: some join with their neighbours."""
CUT_MARGIN = 4096
"""Characters read beyond the last token kept: tokens near the cut may differ from those of the whole text."""
SHOWN_CHARACTERS = 12
"""Characters shown of a text and of what its tokens stand for, from where the two differ."""


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
    changes: list[tuple[str, str]] = []
    notes: list[str] = []
    for text in texts:
        encoding, whole = _encode(codec, text, limit)
        if not encoding.tokens:
            notes.append(f"{text.source}: no tokens in this text; left out.")
            continue
        whole_tokens, whole_ends = (*before, *encoding.tokens), (*[0] * len(before), *encoding.ends)
        tokens, ends = whole_tokens[:limit], whole_ends[:limit]
        is_cut = len(tokens) < len(whole_tokens) or not whole
        kept = text.text[: ends[-1]]
        change = None
        if text.tokens is None:
            change = _first_change(codec, encoding, kept if is_cut else text.text, is_cut=is_cut)
        if change is not None:
            changes.append((text.source, change))
        sample_id = sample_id_of(codec.fingerprint, tokens)
        if (same := cut.get(sample_id)) is not None:
            cut[sample_id] = replace(same, other_sources=(*same.other_sources, text.source))
            continue
        cut[sample_id] = Sample(
            sample_id=sample_id,
            model=model,
            source=text.source,
            text_sha256=hashlib.sha256(text.text.encode()).hexdigest(),
            text=kept,
            tokens=tokens,
            token_ends=ends,
            cut=is_cut,
            first_change=change,
        )
    notes += _changes_note(model, changes, len(texts))
    notes += [_copies_note(sample) for sample in cut.values() if sample.other_sources]
    return Found(value=list(cut.values()), notes=tuple(notes))


def _first_change(codec: TextCodec, encoding: Encoding, text: str, *, is_cut: bool) -> str | None:
    """Where the tokens first stand for another text than `text`, and for which; None if they give it back.

    Args:
        codec: The tokenizer.
        encoding: Tokens of `text`, or of a longer text that begins with it.
        text: The text, up to the last token kept if `is_cut`.
        is_cut: Whether `encoding` may go on beyond `text`.
    """
    # A few tokens more, up to the end of a character: the text's last one may be spread over tokens not kept, and some
    # decoders give up on every character of a row of bytes that is not whole.
    num_tokens = min(bisect_right(encoding.ends, len(text)) + WINDOW, len(encoding.tokens))
    decoded = codec.decode(encoding.tokens[: bisect_right(encoding.ends, encoding.ends[num_tokens - 1])])
    if is_cut:
        decoded = decoded[: len(text)]
    if decoded == text:
        return None
    pairs = enumerate(zip(text, decoded, strict=False))
    place = next((i for i, (a, b) in pairs if a != b), min(len(text), len(decoded)))
    found, given = (each[place : place + SHOWN_CHARACTERS] for each in (text, decoded))
    # Characters that look alike are shown as their code points.
    show = ascii if unicodedata.normalize("NFKC", found) == unicodedata.normalize("NFKC", given) else repr
    return f"at character {place + 1}, {show(found)} becomes {show(given)}"


def _changes_note(model: str, changes: Sequence[tuple[str, str]], num_texts: int) -> Iterator[str]:
    if changes:
        source, change = changes[0]
        yield (
            f"{model}: its tokenizer does not give {len(changes)} of {counted(num_texts, 'text')} back as it was; the "
            f"changed text is measured. The first: {source}: {change}. Column first_change of samples.parquet has them "
            "all."
        )


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
