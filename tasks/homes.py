"""Paths and names as users give them: with `~` for a home, of a length that file systems hold, of a GGUF file."""

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


def names_gguf(name: str) -> bool:
    """Whether this is the name of a GGUF file, whether or not there is one."""
    return name.lower().endswith(".gguf")
