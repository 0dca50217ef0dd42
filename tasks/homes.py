"""Paths as users give them: with `~` for a home of this machine, and with names that a file system can hold."""

from pathlib import Path

LONGEST_NAME = 255
"""Most bytes of a file name on common file systems; hub ids are shorter."""


def expanded(path: Path) -> Path:
    """The path with a leading `~` or `~user` replaced; as it is where there is no such home, as shells leave it.

    A name may begin with `~`, too: editors call copies so.
    """
    try:
        return path.expanduser()
    except RuntimeError:
        return path
