"""A journal that a kill or a disk has damaged: what its whole lines hold is kept, the rest is tried again."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.store.held import LostLockError
from orchestrator.store.local_files import LocalFiles
from orchestrator.tuning.journal import JOURNAL_FILE, OPTUNAS_LOCK, mend_journal
from orchestrator.tuning.study import RESULTS, RecipeStudy
from tests.orchestrator.tuning.test_study import OWN, RANGES, TEXTS, reached

LINE = json.dumps({"op_code": 4, "worker_id": "w", "trial_id": 99, "param_name": "rate"}).encode() + b"\n"


def open_study(folder: Path, check: Callable[[], None] = lambda: None) -> RecipeStudy:
    return RecipeStudy(folder, "model", recipe=OWN, ranges=RANGES, texts=TEXTS, check=check)


@pytest.fixture
def journal(tmp_path) -> Path:
    """The journal of a study with one trial that has ended and one that has not."""
    study = open_study(tmp_path)
    study.note("inputs", ["a", "b"])
    trial = study.ask()
    study.report(trial, 0, reached([20, 30, 25, 18, 40, 33, 21, 27]))
    study.end(trial, pruned=False)
    study.ask()
    return tmp_path / JOURNAL_FILE


def torn(content: bytes) -> bytes:
    return content[:-5]


TAILS: dict[str, Callable[[bytes], bytes]] = {
    "torn": torn,
    "torn, then written to": lambda content: torn(content) + LINE + LINE,
    "zeros, as after a power cut": lambda content: content + bytes(100),
    "garbage": lambda content: content + b"\xff\xfe garbage\n\n",
    "a line of another program": lambda content: content + b'{"a": 1}\n',
    "a number": lambda content: content + b"17\n",
    "brackets": lambda content: content + b"[" * 100_000 + b"\n",
    "an empty line": lambda content: content + b"\n",
}


@pytest.mark.parametrize("tail", TAILS)
def test_a_damaged_end_costs_only_itself(journal, tail):
    journal.write_bytes(TAILS[tail](journal.read_bytes()))
    damaged = journal.read_bytes()
    (note,) = mend_journal(LocalFiles(journal.parent))
    assert "lines are kept" in note
    assert (journal.parent / "damaged" / JOURNAL_FILE).read_bytes() == damaged
    study = open_study(journal.parent)
    assert study.study.trials[0].state in RESULTS
    assert study.attribute("inputs") == ["a", "b"]
    assert study.ask().number > 1
    assert mend_journal(LocalFiles(journal.parent)) == []


HEADS: dict[str, Callable[[bytes], bytes]] = {
    "emptied": lambda content: b"",
    "cut in the middle": lambda content: content[: len(content) // 2],
    "cut in the first line": lambda content: content[:10],
    "garbage": lambda content: b"\xff\x00garbage" * 9,
    "lines of trials that were never begun": lambda content: LINE * 3,
    "without its first lines": lambda content: content[content.index(b"\n") + 1 :],
}


@pytest.mark.parametrize("head", HEADS)
def test_what_is_left_can_be_gone_on_with(journal, head):
    journal.write_bytes(HEADS[head](journal.read_bytes()))
    mend_journal(LocalFiles(journal.parent))
    study = open_study(journal.parent)
    trial = study.ask()
    study.report(trial, 0, reached([1] * 8))
    study.end(trial, pruned=False)
    assert len(open_study(journal.parent).results) >= 1


def test_a_whole_one_is_left_alone(journal):
    before = journal.read_bytes()
    assert mend_journal(LocalFiles(journal.parent)) == []
    assert journal.read_bytes() == before
    journal.unlink()
    assert mend_journal(LocalFiles(journal.parent)) == []


def test_a_lock_that_a_killed_session_left_keeps_nobody_waiting(journal, monkeypatch):
    (journal.parent / OPTUNAS_LOCK).symlink_to(journal)

    def wait(seconds: float) -> None:
        raise AssertionError("it waits for a lock that nobody holds")

    monkeypatch.setattr("time.sleep", wait)
    mend_journal(LocalFiles(journal.parent))
    open_study(journal.parent).note("name", 1)
    assert not (journal.parent / OPTUNAS_LOCK).is_symlink()


def test_a_session_that_has_lost_the_folder_adds_nothing(journal):
    lost: list[int] = []

    def check() -> None:
        if lost:
            raise LostLockError("lost")

    study = open_study(journal.parent, check)
    lost.append(1)
    before = journal.read_bytes()
    for change in (lambda: study.note("name", 1), study.ask):
        with pytest.raises(LostLockError):
            change()
    assert journal.read_bytes() == before
