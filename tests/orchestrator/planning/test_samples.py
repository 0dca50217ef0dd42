"""Texts cut to tokens: what is kept, what is met again, what is said of it."""

from collections.abc import Sequence

from orchestrator.planning.samples import CHARACTERS_PER_TOKEN, CUT_MARGIN, cut_to_samples
from tasks.values import Encoding, Text


class Pairs:
    """A tokenizer whose tokens are two characters each, and their number the code of the first."""

    fingerprint: str = "pairs"
    ordinary_tokens: Sequence[int] = range(128)
    special_before: tuple[int, ...] = (1,)

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
