"""The verbs as functions: what a notebook gets, and that the command is the same thing."""

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf
from rich.console import Console

import orchestrator
from orchestrator.launch import Exit
from orchestrator.spec.sweep_file import load_sweep
from tests.plugins import blocks_of

pytestmark = pytest.mark.usefixtures("no_page")

ROOT = Path(__file__).resolve().parents[2]
QUIET = Console(quiet=True)


@pytest.fixture
def asked(toy_sweep: Path) -> dict[str, Any]:
    """The sweep of `toy_sweep`, as a mapping."""
    texts = [{"source": "files", "path": toy_sweep.parent / "texts"}]
    return {"name": "toy", "task": "toy", "models": ("toy/model",), "texts": texts}


class TestSweeps:
    def test_are_the_same_as_file_mapping_or_model(self, asked, toy_sweep, tmp_path, searches_of):
        runs = [tmp_path / name for name in ("file", "mapping", "model")]
        for sweep, run in zip((toy_sweep, asked, load_sweep(toy_sweep)), runs, strict=True):
            ended = orchestrator.run(sweep, run_dir=run, inline=True, console=QUIET)
            assert ended.exit_code is Exit.DONE
        assert searches_of(runs[0]) == searches_of(runs[1]) == searches_of(runs[2])
        assert (runs[0] / "sweep.yaml").read_text() == (runs[1] / "sweep.yaml").read_text()

    def test_in_code_find_their_files_from_here(self, asked, toy_sweep, monkeypatch):
        monkeypatch.chdir(toy_sweep.parent)
        asked["texts"][0]["path"] = "texts/"
        as_model = orchestrator.Sweep.model_validate({**asked, "texts": [{"source": "files", "path": "texts/"}]})
        for sweep in (asked, as_model):
            (entry,) = orchestrator.check(sweep, timed=False).plan.sweep.texts
            assert entry.model_dump()["path"] == str(toy_sweep.parent / "texts")

    def test_in_code_may_hold_arrays_and_ranges_and_be_one_of_omegaconf(self, asked):
        held = {**asked, "num_vectors": np.arange(1, 3), "seeds": range(2), "search": {"max_length": np.int64(9)}}
        sweep = orchestrator.check(held, timed=False).plan.sweep
        assert (sweep.num_vectors, sweep.seeds, sweep.search.max_length) == ((1, 2), (0, 1), 9)
        as_config = OmegaConf.create({**held, "texts": [], "num_vectors": [1, 2], "seeds": [0, 1], "search": {}})
        as_config.texts.append({"source": "files", "path": str(asked["texts"][0]["path"])})
        assert orchestrator.check(as_config, timed=False).plan.sweep.num_vectors == (1, 2)

    def test_are_tuned_in_at_least_one_trial_for_at_least_one_token(self, asked, tmp_path):
        with pytest.raises(orchestrator.BadInput) as caught:
            orchestrator.tune(asked, trials=0, budget=-3, inline=True, run_dir=tmp_path / "tune")
        assert caught.value.problems == ("trials: found 0; wanted at least 1.", "budget: found -3; wanted at least 1.")
        assert not (tmp_path / "tune").exists()

    def test_that_hold_themselves_are_bad_input(self, asked):
        asked["budget"] = asked
        with pytest.raises(orchestrator.BadInput, match="sweep: it holds itself"):
            orchestrator.check(asked)

    def test_report_every_problem_at_once(self, asked):
        with pytest.raises(orchestrator.BadInput) as caught:
            orchestrator.run({**asked, "taks": 1, "num_vectors": [0]}, inline=True)
        assert [line.split(": ")[:2] for line in caught.value.problems] == [
            ["sweep", "num_vectors.0"],
            ["sweep", "taks"],
        ]

    @pytest.mark.parametrize(
        ("sweep", "message"),
        [
            ({"name": {1, 2}}, "sweep: .*set.*Wanted text, numbers, lists and mappings"),
            (["name"], "sweep: found a list. Wanted a mapping"),
            (
                {"seeds": (n for n in (0,)), "name": b"x"},
                "^sweep: seeds: found a generator.*\nsweep: name: found a byt",
            ),
            ("name: mine\nmodels: [a/b]\n", "^sweep: found text of several lines.* yaml.safe_load"),
            ("name: " * 60, "cannot be read .File name too long"),
            ("nowhere.yaml", "nowhere.yaml: there is no such file"),
        ],
    )
    def test_that_are_none(self, sweep, message):
        with pytest.raises(orchestrator.BadInput, match=message):
            orchestrator.check(sweep)

    def test_extend_adds_nothing_for_what_was_left_out(self, toy_sweep, finished, asked):
        run = finished(toy_sweep)
        more = orchestrator.Sweep.model_validate(
            {**asked, "texts": [{"source": "files", "path": str(asked["texts"][0]["path"])}], "models": ["toy/other"]}
        )
        ended = orchestrator.extend(run, more, inline=True, console=QUIET)
        assert ended.exit_code is Exit.DONE
        assert ended.searches.num_rows == 24
        with pytest.raises(orchestrator.BadInput, match=r"^sweep: search\.retries is 5 here, 2 in the run"):
            orchestrator.extend(run, {**asked, "search": {"retries": 5}}, inline=True)


