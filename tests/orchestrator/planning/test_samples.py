"""Texts cut to tokens: what is kept, what is met again, what is said of it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from orchestrator.planning.samples import CHARACTERS_PER_TOKEN, CUT_MARGIN, cut_to_samples
from tasks.contract import TextCodec
from tasks.tokenizer import HubCodec
from tasks.values import Encoding, Model, Text
from tasks.wording import counted


class Pairs:
    """A tokenizer whose tokens are two characters each, and their number the code of the first."""

    fingerprint: str = "pairs"
    ordinary_tokens: Sequence[int] = range(128)
    bos: int | None = None
    special_before: tuple[int, ...] = (1,)
    tokenizer: Any = None

    def __init__(self) -> None:
        self.read: list[int] = []
        """Characters of each text that was cut to tokens."""

    def encode(self, text: str) -> Encoding:
        self.read.append(len(text))
        starts = range(0, len(text), 2)
        ends = tuple(min(start + 2, len(text)) for start in starts)
        return Encoding(tokens=tuple(ord(text[start]) for start in starts), ends=ends)

    def decode(self, tokens: Sequence[int]) -> str:
        return "".join(2 * chr(token) for token in tokens)


def text(content: str, number: int = 0, tokens: tuple[int, ...] | None = None) -> Text:
    return Text(text=content, source=f"given:{number}", tokens=tokens)


def test_a_sample_is_the_text_up_to_the_last_token_kept():
    (sample,) = cut_to_samples([text("aabbcc")], "tiny", Pairs(), 2, special=False).value
    assert (sample.text, sample.tokens, sample.token_ends, sample.cut) == ("aabb", (97, 98), (2, 4), True)
    assert (sample.model, sample.source) == ("tiny", "given:0")


def test_special_tokens_come_first_and_count():
    (sample,) = cut_to_samples([text("aabbcc")], "tiny", Pairs(), 2, special=True).value
    assert (sample.text, sample.tokens, sample.token_ends, sample.cut) == ("aa", (1, 97), (0, 2), True)


def test_the_same_tokens_are_one_sample_and_one_note():
    found = cut_to_samples([text("aabb", 0), text("ccdd", 1), text("aabbxx", 2)], "tiny", Pairs(), 2, special=False)
    assert [(sample.source, sample.other_sources) for sample in found.value] == [
        ("given:0", ("given:2",)),
        ("given:1", ()),
    ]
    assert found.notes == ("given:0: the same tokens in given:2; searched once.",)
    assert found.problems == ()


def test_of_many_copies_the_note_names_three():
    found = cut_to_samples([text("aa", number) for number in range(6)], "tiny", Pairs(), None, special=False)
    assert found.notes == ("given:0: the same tokens in given:1, given:2, given:3 and 2 more; searched once.",)


def test_an_empty_text_is_left_out_and_said_before_the_copies():
    found = cut_to_samples([text("aa", 0), text("", 1), text("aa", 2)], "tiny", Pairs(), None, special=False)
    assert [note.split(":")[1] for note in found.notes] == ["1", "0"]


def test_of_a_long_text_only_the_beginning_is_cut_to_tokens():
    codec = Pairs()
    (sample,) = cut_to_samples([text("ab" * 100_000)], "tiny", codec, 10, special=False).value
    assert codec.read == [CHARACTERS_PER_TOKEN * 10 + CUT_MARGIN]
    assert (len(sample.tokens), sample.cut) == (10, True)


def test_tokens_of_the_source_are_taken_as_they_are():
    codec = Pairs()
    (sample,) = cut_to_samples([text("aabb", tokens=(97, 98))], "tiny", codec, None, special=False).value
    assert codec.read == []
    assert (sample.tokens, sample.token_ends, sample.cut) == ((97, 98), (2, 4), False)


ORDINARY = "abcdefghijklmnopqrstuvwxyz ABC"
LOSSY = {
    "drops what it does not know": (
        ["cafe", "a caf\u00e9", "tab\there", "\U0001f989 owl"],
        [
            "at character 6, '\u00e9' becomes ''",
            "at character 4, '\\there' becomes 'here'",
            "at character 1, '\U0001f989 owl'",
        ],
    ),
    "knows no capitals": (["abc", "abC Bd"], ["at character 3, 'C Bd' becomes 'c bd'"]),
    "composes": (["e", "cafe\u0301 a"], ["at character 4, 'e\\u0301 a' becomes '\\xe9 a'"]),
    "replaces": (["abc", "ab\u2014c"], ["at character 3, '\u2014c' becomes '[UNK]c'"]),
    "takes white space as one": (["a b", "a  b"], ["at character 3, ' b' becomes 'b'"]),
    "ends too soon": (["abc", "abc\u00e9"], ["at character 4, '\u00e9' becomes ''"]),
}
"""What a tokenizer does -> texts, of which the first comes back, and how each of the others begins to change."""


def lossy_codec(kind: str, folder: Path) -> TextCodec:
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers
    from transformers import PreTrainedTokenizerFast

    letters = ORDINARY + ("\u00e9" if kind == "composes" else "")
    vocabulary = {letter: number for number, letter in enumerate(letters, 1)} | {"[UNK]": 0}
    unknown = "[UNK]" if kind == "replaces" else None
    made: Any = Tokenizer(models.BPE(vocabulary, [], unk_token=unknown))
    made.decoder = decoders.Fuse()
    normalizer = {
        "knows no capitals": normalizers.Lowercase(),
        "composes": normalizers.NFC(),
        "takes white space as one": normalizers.Replace(Regex(" +"), " "),
    }.get(kind)
    if normalizer is not None:
        made.normalizer = normalizer
    PreTrainedTokenizerFast(tokenizer_object=made).save_pretrained(folder)
    return HubCodec(Model(name=str(folder)))


@pytest.mark.parametrize("kind", LOSSY)
@pytest.mark.parametrize("limit", [None, 8])
def test_a_text_that_its_tokens_do_not_give_back_is_counted_and_shown(kind, limit, tmp_path):
    texts, changes = LOSSY[kind]
    given = [text(content, number) for number, content in enumerate(texts)]
    found = cut_to_samples(given, "tiny", lossy_codec(kind, tmp_path), limit, special=False)
    by_source = {sample.source: sample.first_change for sample in found.value}
    assert by_source.pop("given:0") is None
    (note,) = [note for note in found.notes if note.startswith("tiny: ")]
    assert f"does not give {len(changes)} of {counted(len(texts), 'text')} back as it was" in note
    assert f"The first: given:1: {changes[0]}" in note
    for (_, change), start in zip(sorted(by_source.items()), changes, strict=False):
        assert change is not None
        assert change.startswith(start)


@pytest.mark.parametrize("model", ["stories260K", "quickstart"])
def test_a_text_that_ends_within_a_character_is_no_change(model, shipped_model, request):
    """The tokens of both fall back to bytes; those of one are decoded by the row."""
    folder = shipped_model if model == "quickstart" else request.getfixturevalue("stories_model")
    codec = HubCodec(Model(name=str(folder)))
    content = "a \U0001f469\u200d\U0001f469\u200d\U0001f467 \u65e5\u672c\u8a9e\u306e\u30c6 d\u00e9j\u00e0\tvu"
    for limit in range(1, len(codec.encode(content).tokens) + 1):
        found = cut_to_samples([text(content)], "tiny", codec, limit, special=False)
        assert (found.value[0].first_change, found.notes) == (None, ()), limit


def test_what_a_source_gives_as_tokens_is_what_it_is(tmp_path):
    codec = lossy_codec("knows no capitals", tmp_path)
    found = cut_to_samples([text("ABC", tokens=(1, 2))], "tiny", codec, None, special=False)
    assert (found.value[0].first_change, found.notes) == (None, ())
