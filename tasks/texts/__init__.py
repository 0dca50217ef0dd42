"""Text sources: where the texts of a sweep come from.

A source is one small class: its fields are those of the sweep file's entry, its `read` returns the texts.
tasks/registry.py gives it its name. What may be done with the texts of any source (a name, a half, a control) is
done here. Knows nothing of models, tokens or runs.
"""

import random
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, Field, ValidationInfo

from tasks.contract import Reader
from tasks.values import TaskError, Text

REPEATED_WORDS = 8
"""Words of a text that `control: repeated` repeats again and again: few enough that a model sees the pattern soon."""

Samples = Annotated[int, Field(ge=1, lt=2**31)]
Control = Literal["repeated", "reversed", "shuffled"]


def _find(path: str, info: ValidationInfo) -> str:
    """Let the reader of a sweep file decide where a relative path lies; without one the path stands as it is."""
    return info.context["find"](path) if info.context else path


LocalPath = Annotated[str, Field(min_length=1), AfterValidator(_find)]
"""A file or folder of this machine; a sweep file may mean it relative to itself."""


class TextEntry(
    BaseModel, frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
):
    """One entry of a sweep's `texts`: the fields that every source has."""

    needs_reader: ClassVar[bool] = False
    """Whether its texts depend on the model that reads them: then they are made for each model."""

    source: str
    """Which source: its name in tasks/registry.py."""
    samples: Samples | None
    """The first so many texts; null takes all."""
    name: Annotated[str, Field(pattern=r"^[^:]+$", max_length=100)] | None = None
    """What tables call these texts, such as pg19; null: the name of the source. Groups are made by it."""
    second_half: bool = False
    """Only the second half of each text, counted in sentences, as the published protocol cuts."""
    control: Control | None = None
    """The same words in another order: `repeated` (the first 8 again and again), `reversed` or `shuffled`."""

    def read(self, reader: Reader | None = None) -> list[Text]:
        """The first `samples` texts in a fixed order, or fewer if there are fewer.

        Args:
            reader: The model that will read them; given where `needs_reader`.

        Raises:
            TaskError: when nothing can be read.
        """
        raise NotImplementedError

    def commit(self) -> str | None:
        """The version of the data that `read` takes now, where it has one and it can be found out."""
        return None

    def may_change(self) -> bool:
        """Whether another day may give other texts, though nothing of this machine has changed."""
        return False


def texts_of(entry: TextEntry, reader: Reader | None = None) -> list[Text]:
    """The entry's texts: read, cut to their second half, put in the order of their control, and named.

    Raises:
        TaskError: when nothing can be read, or nothing is left of a text.
    """
    return [_prepared(entry, text) for text in entry.read(reader)]


def _prepared(entry: TextEntry, text: Text) -> Text:
    kind, _, rest = text.source.partition(":")
    words = [entry.name or kind]
    if entry.second_half:
        if not (half := second_half(text.text)):
            raise TaskError(f"{text.source}: second_half: one sentence has none. Take longer texts.")
        text = Text(text=half, source=text.source)
        words += [] if entry.name else ["second half"]
    if entry.control is not None:
        text = Text(text=reordered(text.text, entry.control), source=text.source)
        words.append(entry.control)
    return replace(text, source=f"{' '.join(words)}:{rest}")


def second_half(text: str) -> str:
    """The sentences from the middle on, with one space between them; empty if there is only one.

    Source: "Cramming 1568 Tokens into a Single Vector and Back Again" (ACL 2025), section 4; there sentences are split
    by another library, so that some texts begin at another sentence.
    """
    # It takes a moment to import: only who splits sentences waits for it.
    from sentencex import segment  # pyright: ignore[reportAttributeAccessIssue] - compiled, without stubs

    sentences = [sentence.strip() for sentence in segment("en", text) if sentence.strip()]
    return " ".join(sentences[len(sentences) // 2 :]) if len(sentences) > 1 else ""


def reordered(text: str, control: Control) -> str:
    """As many words as the text has, in the control's order, with one space between them; of no words, none.

    A text that a model draws may be white space only; it is left out like any other without tokens.
    """
    words = text.split()
    match control:
        case "repeated":
            words = [words[i % REPEATED_WORDS] for i in range(len(words))]
        case "reversed":
            words = words[::-1]
        case "shuffled":
            # Of random() Python promises the sequence for a seed on every platform and version; of shuffle() not.
            generator = random.Random(text)
            words = [word for _, word in sorted((generator.random(), word) for word in words)]
    return " ".join(words)
