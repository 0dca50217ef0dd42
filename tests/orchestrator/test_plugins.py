"""Runs with tasks, sources and recipes that capsweep does not have: by --include, from a distribution, on Ray."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from typer.core import TyperGroup
from typer.main import get_command

import orchestrator
from orchestrator.cli.app import app
from orchestrator.cluster.jobs.submission import SWEEP_NAME, include_options, stage
from orchestrator.cluster.known_plugins import know
from orchestrator.spec.sweep_file import load_sweep
from tasks.plugins import forget_included, include, included_files
from tasks.registry import TASKS, TEXT_SOURCES
from tasks.values import TaskError
from tests.plugins import blocks_of, install

pytestmark = pytest.mark.usefixtures("no_page")

COUNTING, USE, PROJECT = blocks_of("Plug-ins")
TASK = 'from tasks.toy import ToyTask\nclass Mine(ToyTask):\n    name = "mine"\nTASKS = {"mine": Mine()}\n'


@pytest.fixture(autouse=True)
def _only_what_a_test_includes() -> Iterator[None]:
    yield
    forget_included()


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """A sweep that needs both files."""
    (tmp_path / "counting.py").write_text(COUNTING)
    (tmp_path / "mine.py").write_text(TASK)
    path = tmp_path / "mine.yaml"
    path.write_text(
        "name: mine\ntask: mine\nmodels: [toy/model]\ntexts: [{source: counting, samples: 3}]\nrecipe: {steps: 3}\n"
    )
    return path


@pytest.fixture
def includes(sweep: Path) -> list[str]:
    return [word for name in ("counting", "mine") for word in ("--include", str(sweep.parent / f"{name}.py"))]


def test_the_example_of_the_page_is_a_sweep(tmp_path, shipped_model):
    (tmp_path / "counting.py").write_text(COUNTING)
    include(tmp_path / "counting.py")
    asked = {"name": "mine", "models": [str(shipped_model)], **yaml.safe_load(USE)}
    checked = orchestrator.check(asked, timed=False)
    assert len(checked.plan.searches) == 50
    assert checked.plan.sweep.recipe["patience"] == 400
    changed = orchestrator.check(asked, overrides=["recipe.steps=9", "texts.0.samples=2"], timed=False).plan
    assert (changed.sweep.recipe["patience"], changed.sweep.recipe["steps"]) == (400, 9)
    assert len(changed.searches) == 2
    with pytest.raises(
        orchestrator.BadInput, match=r"^sweep: recipe: 'pateint' is not a recipe.* Of plug-ins: patient"
    ):
        orchestrator.check({**asked, "recipe": "pateint"})


def test_a_run_needs_its_files_again_and_says_so(sweep, includes, tmp_path, capsweep):
    run = tmp_path / "run"
    without = capsweep("run", sweep, "--inline", "--run-dir", run)
    assert without.returncode == 2
    assert without.stderr.splitlines() == [
        f"{sweep}: task: 'mine' is not a task. known: cramming, one_step, prefix, toy.",
        f"{sweep}: texts.0.source: 'counting' is not a text source. known: files, hub, random_words, random_tokens, "
        "model_samples.",
    ]
    assert not run.exists()
    assert capsweep("run", sweep, "--inline", "--run-dir", run, *includes).returncode == 0
    (session,) = json.loads((run / "provenance.json").read_text())["sessions"]
    assert list(session["plugins"]) == ["task mine", "text source counting"]
    forget_included()
    for verb in (("resume",), ("verify",), ("status",), ("report",), ("push", "hf://me/mine")):
        ended = capsweep(verb[0], run, *verb[1:])
        assert ended.returncode == 2
        (line,) = ended.stderr.splitlines()
        needed = ", ".join(f"{name} ({origin})" for name, origin in session["plugins"].items())
        assert line == (
            f"{run}: this run was made with a plug-in that is not known here: {needed}. Install it, or give its file "
            "with --include."
        )
    assert capsweep("verify", run, *includes).returncode == 0
    # Code is needed by what looks into the sweep alone.
    assert capsweep("stop", run).stdout == f"{run}: no session writes there\n"
    assert "3 of 3" in capsweep("runs", tmp_path).stdout


def test_every_verb_that_opens_a_sweep_or_a_run_takes_the_files():
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    without = [name for name, verb in group.commands.items() if "include" not in {each.name for each in verb.params}]
    assert sorted(without) == ["runs", "stop"]


def test_a_file_that_has_changed_is_a_note(sweep, includes, tmp_path, capsweep):
    run = tmp_path / "run"
    assert capsweep("run", sweep, "--inline", "--run-dir", run, *includes).returncode == 0
    (tmp_path / "mine.py").write_text(f"{TASK}# mended\n")
    again = capsweep("resume", run, "--inline", *includes)
    assert again.returncode == 0
    assert "note: task mine: mine.py, sha256 " in again.stdout
    assert again.stdout.count("Results may differ.") == 1


@pytest.mark.parametrize(
    ("source", "message"),
    [("raise ValueError(3)", "fails when it is run in line 1 (ValueError: 3)"), ("x = 1", "found none of them")],
)
def test_a_file_that_is_broken_is_bad_input(toy_sweep, tmp_path, capsweep, source, message):
    (tmp_path / "broken.py").write_text(source)
    ended = capsweep("check", toy_sweep, "--include", tmp_path / "broken.py")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert message in ended.stderr
    with pytest.raises(orchestrator.BadInput, match="broken"):
        orchestrator.include(tmp_path / "broken.py")


def test_a_broken_distribution_is_bad_input_of_the_sweeps_that_use_it(toy_sweep, tmp_path, capsweep, monkeypatch):
    points = "[capsweep.tasks]\nbroken = plug_7:IT\n[capsweep.text_sources]\nbroken_too = plug_7:IT"
    install(tmp_path / "site", "plug-7", "import nowhere_to_be_found", points)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert capsweep("check", toy_sweep, "--tflops", "1").returncode == 0
    text = toy_sweep.read_text().replace("task: toy", "task: broken").replace("source: files", "source: broken_too")
    toy_sweep.write_text(text)
    ended = capsweep("check", toy_sweep)
    assert ended.returncode == 2
    lines = ended.stderr.splitlines()
    assert [line.split(" offers it", 1)[0] for line in lines] == [
        f"{toy_sweep}: task: task 'broken': plug_7:IT of plug-7 0.1",
        f"{toy_sweep}: texts.0.source: text source 'broken_too': plug_7:IT of plug-7 0.1",
    ]


def test_a_job_carries_the_files(sweep, includes, tmp_path):
    for path in includes[1::2]:
        include(path)
    stage(load_sweep(sweep), tmp_path / "job")
    options = include_options()
    assert options == ["--include", "plugins/0/counting.py", "--include", "plugins/1/mine.py"]
    assert (tmp_path / "job" / SWEEP_NAME).exists()
    assert (tmp_path / "job" / options[3]).read_text() == TASK


def test_another_process_knows_what_the_driver_included(sweep, includes):
    for path in includes[1::2]:
        include(path)
    files = included_files()
    forget_included()
    with pytest.raises(
        TaskError, match=r"task 'mine': nothing on .* offers it\. Install the plug-in on every node, or"
    ):
        know((), task="mine")
    know(files, task="mine")
    assert {"mine"} <= set(TASKS)
    assert "counting" in TEXT_SOURCES


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_engines_in_other_processes_know_the_files(sweep, includes, tmp_path, capsweep, local_ray):
    run = tmp_path / "run"
    ended = capsweep("run", sweep, "--run-dir", run, *includes)
    assert ended.returncode == 0, ended.stderr
    assert set(orchestrator.open_run(run).searches["status"].to_pylist()) == {"measured"}


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_workers_that_try_recipes_know_them_too(sweep, includes, tmp_path, capsweep, local_ray):
    sweep.write_text(sweep.read_text().replace("samples: 3", "samples: 8"))
    ended = capsweep("tune", sweep, "--trials", 2, "--run-dir", tmp_path / "tune", *includes)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.slow
def test_a_distribution_that_pip_installed_is_known_by_name(tmp_path):
    project, site = tmp_path / "project", tmp_path / "site"
    project.mkdir()
    (project / "counting.py").write_text(COUNTING)
    (project / "pyproject.toml").write_text(
        f'{PROJECT}\n[build-system]\nrequires = ["setuptools"]\n[tool.setuptools]\npy-modules = ["counting"]\n'
    )
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(site), str(project)], check=True, timeout=120)
    sweep = tmp_path / "sweep.yaml"
    sweep.write_text("name: mine\ntask: toy\nmodels: [toy/model]\ntexts: [{source: counting, samples: 2}]\n")
    checked = subprocess.run(
        [sys.executable, "-m", "orchestrator.cli", "check", str(sweep), "--tflops", "1"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(site), *filter(None, sys.path)])},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert checked.returncode == 0, checked.stderr
