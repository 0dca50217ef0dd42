"""Each file of a run with each damage: it costs only itself, and the next session heals it."""

import json
from collections.abc import Callable
from pathlib import Path
from shutil import copytree, rmtree

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import orchestrator
from orchestrator.errors import BadInput
from orchestrator.execution.executor import Watcher
from orchestrator.execution.inline import InlineExecutor
from orchestrator.execution.stop import Stop
from orchestrator.planning.plan import Plan
from orchestrator.planning.planner import make_plan
from orchestrator.runs.directory import REPORT_FILE, RUN_FOLDERS, drawn_texts, open_run
from orchestrator.runs.record import read_provenance, read_sweep, read_sweep_file
from orchestrator.runs.session import open_session
from orchestrator.spec.sweep_file import load_sweep
from orchestrator.store.files import open_files
from orchestrator.store.parquet import SAMPLES_FILE, DamagedFileError, read_samples, read_searches, write_table
from orchestrator.store.schema import MEASURED
from orchestrator.store.snapshots import SNAPSHOTS

pytestmark = pytest.mark.usefixtures("no_page")

ROWS, SNAPSHOT, CLAIM = "probes/*.parquet", "snapshots/old-inline.parquet", "sessions/000001.json"
FILES = [
    "sweep.yaml",
    "provenance.json",
    "extending.yaml",
    "samples.parquet",
    "searches.parquet",
    *MEASURED,
    "lock",
    CLAIM,
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
    "a folder": make_folder,
}
READ_WITHOUT = (
    "extending.yaml",
    "provenance.json",
    "lock",
    CLAIM,
    "stop",
    *MEASURED,
    SNAPSHOT,
    REPORT_FILE,
)
"""Files that no reader of results needs."""


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr("orchestrator.store.lock.SETTLE_SECONDS", 0)
    monkeypatch.setattr("orchestrator.store.lock.HEARTBEAT_SECONDS", 0.01)
    monkeypatch.setattr("os.fsync", lambda descriptor: None)  # no power is cut here, and disks are slow


def run_to_end(plan: Plan, run: Path) -> None:
    with open_session(plan, str(run)) as session:
        if session.ledger.num_open:
            InlineExecutor().run(session, stop=Stop(), watcher=Watcher())
        ended = session.finish()
    assert ended.notes == ()
    assert "open" not in ended.searches["status"].to_pylist()