class TestRun:
    @pytest.fixture
    def run(self, toy_sweep, finished) -> orchestrator.Run:
        return orchestrator.open_run(finished(toy_sweep))

    def test_has_its_tables_and_memories(self, run):
        assert run.searches.num_rows == run.samples.num_rows == 12
        assert "memory" not in run.probes.column_names
        first = run.searches.slice(0, 1).to_pylist()[0]
        memory = run.memory(first["search_id"])
        assert memory.dtype == np.float32
        assert memory.shape == (1, 1)
        assert round(float(memory[0, 0])) == first["capacity_tokens"]
        with pytest.raises(orchestrator.BadInput, match="no search_ids of this run begin with it"):
            run.memory("nothing")

    def test_is_read_and_listed_by_whatever_names_it(self, run):
        assert orchestrator.read(run).searches.equals(orchestrator.read(Path(run.url)).searches)
        (listed,) = orchestrator.list_runs(Path(run.url).parent).runs
        assert listed.done == 12

    def test_takes_a_cell_of_its_tables_as_a_search_id(self, run):
        cell = run.searches["search_id"][0]
        assert (run.memory(cell) == run.memory(cell.as_py())).all()
        with pytest.raises(orchestrator.BadInput, match="0: no search_ids of this run begin with it; wanted one"):
            run.memory(0)

    def test_that_was_opened_before_it_was_extended_has_what_was_added(self, run, toy_sweep):
        before = set(run.searches["search_id"].to_pylist())
        run.memory(min(before))
        orchestrator.extend(run, toy_sweep, overrides="models=[toy/other]", inline=True, console=QUIET)
        (added, *_) = set(run.searches["search_id"].to_pylist()) - before
        assert orchestrator.decode(run, added)
        assert run.memory(added).shape == (1, 1)
        assert len({found.probe_id for found in orchestrator.verify(run)}) > 12

    def test_is_bad_input_where_there_is_none(self, tmp_path):
        for call in (orchestrator.open_run, orchestrator.verify, orchestrator.resume):
            with pytest.raises(orchestrator.BadInput, match="not a run directory"):
                call(tmp_path)

    def test_resumes_verifies_decodes_and_exports(self, run, tmp_path):
        assert orchestrator.resume(run, inline=True, console=QUIET).exit_code is Exit.DONE
        assert all(found.is_exact for found in orchestrator.verify(run))
        first = run.searches.slice(0, 1).to_pylist()[0]
        assert len(orchestrator.decode(run, first["search_id"])) == first["capacity_tokens"]
        assert orchestrator.export(run, tmp_path / "memories") == 12
        assert run.report() == run.page

    def test_says_what_it_has_not(self, run):
        with pytest.raises(orchestrator.BadInput, match="task: toy has no model of transformers"):
            orchestrator.load_memory(run, run.searches["search_id"][0].as_py())
        with pytest.raises(orchestrator.BadInput, match="'published' has no figures for its searches"):
            orchestrator.compare(run)
        with pytest.raises(orchestrator.BadInput, match="nothing to fit"):
            orchestrator.fit(run)
        with pytest.raises(orchestrator.BadInput, match=r"'publishd': not known.*Did you mean 'published'"):
            orchestrator.compare(run, "publishd")  # pyright: ignore[reportArgumentType]
        with pytest.raises(orchestrator.BadInput, match=r"'gguf': not known\. known: safetensors, vllm, llama\.cpp"):
            orchestrator.export(run, "memories", format="gguf")  # pyright: ignore[reportArgumentType]

    def test_writes_where_home_is_meant(self, run, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path))
        orchestrator.export(run, "~/memories")
        assert (tmp_path / "memories" / "memories.safetensors").is_file()


