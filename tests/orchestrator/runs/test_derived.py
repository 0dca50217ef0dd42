"""The searches table says what plan and rows say, at any time; a session that has lost its run writes nothing."""

import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import orchestrator
from orchestrator.errors import BadInput
from orchestrator.planning.planner import make_plan
from orchestrator.runs.session import open_session
from orchestrator.spec.sweep_file import load_sweep
from orchestrator.store.files import open_files
from orchestrator.store.held import LostLockError
from orchestrator.store.lock import RunLock
from orchestrator.store.parquet import write_table
from orchestrator.store.schema import SEARCHES
from orchestrator.store.snapshots import Snapshots
from tasks.toy import ToyEngine
from tasks.values import Snapshot
from tests.orchestrator.store.outcomes import measured, probe

pytestmark = pytest.mark.usefixtures("no_page")


THIEVES: list[RunLock] = []


@pytest.fixture(autouse=True)
def _thieves_let_go() -> Iterator[None]:
    yield
    while THIEVES:
        THIEVES.pop().release()


def take_over(run: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("orchestrator.store.lock.SETTLE_SECONDS", 0)
        thief = RunLock(open_files(str(run)), "thief")
        thief.take(take_over=True)
        THIEVES.append(thief)


LOSSES = {
    "removed": shutil.rmtree,
    "moved": lambda run: run.rename(run.with_name("elsewhere")),
    "taken over": take_over,
}


def everything(folder: Path) -> dict[Path, float]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.name not in ("lock", "stop")}


@pytest.mark.parametrize("loss", LOSSES)
def test_a_session_that_has_lost_its_run_writes_nothing_and_makes_no_folder(toy_sweep, tmp_path, loss):
    run = tmp_path / "run"
    with open_session(make_plan(load_sweep(toy_sweep)), str(run)) as session:
        snapshots, recorder = Snapshots(session.files, session.session_id), session.recorder()
        LOSSES[loss](run)
        before = everything(tmp_path)
        found = measured(probe(search=session.plan.searches[0].search_id), proven=9)
        changes = [
            lambda: recorder.record([found]),
            lambda: snapshots.save("inline", [Snapshot(probe_id="p", steps=1, state=b"")]),
            lambda: write_table(session.files, "searches.parquet", SEARCHES.empty_table()),
            lambda: session.files.create("name", b""),
            lambda: session.files.move("sweep.yaml", "damaged/sweep.yaml"),
            lambda: session.files.remove("sweep.yaml"),
            session.finish,
        ]
        for change in changes:
            with pytest.raises(LostLockError, match="has lost this run"):
                change()
    assert everything(tmp_path) == before


@pytest.mark.parametrize("loss", ["removed", "moved"])
def test_a_run_whose_folder_goes_ends_with_a_reason(toy_sweep, tmp_path, capsweep, monkeypatch, loss):
    run, steps, step = tmp_path / "run", list[int](), ToyEngine.step

    def losing_step(engine: ToyEngine) -> list:
        steps.append(1)
        if len(steps) == 20:
            LOSSES[loss](run)
        return step(engine)

    monkeypatch.setattr(ToyEngine, "step", losing_step)
    ended = capsweep("run", toy_sweep, "--inline", "--run-dir", run)
    assert (ended.returncode, "has lost this run" in ended.stderr) == (1, True)
    assert not run.exists()


def of_another(table: pa.Table) -> pa.Table:
    ids = [f"other{number}" for number in range(len(table))]
    return table.set_column(0, table.schema.field(0), pa.array(ids))


