"""Text sources: where the texts of a sweep come from.

A source is one small class: its fields are those of the sweep file's entry, its `read` returns the texts.
tasks/registry.py gives it its name. Knows nothing of models, tokens or runs.
"""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field, ValidationInfo

from tasks.contract import Text

Samples = Annotated[int, Field(ge=1, lt=2**31)]


def _find(path: str, info: ValidationInfo) -> str:
    """Let the reader of a sweep file say where a relative path lies; without one the path stands as it is."""
    return info.context["find"](path) if info.context else path


LocalPath = Annotated[str, Field(min_length=1), AfterValidator(_find)]
"""A file or folder of this machine; a sweep file may mean it relative to itself."""


class TextEntry(
    BaseModel, frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
):
    """One entry of a sweep's `texts`: the fields that every source has."""

    source: str
    """Which source: its name in tasks/registry.py."""
    samples: Samples | None
    """The first so many texts; null takes all."""

    def read(self) -> list[Text]:
        """The first `samples` texts in a fixed order, or fewer if there are fewer.

        Raises:
            TaskError: when nothing can be read.
        """
        raise NotImplementedError
