"""The page of a run with hostile texts and names, opened in a real browser: nothing of them runs."""

import re
import shutil
import subprocess
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestrator import cli

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PWN = "document.title='pwned'"
TEXTS = [
    f"<script>{PWN}</script>",
    f"</script><script>{PWN}</script>",
    f'<img src=x onerror="{PWN}">',
    f"\"'><svg onload={PWN}>",
    f'<a href="javascript:{PWN}">x</a> <b>bold</b>',
    f"{{{{ {PWN} }}}} ${{{PWN}}} <!--",
]
NAMES = ["<", f"<img src=x onerror={PWN}>", f'" onmouseover="{PWN}', "a&lt;b", f"';{PWN};'"]
"""Names of files hold no slash; the folder below gives them one: `</script>` is a folder `<` and a file `script>`."""


class Elements(HTMLParser):
    """The elements of a document, each with its attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, list[tuple[str, str | None]]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, attrs))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a run of such texts."""
    folder = tmp_path_factory.mktemp("hostile")
    for number, text in enumerate(TEXTS):
        name = NAMES[number] if number < len(NAMES) else "plain"
        (folder / "texts" / "<").mkdir(parents=True, exist_ok=True)
        (folder / "texts" / "<" / f"script>{name}.txt").write_text(text)
    (folder / "hostile.yaml").write_text(
        f'name: hostile\ntask: toy\nmodels: ["</script><img src=x onerror={PWN}>"]\n'
        "texts: [{source: files, path: 'texts/*/*.txt'}]\n"
    )
    run = folder / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tasks.toy.toy_capacity", lambda tokens: 100)  # the page shows what was given back: all of it
        ended = CliRunner().invoke(cli.app, ["run", str(folder / "hostile.yaml"), "--inline", "--run-dir", str(run)])
    assert ended.exit_code == 0, ended.output
    return run / "report" / "index.html"


def test_without_a_browser_all_of_it_is_escaped(page: Path):
    html = page.read_text()
    for raw in (*TEXTS[:4], f"<img src=x onerror={PWN}>", "</script><script>doc"):
        assert raw not in html
    shown = unescape(re.sub(r"(?s)<script.*?</script>|<[^>]*>", "", html))
    assert [text for text in TEXTS if text not in shown] == []


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (apt-get install chromium)")
class TestBrowser:
    @staticmethod
    def dom_of(page: Path) -> str:
        """The document as it stands once its scripts have run."""
        flags = (
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            "--virtual-time-budget=20000",
        )
        command = [str(CHROMIUM), *flags, f"--user-data-dir={page.parent / 'profile'}", "--dump-dom", page.as_uri()]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout

    def test_a_page_that_does_not_escape_is_caught(self, tmp_path: Path):
        (tmp_path / "open.html").write_text(f"<title>fine</title>{TEXTS[0]}")
        assert "<title>pwned</title>" in self.dom_of(tmp_path / "open.html")

    def test_the_figures_are_drawn_and_nothing_else_runs(self, page: Path):
        dom = self.dom_of(page)
        assert "<title>hostile · capsweep</title>" in dom
        assert 'class="main-svg"' in dom
        elements = Elements()
        elements.feed(dom)
        assert not {"img", "b"} & {tag for tag, _ in elements.found}
        attributes = [attribute for _, given in elements.found for attribute in given]
        assert not [name for name, _ in attributes if name.startswith("on")]
        assert not [value for name, value in attributes if name == "href" and "javascript:" in (value or "")]
