"""Pages opened in a real browser: nothing of hostile texts and names runs, and what a reader clicks on works."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from orchestrator.report.details import BEYOND
from orchestrator.report.figures.canvas import ReportTables
from orchestrator.report.page import render_page
from tests.browser import Browser

pytestmark = pytest.mark.xdist_group("browser")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
BROWSER = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking")
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


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, capsweep: Callable[..., Any]) -> Path:
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
        ended = capsweep("run", folder / "hostile.yaml", "--inline", "--run-dir", run)
    assert ended.returncode == 0, ended.stderr
    return run / "report" / "index.html"


def test_without_a_browser_all_of_it_is_escaped(page: Path):
    html = page.read_text()
    for raw in (*TEXTS[:4], f"<img src=x onerror={PWN}>", "</script><script>doc"):
        assert raw not in html
    shown = unescape(re.sub(r"(?s)<script.*?</script>|<[^>]*>", "", html))
    assert [text for text in TEXTS if text not in shown] == []


def visit(page: Path, *flags: str) -> "subprocess.CompletedProcess[str]":
    """Its document once its scripts have run, and what it logged on its console."""
    logging = ("--enable-logging=stderr", "--v=0", f"--user-data-dir={page.parent / 'profile'}")
    command = [str(CHROMIUM), *BROWSER, *logging, *flags, "--dump-dom", page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (apt-get install chromium)")
class TestBrowser:
    @staticmethod
    def dom_of(page: Path) -> str:
        """The document as it stands once its scripts have run."""
        return visit(page, "--virtual-time-budget=20000").stdout

    def test_a_page_that_does_not_escape_is_caught(self, tmp_path: Path):
        (tmp_path / "open.html").write_text(f"<title>fine</title>{TEXTS[0]}")
        assert "<title>pwned</title>" in self.dom_of(tmp_path / "open.html")

    def test_the_figures_are_drawn_and_nothing_else_runs(self, page: Path, read: Callable[[str], Any]):
        dom = self.dom_of(page)
        assert "<title>hostile · capsweep</title>" in dom
        assert 'class="main-svg"' in dom
        tags = read(dom).tags
        assert not {"img", "b"} & {tag for tag, _ in tags}
        attributes = [attribute for _, given in tags for attribute in given.items()]
        assert not [name for name, _ in attributes if name.startswith("on")]
        assert not [value for name, value in attributes if name == "href" and "javascript:" in (value or "")]


ACTIONS = """
<script>
addEventListener("load", async () => {
  const wait = (ms) => new Promise((done) => setTimeout(done, ms));
  // Virtual time may be spent before another thread has unpacked or drawn a thing: wait for the element.
  const shown = async (selector) => {
    for (let i = 0; i < 300 && !document.querySelector(selector); i++) await wait(100);
    return document.querySelector(selector);
  };
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
  const dialog = document.getElementById("opened");
  await unpacked("details");  // takes as long as what was opened, in real time
  await shown("#opened .token");
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
  // Nobody scrolls: a page that is captured whole has all its figures.
  await shown("html[data-drawn]");
  state.drawn = plots.every((plot) => plot.querySelector(".main-svg"));
  state.image = decodeURIComponent(await imageOf(plots[0], "svg")).slice(0, 120);
  const inks = [document.querySelector("td"), await shown(".main-svg .xtick text"), dialog];
  const inkOf = (style) => light(style.fill === "rgb(0, 0, 0)" ? style.color : style.fill);
  state.inks = inks.map((element) => inkOf(getComputedStyle(element)));
  parent.postMessage(JSON.stringify(state), "*");
});
</script>
"""
VISITS = {"light": ("light", (360, 1440)), "other widths": ("light", (800, 1920)), "dark": ("dark", (360, 1440))}
"""By name: the colour scheme that the page is asked for in, and the widths of its windows in pixels."""
FRAME = '<iframe src="{page}" style="flex: none; width: {width}px; height: 1000px; border: 0"></iframe>'
FRAMES = """
<div style="display: flex">{frames}</div>
<script>
addEventListener("message", (event) => {{
  const made = document.createElement("pre");
  made.className = "state";
  made.textContent = event.data;
  document.body.append(made);
}});
</script>
"""
"""A window cannot be as narrow as a telephone; frames can, side by side in a window that shows them all."""


LOWERED = """dispatchEvent(new Event("beforeprint")),
Promise.all([...document.querySelectorAll(".js-plotly-plot")].map((plot) => Plotly.relayout(plot, {})))
  .then(() => true)"""
"""Draws the figures as they are printed; done when all are."""
OVERLAPS = """plots.map((plot) => {
  const [title, words] = [plot.querySelector(".annotation-text"), [...plot.querySelectorAll(".legendtext")]];
  const lowest = Math.max(...words.map((word) => word.getBoundingClientRect().bottom));
  return title && words.length ? [plot.closest("figure").id, lowest - title.getBoundingClientRect().top] : null;
}).filter(Boolean)"""
"""By how many pixels the legend of each figure reaches below the top of its first panel's title."""


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (apt-get install chromium)")
def test_no_legend_lies_on_the_title_of_a_panel_where_figures_are_lowered_to_be_printed(generated, tmp_path):
    page = tmp_path / "page.html"
    page.write_text(render_page(generated(24, 72), sweep_yaml="name: generated\n", provenance={}))
    with Browser(tmp_path / "profile") as browser:
        browser.window(720, 1000, "light")
        browser.visit(page.as_uri())
        browser.wait_for("document.documentElement && document.documentElement.dataset.drawn")
        browser.run(LOWERED)
        found = dict(browser.run(OVERLAPS))
    assert {"frontier-by-steps", "success-against-length", "scaling-with-vectors"} <= found.keys()
    assert {name: pixels for name, pixels in found.items() if pixels > 0} == {}


