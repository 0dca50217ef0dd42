"""What is sent with a job: enough to run the sweep in a folder of its own."""

import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from orchestrator.cluster.jobs.driver import different_versions
from orchestrator.cluster.jobs.submission import (
    SWEEP_NAME,
    check_run_url,
    job_name_of,
    stage,
    versions,
    versions_of_job,
)
from orchestrator.errors import BadInput
from orchestrator.planning.planner import make_plan
from orchestrator.spec.sweep_file import load_sweep
from orchestrator.spec.tracking import DISTRIBUTIONS

QUICKSTART = Path(__file__).resolve().parents[3] / "sweeps" / "quickstart.yaml"


@pytest.mark.slow
def test_a_staged_sweep_runs_without_what_it_was_made_of(toy_sweep, tmp_path):
    patterned = "  - {source: files, path: 'texts/1*.txt', name: pattern}\n"
    toy_sweep.write_text(toy_sweep.read_text() + patterned)
    job = tmp_path / "job"
    stage(load_sweep(toy_sweep), job)
    shutil.rmtree(toy_sweep.parent / "texts")
    ran = subprocess.run(
        [
            sys.executable,
            "-m",
            "orchestrator.cli",
            "run",
            SWEEP_NAME,
            "--inline",
            "--run-dir",
            str(tmp_path / "run"),
        ],
        cwd=job,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert ran.returncode == 0, ran.stderr
    assert "12 searches" in ran.stdout
    document = yaml.safe_load((job / SWEEP_NAME).read_text())
    assert [entry["path"] for entry in document["texts"]] == ["inputs/texts-0/texts", "inputs/texts-1/1*.txt"]
    assert sorted(path.name for path in (job / "inputs" / "texts-1").iterdir()) == ["10.txt", "11.txt"]


def test_a_staged_model_keeps_its_name(tmp_path):
    stage(load_sweep(QUICKSTART), tmp_path / "job")
    (sent,) = make_plan(load_sweep(tmp_path / "job" / SWEEP_NAME)).models
    (here,) = make_plan(load_sweep(QUICKSTART)).models
    assert sent.name == here.name == "quickstart"


def test_a_run_resumes_where_its_inputs_lie_elsewhere(toy_sweep, tmp_path, capsweep, no_page):
    run = tmp_path / "run"
    assert capsweep("run", toy_sweep, "--inline", "--run-dir", run).returncode == 0
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(toy_sweep.parent / "texts", elsewhere / "texts")
    again = shutil.copy(toy_sweep, elsewhere)
    assert capsweep("run", again, "--inline", "--run-dir", run).returncode == 0
    (elsewhere / "texts" / "00.txt").write_text("another text than there was, at the same place")
    changed = capsweep("run", again, "--inline", "--run-dir", run)
    assert changed.returncode == 2
    assert "00.txt has changed" in changed.stderr


@pytest.mark.parametrize("url", ["runs/mine", "mine", "../runs"])
def test_a_run_that_would_go_with_its_job_is_refused(url):
    with pytest.raises(BadInput, match=r"s3://bucket/runs/NAME or an absolute folder"):
        check_run_url(url)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("s3://bucket/runs/mine-1.2_b", "mine-1.2_b"),
        ("/runs/exp#1?a=%20 b[2]é", "exp-1-a--20-b-2--"),
        ("~/a&b/", "a-b"),
    ],
)
def test_the_id_of_a_job_can_stand_in_an_address(url, name):
    """Otherwise `status --follow` and `stop` would ask for another one."""
    assert job_name_of(url) == name


@pytest.mark.parametrize("tracker", ["mlflow", "tensorboard"])
def test_a_job_gets_the_trackers_of_its_sweep(toy_sweep, tracker):
    name = DISTRIBUTIONS[tracker]
    assert name not in versions_of_job(load_sweep(toy_sweep))
    toy_sweep.write_text(toy_sweep.read_text() + f"tracking: {{{tracker}: {{}}}}\n")
    assert versions_of_job(load_sweep(toy_sweep))[name] == version(name)


def test_versions_are_those_of_everything_that_is_needed():
    found = versions()
    assert {"ray", "torch", "transformers", "pyarrow", "numpy"} <= found.keys()
    assert not any("+" in number for number in found.values())
    text = "".join(f"{name}=={number}\n" for name, number in found.items())
    assert different_versions(text) == []
    other = text.replace(f"torch=={found['torch']}", "torch==0.0.1")
    assert different_versions(other) == [
        f"torch: {found['torch']} here, 0.0.1 where the sweep was submitted",
    ]
