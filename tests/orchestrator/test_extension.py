"""Runs that get more models, texts, k or seeds: what is there stays, what is new runs, what would change is refused."""

import json
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import orchestrator
from orchestrator.runs.directory import EXTENDING_FILE, open_run
from orchestrator.runs.extension import additions, differences, union
from orchestrator.spec.sweep import Sweep
from orchestrator.store.claims import LOCK_FILE, SESSION_FOLDER
from orchestrator.store.local_files import LocalFiles

pytestmark = pytest.mark.usefixtures("no_page")

SLOW = {"step_seconds": 0.02, "steps": 8, "slots": 4}
TOY: dict[str, Any] = {
    "name": "toy",
    "task": "toy",
    "models": ["toy/model"],
    "texts": [{"source": "files", "path": "texts/", "samples": 4}],
}


@pytest.fixture
def write(tmp_path: Path, toy_sweep: Path) -> Callable[..., Path]:
    """Write a sweep file over four of the toy's texts, with some keys replaced."""
    (tmp_path / "more.jsonl").write_text('{"text": "A text of another file, long enough for the toy to be full of."}\n')

    def write(name: str, **changes: Any) -> Path:
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump({**TOY, **changes}))
        return path

    return write


@pytest.fixture
def run(write: Callable[..., Path], finished: Callable[..., Path]) -> Path:
    """A finished run."""
    return finished(write("first"))


def rows_of(run: Path) -> dict[str, dict[str, Any]]:
    """Everything that is on disk of each probe."""
    return {row["probe_id"]: row for row in orchestrator.read(str(run)).probes.to_pylist()}


@pytest.mark.parametrize(
    ("more", "everything"),
    [
        ({"models": ["toy/other"]}, {"models": ["toy/model", "toy/other"]}),
        (
            {"texts": [{"source": "files", "path": "more.jsonl"}]},
            {"texts": [*TOY["texts"], {"source": "files", "path": "more.jsonl"}]},
        ),
        (
            {"texts": [{"source": "files", "path": "texts/", "samples": 6}]},
            {"texts": [{"source": "files", "path": "texts/", "samples": 6}]},
        ),
        ({"num_vectors": [2]}, {"num_vectors": [1, 2]}),
        ({"seeds": [0, 7]}, {"seeds": [0, 7]}),
        (
            {"models": ["toy/other"], "num_vectors": [2], "seeds": [1], "budget": {"minutes": 5}},
            {"models": ["toy/model", "toy/other"], "num_vectors": [1, 2], "seeds": [0, 1]},
        ),
    ],
    ids=["model", "text file", "samples", "k", "seed", "all of them"],
)
def test_what_is_new_runs_and_what_was_there_is_not_asked_again(
    run, write, finished, capsweep, searches_of, more, everything
):
    before = rows_of(run)
    ended = capsweep("extend", run, write("more", **more), "--inline")
    assert ended.returncode == 0, ended.stderr
    fresh = finished(write("everything", **everything), "fresh")
    assert searches_of(run) == searches_of(fresh)
    after = rows_of(run)
    assert {probe_id: after[probe_id] for probe_id in before} == before
    assert after.keys() == rows_of(fresh).keys()
    assert len(after) > len(before)
    added = json.loads((run / "provenance.json").read_text())["sessions"][-1]["added"]
    assert added.keys() == more.keys() - {"budget"}
    assert not (run / EXTENDING_FILE).exists()
    assert open_run(str(run)).sweep.name == "toy"
    assert "0 open" in capsweep("resume", run, "--inline").stdout


def test_what_adds_nothing_changes_nothing(run, write, capsweep, searches_of):
    before = searches_of(run), rows_of(run)
    few = [{"source": "files", "path": "texts/", "samples": 2}]
    ended = capsweep("extend", run, write("same", texts=few), "--inline")
    assert ended.returncode == 0
    assert "added to the run: nothing" in ended.stdout
    assert (searches_of(run), rows_of(run)) == before


def test_the_report_shows_the_extended_run(run, write, capsweep):
    extended = capsweep("extend", run, write("more", models=["toy/other"], num_vectors=[3]), "--inline")
    assert extended.returncode == 0
    assert capsweep("report", run, "--tables", run / "tables").returncode == 0
    groups = [line.split(",")[:3] for line in (run / "tables" / "capacity.csv").read_text().splitlines()[1:]]
    assert [(model.strip('"'), k) for model, _, k in groups] == [
        ("toy/model", "1"),
        ("toy/model", "3"),
        ("toy/other", "1"),
        ("toy/other", "3"),
    ]


def test_silence_about_vectors_and_seeds_adds_none_of_their_defaults(write, finished, capsweep):
    run = finished(write("four", num_vectors=[4], seeds=[3]))
    assert capsweep("extend", run, write("more", models=["toy/other"]), "--inline").returncode == 0
    sweep = open_run(str(run)).sweep
    assert (sweep.num_vectors, sweep.seeds, len(sweep.models)) == ((4,), (3,), 2)