class TestWordsByThemselves:
    """A text is a sequence of letters, which nobody means where several texts are wanted."""

    def test_override(self, asked):
        assert orchestrator.check(asked, overrides="seeds=[0,1]", timed=False).plan.sweep.seeds == (0, 1)

    def test_run_to_reuse(self, asked, toy_sweep, finished, tmp_path):
        ended = orchestrator.run(
            asked, run_dir=tmp_path / "second", inline=True, console=QUIET, reuse=str(finished(toy_sweep))
        )
        assert ended.directory.provenance["sessions"][0]["reused"][0]["searches"] == 12

    def test_variable_and_setting(self, asked, toy_sweep, finished):
        with pytest.raises(orchestrator.BadInput, match=r"^--env NOWHERE_SET: [^\n]*$"):
            orchestrator.run(asked, inline=True, env="NOWHERE_SET")
        with pytest.raises(orchestrator.BadInput, match=r"^--as dtype=float8: [^\n]*$"):
            orchestrator.verify_under(finished(toy_sweep), "dtype=float8")


def test_a_run_in_a_thread_does_without_signals(asked, tmp_path):
    ended: list[orchestrator.Run] = []

    def run() -> None:
        ended.append(orchestrator.run(asked, run_dir=tmp_path / "run", inline=True, console=QUIET))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(60)
    assert [one.exit_code for one in ended] == [Exit.DONE]


def test_progress_goes_to_the_console_that_is_given(asked, tmp_path, capsys):
    console = Console(record=True, file=(tmp_path / "shown.txt").open("w"))
    orchestrator.run(asked, run_dir=tmp_path / "run", inline=True, console=console)
    assert "toy: 12 searches, 12 open" in console.export_text()
    assert capsys.readouterr().out == ""


def test_every_name_is_there_and_importing_is_cheap():
    assert all(hasattr(orchestrator, name) for name in orchestrator.__all__)
    heavy = "pyarrow", "ray", "torch", "pydantic", "rich", "transformers"
    script = f"import orchestrator, sys; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "[]\n"


def test_the_page_runs_as_it_is_written(tmp_path, monkeypatch, capsys):
    """A sweep, its cost, its run, and a memory from which transformers generates the text."""
    (tmp_path / "sweeps").symlink_to(ROOT / "sweeps")
    monkeypatch.chdir(tmp_path)
    scope: dict[str, Any] = {}
    measure, generate = blocks_of("Python")
    exec(measure, scope)
    run, memory_id = scope["run"], scope["run"].searches["search_id"][0].as_py()
    assert run.searches["capacity_tokens"].to_pylist() == [8, 8]
    capsys.readouterr()
    exec(generate, scope)
    assert capsys.readouterr().out == f"{orchestrator.decode(run, memory_id)}\n"
    assert scope["memory"].vectors.shape == run.memory(memory_id).shape
    assert tuple(scope["tokens"][0].tolist()) == scope["memory"].tokens
