"""The command `capsweep tune`: on the toy, whose best recipe is known, and once on a real model."""

import signal
import time
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from orchestrator.spec.sweep_file import load_sweep
from tasks.toy import ToyEngine

RESULTS = {"complete", "pruned"}


def trials_of(folder: Path) -> list[dict]:
    return pq.read_table(folder / "tune.parquet").to_pylist()


def has_trials(folder: Path) -> bool:
    journal = folder / "study.journal"
    return journal.is_file() and "reached" in journal.read_text()


def num_results(folder: Path) -> int:
    """Trials that have a result; none may be left over."""
    states = Counter(trial["state"] for trial in trials_of(folder))
    assert states.keys() <= RESULTS | {"fail"}
    return states["complete"] + states["pruned"]


@pytest.fixture
def bad_recipe(toy_sweep: Path) -> Path:
    """The toy stays far short of its texts' capacities; it need not."""
    toy_sweep.write_text(toy_sweep.read_text() + "recipe: {shortfall: 4, steps: 40}\n")
    return toy_sweep


def test_a_better_recipe_is_found_and_holds_on_other_texts(bad_recipe, tmp_path, capsweep):
    folder = tmp_path / "tuned"
    ended = capsweep("tune", bad_recipe, "--trials", 12, "--inline", "--run-dir", folder)
    assert ended.returncode == 0, ended.stderr
    assert "reported on" in ended.stdout
    trials = trials_of(folder)
    assert (trials[0]["shortfall"], trials[0]["steps"]) == (4, 40)
    assert num_results(folder) == 12
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


@pytest.mark.slow
def test_a_killed_tuning_continues_to_its_trials(bad_recipe, tmp_path, start, capsweep):
    text = bad_recipe.read_text().replace("steps: 40", "steps: 40, step_seconds: 0.005")
    bad_recipe.write_text(text)
    folder = tmp_path / "tuned"
    asked = ("tune", bad_recipe, "--trials", 2, "--inline", "--run-dir", folder)
    process = start(*asked)
    deadline = time.monotonic() + 120
    while not has_trials(folder):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.1)  # into the steps of the second trial
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    again = capsweep(*asked)
    assert again.returncode == 0, again.stderr
    assert num_results(folder) == 2
    assert (folder / "recipe.yaml").is_file()


def test_an_interrupted_tuning_continues_to_its_trials(bad_recipe, tmp_path, capsweep, monkeypatch):
    folder = tmp_path / "tuned"
    asked = ("tune", bad_recipe, "--trials", 2, "--inline", "--run-dir", folder)

    def interrupted(engine: ToyEngine) -> list:
        if has_trials(folder):  # this step is one of the second trial
            signal.raise_signal(signal.SIGINT)
        return step(engine)

    step = ToyEngine.step
    with monkeypatch.context() as patch:
        patch.setattr(ToyEngine, "step", interrupted)
        cut = capsweep(*asked)
    assert cut.returncode == 130
    assert "the same command with --run-dir" in cut.stdout
    assert Counter(trial["state"] for trial in trials_of(folder)) == {"complete": 1, "fail": 1, "waiting": 1}
    assert not (folder / "recipe.yaml").exists()
    again = capsweep(*asked)
    assert again.returncode == 0, again.stderr
    assert num_results(folder) == 2
    assert (folder / "recipe.yaml").is_file()


def test_what_cannot_be_tuned_is_refused(toy_sweep, tmp_path, capsweep):
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("not ours")
    refused = capsweep("tune", toy_sweep, "--trials", 2, "--inline", "--run-dir", other)
    assert (refused.returncode, "thesis.tex" in refused.stderr) == (2, True)
    refused = capsweep("tune", toy_sweep, "--trials", 2, "--inline", "--run-dir", "memory://bucket/tuned")
    assert (refused.returncode, "journal" in refused.stderr) == (2, True)
    toy_sweep.write_text(toy_sweep.read_text() + "num_vectors: [1, 2]\n")
    refused = capsweep("tune", toy_sweep, "--trials", 2, "--inline", "--run-dir", tmp_path / "new")
    assert (refused.returncode, "one number of vectors" in refused.stderr) == (2, True)
    assert not (tmp_path / "new").exists()


def test_another_question_in_the_same_folder_is_refused(toy_sweep, tmp_path, capsweep):
    folder = tmp_path / "tuned"
    asked = ("tune", toy_sweep, "--trials", 1, "--inline", "--run-dir", folder)
    assert capsweep(*asked).returncode == 0
    refused = capsweep(*asked, "--budget", 77)
    assert (refused.returncode, "already holds another tuning" in refused.stderr) == (2, True)


@pytest.mark.slow
def test_a_language_model_is_tuned(stories_model, shared_data, tmp_path, capsweep):
    spec = tmp_path / "stories.yaml"
    stories = shared_data / "text" / "stories_choose.jsonl"
    spec.write_text(
        f"name: stories\nmodels: [{stories_model}]\ntexts: [{{source: files, path: {stories}, samples: 6}}]\n"
        "search: {max_length: 12}\nrecipe: {optimizer: adamw}\n"
    )
    folder = tmp_path / "tuned"
    ended = capsweep("tune", spec, "--trials", 2, "--budget", 60, "--inline", "--run-dir", folder)
    assert ended.returncode == 0, ended.stderr
    first, second = trials_of(folder)
    assert first["learning_rate"] == 1.0
    assert second["learning_rate"] != 1.0
    # The step that spends the budget is the last.
    assert first["searches"] * 60 <= first["trained_tokens"] <= first["searches"] * (60 + 12)


@pytest.mark.xdist_group("ray")
@pytest.mark.slow
def test_on_ray_trials_run_side_by_side(local_ray, bad_recipe, tmp_path, capsweep, monkeypatch):
    prepared_for: list[str | None] = []
    monkeypatch.setattr("orchestrator.cluster.environment.set_variables", prepared_for.append)
    bad_recipe.write_text(bad_recipe.read_text() + "engines: {count: 2, cpus: 1}\n")
    folder = tmp_path / "tuned"
    ended = capsweep("tune", bad_recipe, "--trials", 4, "--run-dir", folder)
    assert ended.returncode == 0, ended.stderr
    assert prepared_for == [None]
    assert "2 trials side by side" in ended.stdout
    assert num_results(folder) == 4


DAMAGED = {
    "emptied": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "garbage": lambda path: path.write_bytes(b"\xff\x00garbage: ["),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


def test_no_damaged_file_of_a_tuning_keeps_it_from_going_on(toy_sweep, tmp_path, capsweep):
    folder = tmp_path / "tuned"
    asked = ("tune", toy_sweep, "--trials", 1, "--inline", "--run-dir", folder)
    assert capsweep(*asked).returncode == 0
    for damage in DAMAGED.values():
        for name in ("tune.yaml", "study.journal", "tune.parquet", "recipe.yaml", "report/tune.html"):
            damage(folder / name)
        again = capsweep(*asked)
        assert again.returncode == 0, again.stderr
        assert num_results(folder) == 1
        assert yaml.safe_load((folder / "recipe.yaml").read_text())["recipe"]
        assert "tune.yaml was " in " ".join(again.stdout.split())
