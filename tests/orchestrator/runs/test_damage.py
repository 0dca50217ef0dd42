"""Each file of a run with each damage: it costs only itself, and the next session heals it."""

import json
from collections.abc import Callable
from pathlib import Path
from shutil import copytree, rmtree

import pyarrow.parquet as pq
import pytest
from rich.console import Console

import orchestrator
from orchestrator.errors import BadInput
from orchestrator.launch import Exit, launch
from orchestrator.planning.plan import Plan
from orchestrator.planning.planner import make_plan
from orchestrator.runs.directory import REPORT_FILE, RUN_FOLDERS, drawn_texts, open_run
from orchestrator.spec.sweep_file import load_sweep
from orchestrator.store.parquet import BITS_FILE, LINES_FILE, write_table
from orchestrator.store.schema import BITS, LINES
from orchestrator.store.snapshots import SNAPSHOTS

pytestmark = pytest.mark.usefixtures("no_page")

ROWS, SNAPSHOT = "probes/*.parquet", "snapshots/old-inline.parquet"
FILES = [
    "sweep.yaml",
    "provenance.json",
    "extending.yaml",
    "samples.parquet",
    "searches.parquet",
    BITS_FILE,
    LINES_FILE,
    "lock",
    "stop",
    ROWS,
    SNAPSHOT,
    REPORT_FILE,
]


def make_folder(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()
    (path / "inside").write_text("something")


DAMAGES: dict[str, Callable[[Path], object]] = {
    "absent": lambda path: path.unlink(missing_ok=True),
    "empty": lambda path: path.write_bytes(b""),
    "cut in the middle": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "garbage": lambda path: path.write_bytes(b"\xff\x00garbage: [\n" * 9),
    "other JSON": lambda path: path.write_text('{"models": [], "sessions": 7}'),
    "a folder": make_folder,
}
READ_WITHOUT = ("extending.yaml", "provenance.json", "lock", "stop", BITS_FILE, LINES_FILE, SNAPSHOT, REPORT_FILE)
"""Files that no reader of results needs."""


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr("orchestrator.store.lock.SETTLE_SECONDS", 0)
    monkeypatch.setattr("orchestrator.store.lock.HEARTBEAT_SECONDS", 0.01)
    monkeypatch.setattr("os.fsync", lambda descriptor: None)  # no power is cut here, and disks are slow


def run_to_end(plan: Plan, run: Path) -> Exit:
    with open("/dev/null", "w") as nowhere:
        console = Console(file=nowhere, width=400)
        return launch(plan, str(run), inline=True, address=None, take_over=False, console=console)


def plan_of(spec: Path) -> Plan:
    return make_plan(load_sweep(spec))


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Plan, Path]:
    """A finished run that has every file a run may have, and its plan."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "texts").mkdir()
    for number in range(3):
        (folder / "texts" / f"{number}.txt").write_text(f"Text number {number}, long enough, and some more words.")
    spec = folder / "toy.yaml"
    spec.write_text("{name: toy, task: toy, models: [toy/model], texts: [{source: files, path: texts/}]}")
    plan, run = plan_of(spec), folder / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("orchestrator.launch.write_report", lambda run, searches: "")
        assert run_to_end(plan, run) == Exit.DONE
    files = open_run(str(run)).files
    write_table(files, BITS_FILE, BITS.empty_table())
    write_table(files, LINES_FILE, LINES.empty_table())
    write_table(files, SNAPSHOT, SNAPSHOTS.empty_table())
    holder = {"session_id": "gone", "host": "elsewhere", "pid": 1, "heartbeat": 0.0}
    for name, content in (("lock", json.dumps(holder)), ("stop", "gone"), (REPORT_FILE, "<html>")):
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).write_text(content)
    (run / "extending.yaml").write_bytes((run / "sweep.yaml").read_bytes())
    return plan, run


@pytest.fixture
def run(whole, tmp_path) -> Path:
    copytree(whole[1], tmp_path / "run")
    return tmp_path / "run"


def outcomes_of(run: Path) -> list[dict]:
    return sorted(
        orchestrator.read(str(run)).searches.drop_columns(["seconds"]).to_pylist(), key=lambda row: row["search_id"]
    )


def hit(run: Path, name: str) -> Path:
    return next(run.glob(name)) if name == ROWS else run / name


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_costs_only_itself(whole, run, name, damage):
    plan, before = whole[0], outcomes_of(whole[1])
    DAMAGES[damage](hit(run, name))
    # 1. A reader shows the results, or names the file and the way out.
    try:
        assert outcomes_of(run) == before or name == ROWS
    except BadInput as error:
        assert name not in READ_WITHOUT
        assert "capsweep resume" in str(error)
    # 2. The next session heals it, and runs again what only that file held.
    assert run_to_end(plan, run) == Exit.DONE
    assert outcomes_of(run) == before
    assert pq.read_table(run / "searches.parquet").num_rows == len(before)
    assert open_run(str(run)).damaged == []
    assert not (run / "lock").exists()
    assert not (run / "stop").exists()


@pytest.mark.parametrize("folder", RUN_FOLDERS)
def test_a_file_in_place_of_a_folder_is_set_aside(whole, run, folder):
    before = outcomes_of(run)
    if (run / folder).exists():
        rmtree(run / folder)
    (run / folder).write_text("no folder")
    assert run_to_end(whole[0], run) == Exit.DONE
    assert outcomes_of(run) == before
    assert (run / "damaged" / folder).read_text() == "no folder"


def test_what_is_set_aside_replaces_nothing(whole, run):
    for content in ("one", "two", "three"):
        (run / "samples.parquet").write_text(content)
        run_to_end(whole[0], run)
    assert {path.read_text() for path in (run / "damaged").iterdir()} == {"one", "two", "three"}


@pytest.mark.parametrize("lost", ["sweep.yaml", "provenance.json"])
def test_without_its_sweep_and_provenance_the_rows_decide_whose_run_it_is(whole, run, tmp_path, lost):
    for name in {lost, "provenance.json"}:
        (run / name).write_text("garbage: [")
    other = whole[1].parent / f"other-{lost}"
    other.write_text("{name: toy, task: toy, models: [toy/model], texts: [{source: files, path: texts/}], seeds: [9]}")
    with pytest.raises(BadInput, match="belong to another sweep|differs from yours"):
        run_to_end(plan_of(other), run)
    assert run_to_end(whole[0], run) == Exit.DONE


def test_a_run_resumes_by_the_copy_of_its_sweep(whole, run, capsweep):
    (run / "sweep.yaml").write_text("")
    resumed = capsweep("resume", run, "--inline")
    assert resumed.returncode == 0, resumed.stderr
    assert "sweep.yaml was damaged" in " ".join(resumed.stdout.split())
    assert (run / "sweep.yaml").read_bytes() == (whole[1] / "sweep.yaml").read_bytes()
    assert drawn_texts(str(run)).keys() == drawn_texts(str(whole[1])).keys()
