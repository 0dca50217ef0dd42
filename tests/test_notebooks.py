"""The notebook that is shown to readers runs, on a run that was made here."""

import json
from pathlib import Path

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