ANY = r"[-\d.]+"
CSV = {
    "capacity-per-model": (
        "series,capacity (tokens),capacity (tokens) low,capacity (tokens) high,y,colour,label",
        rf'"small, books, k = 1: mean",{ANY},{ANY},{ANY},small; books; k = 1,,{ANY}$',
    ),
    "bits-against-tokens": (
        "series,capacity (tokens),capacity (bits under the model),colour,label",
        rf'"small, stories, k = 1",{ANY},{ANY},,"stories:',
    ),
    "success-against-length": (
        "series,length (tokens),share,share low,share high,colour,label",
        rf'"small, stories, k = 1: starts lossless",{ANY},{ANY},{ANY},{ANY},,',
    ),
    "models-paired": (
        "series,difference (tokens),difference (tokens) low,difference (tokens) high,y,colour,label",
        rf"mean difference,{ANY},{ANY},{ANY},large; minus small; k = 1,,",
    ),
}
"""By figure: the head of its CSV, and a line that names its series, and how sure it is."""


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (apt-get install chromium)")
class TestInteraction:
    @pytest.fixture(scope="class")
    def small(self, generated: Callable[[int, int], ReportTables], tmp_path_factory: pytest.TempPathFactory) -> Path:
        html = render_page(generated(36, 108), sweep_yaml="name: generated\n", provenance={"generated": "yes"})
        page = tmp_path_factory.mktemp("small") / "page.html"
        page.write_text(html.replace("</body>", f"{ACTIONS}</body>"))
        return page

    @pytest.fixture(scope="class", params=list(VISITS))
    def states(self, small: Path, request: pytest.FixtureRequest) -> tuple[str, tuple[int, ...], dict[int, Any]]:
        """What each frame reports by its width, in one visit for all of them."""
        scheme, widths = VISITS[request.param]
        framing = small.parent / f"{request.param}.html"
        frames = [FRAME.format(page=small.name, width=width) for width in widths]
        framing.write_text(FRAMES.format(frames="".join(frames)))
        preferred = f"--blink-settings=preferredColorScheme={['dark', 'light'].index(scheme)}"
        ended = visit(framing, f"--window-size={sum(widths) + 200},1100", "--virtual-time-budget=60000", preferred)
        assert not [line for line in ended.stderr.splitlines() if "CONSOLE" in line]
        found = [json.loads(unescape(state)) for state in re.findall(r'<pre class="state">(.*?)</pre>', ended.stdout)]
        return scheme, widths, {state["width"]: state for state in found}

    def test_filter_sort_open_and_csv_work_without_an_error(self, states):
        scheme, widths, by_width = states
        assert sorted(by_width) == list(widths)
        for state in by_width.values():
            self.check(state, scheme)

    @staticmethod
    def check(state: dict[str, Any], scheme: str) -> None:
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
        assert state["drawn"], "a figure is drawn only once it is scrolled to"
        assert state["image"].startswith("data:image/svg+xml,<svg")
        assert state["wide"], f"the page is wider than its window of {state['width']} pixels"
        assert state["dark"] == (scheme == "dark")
        # Light on dark or dark on light, in tables, figures and what is opened: a hundred of 255 levels apart.
        contrasts = [(ink - state["paper"]) * (1 if state["dark"] else -1) for ink in state["inks"]]
        assert min(contrasts) > 100

    def test_two_thousand_searches_and_twenty_thousand_probes_are_below_eight_megabytes(self, generated, tmp_path):
        html = render_page(generated(2000, 20_000), sweep_yaml="name: generated\n", provenance={})
        assert len(html.encode()) < 8_000_000
        (tmp_path / "page.html").write_text(html)
        # In the browser's own time: a virtual one would measure nothing.
        ready = re.search(r'data-ready="(\d+)"', visit(tmp_path / "page.html").stdout)
        assert ready is not None
        # How soon depends on the machine and is seen by hand (pytest -s); here only that it gets there.
        print(f"{len(html.encode()):,} bytes; interactive {ready[1]} ms after the page was asked for")