class TestRefusals:
    @pytest.fixture
    def refused(self, run: Path, capsweep: Callable[..., Any]) -> Callable[[Path], str]:
        def ask(spec: Path) -> str:
            before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
            ended = capsweep("extend", run, spec, "--inline")
            assert (ended.returncode, ended.stdout) == (2, "")
            assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
            return ended.stderr

        return ask

    def test_every_field_that_decides_results_is_named_in_one_line(self, refused, write):
        changed = {"search": {"retries": 5, "growth": 1.5}, "recipe": {"steps": 7}, "special_tokens": True}
        (line,) = refused(write("other", **changed)).splitlines()
        for field in (
            "special_tokens is true here, false in the run",
            "search.retries is 5 here, 2 in the run",
            "search.growth is 1.5 here, null in the run",
            "recipe.steps is 7 here, 20 in the run",
        ):
            assert field in line

    def test_another_task(self, refused, write):
        message = refused(write("other", task="one_step", models=["a/b"]))
        assert 'task is "one_step" here, "toy" in the run. What decides' in message

    def test_texts_that_have_changed_since(self, refused, write, tmp_path):
        (tmp_path / "texts" / "02.txt").write_text("Another text than before.")
        assert "text files:02.txt has changed since the run began" in refused(write("more", seeds=[1]))

    def test_another_name_for_a_text_that_the_run_has(self, write, tmp_path, finished, capsweep):
        texts = [{"source": "files", "path": "texts/", "samples": 2}, {"source": "files", "path": "texts/03.txt"}]
        run = finished(write("two", texts=texts))
        (tmp_path / "texts" / "02.txt").write_text((tmp_path / "texts" / "03.txt").read_text())
        more = write("more", texts=[{"source": "files", "path": "texts/", "samples": 3}])
        ended = capsweep("extend", run, more, "--inline")
        assert ended.returncode == 2
        assert "files:03.txt of the run would be called files:02.txt" in ended.stderr

    def test_a_run_that_another_session_writes(self, refused, run, write):
        holder = {"session_id": "other", "host": socket.gethostname(), "pid": os.getpid(), "heartbeat": time.time()}
        (run / "lock").write_text(json.dumps(holder))
        assert f"another session writes here: process {os.getpid()}" in refused(write("more", seeds=[1]))

    def test_what_is_no_run(self, write, tmp_path, capsweep):
        ended = capsweep("extend", tmp_path / "texts", write("more"), "--inline")
        assert ended.returncode == 2
        assert "not a run directory" in ended.stderr


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("after", range(5))
def test_killed_between_any_two_writes_it_is_the_old_run_or_the_new_one(
    run, write, finished, capsweep, searches_of, monkeypatch, after
):
    """Provenance, mark, samples, searches, sweep: the writes of an extension, killed after so many."""
    more = write("more", models=["toy/other"], texts=[{"source": "files", "path": "more.jsonl"}])
    old = searches_of(run)
    both = {"models": ["toy/model", "toy/other"], "texts": [*TOY["texts"], {"source": "files", "path": "more.jsonl"}]}
    fresh = finished(write("both", **both), "fresh")
    write_file, written = LocalFiles.write, list[str]()

    def write_or_die(files: LocalFiles, name: str, content: bytes, **options: Any) -> None:
        if name != LOCK_FILE and not name.startswith(SESSION_FOLDER):
            if len(written) == after:
                raise Killed
            written.append(name)
        write_file(files, name, content, **options)

    monkeypatch.setattr(LocalFiles, "write", write_or_die)
    with pytest.raises(Killed):
        capsweep("extend", run, more, "--inline")
    monkeypatch.setattr(LocalFiles, "write", write_file)
    resumed = capsweep("resume", run, "--inline")
    assert resumed.returncode == 0, resumed.stderr
    assert searches_of(run) == (searches_of(fresh) if "sweep.yaml" in written else old)
    assert len(open_run(str(run)).samples()) == (4 if "sweep.yaml" not in written else 10)
    assert capsweep("extend", run, more, "--inline").returncode == 0
    assert searches_of(run) == searches_of(fresh)


@pytest.mark.slow
def test_killed_while_the_new_searches_run_it_resumes(write, finished, start, capsweep, searches_of, monkeypatch):
    with monkeypatch.context() as hurried:
        hurried.setattr(time, "sleep", lambda seconds: None)
        run = finished(write("first", recipe=SLOW))
    before = rows_of(run)
    process = start("extend", run, write("more", recipe=SLOW, seeds=[1, 2, 3]), "--inline")
    deadline = time.monotonic() + 120
    while len(rows_of(run)) <= len(before):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "no rows appeared"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    assert capsweep("resume", run, "--inline").returncode == 0
    fresh = finished(write("whole", recipe=SLOW, seeds=[0, 1, 2, 3]), "fresh")
    assert searches_of(run) == searches_of(fresh)
    after = rows_of(run)
    assert {probe_id: after[probe_id] for probe_id in before} == before


class TestUnion:
    def sweep(self, **changes: Any) -> Sweep:
        return Sweep.model_validate({**TOY, **changes})

    def test_name_and_storage_stay_and_engines_and_budget_are_taken_where_they_are_given(self):
        held = self.sweep(storage="here/", budget={"minutes": 3})
        both = union(held, self.sweep(name="other", storage="there/", engines={"count": 2}))
        assert (both.name, both.storage, both.budget.minutes, both.engines.count) == ("toy", "here/", 3, 2)

    def test_more_samples_of_an_entry_take_its_place_and_fewer_do_not(self):
        held = self.sweep()
        for samples, wanted in ((2, 4), (9, 9), (None, None)):
            entry = {"source": "files", "path": "texts/", "samples": samples}
            assert [text.samples for text in union(held, self.sweep(texts=[entry])).texts] == [wanted]

    def test_a_sweep_joined_with_itself_is_itself(self):
        held = self.sweep(num_vectors=[1, 2], seeds=[4])
        assert union(held, held) == held
        assert additions(held, held) == {}
        assert differences(held, held) == []
