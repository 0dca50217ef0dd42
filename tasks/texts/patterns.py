"""Patterns of files, such as `texts/*.txt`, below folders whose own names may hold `*`, `?` or `[`."""

import glob
from pathlib import Path


def match(path: Path) -> tuple[Path, list[Path]]:
    """What a pattern matches: the folder it begins in, and the paths found.

    The longest part of the path that exists means itself; only what follows is a pattern.
    """
    root = next((folder for folder in path.parents if folder.is_dir()), Path())
    pattern = str(path.relative_to(root))
    return root, [root / name for name in glob.glob(pattern, root_dir=root, recursive=True)]
