"""The text source `hub`: the first texts of a data set on the Hugging Face hub, streamed."""

import tempfile
from collections.abc import Iterator
from itertools import islice
from typing import Annotated, Any, Literal, Self

from pydantic import Field

from tasks.contract import Reader
from tasks.texts import AT_COMMIT, Commit, Samples, TextEntry
from tasks.values import TaskError, Text

Name = Annotated[str, Field(min_length=1)]


class HubSource(TextEntry, frozen=True):
    """Texts from one column of one split of a data set; only as many rows are fetched as `samples` needs."""

    source: Literal["hub"] = "hub"
    dataset: Name
    """Hub id, such as `yurakuratov/pg19_valid_1k_chunks`."""
    config: Name | None = None
    """Configuration (subset) of the data set; null takes its default."""
    split: Name = "train"
    """Split of the data set."""
    column: Name = "text"
    """Column that holds the text."""
    revision: str | None = None
    """Branch, tag or commit; null takes the default branch."""
    commit: Commit | None = None
    """Commit of the data set; null: what `revision` names when a run begins. The run's sweep keeps it, and every later
    session reads that commit, even if the branch has moved."""
    samples: Samples | None = None
    """How many texts to take, from the first; null takes all."""

    def read(self, reader: Reader | None = None) -> list[Text]:
        """The first `samples` texts in the data set's order.

        Raises:
            TaskError: when the split is empty, a row has no text, or the data set cannot be read.
        """
        texts = list(islice(self.pinned()._texts(), self.samples))
        if not texts:
            raise TaskError(f"{self._where}: the split is empty. Choose another split.")
        return texts

    def pinned(self) -> Self:
        """This entry with its commit."""
        if self.commit is not None:
            return self
        # Imported here because the import takes half a second.
        from tasks.hub import commit_of

        return self.model_copy(update={"commit": commit_of(self.dataset, self.revision, "data set")})

    def commit_read(self) -> str | None:
        """The commit, once the entry is pinned."""
        return self.commit

    def pin_note(self) -> str:
        """The commit, unless the entry names it as its revision."""
        return "" if self.revision == self.commit else f"{self.dataset} {AT_COMMIT.format(commit=self.commit)}"

    @property
    def _where(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        config = f"/{self.config}" if self.config else ""
        return f"hub:{self.dataset}{revision}{config}/{self.split}"

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
        from huggingface_hub import constants

        from tasks.hub import refusal_of, why_refused

        # `hf://`: a folder of this name on this machine is not the data set. A folder for caches that is empty: where
        # the hub does not answer, datasets takes any version that its cache has.
        with tempfile.TemporaryDirectory(prefix="capsweep-texts-") as empty:
            try:
                rows: Any = datasets.load_dataset(
                    self._snapshot() if constants.is_offline_mode() else f"hf://datasets/{self.dataset}",
                    self.config,
                    split=self.split,
                    revision=self.commit,
                    streaming=True,
                    cache_dir=empty,
                )
                yield from rows
            except Exception as error:  # three libraries raise a dozen classes
                # datasets may drop the hub's error that led to its own.
                refused = why_refused(error, "data set") or (
                    (of_hub := refusal_of(self.dataset, self.commit, "data set")) and why_refused(of_hub, "data set")
                )
                message = " ".join(str(error).split())
                why = refused or f"the data set cannot be read as asked ({message}). Check config, split and revision."
                raise TaskError(f"{self._where}: {why}") from error

    def _snapshot(self) -> str:
        """The folder of the hub's cache that holds the whole data set at its commit."""
        from huggingface_hub import get_cached_repo_tree, snapshot_download

        # Raises if the cache has single files alone: then nobody knows which ones are missing.
        get_cached_repo_tree(self.dataset, repo_type="dataset", revision=self.commit)
        return snapshot_download(self.dataset, repo_type="dataset", revision=self.commit, local_files_only=True)
