"""Optuna's journal as a file of a tuning: whole before it is opened, and written by the one session that holds it.

Knows nothing of trials or recipes.
"""

import json
from collections.abc import Callable
from pathlib import Path

from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.storages.journal._file import BaseJournalFileLock

from orchestrator.runs.directory import DAMAGED_FOLDER
from orchestrator.store.files import Files

JOURNAL_FILE = "study.journal"
OPTUNAS_LOCK = f"{JOURNAL_FILE}.lock"
"""Left by an earlier version that was killed while it wrote; Optuna waits 30 s for it."""


class _Guard(BaseJournalFileLock):
    """In place of Optuna's own lock, which a kill leaves behind: the session has the lock of the whole folder."""

    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check

    def acquire(self) -> bool:
        """Raise LostLockError if the session has lost the folder."""
        self._check()
        return True

    def release(self) -> None:
        """Do nothing."""


def open_journal(folder: Path, check: Callable[[], None]) -> JournalStorage:
    """The storage of all studies in this folder; `check` raises when this session must not write to it."""
    return JournalStorage(JournalFileBackend(str(folder / JOURNAL_FILE), lock_obj=_Guard(check)))


def mend_journal(files: Files) -> list[str]:
    """Cut the journal before its first damaged line, such as one that a kill has torn; returns a note about it.

    Each line only adds to those before it, so what is left is the state of an earlier moment.
    """
    files.remove(OPTUNAS_LOCK)
    if not files.exists(JOURNAL_FILE):
        return []
    content = files.read(JOURNAL_FILE)
    whole = _whole_lines(content)
    if whole == content and _can_be_replayed(files):
        return []
    files.write(f"{DAMAGED_FOLDER}/{JOURNAL_FILE}", content)
    files.write(JOURNAL_FILE, whole)
    if not _can_be_replayed(files):
        whole = b""
        files.write(JOURNAL_FILE, whole)
    kept, found = whole.count(b"\n"), len(content.splitlines())
    return [
        f"{JOURNAL_FILE} was damaged: {kept} of its {found} lines are kept, the whole is in {DAMAGED_FOLDER}/ now. "
        "Trials that only the other lines held run again."
    ]


def _whole_lines(content: bytes) -> bytes:
    """The lines before the first that is not as Optuna writes them."""
    end = 0
    for line in content.splitlines(keepends=True):
        try:
            is_whole = line.endswith(b"\n") and "op_code" in dict(json.loads(line))
        except (ValueError, TypeError, RecursionError):
            is_whole = False
        if not is_whole:
            break
        end += len(line)
    return content[:end]


def _can_be_replayed(files: Files) -> bool:
    try:
        open_journal(Path(files.url), lambda: None)
    except Exception:  # Optuna raises whatever its code meets
        return False
    return True
