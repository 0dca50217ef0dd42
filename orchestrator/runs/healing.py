"""Sets aside what a run cannot use: files that are damaged, and folders that have the name of a file.

What the plan and the rows determine is written again by the session; what was set aside lies in `damaged/`.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from orchestrator.runs.directory import (
    DAMAGED_FOLDER,
    PROVENANCE_FILE,
    REPORT_FILE,
    RUN_FILES,
    RUN_FOLDERS,
    SWEEP_FILE,
    read_provenance,
    read_sweep_file,
)
from orchestrator.store.files import Files
from orchestrator.store.lock import LOCK_FILE
from orchestrator.store.parquet import (
    BITS_FILE,
    LINES_FILE,
    SAMPLES_FILE,
    SEARCHES_FILE,
    DamagedFileError,
    read_samples,
    read_searches,
    read_table,
)
from orchestrator.store.schema import BITS, LINES
from orchestrator.store.snapshots import SNAPSHOT_FOLDER

READERS: Mapping[str, Callable[[Files], Any]] = {
    SWEEP_FILE: read_sweep_file,
    PROVENANCE_FILE: read_provenance,
    SAMPLES_FILE: read_samples,
    SEARCHES_FILE: read_searches,
    BITS_FILE: lambda files: read_table(files, BITS_FILE, BITS),
    LINES_FILE: lambda files: read_table(files, LINES_FILE, LINES),
}
"""File of a run -> its reader, which raises DamagedFileError."""
CONSEQUENCES = {
    SWEEP_FILE: "It was written again from its copy, or from the sweep that was given.",
    PROVENANCE_FILE: "It was written again from the plan, without the sessions before this one.",
    SAMPLES_FILE: "It is derived and was rewritten.",
    SEARCHES_FILE: "It is derived and was rewritten.",
    BITS_FILE: "`capsweep measure` writes it again.",
    LINES_FILE: "`capsweep measure` writes it again.",
}
"""File of a run -> what becomes of it after it was set aside."""


def clear_lock(files: Files) -> None:
    """Set aside a folder that has the lock's name, which no session can hold and none could take."""
    if LOCK_FILE in dict(_misplaced(files)):
        # Another session may be doing the same.
        with contextlib.suppress(OSError):
            _move(files, LOCK_FILE)


def set_aside_damaged(files: Files) -> list[str]:
    """Move what is damaged, rows apart, to `damaged/`; returns a note about each."""
    notes: list[str] = []
    for name, found in list(_misplaced(files)):
        where = _move(files, name)
        notes.append(f"{name} was {found}: it is in {where} now. {CONSEQUENCES.get(name, '')}".rstrip())
    for name, read in READERS.items():
        try:
            read(files)
        except DamagedFileError as error:
            if not error.absent:
                where = _move(files, name)
                notes.append(f"{name} was damaged ({error.damage}): it is in {where} now. {CONSEQUENCES[name]}")
    return notes


def set_aside_rows(files: Files, damaged: list[DamagedFileError]) -> list[str]:
    """Move damaged files of rows to `damaged/`; returns a note about each."""
    return [
        f"{found.name} was damaged ({found.damage}): it is in {_move(files, found.name)} now. "
        "The probes it held run again."
        for found in damaged
    ]


def _misplaced(files: Files) -> Iterator[tuple[str, str]]:
    """Names that should be files and are not, or should be folders and are not, and what they are.

    In an object store, an object and a folder may share a name.
    """
    if "://" in files.url:
        return
    root = Path(files.url)
    for name in RUN_FOLDERS:
        if (root / name).is_file() or ((root / name).is_symlink() and not (root / name).exists()):
            yield name, "no folder"
    snapshots = [f"{SNAPSHOT_FOLDER}/{path.name}" for path in (root / SNAPSHOT_FOLDER).glob("*.parquet")]
    for name in (*RUN_FILES, REPORT_FILE, *snapshots):
        if (root / name).exists() and not (root / name).is_file():
            yield name, "no file"


def _move(files: Files, name: str) -> str:
    """Move a file or folder to `damaged/`, where it replaces nothing; returns its new name."""
    taken = {PurePosixPath(found).name for found in files.names(DAMAGED_FOLDER, suffix="")}
    base, number = PurePosixPath(name).name, 1
    while base in taken:
        number += 1
        base = f"{number}-{PurePosixPath(name).name}"
    if name == DAMAGED_FOLDER:
        # Out of its own way first.
        files.move(name, f"{DAMAGED_FOLDER}-file")
        name = f"{DAMAGED_FOLDER}-file"
    files.move(name, f"{DAMAGED_FOLDER}/{base}")
    return f"{DAMAGED_FOLDER}/{base}"
