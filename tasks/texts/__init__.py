"""Text sources: where the texts of a sweep come from.

A source is one small class: its fields are those of the sweep file's entry, its `read` returns the texts, and
tasks/registry.py gives it its name. This module does what every source offers: names, second halves and controls.
Knows nothing of models, tokens or runs.
"""

import random
from dataclasses import replace
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, BaseModel, Field, ValidationInfo

from tasks.contract import Reader
from tasks.values import TaskError, Text

REPEATED_WORDS = 8
"""Words that `control: repeated` repeats: few enough that a model sees the pattern soon."""

Samples = Annotated[int, Field(ge=1, lt=2**31)]
Control = Literal["repeated", "reversed", "shuffled"]


def _find(path: str, info: ValidationInfo) -> str:
    """The path as found by the reader of a sweep file; unchanged if no sweep file is read."""
    return info.context["find"](path) if info.context else path


Commit = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
"""A commit of the hub."""

AT_COMMIT = "is read at commit {commit}, which the run keeps; revision: {commit} pins the sweep file, too."
"""What a user should know about an entry whose revision may name another commit tomorrow."""

LocalPath = Annotated[str, Field(min_length=1), AfterValidator(_find)]
"""A file or folder of this machine; in a sweep file it may be relative to that file."""


class TextEntry(
    BaseModel, frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
):
    """One entry of a sweep's `texts`: the fields that every source has."""

    needs_reader: ClassVar[bool] = False
    """Whether the texts depend on the model that reads them, so that they are made for each model."""
    needs_bos: ClassVar[bool] = False
    """Whether the texts depend on the model's BOS, if it has one."""

    source: str
    """Name of the source in tasks/registry.py."""
    samples: Samples | None
    """How many texts to take, from the first; null takes all."""
    name: Annotated[str, Field(pattern=r"^[^:]+$", max_length=100)] | None = None
    """Name of these texts in tables, such as pg19, by which results are grouped; null: the name of the source."""
    second_half: bool = False
    """Take only the second half of each text, counted in sentences, as the published protocol does."""
    control: Control | None = None
    """Reorder the words of each text: `repeated` (the first 8 over and over), `reversed` or `shuffled`."""

    def read(self, reader: Reader | None = None) -> list[Text]:
        """The first `samples` texts in a fixed order, or all if there are fewer.

        Args:
            reader: The model that will read the texts; given if `needs_reader`.

        Raises:
            TaskError: when nothing can be read.
        """
        raise NotImplementedError

    def notes(self) -> list[str]:
        """What a user should know about what `read` leaves out, one line each; each names its place."""
        return []

    def pinned(self) -> Self:
        """This entry, at the commit that its data are at now; the entry itself if it names one or there is none.

        Raises:
            TaskError: when the commit cannot be found out.
        """
        return self

    def commit_read(self) -> str | None:
        """The commit of the data that `read` takes; None if there is none."""
        return None

    def pin_note(self) -> str:
        """Where texts may be others on another day: what a user should know about that; else empty."""
        return ""


def texts_of(entry: TextEntry, reader: Reader | None = None) -> list[Text]:
    """The texts of an entry, with its `second_half`, `control` and `name` applied.

    Raises:
        TaskError: when nothing can be read, what was read is no text, or nothing is left of a text.
    """
    texts = list(entry.read(reader))
    for text in texts:
        if not isinstance(text, Text):  # a plug-in may return anything
            raise TaskError(
                f"source {entry.source}: read() gave a {type(text).__name__}. Wanted `Text` of tasks/values."
            )
    return [_prepared(entry, text) for text in texts]


def _prepared(entry: TextEntry, text: Text) -> Text:
    kind, _, rest = text.source.partition(":")
    words = [entry.name or kind]
    if entry.second_half:
        if not (half := second_half(text.text)):
            raise TaskError(f"{text.source}: second_half: a text of one sentence has none. Take longer texts.")
        text = Text(text=half, source=text.source)
        words += [] if entry.name else ["second half"]
    if entry.control is not None:
        text = Text(text=reordered(text.text, entry.control), source=text.source)
        words.append(entry.control)
    return replace(text, source=f"{' '.join(words)}:{rest}")


def second_half(text: str) -> str:
    """The sentences from the middle on, joined by spaces; empty if there is only one sentence.

    Source: "Cramming 1568 Tokens into a Single Vector and Back Again" (ACL 2025), section 4. The paper splits sentences
    with another library, so that some of its texts begin at another sentence.
    """
    # Imported here because the import takes a moment, and few sweeps split sentences.
    from sentencex import segment  # pyright: ignore[reportAttributeAccessIssue] - compiled, without stubs

    sentences = [sentence.strip() for sentence in segment("en", text) if sentence.strip()]
    return " ".join(sentences[len(sentences) // 2 :]) if len(sentences) > 1 else ""


def reordered(text: str, control: Control) -> str:
    """As many words as the text has, in the control's order, joined by spaces; empty for a text without words.

    A text that a model draws may be only white space; planning leaves it out like any text without tokens.
    """
    words = text.split()
    match control:
        case "repeated":
            words = [words[i % REPEATED_WORDS] for i in range(len(words))]
        case "reversed":
            words = words[::-1]
        case "shuffled":
            # For a seed, Python promises one sequence on every platform and version from random(), not from shuffle().
            generator = random.Random(text)
            words = [word for _, word in sorted((generator.random(), word) for word in words)]
    return " ".join(words)
