"""The text source `hub`: the first texts of a data set on the Hugging Face hub, streamed."""

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from tasks.contract import Reader
from tasks.texts import Samples, TextEntry
from tasks.values import TaskError, Text

Name = Annotated[str, Field(min_length=1)]
COMMIT = re.compile("[0-9a-f]{40}")
ASK_SECONDS = 10.0
"""How long to wait for the hub to report which commit a data set is at."""


class HubSource(TextEntry, frozen=True):
    """Texts from one column of one split of a data set; only as many rows are fetched as `samples` needs."""

    source: Literal["hub"] = "hub"
    dataset: Name
    """Hub id, such as `yurakuratov/pg19_valid_1k_chunks`."""
    split: Name = "train"
    """Split of the data set."""
    column: Name = "text"
    """Column that holds the text."""
    revision: str | None = None
    """Commit, tag or branch; null takes the default branch, which may change from day to day. The run records the
    commit that it read."""
    samples: Samples | None = None
    """How many texts to take, from the first; null takes all."""

    def read(self, reader: Reader | None = None) -> list[Text]:
        """The first `samples` texts in the data set's order.

        Raises:
            TaskError: when the split is empty, a row has no text, or the data set cannot be read.
        """
        texts = list(islice(self._texts(), self.samples))
        if not texts:
            raise TaskError(f"{self._where}: the split is empty. Choose another split.")
        return texts

    def commit(self) -> str | None:
        """Commit of the data set on the hub, or in the cache if the hub does not answer."""
        if self.revision and COMMIT.fullmatch(self.revision):
            return self.revision
        # Imported here because the import takes half a second.
        from huggingface_hub import HfApi

        try:
            return HfApi().dataset_info(self.dataset, revision=self.revision, timeout=ASK_SECONDS).sha
        # The texts are already read, so a missing commit is no reason to stop.
        except Exception:
            return self._cached_commit()

    def may_change(self) -> bool:
        """Without a revision, the default branch may change."""
        return self.revision is None

    def _cached_commit(self) -> str | None:
        from huggingface_hub import constants

        folder = Path(constants.HF_HUB_CACHE) / f"datasets--{self.dataset.replace('/', '--')}"
        try:
            return (folder / "refs" / (self.revision or "main")).read_text().strip() or None
        except (OSError, ValueError):
            return None

    @property
    def _where(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        return f"hub:{self.dataset}{revision}/{self.split}"

    def _texts(self) -> Iterator[Text]:
        for number, row in enumerate(self._rows(), 1):
            if self.column not in row:
                raise TaskError(f"{self._where}: no column {self.column!r}; its columns: {', '.join(row)}.")
            text = row[self.column]
            if not isinstance(text, str) or not text.strip():
                raise TaskError(
                    f"{self._where}#{number}: found {str(text)[:40]!r} in column {self.column!r}; wanted text. "
                    "Choose another column or fewer samples."
                )
            yield Text(text=text, source=f"{self._where}#{number}")

    def _rows(self) -> Iterator[dict[str, Any]]:
        # Imported here because the import takes a second, and only this source needs it.
        import datasets
        from datasets.exceptions import DatasetsError

        try:
            rows = datasets.load_dataset(self.dataset, split=self.split, revision=self.revision, streaming=True)
            yield from rows
        # Three libraries raise a dozen error classes; their messages help the user.
        except (OSError, ValueError, RuntimeError, DatasetsError) as error:
            raise TaskError(f"{self._where}: {_advice(error)} ({' '.join(str(error).split())})") from error


def _advice(error: Exception) -> str:
    """The cause of an error, and what to do about it."""
    message = f"{type(error).__name__} {error}".lower()
    if "gated" in message or "401" in message or "403" in message:
        return (
            "the data set is gated or private. Accept its terms on its page, then set HF_TOKEN or run `hf auth login`."
        )
    if isinstance(error, ConnectionError) or "offline" in message or "reach" in message:
        return (
            "the hub cannot be reached. Check the network and that HF_HUB_OFFLINE is not set, "
            "or save the texts as files and use `source: files`."
        )
    if isinstance(error, FileNotFoundError):
        return (
            "there is no such data set or revision, or it is private. Check both names; set HF_TOKEN if it is private."
        )
    return "the data set cannot be read as asked. Check split and revision."
