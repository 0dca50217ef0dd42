"""The command `capsweep tune`: on the toy, whose best recipe is known, and once on a real model."""

import signal
import time
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from orchestrator.spec import load_sweep

RESULTS = {"complete", "pruned"}


def trials_of(folder: Path) -> list[dict]:
    return pq.read_table(folder / "tune.parquet").to_pylist()


@pytest.fixture
def bad_recipe(toy_sweep: Path) -> Path:
    """The toy stays far short of its texts' capacities; it need not."""
    toy_sweep.write_text(toy_sweep.read_text() + "recipe: {shortfall: 4, steps: 40}\n")
    return toy_sweep


def test_a_better_recipe_is_found_and_holds_on_other_texts(bad_recipe, tmp_path, run_to_end):
    folder = tmp_path / "tuned"
    ended = run_to_end("tune", bad_recipe, "--trials", 12, "--inline", "--run-dir", folder)
    assert ended.returncode == 0, ended.stderr
    assert "reported on" in ended.stdout
    trials = trials_of(folder)
    assert (trials[0]["shortfall"], trials[0]["steps"]) == (4, 40)
    assert sum(trial["state"] in RESULTS for trial in trials) == 12
    assert all(trial["trained_tokens"] > 0 for trial in trials)
    text = (folder / "recipe.yaml").read_text()
    assert "# on other texts:" in text
    assert yaml.safe_load(text)["recipe"]["shortfall"] < 4
    page = (folder / "report" / "tune.html").read_text()
    assert "Importances" in page
    assert "http://" not in page.split("<script")[0]
    # It can be put into a sweep as it is.
    lines = [line for line in bad_recipe.read_text().splitlines() if not line.startswith("recipe:")]
    bad_recipe.write_text("\n".join([*lines, text]))
    assert load_sweep(bad_recipe).recipe == yaml.safe_load(text)["recipe"]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_tuning_continues_to_its_trials(bad_recipe, tmp_path, start, run_to_end, how):
    text = bad_recipe.read_text().replace("steps: 40", "steps: 40, step_seconds: 0.004")
    bad_recipe.write_text(text)
    folder = tmp_path / "tuned"
    asked = ("tune", bad_recipe, "--trials", 4, "--inline", "--run-dir", folder)
    process = start(*asked)
    deadline = time.monotonic() + 120
    while not (folder / "study.journal").is_file() or "reached" not in (folder / "study.journal").read_text():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(how)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == (130 if how is signal.SIGINT else -9)
    if how is signal.SIGINT:
        assert "the same command resumes it" in output
        assert sum(trial["state"] in RESULTS for trial in trials_of(folder)) < 4
    again = run_to_end(*asked)
    assert again.returncode == 0, again.stderr
    states = Counter(trial["state"] for trial in trials_of(folder))
    assert states["complete"] + states["pruned"] == 4
    assert states["waiting"] == states["running"] == 0
    assert (folder / "recipe.yaml").is_file()


def test_what_cannot_be_tuned_is_refused(toy_sweep, tmp_path, run_to_end):
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("not ours")
    refused = run_to_end("tune", toy_sweep, "--trials", 2, "--inline", "--run-dir", other)
    assert (refused.returncode, "thesis.tex" in refused.stderr) == (2, True)
    refused = run_to_end("tune", toy_sweep, "--trials", 2, "--inline", "--run-dir", "memory://bucket/tuned")
    assert (refused.returncode, "journal" in refused.stderr) == (2, True)
    toy_sweep.write_text(toy_sweep.read_text() + "num_vectors: [1, 2]\n")
    refused = run_to_end("tune", toy_sweep, "--trials", 2, "--inline", "--run-dir", tmp_path / "new")
    assert (refused.returncode, "one number of vectors" in refused.stderr) == (2, True)
    assert not (tmp_path / "new").exists()


def test_another_question_in_the_same_folder_is_refused(toy_sweep, tmp_path, run_to_end):
    folder = tmp_path / "tuned"
    asked = ("tune", toy_sweep, "--trials", 1, "--inline", "--run-dir", folder)
    assert run_to_end(*asked).returncode == 0
    refused = run_to_end(*asked, "--budget", 77)
    assert (refused.returncode, "already tunes something else" in refused.stderr) == (2, True)


def test_a_language_model_is_tuned(stories_model, shared_data, tmp_path, run_to_end):
    spec = tmp_path / "stories.yaml"
    stories = shared_data / "text" / "stories_choose.jsonl"
    spec.write_text(
        f"name: stories\nmodels: [{stories_model}]\ntexts: [{{source: files, path: {stories}, samples: 6}}]\n"
        "search: {max_length: 12}\n"
    )
    folder = tmp_path / "tuned"
    ended = run_to_end("tune", spec, "--trials", 2, "--budget", 600, "--inline", "--run-dir", folder)
    assert ended.returncode == 0, ended.stderr
    first, second = trials_of(folder)
    assert first["learning_rate"] == 1.0
    assert second["learning_rate"] != 1.0
    # The step that spends the budget is the last.
    assert first["trained_tokens"] <= first["searches"] * (600 + 12)


def test_on_ray_trials_run_side_by_side(bad_recipe, tmp_path, run_to_end):
    bad_recipe.write_text(bad_recipe.read_text() + "engines: {count: 2, cpus: 1}\n")
    folder = tmp_path / "tuned"
    ended = run_to_end("tune", bad_recipe, "--trials", 6, "--run-dir", folder)
    assert ended.returncode == 0, ended.stderr
    assert "2 trials side by side" in ended.stdout
    assert sum(trial["state"] in RESULTS for trial in trials_of(folder)) == 6
