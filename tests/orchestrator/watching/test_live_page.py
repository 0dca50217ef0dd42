"""A page is built when rows land and not otherwise, and stays when its run is damaged or gone."""

import shutil
import threading
from pathlib import Path

import pytest

from orchestrator.watching.live_page import LivePage
from orchestrator.watching.views import ListView, Page, RunsView

pytestmark = pytest.mark.usefixtures("no_page")


def taken_out(run: Path) -> tuple[Path, bytes]:
    """The last file of rows, removed, and what it held."""
    path = sorted((run / "probes").iterdir())[-1]
    content = path.read_bytes()
    path.unlink()
    return path, content


def contents(folder: Path) -> dict[Path, tuple[int, bytes]]:
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


def test_it_is_built_when_rows_land(runs, at_once):
    path, content = taken_out(runs / "first")
    page = LivePage(RunsView([str(runs / "first")]))
    before = page.refresh()
    assert (before.version, before.trouble) == (1, None)
    assert "of 12 searches done" in before.summary
    assert before.summary.endswith("nobody writes")
    assert page.refresh() == before
    path.write_bytes(content)
    after = page.refresh()
    assert after.version == 2
    assert after.summary != before.summary
    assert after.summary.startswith("12 of 12 searches done")


def test_no_look_follows_another_at_once(runs):
    page = LivePage(RunsView([str(runs / "first")]))
    page.refresh()
    taken_out(runs / "first")
    assert page.refresh().version == 1


def damage(run: Path) -> None:
    path, content = taken_out(run)
    path.write_bytes(content[:-9])


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (damage, "damaged"),
        (shutil.rmtree, "not a run directory"),
        (lambda run: (run / "searches.parquet").write_bytes(b"x"), "searches.parquet: damaged"),
        (lambda run: (run / "sweep.yaml").write_bytes(b"\0"), None),
    ],
)
def test_trouble_is_told_and_the_page_stays_until_it_is_over(runs, at_once, harm, told):
    run = runs / "first"
    page = LivePage(RunsView([str(run)]))
    assert page.refresh().version == 1
    harm(run)
    state = page.refresh()
    if told is not None:
        assert told in (state.trouble or "")
        assert state.version == 1
    assert page.html() is not None
    shutil.rmtree(run, ignore_errors=True)
    shutil.copytree(runs / "second", run)
    assert page.refresh().trouble is None


def test_a_reader_does_not_wait_while_another_looks():
    class Slow:
        def __init__(self) -> None:
            self.begun, self.go_on = threading.Event(), threading.Event()
            self.go_on.set()

        def fingerprint(self) -> int:
            self.begun.set()
            assert self.go_on.wait(10)
            return 0

        def build(self) -> Page:
            return Page(html="", summary="built")

        def writers(self) -> str:
            return ""

    view = Slow()
    page = LivePage(view)
    page.refresh()
    page._next_look = 0.0
    view.go_on.clear()
    view.begun.clear()
    other = threading.Thread(target=page.refresh)
    other.start()
    assert view.begun.wait(10)
    assert page.refresh().summary == "built"
    view.go_on.set()
    other.join()


def test_the_list_changes_with_its_runs(runs, at_once):
    page = LivePage(ListView(str(runs)))
    assert page.refresh().summary == "2 runs"
    assert page.refresh().version == 1
    shutil.copytree(runs / "second", runs / "third")
    assert (page.refresh().version, page.refresh().summary) == (2, "3 runs")
    (runs / "third" / "provenance.json").write_bytes(b"x")
    state = page.refresh()
    assert (state.summary, state.trouble) == ("2 runs", None)
    assert "third" in (page.html() or "")
    shutil.rmtree(runs)
    assert page.refresh().summary == "0 runs"


def test_nothing_is_written(runs):
    before = contents(runs)
    for view in (RunsView([str(runs / "first"), str(runs / "second")]), ListView(str(runs))):
        assert LivePage(view).refresh().trouble is None
    assert contents(runs) == before
