"""Pages opened in a real browser: nothing of hostile texts and names runs, and what a reader clicks on works."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestrator import cli
from orchestrator.report.canvas import ReportTables
from orchestrator.report.details import BEYOND
from orchestrator.report.page import render_page

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


ACTIONS = """
<script>
addEventListener("load", async () => {
  const wait = (ms) => new Promise((done) => setTimeout(done, ms));
  const state = {};
  await wait(500);
  const filter = document.getElementById("filter");
  filter.value = "books";
  filter.dispatchEvent(new Event("input"));
  state.filtered = document.querySelector("output[for=filter]").textContent;
  state.hidden = [...document.querySelectorAll(".sortable tbody tr")].filter((row) => row.hidden).length;
  filter.value = ""; filter.dispatchEvent(new Event("input"));
  document.querySelectorAll(".sortable th button")[3].click();
  const tokens = [...document.querySelectorAll(".sortable tbody tr")].map((row) => Number(row.cells[3].textContent));
  state.sorted = tokens.every((value, i) => i === 0 || tokens[i - 1] >= value);
  document.querySelector("button.open").click();
  await wait(1500);
  const dialog = document.getElementById("opened");
  state.open = dialog.open;
  state.tokens = dialog.querySelectorAll(".token").length;
  state.coloured = [...dialog.querySelectorAll(".token")].filter((token) => token.style.backgroundColor).length;
  state.boundary = dialog.querySelectorAll(".boundary").length;
  state.probes = dialog.querySelectorAll("rect").length;
  state.title = dialog.querySelector(".token").title;
  document.querySelector("input[value=margins]").click();
  state.scale = document.getElementById("opened-scale").textContent;
  const lines = (plot) => csvOf(described(plot)).trim().split("\\n");
  state.csv = Object.fromEntries(plots.map((plot) => [plot.closest("figure").id, lines(plot)]));
  state.wide = document.documentElement.scrollWidth <= innerWidth;
  state.dark = matchMedia("(prefers-color-scheme: dark)").matches;
  state.width = innerWidth;
  const light = (colour) => colour.match(/\\d+/g).slice(0, 3).reduce((sum, part) => sum + Number(part), 0) / 3;
  state.paper = light(getComputedStyle(document.body).backgroundColor);
  dialog.close();
  plots[0].scrollIntoView();
  for (let i = 0; i < 300 && !document.querySelector(".main-svg .xtick text"); i++) await wait(100);
  const inks = [document.querySelector("td"), document.querySelector(".main-svg .xtick text"), dialog];
  const inkOf = (style) => light(style.fill === "rgb(0, 0, 0)" ? style.color : style.fill);
  state.inks = inks.map((element) => inkOf(getComputedStyle(element)));
  parent.postMessage(JSON.stringify(state), "*");
});
</script>
"""
FRAME = """
<iframe src="{page}" style="width: {width}px; height: 1000px; border: 0"></iframe>
<script>
addEventListener("message", (event) => {{
  const made = document.createElement("pre");
  made.id = "state";
  made.textContent = event.data;
  document.body.append(made);
}});
</script>
"""
"""A window cannot be as narrow as a telephone; a frame can."""
BROWSER = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking")


ANY = r"[-\d.]+"
CSV = {
    "capacity-per-model": (
        "series,capacity (tokens),capacity (tokens) low,capacity (tokens) high,y,colour,label",
        rf'"small, books, k = 1: mean",{ANY},{ANY},{ANY},small; books; k = 1,,',
    ),
    "bits-against-tokens": (
        "series,capacity (tokens),capacity (bits under the model),colour,label",
        rf'"small, stories, k = 1",{ANY},{ANY},,"stories:',
    ),
    "success-against-length": (
        "series,length (tokens),share,share low,share high,colour,label",
        rf'"small, stories, k = 1: probes lossless",{ANY},{ANY},{ANY},{ANY},,',
    ),
    "models-paired": (
        "series,difference (tokens),difference (tokens) low,difference (tokens) high,y,colour,label",
        rf"mean difference,{ANY},{ANY},{ANY},large; less small; k = 1,,",
    ),
}
"""By figure: the head of its CSV, and a line that names its series, and how sure it is."""


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (apt-get install chromium)")
class TestInteraction:
    @staticmethod
    def visit(page: Path, *flags: str) -> "subprocess.CompletedProcess[str]":
        """Its document once its scripts have run, and what it logged on its console."""
        logging = ("--enable-logging=stderr", "--v=0", f"--user-data-dir={page.parent / 'profile'}")
        command = [str(CHROMIUM), *BROWSER, *logging, *flags, "--dump-dom", page.as_uri()]
        return subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)

    @pytest.fixture(scope="class")
    def small(self, generated: Callable[[int, int], ReportTables], tmp_path_factory: pytest.TempPathFactory) -> Path:
        html = render_page(generated(36, 108), sweep_yaml="name: generated\n", provenance={"generated": "yes"})
        page = tmp_path_factory.mktemp("small") / "page.html"
        page.write_text(html.replace("</body>", f"{ACTIONS}</body>"))
        return page

    @pytest.mark.parametrize(
        ("width", "scheme"),
        [(360, "light"), (800, "light"), (1440, "light"), (1920, "light"), (360, "dark"), (1440, "dark")],
    )
    def test_filter_sort_open_and_csv_work_without_an_error(self, small, width, scheme):
        frame = small.parent / f"{width}-{scheme}.html"
        frame.write_text(FRAME.format(page=small.name, width=width))
        preferred = f"--blink-settings=preferredColorScheme={('dark', 'light').index(scheme)}"
        ended = self.visit(frame, f"--window-size={width + 200},1100", "--virtual-time-budget=60000", preferred)
        assert not [line for line in ended.stderr.splitlines() if "CONSOLE" in line]
        found = re.search(r'<pre id="state">(.*?)</pre>', ended.stdout)
        assert found is not None
        state = json.loads(unescape(found[1]))
        assert (state["filtered"], state["hidden"]) == ("12 of 36", 24)
        assert state["sorted"]
        assert state["open"]
        assert state["coloured"] > 0
        assert state["tokens"] == state["coloured"] + BEYOND
        assert (state["boundary"], state["probes"]) == (1, 3)
        assert "0.25 nats with memory, 2.5 without memory, 1.5 margin" in state["title"]
        assert "bluer" in state["scale"]
        assert len(state["csv"]["capacity-per-model"]) > 36
        for name, (head, mean) in CSV.items():
            assert state["csv"][name][0] == head, name
            assert any(re.match(mean, line) for line in state["csv"][name]), name
        assert state["width"] == width
        assert state["wide"], "the page is wider than its window"
        assert state["dark"] == (scheme == "dark")
        # Light on dark or dark on light, in tables, figures and what is opened: a hundred of 255 levels apart.
        contrasts = [(ink - state["paper"]) * (1 if state["dark"] else -1) for ink in state["inks"]]
        assert min(contrasts) > 100

    def test_two_thousand_searches_and_twenty_thousand_probes_are_below_eight_megabytes(self, generated, tmp_path):
        html = render_page(generated(2000, 20_000), sweep_yaml="name: generated\n", provenance={})
        assert len(html.encode()) < 8_000_000
        (tmp_path / "page.html").write_text(html)
        # In the browser's own time: a virtual one would measure nothing.
        ready = re.search(r'data-ready="(\d+)"', self.visit(tmp_path / "page.html").stdout)
        assert ready is not None
        # How soon depends on the machine and is seen by hand (pytest -s); here only that it gets there.
        print(f"{len(html.encode()):,} bytes; interactive {ready[1]} ms after the page was asked for")
