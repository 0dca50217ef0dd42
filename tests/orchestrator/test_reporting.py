"""Reports of several runs, and tables and images beside the page."""

import csv
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from pathlib import Path

import pyarrow as pa
import pytest

from orchestrator.report.export import Exported, latex, markdown
from orchestrator.report.figures.all_figures import figures
from orchestrator.report.writing import all_tables, together, write_images
from orchestrator.runs.directory import open_run
from orchestrator.store.schema import LINES


@pytest.fixture
def two_runs(toy_sweep: Path, tmp_path: Path, finished: Callable[..., Path]) -> tuple[str, str]:
    """Two sweeps of one model on the same texts."""
    other = tmp_path / "other.yaml"
    other.write_text(toy_sweep.read_text().replace("name: toy", "name: other") + "recipe: {shortfall: 9}\n")
    return str(finished(toy_sweep, "one")), str(finished(other, "two"))


def test_one_model_in_two_runs_is_distinguished_by_the_run(two_runs):
    tables = all_tables([open_run(run) for run in two_runs])
    assert set(tables.searches["model"].to_pylist()) == {"toy/model (toy)", "toy/model (other)"}
    assert set(tables.probes["model"].to_pylist()) == set(tables.samples["model"].to_pylist())
    assert tables.searches.num_rows == 24


def test_runs_of_one_name_are_numbered(two_runs):
    read = all_tables([open_run(two_runs[0])])
    models = together([("same", read), ("same", read)]).searches["model"].to_pylist()
    assert set(models) == {"toy/model (same #1)", "toy/model (same #2)"}


def test_two_runs_of_one_sweep_keep_their_searches_and_probes_apart(two_runs):
    read = all_tables([open_run(two_runs[0])])
    line = {"model": "toy/model", "from_probe_id": read.probes["probe_id"][0].as_py(), "to_probe_id": "elsewhere"}
    read = replace(read, lines=pa.Table.from_pylist([line], schema=LINES))
    both = together([("same", read), ("same", read)])
    for name in ("search_id", "probe_id"):
        assert len(set(both.probes[name].to_pylist())) == 2 * len(set(read.probes[name].to_pylist()))
    models = dict(zip(both.searches["search_id"].to_pylist(), both.searches["model"].to_pylist(), strict=True))
    assert all(models[row["search_id"]] == row["model"] for row in both.probes.to_pylist())
    proven = [name for name in both.searches["probe_id"].to_pylist() if name is not None]
    assert set(proven) <= set(both.probes["probe_id"].to_pylist())
    begun = {name for name in both.probes["start"].to_pylist() if name != "cold"}
    assert begun <= set(both.probes["probe_id"].to_pylist())
    ends = both.lines["from_probe_id"].to_pylist()
    assert len(set(ends) & set(both.probes["probe_id"].to_pylist())) == 2


def test_tasks_distinguish_runs(two_runs):
    read = all_tables([open_run(two_runs[0])])
    place = read.searches.column_names.index("task")
    other = replace(
        read, searches=read.searches.set_column(place, "task", pa.array(["other"] * read.searches.num_rows))
    )
    models = together([("one", read), ("two", other)]).searches["model"].to_pylist()
    assert set(models) == {"toy/model (toy)", "toy/model (other)"}
    models = together([("one", read), ("two", other), ("three", read)]).searches["model"].to_pylist()
    assert set(models) == {"toy/model (one, toy)", "toy/model (other)", "toy/model (three, toy)"}


def test_one_page_of_two_runs_and_its_tables(two_runs, tmp_path, capsweep):
    page, folder = tmp_path / "out" / "page.html", tmp_path / "tables"
    ended = capsweep("report", *two_runs, "--to", page, "--tables", folder)
    assert ended.returncode == 0, ended.stderr
    html = page.read_text()
    assert "toy and other" in html
    assert "model (other)" in html
    rows = list(csv.DictReader((folder / "capacity.csv").read_text().splitlines()))
    assert [row["n"] for row in rows] == ["12", "12"]
    assert {"token gain", "information gain nats high", "information gain bits sd", "utilization low"} <= set(rows[0])
    assert (folder / "pairs.md").read_text().startswith("| first | second |")
    assert r"\toprule" in (folder / "pairs.tex").read_text()


@pytest.mark.usefixtures("no_page")
def test_what_images_need_is_reported(two_runs, tmp_path, capsweep, monkeypatch):
    import plotly.graph_objects as go

    def without_kaleido(*_, **__):
        raise ValueError("Image export requires kaleido")

    monkeypatch.setattr(go.Figure, "write_image", without_kaleido)
    ended = capsweep("report", two_runs[0], "--images", "svg", "--tables", tmp_path)
    assert ended.returncode == 2
    assert "pip install 'kaleido>=1'" in ended.stderr
    unknown = capsweep("report", two_runs[0], "--images", "svgg")
    assert unknown.returncode == 2
    assert all(kind in unknown.stderr for kind in ("--images", "'png'", "'svg'", "'pdf'"))


def test_images_have_a_title_and_a_caption_with_their_number_of_texts(two_runs, tmp_path, monkeypatch):
    import plotly.graph_objects as go

    written: dict[str, go.Figure] = {}
    monkeypatch.setattr(go.Figure, "write_image", lambda figure, path, **_: written.update({path.stem: figure}))
    tables = all_tables([open_run(two_runs[0])])
    write_images(tables, tmp_path, "svg")
    for drawn in figures(tables):
        layout = written[drawn.name].to_dict()["layout"]
        assert layout["title"]["text"] == drawn.title
        caption = layout["annotations"][-1]["text"].replace("<br>", " ")
        assert unescape(caption) == drawn.caption
        assert "n = " in caption


def test_what_is_text_stays_text_in_markdown_and_latex():
    table = Exported(caption="50 % of a_b", columns=("a|b", "c"), rows=(("x & y_1\n{~}", 1.25), (None, 1234.5)))
    assert r"| a\|b | c |" in markdown(table)
    assert "| x & y_1 {~} | 1.25 |" in markdown(table)
    assert r"x \& y\_1 \{\textasciitilde{}\} & 1.25 \\" in latex(table)
    assert r"\caption{50 \% of a\_b}" in latex(table)
    assert r"\begin{tabular}{lr}" in latex(table)
