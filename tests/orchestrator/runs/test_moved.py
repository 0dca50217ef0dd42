"""A run goes on without the texts it was begun with, from any folder, and after it was moved."""

import os
import shutil
from pathlib import Path

import pytest

from orchestrator.planning.planner import make_plan
from orchestrator.runs.directory import open_run, samples_of
from orchestrator.spec.sweep_file import load_sweep

pytestmark = pytest.mark.usefixtures("no_page")


def remove_one(texts: Path) -> None:
    (texts / "03.txt").unlink()


ORIGINS = {
    "gone": shutil.rmtree,
    "moved": lambda texts: texts.rename(texts.with_name("elsewhere")),
    "empty": lambda texts: [path.unlink() for path in texts.iterdir()],
    "one text is gone": remove_one,
    "unreadable": lambda texts: [path.write_bytes(b"\xff\xfe\xff") for path in texts.iterdir()],
}


@pytest.mark.parametrize("origin", ORIGINS)
def test_the_run_holds_its_texts(toy_sweep, tmp_path, finished, capsweep, searches_of, origin):
    run = finished(toy_sweep)
    before, samples = searches_of(run), (run / "samples.parquet").read_bytes()
    plan = make_plan(load_sweep(toy_sweep))
    ORIGINS[origin](tmp_path / "texts")
    # As if half of it had still to be done.
    for path in sorted((run / "probes").iterdir())[::2]:
        path.unlink()
    resumed = capsweep("resume", run, "--inline")
    assert resumed.returncode == 0, resumed.stderr
    assert "run's own copy is used" in " ".join(resumed.stdout.split())
    assert searches_of(run) == before
    assert (run / "samples.parquet").read_bytes() == samples
    again = make_plan(open_run(str(run)).sweep, allow_fewer=True, samples=samples_of(str(run)))
    assert (again.searches, again.samples) == (plan.searches, plan.samples)


@pytest.mark.parametrize(("lost", "whole"), [("texts", True), ("others", False), ("both", True)])
def test_of_texts_of_one_name_in_two_folders_none_is_lost(
    toy_sweep, tmp_path, finished, capsweep, searches_of, lost, whole
):
    (tmp_path / "others").mkdir()
    for number in range(12):
        (tmp_path / "others" / f"{number:02d}.txt").write_text(f"Another text, number {number}, of the same name.")
    toy_sweep.write_text(toy_sweep.read_text() + "  - {source: files, path: others/}\n")
    run = finished(toy_sweep)
    before, samples = searches_of(run), (run / "samples.parquet").read_bytes()
    for folder in ("texts", "others") if lost == "both" else (lost,):
        for path in sorted((tmp_path / folder).iterdir())[: None if whole else 5]:
            path.unlink()
    resumed = capsweep("resume", run, "--inline")
    assert resumed.returncode == 0, resumed.stderr
    assert "run's own copy is used" in " ".join(resumed.stdout.split())
    assert "outside the plan" not in " ".join(resumed.stdout.split())
    assert searches_of(run) == before
    assert (run / "samples.parquet").read_bytes() == samples


def test_of_equal_texts_the_one_that_names_them_may_go(toy_sweep, tmp_path, finished, capsweep, searches_of):
    (tmp_path / "texts" / "05.txt").write_text((tmp_path / "texts" / "02.txt").read_text())
    toy_sweep.write_text(f"{toy_sweep.read_text()}# 05 as 02\n")  # a run of its own
    run = finished(toy_sweep)
    before, samples = searches_of(run), (run / "samples.parquet").read_bytes()
    assert len(before) == 11
    (tmp_path / "texts" / "02.txt").unlink()
    resumed = capsweep("resume", run, "--inline")
    assert resumed.returncode == 0, resumed.stderr
    assert searches_of(run) == before
    assert (run / "samples.parquet").read_bytes() == samples


def test_one_of_two_texts_of_one_name_that_is_another_now_is_refused(toy_sweep, tmp_path, finished, capsweep):
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "00.txt").write_text("Another text of the same name.")
    toy_sweep.write_text(toy_sweep.read_text() + "  - {source: files, path: others/}  # one text\n")
    run = finished(toy_sweep)
    (tmp_path / "texts" / "00.txt").write_text("Something else altogether.")
    refused = capsweep("resume", run, "--inline")
    assert (refused.returncode, "text files:00.txt has changed" in refused.stderr) == (2, True)


def test_of_texts_that_were_cut_the_plan_stays_the_same(toy_sweep, tmp_path, finished):
    toy_sweep.write_text(toy_sweep.read_text() + "search: {max_length: 20}\n")
    plan, run = make_plan(load_sweep(toy_sweep)), finished(toy_sweep)
    shutil.rmtree(tmp_path / "texts")
    again = make_plan(open_run(str(run)).sweep, allow_fewer=True, samples=samples_of(str(run)))
    assert (again.searches, again.samples) == (plan.searches, plan.samples)
    assert {search.limit_status for search in again.searches} == {"at_max_length"}


def test_a_text_that_is_another_now_is_refused_all_the_same(toy_sweep, tmp_path, finished, capsweep):
    run = finished(toy_sweep)
    (tmp_path / "texts" / "04.txt").unlink()
    (tmp_path / "texts" / "03.txt").write_text("Something else altogether.")
    refused = capsweep("resume", run, "--inline")
    assert (refused.returncode, "text files:03.txt has changed" in refused.stderr) == (2, True)


def test_without_texts_and_their_copies_it_says_what_is_missing(toy_sweep, tmp_path, finished, capsweep):
    run = finished(toy_sweep)
    (run / "samples.parquet").unlink()
    shutil.rmtree(tmp_path / "texts")
    refused = capsweep("resume", run, "--inline")
    assert (refused.returncode, "texts.0: " in refused.stderr) == (2, True)


def test_from_another_folder_and_after_a_move(toy_sweep, tmp_path, finished, capsweep, searches_of, monkeypatch):
    run = finished(toy_sweep)
    before = searches_of(run)
    new = tmp_path / "elsewhere" / "renamed"
    new.parent.mkdir()
    run.rename(new)
    shutil.rmtree(tmp_path / "texts")
    for path in sorted((new / "probes").iterdir())[::2]:
        path.unlink()
    monkeypatch.chdir(new.parent)
    resumed = capsweep("resume", "renamed", "--inline")
    assert resumed.returncode == 0, resumed.stderr
    assert searches_of(new) == before
    assert capsweep("verify", os.path.relpath(new)).returncode == 0


def test_with_the_sweep_file_where_the_texts_are_now_the_run_follows_them(toy_sweep, tmp_path, finished, capsweep):
    run = finished(toy_sweep)
    (tmp_path / "moved").mkdir()
    for name in ("texts", "toy.yaml"):
        (tmp_path / name).rename(tmp_path / "moved" / name)
    again = capsweep("run", tmp_path / "moved" / "toy.yaml", "--inline", "--run-dir", run)
    assert again.returncode == 0, again.stderr
    assert open_run(str(run)).sweep == load_sweep(tmp_path / "moved" / "toy.yaml")
