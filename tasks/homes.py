"""Paths that begin with `~`, a home of this machine."""

from pathlib import Path


def expanded(path: Path) -> Path:
    """The path with a leading `~` or `~user` replaced; as it is where there is no such home, as shells leave it.

    A name may begin with `~`, too: editors call copies so.
    """
    try:
        return path.expanduser()
    except RuntimeError:
        return path
