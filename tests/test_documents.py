"""Documents: lines that fit, and links that lead somewhere."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("sweeps/**/*.md")])
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]*))?\)")
UNWRAPPED = ("|", "    ", "![")
"""How lines begin that cannot be broken: rows of tables, code and pictures."""


def anchors(document: Path) -> set[str]:
    """Anchors of the headings of a document, as GitHub names them."""
    text = document.read_text()
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    named = re.findall(r'<a name="(.*)">', text)
    return {*named, *(re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings)}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
class TestDocument:
    def test_has_lines_of_120_columns_at_most(self, document: Path):
        lines = enumerate(document.read_text().splitlines(), start=1)
        long = [number for number, line in lines if len(line) > 120 and not line.startswith(UNWRAPPED)]
        assert long == []

    def test_has_links_that_lead_somewhere(self, document: Path):
        for name, anchor in LINK.findall(document.read_text()):
            target = document.parent / name if name else document
            assert target.exists(), name
            if anchor:
                assert anchor in anchors(target), f"{name}#{anchor}"
