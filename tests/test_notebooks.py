"""The notebook that is shown to readers runs, on a run that was made here; and a run begins in one of a user's own."""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from orchestrator.cli import app as cli

NOTEBOOK = Path(__file__).resolve().parents[1] / "notebooks" / "read_a_run.ipynb"


def test_every_cell_runs(toy_sweep, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("orchestrator.launch.write_report", lambda run, searches: "")
    run = str(tmp_path / "run")
    assert CliRunner().invoke(cli.app, ["run", str(toy_sweep), "--inline", "--run-dir", run]).exit_code == 0
    monkeypatch.setenv("CAPSWEEP_RUN", run)
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    assert all(not cell["outputs"] for cell in cells), "a notebook is committed without what it printed"
    scope: dict[str, object] = {}
    for cell in cells:
        exec("".join(cell["source"]), scope)
    assert "toy/model" in capsys.readouterr().out


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    """Runs a cell in a kernel of Jupyter; gives its output as text."""
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    notebook = nbformat.v4.new_notebook()
    client = nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}})

    def execute(source: str) -> str:
        notebook.cells.append(nbformat.v4.new_code_cell(source))
        cell = client.execute_cell(notebook.cells[-1], len(notebook.cells) - 1)
        outputs = (output.get("text", "") + output.get("data", {}).get("text/plain", "") for output in cell["outputs"])
        return "".join(outputs)

    with client.setup_kernel():
        yield execute


@pytest.mark.slow
def test_a_run_in_a_notebook_shows_progress_and_its_stop_button_loses_nothing(toy_sweep, tmp_path, kernel):
    slow = {**yaml.safe_load(toy_sweep.read_text()), "recipe": {"steps": 20, "step_seconds": 0.05, "slots": 4}}
    pid = int(kernel(f"import orchestrator, os\nsweep = {slow!r}\nprint(os.getpid())"))

    def press() -> None:
        while not (tmp_path / "run" / "sweep.yaml").exists():
            time.sleep(0.05)
        os.kill(pid, signal.SIGINT)  # what the stop button does

    button = threading.Thread(target=press)
    button.start()
    shown = kernel("run = orchestrator.run(sweep, run_dir='run', inline=True)")
    button.join()
    assert "toy: 12 searches, 12 open, in run" in shown
    assert "saving what is in flight" in shown
    assert kernel("print(run.exit_code, 'open' in run.searches['status'].to_pylist())") == "130 True\n"
    kernel("run = orchestrator.resume(run, inline=True)")
    assert kernel("print(run.exit_code, set(run.searches['status'].to_pylist()))") == "0 {'measured'}\n"
