"""Reports of several runs, and tables and images beside the page."""

import csv
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestrator import cli
from orchestrator.report.export import Exported, latex, markdown
from orchestrator.reporting import all_tables, together
from orchestrator.run_directory import open_run

RUNNER = CliRunner()


@pytest.fixture
def two_runs(toy_sweep: Path, tmp_path: Path) -> tuple[str, str]:
    """Two sweeps of one model on the same texts."""
    other = tmp_path / "other.yaml"
    other.write_text(toy_sweep.read_text().replace("name: toy", "name: other") + "recipe: {shortfall: 9}\n")
    runs = str(tmp_path / "one"), str(tmp_path / "two")
    for spec, run in zip((toy_sweep, other), runs, strict=True):
        ended = RUNNER.invoke(cli.app, ["run", str(spec), "--inline", "--run-dir", run])
        assert ended.exit_code == 0, ended.output
    return runs


def test_one_model_in_two_runs_is_told_apart_by_the_run(two_runs):
    tables = all_tables([open_run(run) for run in two_runs])
    assert set(tables.searches["model"].to_pylist()) == {"toy/model (toy)", "toy/model (other)"}
    assert set(tables.probes["model"].to_pylist()) == set(tables.samples["model"].to_pylist())
    assert tables.searches.num_rows == 24


def test_runs_of_one_name_are_numbered(two_runs):
    read = all_tables([open_run(two_runs[0])])
    models = together([("same", read), ("same", read)]).searches["model"].to_pylist()
    assert set(models) == {"toy/model (same #1)", "toy/model (same #2)"}


def test_one_page_of_two_runs_and_its_tables(two_runs, tmp_path):
    page, folder = tmp_path / "out" / "page.html", tmp_path / "tables"
    ended = RUNNER.invoke(cli.app, ["report", *two_runs, "--to", str(page), "--tables", str(folder)])
    assert ended.exit_code == 0, ended.output
    html = page.read_text()
    assert "toy and other" in html
    assert "model (other)" in html
    rows = list(csv.DictReader((folder / "capacity.csv").read_text().splitlines()))
    assert [row["n"] for row in rows] == ["12", "12"]
    assert (folder / "pairs.md").read_text().startswith("| first | second |")
    assert r"\toprule" in (folder / "pairs.tex").read_text()


def test_images_need_what_is_said(two_runs, tmp_path, monkeypatch):
    import plotly.graph_objects as go

    def without_kaleido(*_, **__):
        raise ValueError("Image export requires kaleido")

    monkeypatch.setattr(go.Figure, "write_image", without_kaleido)
    ended = RUNNER.invoke(cli.app, ["report", two_runs[0], "--images", "svg", "--tables", str(tmp_path)])
    assert ended.exit_code == 2
    assert "pip install 'kaleido>=1'" in ended.output
    assert "Did you mean 'svg'?" in RUNNER.invoke(cli.app, ["report", two_runs[0], "--images", "svgg"]).output


def test_what_is_text_stays_text_in_markdown_and_latex():
    table = Exported(caption="50 % of a_b", columns=("a|b", "c"), rows=(("x & y_1\n{~}", 1.25), (None, 1234.5)))
    assert r"| a\|b | c |" in markdown(table)
    assert "| x & y_1 {~} | 1.25 |" in markdown(table)
    assert r"x \& y\_1 \{\textasciitilde{}\} & 1.25 \\" in latex(table)
    assert r"\caption{50 \% of a\_b}" in latex(table)
    assert r"\begin{tabular}{lr}" in latex(table)
