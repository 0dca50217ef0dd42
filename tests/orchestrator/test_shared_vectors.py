"""Runs whose texts share a vector: from the sweep file to rows, texts, pages and what is done with them later."""

from collections.abc import Callable
from pathlib import Path
from shutil import copytree
from typing import Any

import pyarrow.parquet as pq
import pytest

import orchestrator
from orchestrator.runs.directory import open_run

SWEEP = """
name: shared
task: one_step
models: [model]
texts: [{source: files, path: texts/, samples: 4}]
share: {second: 2}
num_vectors: [3]
search: {max_length: 5, retries: 0}
recipe: {steps: 60}
engines: {device: cpu}
"""
TEXTS = (
    "The cat sat on the mat.",
    "A dog ran to the old house.",
    "Once there was a king.",
    "She said that it was cold.",
)


@pytest.fixture
def sweep(tmp_path: Path, shipped_model: Path) -> Path:
    copytree(shipped_model, tmp_path / "model")
    (tmp_path / "texts").mkdir()
    for number, text in enumerate(TEXTS):
        (tmp_path / "texts" / f"{number}.txt").write_text(text)
    path = tmp_path / "sweep.yaml"
    path.write_text(SWEEP)
    return path


@pytest.mark.slow
def test_a_run_is_measured_read_resumed_and_extended(
    sweep: Path, finished: Callable[..., Path], capsweep: Callable[..., Any], tmp_path: Path
):
    run = finished(sweep)
    rows = orchestrator.read(str(run)).searches.to_pylist()
    assert [(row["num_texts"], row["num_vectors"], row["capacity_tokens"]) for row in rows] == [(2, 3, 5)] * 2
    # 1. What comes out is shown text by text, and so is the page's.
    for row, texts in zip(rows, (TEXTS[:2], TEXTS[2:]), strict=True):
        decoded = capsweep("decode", run, row["search_id"]).stdout
        parts = decoded.rstrip("\n").split("\n\n")
        assert all(text.startswith(part) and part for text, part in zip(texts, parts, strict=True))
    assert capsweep("report", run).returncode == 0
    page = (run / "report" / "index.html").read_text()
    assert "2 samples of 2 texts that share a vector" in page
    assert "2 of 2 exact" in capsweep("status", run).stdout
    # 2. What is asked of memories later.
    assert "2 memories decoded, 2 exact, 0 not" in capsweep("verify", run).stdout
    measured = capsweep("measure", run, "--noise")
    assert measured.returncode == 0, measured.stderr
    bits = pq.read_table(run / "bits.parquet").to_pylist()
    assert all(row["arithmetic_bytes"] for row in bits)
    assert capsweep("export", run, "--to", tmp_path / "out", "--format", "vllm").returncode == 2
    # 3. A text is lost: the run has its own copies. Two more texts are another group.
    (tmp_path / "texts" / "1.txt").unlink()
    resumed = capsweep("resume", run, "--inline")
    assert (resumed.returncode, "the run's own copies are used" in resumed.stderr + resumed.stdout) == (0, True)
    (tmp_path / "texts" / "1.txt").write_text(TEXTS[1])
    for number in (4, 5):
        (tmp_path / "texts" / f"{number}.txt").write_text(f"{number} more texts are here.")
    sweep.write_text(SWEEP.replace("samples: 4", "samples: 6"))
    extended = capsweep("extend", run, sweep, "--inline")
    assert extended.returncode == 0, extended.stderr
    assert orchestrator.read(str(run)).searches.num_rows == 3
    sweep.write_text(SWEEP.replace("second: 2", "second: 3").replace("[3]", "[4]"))
    refused = capsweep("extend", run, sweep, "--inline")
    assert (refused.returncode, "share.second is 3 here, 2 in the run" in refused.stderr) == (2, True)


def test_the_texts_of_a_run_are_counted_before_it_begins(sweep: Path, capsweep: Callable[..., Any]):
    checked = capsweep("check", sweep)
    assert checked.returncode == 0, checked.stderr
    assert " 4 " in checked.stdout, checked.stdout


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_vectors: [3]": "num_vectors: [2]"}, "an e for each of 2 texts, and m. Wanted [3]."),
        ({"task: one_step": "task: cramming"}, "share: task: cramming has no vector that texts could share"),
        ({"task: one_step": "task: toy", "recipe: {steps: 60}": ""}, "share: task: toy has no vector"),
        ({"second: 2": "second: 1"}, "share.second: found 1; it should be"),
        ({"share:": "context: 4\nshare:"}, "share: texts that share a vector have no context"),
        ({"second: 2": "second: 7", "[3]": "[8]"}, "4 texts beyond groups of 7; left out."),
        ({"second: 2": "first: 2"}, "share.first: unknown key"),
    ],
)
def test_what_cannot_be_shared_is_refused(sweep: Path, capsweep: Callable[..., Any], changes, message):
    text = SWEEP
    for before, after in changes.items():
        text = text.replace(before, after)
    sweep.write_text(text)
    refused = capsweep("check", sweep)
    assert (refused.returncode, message in refused.stderr) == (2, True), refused.stderr


@pytest.mark.usefixtures("no_page")
def test_the_row_and_the_sample_say_how_many_texts_there_are(sweep: Path, finished: Callable[..., Path]):
    run = open_run(str(finished(sweep)))
    assert run.probes(("num_texts",))["num_texts"].to_pylist() == [2, 2]
    assert [row["num_texts"] for row in run.samples().to_pylist()] == [2, 2]
