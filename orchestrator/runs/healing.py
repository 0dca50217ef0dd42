"""Sets aside what a run cannot use: files that are damaged, and folders that have the name of a file.

What the plan and the rows determine is written again by the session; what was set aside lies in `damaged/`.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from orchestrator.runs.directory import DAMAGED_FOLDER, REPORT_FILE, RUN_FILES, RUN_FOLDERS
from orchestrator.runs.record import PROVENANCE_FILE, SWEEP_FILE, read_provenance, read_sweep_file
from orchestrator.store.claims import LOCK_FILE, SESSION_FOLDER
from orchestrator.store.files import Files
from orchestrator.store.parquet import (
    SAMPLES_FILE,
    SEARCHES_FILE,
    DamagedFileError,
    read_samples,
    read_searches,
    read_table,
)
from orchestrator.store.schema import MEASURED, WRITTEN_BY
from orchestrator.store.snapshots import SNAPSHOT_FOLDER

READERS: Mapping[str, Callable[[Files], Any]] = {
    SWEEP_FILE: read_sweep_file,
    PROVENANCE_FILE: read_provenance,
    SAMPLES_FILE: read_samples,
    SEARCHES_FILE: read_searches,
    **{name: partial(read_table, name=name, schema=schema) for name, schema in MEASURED.items()},
}
"""File of a run -> its reader, which raises DamagedFileError."""
CONSEQUENCES = {
    SWEEP_FILE: "It was written again from its copy, or from the sweep that was given.",
    PROVENANCE_FILE: "It was written again from the plan, without the sessions before this one.",
    SAMPLES_FILE: "It is derived and was rewritten.",
    SEARCHES_FILE: "It is derived and was rewritten.",
    **{name: f"`{verb}` writes it again." for name, verb in WRITTEN_BY.items()},
}
"""File of a run -> what becomes of it after it was set aside."""


def clear_lock(files: Files) -> dict[str, str]:
    """Set aside a folder that has the lock's name and a file that has that of the claims: nobody could take the run.

    Returns a note on each name.
    """
    # Another session may be doing the same.
    with contextlib.suppress(FileNotFoundError):
        return set_aside_misplaced(files, names=(LOCK_FILE,), folders=(DAMAGED_FOLDER, SESSION_FOLDER))
    return {}


def set_aside_damaged(files: Files) -> dict[str, str]:
    """Move what is damaged, files of rows apart, to `damaged/`; returns a note on each name."""
    notes = set_aside_misplaced(files, folders=RUN_FOLDERS)
    snapshots = files.names(SNAPSHOT_FOLDER, suffix=".parquet")
    notes |= set_aside_misplaced(files, names=(*RUN_FILES, REPORT_FILE, *snapshots))
    for name, read in READERS.items():
        try:
            read(files)
        except DamagedFileError as error:
            if not error.absent:
                where = set_aside(files, name)
                notes[name] = f"{name} was damaged ({error.damage}): it is in {where} now. {CONSEQUENCES[name]}"
    return notes


def set_aside_misplaced(files: Files, *, names: Sequence[str] = (), folders: Sequence[str] = ()) -> dict[str, str]:
    """Move what has one of `names` and is no file, or one of `folders` and is no folder; returns a note on each."""
    if "://" in files.url:
        return {}  # in an object store, an object and a folder may share a name
    root = Path(files.url)
    notes = {}
    for name in folders:
        if (root / name).is_file() or _leads_nowhere(root / name):
            notes[name] = f"{name} was no folder: it is in {set_aside(files, name)} now."
    for name in names:
        if (root / name).exists() and not (root / name).is_file():
            note = f"{name} was no file: it is in {set_aside(files, name)} now. {CONSEQUENCES.get(name, '')}"
            notes[name] = note.strip()
    return notes


def _leads_nowhere(path: Path) -> bool:
    return path.is_symlink() and not path.exists()


def set_aside_rows(files: Files, damaged: list[DamagedFileError]) -> list[str]:
    """Move damaged files of rows to `damaged/`; returns a note about each."""
    return [
        f"{found.name} was damaged ({found.damage}): it is in {set_aside(files, found.name)} now. "
        "The probes it held run again."
        for found in damaged
    ]


def set_aside(files: Files, name: str) -> str:
    """Move a file or folder to `damaged/`, where it replaces nothing; returns its new name."""
    base = original = PurePosixPath(name).name
    number = 1
    if name == DAMAGED_FOLDER:
        # Out of its own way first.
        files.move(name, f"{DAMAGED_FOLDER}-file")
        name = f"{DAMAGED_FOLDER}-file"
    taken = {PurePosixPath(found).name for found in files.names(DAMAGED_FOLDER, suffix="")}
    while base in taken:
        number += 1
        base = f"{number}-{original}"
    files.move(name, f"{DAMAGED_FOLDER}/{base}")
    return f"{DAMAGED_FOLDER}/{base}"
