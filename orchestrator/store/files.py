"""Named blobs of a run, in a local folder or an object store: each is durable and whole, or absent.

Knows nothing of rows, Parquet or searches.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from orchestrator.errors import BadInput
from orchestrator.store.hub_files import HubFiles, is_on_hub
from orchestrator.store.local_files import LocalFiles
from orchestrator.store.remote_files import RemoteFiles
from tasks.homes import LONGEST_NAME, expanded

LOCAL_PROTOCOLS = ("file://", "local://")


class Files(Protocol):
    """Blobs by relative name, with `/` between folders. A name means itself: `*`, `?` and `[` in it match nothing."""

    url: str
    """The root, as a user would write it."""

    def write(self, name: str, content: bytes, *, may_write: Callable[[], None] | None = None) -> None:
        """Write a blob, durable when this returns; a reader sees the old blob, if any, or the whole new one.

        `may_write` is called before anything is made and at the last moment; it raises if the blob must not appear.
        """
        ...

    def create(self, name: str, content: bytes) -> bool:
        """Write a blob if there is none of this name; returns whether it did. Of concurrent calls, one succeeds."""
        ...

    def read(self, name: str) -> bytes:
        """The content of a blob; raises FileNotFoundError when there is none of this name."""
        ...

    def read_all(self, names: Sequence[str]) -> dict[str, bytes]:
        """The contents of those of these blobs that exist, by name."""
        ...

    def names(self, folder: str, *, suffix: str) -> list[str]:
        """Names in `folder` that end in `suffix`, sorted; none if there is no such folder.

        Raises:
            OSError: when the folder cannot be listed.
        """
        ...

    def exists(self, name: str) -> bool:
        """Whether there is a blob of this name; raises OSError when that cannot be found out."""
        ...

    def move(self, name: str, to: str) -> None:
        """Give a blob another name."""
        ...

    def remove(self, *names: str) -> None:
        """Remove blobs; names without a blob are ignored."""
        ...

    def remove_unfinished(self) -> None:
        """Remove unfinished files of killed writers; a writer that is still alive fails to finish its write then."""
        ...


def open_files(url: str) -> Files:
    """A local folder, a data set of the hub, or whatever fsspec reaches under the URL's protocol.

    Raises:
        BadInput: when fsspec does not know the protocol here, the URL chains several or names no data set, or no folder
            can have the name.
    """
    if is_on_hub(url):
        return HubFiles(url)
    for protocol in LOCAL_PROTOCOLS:
        if url.startswith(protocol):
            return LocalFiles(Path(url.removeprefix(protocol)))
    if "://" in url:
        if "::" in url:
            # fsspec would drop what stands behind, and write two runs to one place.
            raise BadInput(f"{url}: '::' chains storages of fsspec. Wanted one folder or URL, without '::'.")
        try:
            return RemoteFiles(url)
        except (ValueError, ImportError) as error:
            raise BadInput(
                f"{url}: this storage cannot be reached ({error}). Wanted a folder, or a URL that fsspec knows; "
                "the extras s3 and gcs of capsweep bring those two."
            ) from error
    folder = expanded(Path(url))
    if any(len(os.fsencode(part)) > LONGEST_NAME for part in folder.parts):
        raise BadInput(f"{url}: a name in it has more than {LONGEST_NAME} bytes, which no folder may have. Shorten it.")
    return LocalFiles(folder)
