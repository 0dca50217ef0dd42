"""CSV for spreadsheets: text that would be a formula is quoted, numbers stay numbers, in Python and in the page."""

import csv
import json
import re
import shutil
import subprocess
from pathlib import Path

import pyarrow as pa
import pytest

import orchestrator.report
from orchestrator.report.export import Exported
from orchestrator.report.writing import _csv, write_tables

FORMULAS = [
    "=cmd|' /C calc'!A0",
    "+1+1",
    "-2+3",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "\uff1d1",
    '=HYPERLINK("http://x","a")',
]
PLAIN = ["a=b", " = 1", "'=1", "1+1", "", "é"]


def test_cells_of_tables_for_a_paper():
    rows = tuple((cell, -1.5, -2, None) for cell in [*FORMULAS, *PLAIN])
    written = _csv(Exported(label="", caption="", columns=("model", "low", "k", "sd"), rows=rows))
    head, *read = csv.reader(written.splitlines(keepends=True))
    assert head == ["model", "low", "k", "sd"]
    assert [cells[0] for cells in read] == [*(f"'{cell}" for cell in FORMULAS), *PLAIN]
    assert {tuple(cells[1:]) for cells in read} == {("-1.5", "-2", "")}
    assert "-1.5,-2," in written, "numbers are not in quotes"


def test_names_of_models_and_sources(generated, tmp_path):
    tables = generated(6, 6)
    place = tables.searches.column_names.index("model")
    names = pa.array([f"=1+{model}" for model in tables.searches["model"].to_pylist()])
    object.__setattr__(tables, "searches", tables.searches.set_column(place, "model", names))
    write_tables(tables, tmp_path)
    with (tmp_path / "capacity.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["model"] for row in rows} == {"'=1+made-up/small", "'=1+made-up/large"}
    assert all(float(row["tokens"]) > 0 for row in rows)


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_cells_of_the_page_are_quoted_alike():
    script = (Path(orchestrator.report.__file__).parent / "page.js").read_text()
    (cell_function,) = re.findall(r"^const csvCell = .*?^};$", script, re.DOTALL | re.MULTILINE)
    cells = [*FORMULAS, *PLAIN, -1.5, None]
    code = f"{cell_function}\nconsole.log(JSON.stringify({json.dumps(cells)}.map(csvCell)))"
    ended = subprocess.run(["node", "-e", code], capture_output=True, text=True, check=True)
    (read,) = csv.reader([",".join(json.loads(ended.stdout))])
    assert read == [*(f"'{cell}" for cell in FORMULAS), *PLAIN, "-1.5", ""]
