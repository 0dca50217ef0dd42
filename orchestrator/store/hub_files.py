"""A run that was pushed to the Hugging Face hub, read through huggingface_hub's cache; see `Files`.

Only pushes write to it (orchestrator/publishing/push.py): here, every write is refused.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

from orchestrator.errors import BadInput
from orchestrator.store.local_files import LocalFiles
from tasks.values import TaskError

HUB_PROTOCOL = "hf://"
KINDS = ("datasets", "models", "spaces", "buckets")
"""What may stand before an owner in hf:// addresses of huggingface_hub."""
ADDRESS = re.compile(r"hf://(?:datasets/)?(?P<name>(?P<owner>[\w.-]+)/[\w.-]+)(?:@(?P<revision>[^@\s]+))?/?")
FILES_OF_A_RUN = ("sweep.yaml", "provenance.json", "*.parquet")
"""What the tables are read from; cards, pictures and safetensors are not fetched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HubPlace:
    """A data set of the hub."""

    name: str
    """`owner/name`."""
    revision: str | None = None
    """Branch, tag or commit; None is the default branch."""

    @property
    def url(self) -> str:
        """As a user writes it."""
        return f"{HUB_PROTOCOL}{self.name}" + (f"@{self.revision}" if self.revision else "")


def is_on_hub(url: str) -> bool:
    """Whether a URL names a data set of the hub."""
    return url.startswith(HUB_PROTOCOL)


def hub_place(url: str) -> HubPlace:
    """The data set that `hf://owner/name[@revision]` names; raises BadInput for anything else."""
    found = ADDRESS.fullmatch(url)
    if found is None or found["owner"] in KINDS:
        raise BadInput(
            f"{url}: not a place of a run on the hub. Wanted hf://owner/name, or hf://datasets/owner/name, which is "
            "the same: runs are data sets there. @REVISION after it names a branch, a tag or a commit."
        )
    return HubPlace(name=found["name"], revision=found["revision"])


def pinned(url: str) -> str:
    """The address of a data set at the commit that it has now.

    Raises:
        BadInput: when `url` names no data set, or the hub does not tell its commit and the cache has none.
    """
    from tasks.hub import commit_of

    place = hub_place(url)
    try:
        return replace(place, revision=commit_of(place.name, place.revision, "data set")).url
    except TaskError as error:
        raise BadInput(f"{HUB_PROTOCOL}{error}") from error


class HubFiles:
    """The run's files at one commit, which the first call finds out and fetches as far as the cache lacks them."""

    def __init__(self, url: str) -> None:
        """Raises BadInput when `url` does not name a data set."""
        self._place = hub_place(url)
        self.url = self._place.url
        self._cached: LocalFiles | None = None

    def read(self, name: str) -> bytes:
        """The content of a file; raises FileNotFoundError when there is none of this name."""
        return self._files().read(name)

    def read_all(self, names: Sequence[str]) -> dict[str, bytes]:
        """The contents of those of these files that exist."""
        return self._files().read_all(names)

    def names(self, folder: str, *, suffix: str) -> list[str]:
        """Names in `folder`, sorted."""
        return self._files().names(folder, suffix=suffix)

    def exists(self, name: str) -> bool:
        """Whether there is a file of this name."""
        return self._files().exists(name)

    def write(self, name: str, content: bytes, *, may_write: Callable[[], None] | None = None) -> None:
        """Refuse."""
        self._refuse()

    def create(self, name: str, content: bytes) -> bool:
        """Refuse."""
        self._refuse()

    def move(self, name: str, to: str) -> None:
        """Refuse."""
        self._refuse()

    def remove(self, *names: str) -> None:
        """Refuse."""
        self._refuse()

    def remove_unfinished(self) -> None:
        """Refuse."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise BadInput(read_only(self.url))

    def _files(self) -> LocalFiles:
        if self._cached is None:
            from huggingface_hub import snapshot_download

            from tasks.hub import quietly, why_refused

            try:
                with quietly():
                    folder = snapshot_download(
                        self._place.name,
                        repo_type="dataset",
                        revision=self._place.revision,
                        allow_patterns=list(FILES_OF_A_RUN),
                    )
            except Exception as error:  # what an HTTP library raises below huggingface_hub depends on its version
                if why := why_refused(error, "data set"):
                    raise BadInput(f"{self.url}: {why}") from error
                raise OSError(f"{self.url}: {' '.join(str(error).split())[:200]}") from error
            self._cached = LocalFiles(Path(folder))
        return self._cached


def read_only(url: str) -> str:
    """The error message for a write to a run on the hub."""
    return f"{url}: a run on the hub is only read. `capsweep pull {url} --to DIR` makes a run directory of it."
