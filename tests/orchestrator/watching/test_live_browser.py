"""The live page in a real browser: it follows the files, and stays as its reader has left it."""

import re
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.browser import CHROMIUM, Browser

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.xdist_group("browser"),
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (apt-get install chromium)"),
]
PAGE = "document.querySelector('iframe:not(.coming)')?.contentDocument"
SIZES = {"desk": (1440, 1000), "phone": (380, 740)}


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with Browser(tmp_path / "profile") as browser:
        yield browser


def shows(words: str) -> str:
    return f"document.getElementById('summary')?.textContent.includes({words!r}) && !!{PAGE}?.querySelector('h1')"


LEAVE = f"""(async () => {{
  const page = {PAGE};
  const filter = page.getElementById("filter");
  filter.value = "txt"; filter.dispatchEvent(new Event("input"));
  page.querySelectorAll(".sortable th button")[2].click();
  [...page.querySelectorAll("button.open")].at(-1).click();
  const isOpen = () => page.querySelector("#opened .token");
  for (let i = 0; i < 100 && !isOpen(); i++) await new Promise((done) => setTimeout(done, 50));
  page.querySelector("input[value=margins]").click();
  page.getElementById("searches").scrollIntoView({{ behavior: "instant" }});
  page.defaultView.scrollBy({{ top: 40, behavior: "instant" }});
}})()"""
"""What a reader does: filters, sorts, opens a search, colours it, scrolls."""
LEFT = f"""(() => {{
  const page = {PAGE};
  const heads = [...page.querySelectorAll("th[aria-sort]")];
  return {{
    filter: page.getElementById("filter").value,
    sorted: heads.map((head) => [head.textContent, head.getAttribute("aria-sort")]),
    opened: page.querySelector("dialog").open && page.getElementById("opened-title").textContent,
    coloured: page.querySelector("input[name=colouring]:checked").value,
    searches: Math.round(page.getElementById("searches").getBoundingClientRect().top),
    frames: document.querySelectorAll("iframe").length,
    fits: [document, page].every((one) => one.documentElement.scrollWidth <= one.defaultView.innerWidth),
    dark: getComputedStyle(page.body).backgroundColor,
    undrawn: [...page.querySelectorAll(".plot")].filter((plot) => {{
      const {{ top, bottom }} = plot.getBoundingClientRect();
      return bottom > 0 && top < page.defaultView.innerHeight && !plot.querySelector(".main-svg");
    }}).length,
  }};
}})()"""


@pytest.mark.parametrize(
    ("size", "scheme"), [("desk", "light"), ("phone", "light"), ("desk", "dark"), ("phone", "dark")]
)
def test_rows_land_and_the_reader_keeps_the_place(runs, late, served, browser, at_once, size, scheme):
    browser.window(*SIZES[size], scheme)
    with served(str(runs)) as address:
        browser.visit(f"{address}?run=first")
        browser.wait_for(shows("6 of 12 searches done"))
        browser.run(LEAVE)
        before: dict[str, Any] = browser.run(LEFT)
        assert before["filter"] == "txt"
        assert before["opened"]
        assert before["sorted"][0][1] == "descending"
        late[0].write_bytes(late[1])
        browser.wait_for(shows("12 of 12 searches done"))
        after = browser.run(LEFT)
    assert after == before
    assert (after["frames"], after["fits"], after["undrawn"]) == (1, True, 0)
    light = sum(map(int, re.findall(r"\d+", after["dark"])[:3])) / 3
    assert (light < 60) == (scheme == "dark")
    assert browser.errors == []


def test_what_is_held_or_selected_stays(runs, late, served, browser, at_once):
    with served(str(runs / "first")) as address:
        browser.visit(address)
        browser.wait_for(shows("6 of 12 searches done"))
        browser.run("document.getElementById('hold').click()")
        browser.run(f"Object.assign({PAGE}.body.dataset, {{ mine: 'yes' }})")
        late[0].write_bytes(late[1])
        # The state is told all the same.
        browser.wait_for(shows("12 of 12 searches done"))
        assert browser.run(f"{PAGE}.body.dataset.mine") == "yes"
        browser.run(f"{PAGE}.getSelection().selectAllChildren({PAGE}.querySelector('h1'))")
        browser.run("document.getElementById('hold').click()")
        time.sleep(3)
        assert browser.run(f"{PAGE}.body.dataset.mine") == "yes"
        browser.run(f"{PAGE}.getSelection().removeAllRanges()")
        browser.wait_for(f"{PAGE}.body.dataset.mine !== 'yes'")
    assert browser.errors == []


def test_the_list_leads_to_runs_and_to_several_together(runs, late, served, browser, at_once):
    browser.window(*SIZES["phone"], "light")
    with served(str(runs)) as address:
        browser.visit(address)
        browser.wait_for(shows("2 runs"))
        assert browser.run(f"{PAGE}.getElementById('compare').disabled")
        browser.run(f"{PAGE}.querySelectorAll('input[name=run]').forEach((box) => box.click())")
        shutil.copytree(runs / "second", runs / "third")
        browser.wait_for(shows("3 runs"))
        assert browser.run(f"{PAGE}.querySelectorAll('input[name=run]:checked').length") == 2
        assert browser.run(f"{PAGE}.documentElement.scrollWidth <= innerWidth")
        browser.run(f"{PAGE}.getElementById('compare').click()")
        browser.wait_for(shows("18 of 24 searches done"))
        assert browser.run("document.title") in ("first and second · capsweep", "second and first · capsweep")
        browser.run("document.querySelector('.strip a').click()")
        browser.wait_for(shows("3 runs"))
        browser.run(f"{PAGE}.querySelector('h3 a').click()")
        browser.wait_for(shows("12 of 12 searches done"))
    assert browser.errors == []


def test_a_damaged_run_and_a_server_that_ends_are_told(runs, served, browser, at_once):
    with ExitStack() as stack:
        address = stack.enter_context(served(str(runs)))
        browser.visit(f"{address}?run=first")
        browser.wait_for(shows("12 of 12 searches done"))
        shutil.rmtree(runs / "first")
        browser.wait_for(shows("not a run directory"))
        assert "trouble" in browser.run("document.getElementById('strip').className")
    browser.wait_for(shows("The server does not answer"))
    assert browser.run(f"{PAGE}.querySelectorAll('.sortable tbody tr').length") == 12
