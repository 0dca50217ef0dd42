"""Reports of several runs, and tables and images beside the page."""

import csv
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from orchestrator.report.figures.all_figures import figures
from orchestrator.report.images import write_images as write_images_of
from orchestrator.report.writing import all_tables, together
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


def test_runs_of_one_sweep_are_called_by_their_folders(two_runs, finished, toy_sweep, tmp_path):
    again = str(finished(toy_sweep, "again: #2"))
    models = all_tables([open_run(run) for run in (two_runs[0], again, two_runs[1])]).searches["model"].to_pylist()
    assert set(models) == {"toy/model (one)", "toy/model (again: #2)", "toy/model (other)"}
    (tmp_path / "elsewhere").mkdir()
    same = str(finished(toy_sweep, "elsewhere/one"))
    models = all_tables([open_run(run) for run in (two_runs[0], same)]).searches["model"].to_pylist()
    assert set(models) == {"toy/model (one #1)", "toy/model (one #2)"}


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
    assert re.match(r"\| first +\| second +\|", (folder / "pairs.md").read_text())
    assert r"\label{tab:capacity}" in (folder / "paper.tex").read_text()
    assert r"\toprule" in (folder / "pairs.tex").read_text()


@pytest.mark.usefixtures("no_page")
def test_what_images_need_is_reported(two_runs, tmp_path, capsweep, monkeypatch):
    import plotly.io

    def without_kaleido(*_, **__):
        raise ValueError("Image export requires kaleido")

    monkeypatch.setattr(plotly.io, "write_images", without_kaleido)
    ended = capsweep("report", two_runs[0], "--images", "svg", "--tables", tmp_path)
    assert ended.returncode == 2
    assert "pip install 'capsweep[images]'" in ended.stderr
    unknown = capsweep("report", two_runs[0], "--images", "svgg")
    assert unknown.returncode == 2
    assert all(kind in unknown.stderr for kind in ("--images", "'png'", "'svg'", "'pdf'"))
    wide = capsweep("report", two_runs[0], "--images", "svg", "--width", "wide")
    assert wide.returncode == 2
    assert "--width: 'wide'" in wide.stderr


def test_images_are_as_wide_as_asked_and_their_captions_lie_beside_them(two_runs, tmp_path, monkeypatch):
    import plotly.io

    written: dict[str, dict] = {}

    def write_images(drawn, paths, scale, width, height):
        written.update({path.name: figure for path, figure in zip(paths, drawn, strict=True)})
        assert (set(width), len(height)) == ({480}, len(drawn))

    monkeypatch.setattr(plotly.io, "write_images", write_images)
    tables = all_tables([open_run(two_runs[0])])
    folder = tmp_path / "figures"
    write_images_of(tables, folder, "svg", 5.0)
    captions = (folder / "captions.md").read_text()
    drawn = figures(tables)
    assert sorted(written) == sorted(f"{one.name}.svg" for one in drawn)
    for one in drawn:
        assert written[f"{one.name}.svg"]["layout"]["width"] == 480
        assert one.title in captions
        assert one.caption in captions