LIES = {
    "of no search": lambda table: table.slice(0, 0),
    "of an older plan": lambda table: table.slice(0, 5),
    "of a newer plan": lambda table: pa.concat_tables([table, of_another(table.slice(0, 3))]),
    "of another run": of_another,
    "with other numbers": lambda table: pa.Table.from_pylist(
        [{**row, "capacity_tokens": 999} for row in table.to_pylist()], schema=SEARCHES
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_table_that_is_not_of_plan_and_rows_is_derived_again(toy_sweep, finished, capsweep, searches_of, lie):
    run = finished(toy_sweep)
    before, table = searches_of(run), pq.read_table(run / "searches.parquet").cast(SEARCHES)
    write_table(open_files(str(run)), "searches.parquet", LIES[lie](table))
    resumed = capsweep("resume", run, "--inline")
    assert resumed.returncode == 0, resumed.stderr
    assert searches_of(run) == before
    written = pq.read_table(run / "searches.parquet").drop_columns(["seconds"]).to_pylist()
    assert sorted(written, key=lambda row: row["search_id"]) == before


@pytest.mark.parametrize("loss", ["empty", "renamed", "gone"])
def test_rows_that_are_all_gone_are_not_measured_again_without_a_word(toy_sweep, finished, capsweep, loss):
    run = finished(toy_sweep)
    if loss == "renamed":
        (run / "probes").rename(run / "probes.old")
    else:
        shutil.rmtree(run / "probes")
        if loss == "empty":
            (run / "probes").mkdir()
    before = everything(run)
    for again in (("resume", run), ("run", toy_sweep, "--run-dir", run)):
        refused = capsweep(*again, "--inline")
        assert refused.returncode == 2
        assert "no rows of probes; wanted those of the " in " ".join(refused.stderr.split())
    after = {path: time for path, time in everything(run).items() if path.is_file() and path.parent.name != "sessions"}
    assert after.items() <= before.items()
    (run / "searches.parquet").unlink()
    assert capsweep("resume", run, "--inline").returncode == 0


@pytest.mark.parametrize("lie", ["of no search", "of another run"])
def test_a_reader_does_not_believe_it_either(toy_sweep, finished, lie):
    run = finished(toy_sweep)
    table = pq.read_table(run / "searches.parquet").cast(SEARCHES)
    write_table(open_files(str(run)), "searches.parquet", LIES[lie](table))
    with pytest.raises(BadInput, match=r"searches\.parquet: damaged .* `capsweep resume"):
        orchestrator.read(str(run))


def test_a_plan_that_was_edited_by_hand_is_run_and_tabled(toy_sweep, finished, capsweep, searches_of):
    run = finished(toy_sweep)
    before, text = searches_of(run), (run / "sweep.yaml").read_text()
    (run / "sweep.yaml").write_text(text.replace("seeds:\n- 0\n", "seeds:\n- 0\n- 1\n"))
    resumed = capsweep("resume", run, "--inline")
    assert "24 searches, 12 open" in resumed.stdout
    assert (resumed.returncode, len(searches_of(run))) == (0, 24)
    (run / "sweep.yaml").write_text(text)
    resumed = capsweep("resume", run, "--inline")
    assert "rows of 12 searches outside the plan" in " ".join(resumed.stdout.split())
    assert searches_of(run) == before


def test_while_it_runs_the_table_shows_what_is_proven(toy_sweep, tmp_path, capsweep, monkeypatch):
    run, seen, step = tmp_path / "run", list[int](), ToyEngine.step
    monkeypatch.setattr("orchestrator.runs.derived.REFRESH_SECONDS", 0.001)
    monkeypatch.setattr("orchestrator.runs.derived.PAUSE_PER_SECOND", 0)

    def proven() -> int:
        # Read at once: given a path, Arrow opens it twice, and the file may have been replaced in between.
        content = pa.BufferReader((run / "searches.parquet").read_bytes())
        return sum(pq.read_table(content, use_threads=False)["probes"].to_pylist())

    def watched_step(engine: ToyEngine) -> list:
        if not seen and any((run / "probes").glob("*.parquet")):
            deadline = time.monotonic() + 60
            while not proven():
                assert time.monotonic() < deadline, "the table does not follow the rows"
                time.sleep(0.01)
            tables = orchestrator.read(str(run))
            seen.append(tables.probes.num_rows)
            assert 0 < sum(tables.searches["probes"].to_pylist()) == seen[0]
            assert "open" in tables.searches["status"].to_pylist()
        return step(engine)

    monkeypatch.setattr(ToyEngine, "step", watched_step)
    assert capsweep("run", toy_sweep, "--inline", "--run-dir", run).returncode == 0
    assert seen
    assert proven() > seen[0]


@pytest.mark.parametrize("place", ["orchestrator.runs.derived.write_table", "orchestrator.launch.write_report"])
def test_a_derived_file_that_cannot_be_written_at_the_end_is_a_note(
    toy_sweep, finished, capsweep, searches_of, monkeypatch, place
):
    run = finished(toy_sweep)
    before = searches_of(run)

    def full(*arguments: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(place, full)
    ended = capsweep("resume", run, "--inline")
    assert ended.returncode == 0, ended.stderr
    assert re.search(r"could not be written \((OSError: )?no space left\)", " ".join(ended.stdout.split()))
    assert searches_of(run) == before


def test_rows_that_are_gone_at_the_end_are_open_searches(toy_sweep, finished, capsweep, monkeypatch):
    run = finished(toy_sweep)
    monkeypatch.setattr("orchestrator.launch.LiveView.__exit__", lambda *arguments: None)

    def lose_rows(*arguments: object) -> None:
        for path in (run / "probes").iterdir():
            path.unlink()

    monkeypatch.setattr("orchestrator.launch.LiveView.__enter__", lambda view: lose_rows() or view)
    ended = capsweep("resume", run, "--inline")
    assert (ended.returncode, "12 searches are open" in ended.stdout) == (1, True)
