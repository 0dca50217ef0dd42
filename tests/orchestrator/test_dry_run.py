"""What is set on the command line runs and is recorded; --dry-run says what would run, and writes nothing."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.runs.directory import open_run

pytestmark = pytest.mark.usefixtures("no_page")

NOTHING = "dry run: nothing was written, and nothing was run."


@pytest.fixture
def first(toy_sweep: Path, finished: Callable[..., Path]) -> Path:
    """A finished run of the toy's twelve texts."""
    return finished(toy_sweep)


def last_session(run: Path) -> dict[str, Any]:
    return json.loads((run / "provenance.json").read_text())["sessions"][-1]


def everything_below(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class TestOverrides:
    def test_the_run_keeps_the_sweep_with_them_and_its_provenance_names_them(self, toy_sweep, tmp_path, capsweep):
        words, run = ["num_vectors=[1,2]", "texts.0.samples=3"], tmp_path / "run"
        ended = capsweep("run", toy_sweep, *words, "--inline", "--run-dir", run)
        assert ended.returncode == 0, ended.stderr
        kept = yaml.safe_load((run / "sweep.yaml").read_text())
        assert (kept["num_vectors"], kept["texts"][0]["samples"]) == ([1, 2], 3)
        assert open_run(str(run)).searches().num_rows == 6
        assert last_session(run)["overrides"] == words
        assert capsweep("resume", run, "--inline").returncode == 0
        assert "overrides" not in last_session(run)

    def test_the_same_words_resume_it_and_others_are_another_sweep(self, first, toy_sweep, capsweep):
        words = ("run", toy_sweep, "--inline", "--run-dir", first)
        assert capsweep(*words, "name=toy").returncode == 0
        other = capsweep(*words, "seeds=[1]")
        assert other.returncode == 2
        assert "already holds another sweep" in other.stderr

    def test_extend_adds_what_they_set(self, first, toy_sweep, capsweep):
        assert capsweep("extend", first, toy_sweep, "num_vectors=[2]", "--inline").returncode == 0
        assert open_run(str(first)).sweep.num_vectors == (1, 2)
        assert last_session(first)["overrides"] == ["num_vectors=[2]"]
        assert last_session(first)["added"] == {"num_vectors": [2]}

    def test_a_submitted_file_that_has_them_in_it_is_recorded_so(self, toy_sweep, tmp_path, capsweep):
        run = tmp_path / "run"
        words = ("--overridden=texts.0.samples=1", "--overridden=seeds=[0]", "--inline", "--run-dir", run)
        assert capsweep("run", toy_sweep, *words).returncode == 0
        assert last_session(run)["overrides"] == ["texts.0.samples=1", "seeds=[0]"]

    @pytest.mark.parametrize(
        "verb", [("check",), ("run", "--inline"), ("tune", "--trials=2"), ("submit", "--address=http://127.0.0.1:1")]
    )
    def test_every_verb_refuses_a_wrong_one_in_one_line(self, verb, toy_sweep, tmp_path, capsweep, monkeypatch):
        monkeypatch.chdir(tmp_path)
        before = everything_below(tmp_path)
        ended = capsweep(verb[0], toy_sweep, "models.0.dtype=float8", *verb[1:])
        assert (ended.returncode, ended.stdout) == (2, "")
        assert ended.stderr.startswith("models.0.dtype=float8: models.0.dtype: found 'float8'. known: float32, ")
        assert ended.stderr.count("\n") == 1
        assert everything_below(tmp_path) == before

    def test_a_cluster_file_has_no_such_fields(self, tmp_path, capsweep):
        (tmp_path / "cluster.yaml").write_text("cluster_name: mine\nprovider: {type: aws}\n")
        ended = capsweep("check", tmp_path / "cluster.yaml", "seeds=[1]")
        assert ended.returncode == 2
        assert "is a cluster file" in ended.stderr


class TestDryRun:
    @pytest.fixture
    def shown(self, tmp_path: Path, capsweep: Callable[..., Any]) -> Callable[..., str]:
        """What a dry run prints, on one line; it must leave everything as it was."""

        def show(*words: object) -> str:
            before = everything_below(tmp_path)
            ended = capsweep(*words, "--dry-run")
            assert ended.returncode == 0, ended.stderr
            assert everything_below(tmp_path) == before
            assert NOTHING in ended.stdout
            return " ".join(ended.stdout.split())

        return show

    def test_a_new_run_has_everything_to_do(self, toy_sweep, tmp_path, shown):
        output = shown("run", toy_sweep, "seeds=[0,1]", "--run-dir", tmp_path / "run")
        assert f"toy: 24 searches in {tmp_path}/run: 0 done there, 0 to take over from other runs, 24 to run" in output
        assert "Rough: it assumes " in output
        assert not (tmp_path / "run").exists()

    def test_a_finished_one_has_nothing(self, first, toy_sweep, shown):
        output = shown("run", toy_sweep, "--run-dir", first)
        assert "12 done there, 0 to take over from other runs, 0 to run" in output
        assert "Rough" not in output

    def test_an_extension_has_what_it_adds_and_its_cost_alone(self, first, toy_sweep, capsweep, shown):
        output = shown("extend", first, toy_sweep, "models=[toy/model,toy/other]", "texts.0.samples=4")
        assert "12 done there, 0 to take over from other runs, 12 to run" in output
        assert "added to the run: 1 of models." in output
        alone = shown("run", toy_sweep, "models=[toy/other]")
        assert [line for line in output.split("~") if "toy/other" in line] == [
            line for line in alone.split("~") if "toy/other" in line
        ]
        # It promised what then happens.
        ended = capsweep("extend", first, toy_sweep, "models=[toy/model,toy/other]", "--inline")
        assert "24 searches, 12 open" in ended.stdout

    def test_what_other_runs_have_finished_need_not_run(self, first, toy_sweep, tmp_path, shown):
        output = shown("run", toy_sweep, "seeds=[0,1]", "--run-dir", tmp_path / "second", "--reuse", first)
        assert "0 done there, 12 to take over from other runs, 12 to run" in output
        assert f"12 finished searches taken over from {first}." in output

    @pytest.mark.parametrize("words", [("seeds=[1]",), ("--reuse", "texts")])
    def test_it_refuses_what_the_run_would(self, first, toy_sweep, capsweep, words):
        asked = ("run", toy_sweep, *words, "--run-dir", first)
        refused = capsweep(*asked, "--dry-run")
        assert refused.returncode == 2
        assert refused.stderr == capsweep(*asked, "--inline").stderr


class TestReuse:
    def test_extend_takes_over_what_another_run_has_finished(self, first, toy_sweep, tmp_path, capsweep, searches_of):
        second = tmp_path / "second"
        assert capsweep("run", toy_sweep, "seeds=[1]", "--inline", "--run-dir", second).returncode == 0
        ended = capsweep("extend", first, toy_sweep, "seeds=[0,1,2]", "--inline", "--reuse", second)
        assert ended.returncode == 0, ended.stderr
        assert "36 searches, 12 open" in ended.stdout
        assert last_session(first)["reused"][0]["searches"] == 12
        whole = tmp_path / "whole"
        assert capsweep("run", toy_sweep, "seeds=[0,1,2]", "--inline", "--run-dir", whole).returncode == 0
        assert searches_of(first) == searches_of(whole)

    def test_a_job_looks_for_runs_where_it_runs(self, toy_sweep, capsweep):
        ended = capsweep("submit", toy_sweep, "--address=http://127.0.0.1:1", "--run-dir=/runs/a", "--reuse=runs/")
        assert ended.returncode == 2
        assert ended.stderr.startswith("--reuse runs/: the job looks for runs on the cluster")


class TestHowMuchIsPrinted:
    def test_quiet_is_the_folder_alone(self, toy_sweep, tmp_path, capsweep):
        run = tmp_path / "run"
        ended = capsweep("run", toy_sweep, "--inline", "-q", "--run-dir", run)
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"{run}\n", "")
        ended = capsweep("extend", run, toy_sweep, "seeds=[1]", "--inline", "--quiet")
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"{run}\n", "")
        ended = capsweep("resume", run, "--inline", "--quiet")
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"{run}\n", "")

    def test_and_what_went_wrong(self, toy_sweep, tmp_path, capsweep):
        run, words = tmp_path / "run", ("recipe.step_seconds=0.05", "budget.minutes=1e-4", "--inline", "-q")
        ended = capsweep("run", toy_sweep, *words, "--run-dir", run)
        assert (ended.returncode, ended.stdout) == (3, f"{run}\n")
        assert "the budget is spent: " in ended.stderr
        assert ended.stderr.count("\n") == 1

    def test_verbose_has_a_line_for_each_probe(self, toy_sweep, tmp_path, capsweep):
        run = tmp_path / "run"
        few = capsweep("run", toy_sweep, "--inline", "--run-dir", run)
        assert " probe 0, " not in few.stdout
        more = capsweep("extend", run, toy_sweep, "seeds=[1]", "--inline", "-v").stdout
        lines = [line for line in more.splitlines() if " probe " in line and " proven, " in line]
        rows = open_run(str(run)).probes().to_pylist()
        assert len(lines) == sum(row["seed"] == 1 for row in rows) > 12
        assert lines[0].startswith("toy/model  files:")
