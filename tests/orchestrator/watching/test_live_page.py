"""A page is built when rows land and not otherwise, and stays when its run is damaged or gone."""

import shutil
import threading
from pathlib import Path

import pytest

from orchestrator.watching.live_page import LivePage
from orchestrator.watching.views import ListView, Page, RunsView

pytestmark = pytest.mark.usefixtures("no_page")


def contents(folder: Path) -> dict[Path, tuple[int, bytes]]:
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


def test_it_is_built_when_rows_land(runs, late, at_once):
    page = LivePage(RunsView([str(runs / "first")]))
    before = page.refresh()
    assert before.trouble is None
    assert before.summary.startswith("6 of 12 searches done")
    assert before.summary.endswith("nobody writes")
    assert page.refresh() == before
    path, content = late
    path.write_bytes(content)
    after = page.refresh()
    assert (after.built or 0) > (before.built or 0)
    assert after.summary.startswith("12 of 12 searches done")


def test_no_look_follows_another_at_once(runs, late, monkeypatch):
    monkeypatch.setattr("orchestrator.watching.live_page.LOOK_SECONDS", 600)
    page = LivePage(RunsView([str(runs / "first")]))
    before = page.refresh()
    path, content = late
    path.write_bytes(content)
    assert page.refresh() == before


def damage(run: Path) -> None:
    path = next((run / "probes").iterdir())
    path.with_name("torn-0123456789abcdef.parquet").write_bytes(path.read_bytes()[:-9])


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (damage, "damaged"),
        (shutil.rmtree, "not a run directory"),
        (lambda run: (run / "searches.parquet").write_bytes(b"x"), "searches.parquet: damaged"),
    ],
)
def test_trouble_is_told_and_the_page_stays_until_it_is_over(runs, at_once, harm, told):
    run = runs / "first"
    page = LivePage(RunsView([str(run)]))
    before = page.refresh()
    assert before.trouble is None
    harm(run)
    state = page.refresh()
    assert told in (state.trouble or "")
    assert state.built == before.built
    assert page.html() is not None
    shutil.rmtree(run, ignore_errors=True)
    shutil.copytree(runs / "second", run)
    assert page.refresh().trouble is None


def test_what_a_run_can_be_shown_without_is_a_note(runs, at_once):
    (runs / "first" / "sweep.yaml").write_bytes(b"\0")
    state = LivePage(RunsView([str(runs / "first")])).refresh()
    assert state.trouble is None
    assert "note: " in state.summary
    assert "sweep.yaml: damaged" in state.summary


def test_a_reader_does_not_wait_while_another_looks(at_once):
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
    before = page.refresh()
    assert before.summary == "2 runs"
    assert page.refresh() == before
    shutil.copytree(runs / "second", runs / "third")
    assert page.refresh().summary == "3 runs"
    assert page.refresh().built != before.built
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
