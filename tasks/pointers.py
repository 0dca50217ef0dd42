"""Recognizes Git LFS pointers: small text files that stand where `git lfs pull` would put the real ones."""

from pathlib import Path

START = b"version https://git-lfs.github.com/spec/"


def is_pointer(path: Path) -> bool:
    """Whether the file is a Git LFS pointer."""
    with path.open("rb") as file:
        return file.read(len(START)) == START


def pull(path: Path) -> str:
    """One line about a pointer: what was found, what was wanted, what to do."""
    return (
        f"{path}: a Git LFS pointer, a few lines that name the file; wanted the file itself. Run `git lfs pull` in its "
        "repository, or download the file."
    )
