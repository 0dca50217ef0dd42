"""The commit of a hub data set: named where the sweep does not pin it, and kept with the run."""

import json
from types import SimpleNamespace

import datasets
import huggingface_hub
import pytest

NOW, LATER = "a" * 40, "b" * 40
ROWS = [{"text": f"Text number {number}, and some more of it."} for number in range(3)]


@pytest.fixture
def hub(monkeypatch):
    """Stands in for the network; `hub.commit` is what the data set is at."""
    state = SimpleNamespace(commit=NOW)
    monkeypatch.setattr(
        datasets, "load_dataset", lambda *_, **__: datasets.IterableDataset.from_generator(lambda: iter(ROWS))
    )
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda *_, **__: SimpleNamespace(sha=state.commit))
    return state


def test_the_run_keeps_the_commit_that_its_texts_were_first_read_at(hub, tmp_path, no_page, capsweep, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    spec, run = tmp_path / "sweep.yaml", tmp_path / "run"
    spec.write_text("name: hub\ntask: toy\nmodels: [toy/model]\ntexts: [{source: hub, dataset: a/b, samples: 3}]\n")
    checked = capsweep("check", spec)
    note = f"texts.0: revision: null takes what the hub has now; pin it with revision: {NOW}"
    assert note in checked.stdout
    for commit in (NOW, LATER):  # the second session finds its texts unchanged
        hub.commit = commit
        ended = capsweep("run", spec, "--inline", "--run-dir", run)
        assert ended.returncode == 0, ended.stderr
        assert f"pin it with revision: {commit}" in ended.stdout
        provenance = json.loads((run / "provenance.json").read_text())
        assert provenance["text_commits"] == {"texts.0": NOW}
    spec.write_text(spec.read_text().replace("a/b,", f"a/b, revision: {NOW},"))
    assert "pin it" not in capsweep("check", spec).stdout
