"""Runs that are mirrored to the real trackers, in their local modes, and read back by the trackers' own libraries."""

import json
import os
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import orchestrator
from orchestrator.runs.directory import REPORT_FILE
from orchestrator.tracking import mirror

SECRET = "hf_this-is-a-secret"
CURVE = "capacity_tokens/model k1"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The trackers keep everything in `tmp_path`, pages are short, and there is a secret to be kept."""
    monkeypatch.chdir(tmp_path)
    for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "TRACKIO_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    monkeypatch.setenv("HF_TOKEN", SECRET)
    monkeypatch.setattr("orchestrator.launch.write_report", lambda run, _: run.files.write(REPORT_FILE, b"<p>page</p>"))


@pytest.fixture
def tracked(toy_sweep: Path, capsweep: Callable[..., Any], tmp_path: Path) -> Callable[..., Path]:
    """Run twelve searches with this `tracking`, then extend the run by twelve more."""

    def run(tracking: str, *, extend: bool = True) -> Path:
        spec = toy_sweep.parent / "tracked.yaml"
        spec.write_text(toy_sweep.read_text().replace("name: toy", f"name: toy{SECRET}") + f"tracking: {tracking}\n")
        more = toy_sweep.parent / "more.yaml"
        more.write_text(toy_sweep.read_text() + "num_vectors: [2]\n")
        ended = [capsweep("run", spec, "--inline", "--run-dir", tmp_path / "run")]
        ended += [capsweep("extend", tmp_path / "run", more, "--inline")] * extend
        for each in ended:
            assert each.returncode == 0, each.stderr
            assert "note: tracking" not in each.stdout
        return tmp_path / "run"

    return run


def capacities(run: Path, num_vectors: int = 1) -> list[int]:
    rows = orchestrator.read(str(run)).searches.to_pylist()
    return sorted(row["capacity_tokens"] for row in rows if row["num_vectors"] == num_vectors)


def test_tensorboard_gets_one_run_with_a_point_for_each_search(tracked):
    from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

    run = tracked("{tensorboard: {}}")
    found = EventMultiplexer().AddRunsFromDirectory(str(run)).Reload()
    assert list(found.Runs()) == ["tracking/tensorboard"]
    for curve, num_vectors in (("capacity_tokens/model k1", 1), ("capacity_tokens/model k2", 2)):
        events = found.Scalars("tracking/tensorboard", curve)
        assert sorted(event.value for event in events) == capacities(run, num_vectors)
        first = 1 + 12 * (num_vectors - 1)
        assert [event.step for event in events] == list(range(first, first + 12))
    texts = {name: found.Tensors("tracking/tensorboard", f"{name}") for name in ("config", "summary")}
    assert b"| num_vectors | [1, 2] |" in texts["config"][-1].tensor_proto.string_val[0]
    assert b"| searches_measured | 24 |" in texts["summary"][-1].tensor_proto.string_val[0]
    assert SECRET not in str(texts)


def test_tensorboard_has_a_folder_for_each_run_where_the_sweep_says_so(tracked, tmp_path):
    tracked(f"{{tensorboard: {{folder: {tmp_path}/all}}}}", extend=False)
    assert [path.name for path in (tmp_path / "all").iterdir()] == ["run"]


@pytest.mark.slow
def test_mlflow_gets_one_run_with_a_point_for_each_search(tracked, tmp_path):
    from mlflow.tracking import MlflowClient

    run = tracked("{mlflow: {uri: 'sqlite:///mlflow.db', experiment: sweeps}}")
    client = MlflowClient("sqlite:///mlflow.db")
    experiment = client.get_experiment_by_name("sweeps")
    assert experiment is not None
    (there,) = client.search_runs([experiment.experiment_id])
    assert (there.info.status, there.info.run_name) == ("FINISHED", "run")
    points = client.get_metric_history(there.info.run_id, CURVE)
    assert sorted(point.value for point in points) == capacities(run)
    assert sorted(point.step for point in points) == list(range(1, 13))
    assert there.data.params["search.policy"] == "grow"
    assert there.data.metrics["searches_measured"] == 24
    assert {file.path for file in client.list_artifacts(there.info.run_id)} == {"config.json", "report.html"}
    config = json.loads(Path(client.download_artifacts(there.info.run_id, "config.json")).read_text())
    assert config["num_searches"] == 24
    assert SECRET not in str(there.to_dictionary())
    assert str(tmp_path) not in str(there.data.params)


@pytest.mark.slow
def test_wandb_gets_one_run_with_a_point_for_each_search(tracked, tmp_path):
    run = tracked("{wandb: {mode: offline, project: sweeps, tags: [a, b]}}")
    sessions = [list(records(path)) for path in sorted((run / "tracking/wandb").glob("offline-run-*/*.wandb"))]
    assert len(sessions) == 2
    begun = [record.run for session in sessions for record in session if record.WhichOneof("record_type") == "run"]
    assert {(each.run_id, each.project, each.display_name) for each in begun} == {(begun[0].run_id, "sweeps", "run")}
    assert list(begun[0].tags) == ["a", "b"]
    rows = [row for session in sessions for row in histories(session)]
    assert [row["searches_done"] for row in rows] == list(range(1, 25))
    assert sorted(row[CURVE] for row in rows if CURVE in row) == capacities(run)
    assert {row["search/source"] for row in rows} == {f"files:{number:02d}.txt" for number in range(12)}
    artifacts = [each.artifact for each in sessions[-1] if each.WhichOneof("record_type") == "artifact"]
    assert [content.path for each in artifacts for content in each.manifest.contents] == ["report.html"]
    sent = b"".join(path.read_bytes() for path in (run / "tracking/wandb").glob("offline-run-*/*.wandb"))
    assert {each.host for each in begun} == {""}
    for private in (SECRET, "sys.argv", str(tmp_path / "texts")):
        assert private.encode() not in sent


@pytest.mark.slow
def test_wandb_offline_says_where_its_files_lie_which_an_object_store_cannot_hold(toy_sweep, capsweep, tmp_path):
    toy_sweep.write_text(toy_sweep.read_text() + "tracking: {wandb: {mode: offline}}\n")
    for url, place in (("run", tmp_path / "run/tracking"), (f"memory://offline-{os.getpid()}", tmp_path)):
        ended = capsweep("run", toy_sweep, "--inline", "--run-dir", url)
        (folder,) = re.findall(r"^tracking\.wandb: (.*)$", ended.stdout, re.MULTILINE)
        assert (tmp_path / folder).parent == place / "wandb"
        assert len(list((tmp_path / folder).glob("*.wandb"))) == 1


@pytest.mark.slow
def test_trackio_gets_one_run_with_a_point_for_each_search(tracked, monkeypatch):
    run = tracked("{trackio: {project: sweeps}}")
    from trackio.sqlite_storage import SQLiteStorage

    monkeypatch.setattr("trackio.sqlite_storage.TRACKIO_DIR", Path("trackio_dir").resolve())
    assert SQLiteStorage.get_runs("sweeps") == ["run"]
    rows = SQLiteStorage.get_logs("sweeps", "run")
    assert sorted(row[CURVE] for row in rows if CURVE in row) == capacities(run)
    assert rows[-1]["summary/searches_measured"] == 24
    artifacts = SQLiteStorage.get_run_artifacts("sweeps", "run", None)["output"]
    assert {artifact["name"] for artifact in artifacts} == {"report-run"}
    assert SECRET not in str(SQLiteStorage.get_run_config("sweeps", "run"))


@pytest.mark.slow
def test_a_server_that_never_answers_costs_a_run_only_the_wait_at_its_end(
    tracked, capsweep, toy_sweep, tmp_path, monkeypatch
):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(120)  # MLflow is imported in that time
        asked: list[socket.socket] = []

        def never_answer() -> None:
            asked.append(server.accept()[0])
            monkeypatch.setattr(mirror, "END_SECONDS", 0.0)

        monkeypatch.setattr(mirror, "END_SECONDS", 120.0)
        beside = threading.Thread(target=never_answer)
        beside.start()
        uri = f"http://127.0.0.1:{server.getsockname()[1]}"
        toy_sweep.write_text(toy_sweep.read_text() + f"tracking: {{mlflow: {{uri: '{uri}'}}}}\n")
        ended = capsweep("run", toy_sweep, "--inline", "--run-dir", tmp_path / "run")
        beside.join()
        asked[0].close()
    assert ended.returncode == 0
    assert "tracking.mlflow: 0 of 12 finished searches were sent" in " ".join(ended.stdout.split())
    assert set(orchestrator.read(str(tmp_path / "run")).searches["status"].to_pylist()) == {"measured"}


def test_a_run_that_is_over_can_still_be_mirrored(toy_sweep, capsweep, tmp_path):
    run = ("run", toy_sweep, "--inline", "--run-dir", tmp_path / "run")
    assert capsweep(*run).returncode == 0
    before = set(orchestrator.read(str(tmp_path / "run")).searches["search_id"].to_pylist())
    toy_sweep.write_text(toy_sweep.read_text() + "tracking: {tensorboard: {}}\n")
    assert capsweep(*run).returncode == 0
    assert set(json.loads((tmp_path / "run/tracking/tensorboard.json").read_text())["sent"]) == before


@pytest.fixture
def not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror, "find_spec", lambda name: None)


@pytest.mark.usefixtures("not_installed")
def test_check_names_a_package_that_is_missing_and_how_it_is_installed(toy_sweep, capsweep):
    toy_sweep.write_text(toy_sweep.read_text() + "tracking: {wandb: {}}\n")
    ended = capsweep("check", toy_sweep)
    assert ended.returncode == 2
    assert ended.stderr == f"{toy_sweep}: tracking.wandb: wandb is not installed here; `pip install wandb`.\n"


@pytest.mark.usefixtures("not_installed")
def test_a_run_goes_on_without_a_package_that_is_missing(toy_sweep, capsweep, tmp_path):
    toy_sweep.write_text(toy_sweep.read_text() + "tracking: {wandb: {}}\n")
    ended = capsweep("run", toy_sweep, "--inline", "--run-dir", tmp_path / "run")
    assert ended.returncode == 0
    assert len(re.findall("pip install wandb", ended.stdout)) == 1


def test_a_key_of_a_tracker_that_does_not_exist_is_named_with_its_neighbours(toy_sweep, capsweep):
    toy_sweep.write_text(toy_sweep.read_text() + "tracking: {wandb: {projct: p}, mlfow: {}}\n")
    ended = capsweep("check", toy_sweep)
    assert ended.returncode == 2
    first, second = sorted(ended.stderr.splitlines(), reverse=True)
    assert "tracking.wandb.projct: unknown key. known: project, entity, mode, tags. Did you mean 'project'?" in first
    assert "tracking.mlfow: unknown key. known: wandb, mlflow, tensorboard, trackio. Did you mean 'mlflow'?" in second


def test_a_password_in_a_uri_is_refused(toy_sweep, capsweep):
    toy_sweep.write_text(toy_sweep.read_text() + "tracking: {mlflow: {uri: 'https://me:password@there'}}\n")
    ended = capsweep("check", toy_sweep)
    assert ended.returncode == 2
    assert "tracking.mlflow.uri: https://[redacted]@there holds credentials" in ended.stderr


def records(path: Path) -> Iterator[Any]:
    """The records of a file that W&B writes offline; its format is LevelDB's log."""
    from wandb.proto import wandb_internal_pb2

    record_of: Any = wandb_internal_pb2  # its classes are made when it is imported
    data, at, whole = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            record = record_of.Record()
            record.ParseFromString(whole)
            whole = b""
            yield record


def histories(session: list[Any]) -> Iterator[dict[str, Any]]:
    """What was logged, row by row."""
    for record in session:
        if record.WhichOneof("record_type") == "history":
            yield {".".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
