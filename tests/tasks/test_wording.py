"""Every count that is shown has its plural."""

import re
from pathlib import Path

import pytest

from tasks.wording import counted

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("number", "words", "shown"),
    [
        (0, ("search",), "0 searches"),
        (1, ("finished search",), "1 finished search"),
        (2, ("memory",), "2 memories"),
        (1, ("memory",), "1 memory"),
        (3, ("day",), "3 days"),
        (1_000, ("probe",), "1,000 probes"),
        (1, ("search is", "searches are"), "1 search is"),
        (2, ("search is", "searches are"), "2 searches are"),
    ],
)
def test_a_count_with_its_noun(number, words, shown):
    assert counted(number, *words) == shown


NOUNS = "searches|probes|texts|memories|engines|trials|sessions|runs|figures|points|vectors|recipes|models|slots"
PLURAL_AFTER_A_NUMBER = re.compile(rf"\{{(?:len|sum|num_|[\w.]*\.num_)[^{{}}]*\}} (?:\w+ )?(?:{NOUNS})\b")


def test_no_message_puts_a_plural_after_a_number_of_its_own():
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for package in ("orchestrator", "tasks")
        for path in (ROOT / package).rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if PLURAL_AFTER_A_NUMBER.search(line)
    ]
    assert not found