def plan_of(spec: Path) -> Plan:
    return make_plan(load_sweep(spec))


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Plan, Path, list[dict]]:
    """A plan, its finished run, which has every file that a run may have, and the results."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "texts").mkdir()
    for number in range(3):
        (folder / "texts" / f"{number}.txt").write_text(f"Text number {number}, long enough, and some more words.")
    spec = folder / "toy.yaml"
    spec.write_text("{name: toy, task: toy, models: [toy/model], texts: [{source: files, path: texts/}]}")
    plan, run = plan_of(spec), folder / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("orchestrator.launch.write_report", lambda run, searches: "")
        run_to_end(plan, run)
    files = open_run(str(run)).files
    for name, schema in MEASURED.items():
        write_table(files, name, schema.empty_table())
    write_table(files, SNAPSHOT, SNAPSHOTS.empty_table())
    holder = {"session_id": "gone", "host": "elsewhere", "pid": 1, "heartbeat": 0.0}
    for name, content in (("lock", json.dumps(holder)), ("stop", "gone"), (REPORT_FILE, "<html>")):
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).write_text(content)
    (run / "extending.yaml").write_bytes((run / "sweep.yaml").read_bytes())
    return plan, run, outcomes_of(run)


@pytest.fixture
def run(whole, tmp_path) -> Path:
    copytree(whole[1], tmp_path / "run")
    return tmp_path / "run"


def outcomes_of(run: Path) -> list[dict]:
    return sorted(
        orchestrator.read(str(run)).searches.drop_columns(["seconds"]).to_pylist(), key=lambda row: row["search_id"]
    )


def read(run: Path) -> tuple[list[dict] | None, str]:
    """The results, or the error of reading them."""
    try:
        return outcomes_of(run), ""
    except BadInput as error:
        return None, str(error)


def hit(run: Path, name: str) -> Path:
    return next(run.glob(name)) if name == ROWS else run / name


@pytest.mark.parametrize(("name", "damage"), [(name, damage) for name in FILES for damage in DAMAGES])
def test_a_damaged_file_costs_only_itself(whole, run, name, damage):
    plan, _, before = whole
    DAMAGES[damage](hit(run, name))
    # 1. A reader shows the results, or names the file and the way out.
    found, error = read(run)
    assert (found in (before, None) and "capsweep resume" in error) or found == before or name == ROWS
    assert found == before or name not in READ_WITHOUT
    # 2. The next session heals it, and runs again what only that file held.
    run_to_end(plan, run)
    assert outcomes_of(run) == before
    assert pq.read_table(run / "searches.parquet").num_rows == len(before)
    assert open_run(str(run)).notes == []
    assert not (run / "lock").exists()
    assert not (run / "stop").exists()


@pytest.mark.parametrize("folder", RUN_FOLDERS)
def test_a_file_in_place_of_a_folder_is_set_aside(whole, run, folder):
    before = outcomes_of(run)
    if (run / folder).exists():
        rmtree(run / folder)
    (run / folder).write_text("no folder")
    run_to_end(whole[0], run)
    assert outcomes_of(run) == before
    assert (run / "damaged" / folder).read_text() == "no folder"


def test_files_in_place_of_all_folders_are_set_aside_and_named(whole, run):
    before = outcomes_of(run)
    for folder in RUN_FOLDERS:
        if (run / folder).exists():
            rmtree(run / folder)
        (run / folder).write_text(folder)
    with open_session(whole[0], str(run)) as session:
        for folder in RUN_FOLDERS:
            assert f"{folder} was no folder: it is in damaged/{folder} now." in session.notes
            assert (run / "damaged" / folder).read_text() == folder
    run_to_end(whole[0], run)
    assert outcomes_of(run) == before


TABLES_THAT_LIE: dict[str, Callable[[pa.Table], pa.Table]] = {
    "of other texts": lambda table: table.set_column(
        table.column_names.index("sample_id"), "sample_id", pa.array(["0123456789abcdef"] * table.num_rows)
    ),
    "its first row": lambda table: table.slice(0, 1),
    "other tokens": lambda table: table.set_column(
        table.column_names.index("tokens"), table.schema.field("tokens"), table["tokens"].take([1, 2, 0])
    ),
}


@pytest.mark.parametrize("lie", TABLES_THAT_LIE)
def test_a_table_of_samples_that_lies_decides_nothing_and_is_healed(whole, run, capsweep, lie):
    plan, files = plan_of(whole[1].parent / "toy.yaml"), open_run(str(run)).files
    (run / "extending.yaml").unlink()
    write_table(files, SAMPLES_FILE, TABLES_THAT_LIE[lie](read_samples(files)))
    for words in (("verify", run), ("measure", run), ("export", run, "--to", run.parent / "memories")):
        ended = capsweep(*words)
        assert ended.returncode in (0, 1, 2)
        if lie != "other tokens" and words[0] != "export":
            assert "samples.parquet: damaged (it does not have the text" in ended.stderr
            assert ended.stderr.count("\n") == 1
    resumed = capsweep("resume", run, "--inline")
    assert resumed.returncode == 0, resumed.stderr
    assert read_samples(files).equals(plan.samples_table())
    assert capsweep("verify", run).returncode == 0
    assert outcomes_of(run) == whole[2]


def test_a_table_of_searches_that_lacks_some_is_said_by_whoever_reads_it(whole, run, capsweep):
    files = open_run(str(run)).files
    write_table(files, "searches.parquet", read_searches(files).slice(0, 1))
    for words in (("status", run), ("report", run)):
        ended = capsweep(*words)
        assert "2 searches with rows on disk are not in searches.parquet" in " ".join(
            (ended.stdout + ended.stderr).split()
        )
    run_to_end(whole[0], run)
    assert outcomes_of(run) == whole[2]
    assert "not in searches.parquet" not in capsweep("status", run).stdout


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
    other.write_text((whole[1].parent / "toy.yaml").read_text().replace("}]}", "}], seeds: [9]}"))
    with pytest.raises(BadInput, match=r"belong to another sweep|differs from yours"):
        run_to_end(plan_of(other), run)
    run_to_end(whole[0], run)


def test_a_run_resumes_by_the_copy_of_its_sweep(whole, run, capsweep):
    (run / "sweep.yaml").write_text("")
    resumed = capsweep("resume", run, "--inline")
    assert resumed.returncode == 0, resumed.stderr
    assert "sweep.yaml was damaged" in " ".join(resumed.stdout.split())
    assert (run / "sweep.yaml").read_bytes() == (whole[1] / "sweep.yaml").read_bytes()
    assert drawn_texts(str(run)).keys() == drawn_texts(str(whole[1])).keys()


def test_a_sweep_that_is_cut_anywhere_is_not_taken_for_one(run):
    files, text = open_run(str(run)).files, (run / "sweep.yaml").read_bytes()
    sweep = read_sweep(files)
    ends = [place + 1 for place in range(len(text) - 1) if text[place] == ord("\n")]
    for end in (0, 1, len(text) // 3, len(text) - 1, *ends):
        (run / "sweep.yaml").write_bytes(text[:end])
        with pytest.raises(DamagedFileError, match="its end is missing"):
            read_sweep_file(files)
    assert read_sweep(files) == sweep


OTHER_JSON = [
    "[]",
    "7",
    "null",
    '{"models": [], "sessions": 7}',
    '{"models": {"a": 1}, "sessions": []}',
    '{"models": {}, "sessions": [], "sweep": 7}',
]


@pytest.mark.parametrize("content", OTHER_JSON)
def test_what_is_json_but_no_provenance_is_damaged(run, content):
    (run / "provenance.json").write_text(content)
    with pytest.raises(DamagedFileError, match=r"provenance\.json: damaged"):
        read_provenance(open_files(str(run)))
    assert open_run(str(run)).notes


EDITS: dict[str, tuple[str, str]] = {
    "a field that no model has": ('"dtype": "float32"', '"dtype": "float32", "device": "cpu"'),
    "a model without a name": ('"name": "toy/model"', '"name": 5'),
    "parameters in words": ('"num_parameters": ', '"num_parameters": "many", "before": '),
    "no commits of texts": ('"text_commits": {}', '"text_commits": null'),
    "one commit of texts": ('"text_commits": {}', '"text_commits": ["main"]'),
    "a note": ('"notes": []', '"notes": "none"'),
    "pushed": ('"text_commits": {}', '"text_commits": {}, "published": true'),
    "a day": ('"started_at": "', '"started_at": "2026-01-01", "before": "'),
    "a number of seconds": ('"ended_at": "', '"ended_at": 1767225600, "before": "'),
    "cores in words": ('"cores": ', '"cores": "eight", "before": '),
}
"""What somebody may write by hand, and verbs depend on."""


def edited(run: Path, edit: str) -> None:
    found, put = EDITS[edit]
    text = (run / "provenance.json").read_text()
    assert found in text
    (run / "provenance.json").write_text(text.replace(found, put))


@pytest.mark.parametrize("edit", EDITS)
def test_a_provenance_that_was_edited_by_hand_is_damaged(run, edit):
    edited(run, edit)
    with pytest.raises(DamagedFileError, match=r"provenance\.json: damaged \(it cannot be read"):
        read_provenance(open_files(str(run)))


@pytest.mark.parametrize("edit", ["a field that no model has", "a day"])
def test_it_ends_no_verb_in_a_traceback(run, capsweep, edit):
    before = outcomes_of(run)
    edited(run, edit)
    assert "provenance.json" in capsweep("runs", run.parent).stdout
    for verb in ("status", "report", "verify"):
        assert capsweep(verb, run).returncode in (0, 2)
    resumed = capsweep("resume", run, "--inline")
    assert resumed.returncode == 0, resumed.stderr
    assert "provenance.json was damaged" in " ".join(resumed.stdout.split())
    assert outcomes_of(run) == before
    read_provenance(open_files(str(run)))
