"""Models and data sets of a hub, from sweep file to rows: pinned, recorded, refused in one line.

The hub is tests/hub.py, on loopback; the product runs in this process unless a test needs another one.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import orchestrator
from tests.hub import Hub

TEXTS = ["Once upon a time there was a girl.", "The dog ran to the big red ball.", "He said that it was time to go."]
OF_HUB = "{source: hub, dataset: org/texts}"


def lines(texts: list[str]) -> bytes:
    return "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()


def commits_of(run: Path) -> dict[str, str]:
    return json.loads((run / "provenance.json").read_text())["text_commits"]


@pytest.fixture(scope="module")
def make_model(shipped_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], dict[str, bytes]]:
    """The files of a tiny model with random weights of a seed, and the shipped tokenizer."""
    config = LlamaConfig(
        vocab_size=512,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=32,
    )

    def make(seed: int) -> dict[str, bytes]:
        folder = tmp_path_factory.mktemp("model")
        torch.manual_seed(seed)
        LlamaForCausalLM(config).save_pretrained(folder)
        for file in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(shipped_model / file, folder)
        return {file.name: file.read_bytes() for file in folder.iterdir()}

    return make


@pytest.fixture(scope="module")
def models(make_model: Callable[[int], dict[str, bytes]]) -> list[dict[str, bytes]]:
    """Two models that differ in nothing but their weights."""
    return [make_model(0), make_model(1)]


@pytest.fixture
def hub(hub: Hub, models: list[dict[str, bytes]]) -> Hub:
    """A hub with a model and a data set."""
    hub.push("org/model", models[0])
    hub.push("org/texts", {"train.jsonl": lines(TEXTS)}, kind="datasets")
    return hub


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """A sweep file of little work over models and texts of the hub."""

    def write_sweep(
        model: str = "org/model", texts: str = "{source: hub, dataset: org/texts}", name: str = "mine"
    ) -> Path:
        path = tmp_path / f"{name}.yaml"
        path.write_text(
            f"name: {name}\nmodels: [{model}]\ntexts: [{texts}]\nengines: {{device: cpu}}\n"
            "recipe: {radius: 3, patience: 2}\nsearch: {max_length: 2, retries: 0}\n"
        )
        return path

    return write_sweep


class TestPinned:
    def test_a_run_goes_on_with_its_commit_where_main_has_moved(
        self, hub, write, models, tmp_path, capsweep, no_page, monkeypatch
    ):
        monkeypatch.setenv("COLUMNS", "200")
        spec, run = write(), tmp_path / "run"
        of_model, of_texts = (repository.refs["main"] for repository in hub.repositories.values())
        checked = capsweep("check", spec)
        assert f"org/model: is read at commit {of_model}" in checked.stdout
        assert f"texts.0: org/texts is read at commit {of_texts}" in checked.stdout
        ended = capsweep("run", spec, "--inline", "--run-dir", run)
        assert ended.returncode == 0, ended.stderr
        hub.push("org/model", models[1])
        hub.push("org/texts", {"train.jsonl": lines(TEXTS[::-1])}, kind="datasets")
        for again in (("resume", run), ("run", spec, "--run-dir", run)):
            ended = capsweep(*again, "--inline")
            assert ended.returncode == 0, ended.stderr
            assert f"commit {of_model}" in ended.stdout
        verified = capsweep("verify", run)
        assert "0 not" in verified.stdout, verified.stdout
        assert capsweep("measure", run).returncode == 0
        provenance = json.loads((run / "provenance.json").read_text())
        assert provenance["text_commits"] == {"texts.0": of_texts}
        assert provenance["models"]["org/model"]["model"]["commit"] == of_model
        tables = orchestrator.read(str(run))
        for table in (tables.probes, tables.searches):
            assert set(table["model_revision"].to_pylist()) == {of_model}
        # Nothing was read at another commit.
        other = hub.repositories["models", "org/model"].refs["main"]
        assert not [path for _, path, _ in hub.asked if other in path]

    def test_another_commit_is_another_model(self, hub, write, models, tmp_path, capsweep, no_page):
        spec, run = write(), tmp_path / "run"
        assert capsweep("run", spec, "--inline", "--run-dir", run).returncode == 0
        before = hub.repositories["models", "org/model"].refs["main"]
        other = hub.push("org/model", models[1])
        named = write(f"{{name: org/model, revision: {other}}}", name="named")
        named.write_text(named.read_text().replace("name: named", "name: mine"))
        refused = capsweep("run", named, "--inline", "--run-dir", run)
        assert refused.returncode == 2
        assert "already holds another sweep" in refused.stderr
        # The same where the run's own record was edited.
        (run / "sweep.yaml").write_text((run / "sweep.yaml").read_text().replace(before, other))
        refused = capsweep("resume", run, "--inline")
        assert refused.returncode == 2
        assert f"commit {before} then, {other} now" in refused.stderr

    def test_a_run_without_a_recorded_commit_is_not_continued(self, hub, write, tmp_path, capsweep, no_page):
        """As versions wrote it that recorded the word None."""
        spec, run = write(), tmp_path / "run"
        assert capsweep("run", spec, "--inline", "--run-dir", run).returncode == 0
        commit = hub.repositories["models", "org/model"].refs["main"]
        (run / "sweep.yaml").write_text((run / "sweep.yaml").read_text().replace(f"commit: {commit}", "commit: null"))
        provenance = json.loads((run / "provenance.json").read_text())
        provenance["models"]["org/model"]["facts"] |= {"revision": "None", "fingerprint": "0" * 64}
        (run / "provenance.json").write_text(json.dumps(provenance))
        refused = capsweep("resume", run, "--inline")
        assert refused.returncode == 2
        assert f"commit None then, {commit} now" in refused.stderr

    @pytest.mark.slow
    def test_an_extension_reads_what_the_run_reads(self, hub, write, models, tmp_path, capsweep, no_page):
        run = tmp_path / "run"
        fewer = "{source: hub, dataset: org/texts, samples: 2}"
        assert capsweep("run", write(texts=fewer), "--inline", "--run-dir", run).returncode == 0
        hub.push("org/model", models[1])
        hub.push("org/texts", {"train.jsonl": lines(["Another one.", *TEXTS])}, kind="datasets")
        ended = capsweep("extend", run, write(name="more"), "--inline")
        assert ended.returncode == 0, ended.stderr
        tables = orchestrator.read(str(run))
        assert len(set(tables.searches["model_revision"].to_pylist())) == 1
        assert sorted(tables.searches["source"].to_pylist()) == [f"hub:org/texts/train#{i}" for i in (1, 2, 3)]

    def test_branches_tags_and_commits_are_told_apart(self, hub, write, models, capsweep):
        old = hub.repositories["models", "org/model"].refs["main"]
        hub.push("org/model", models[1], to="step2")
        new = hub.repositories["models", "org/model"].refs["step2"]
        checked = capsweep("check", write(f"{{name: org/model, revisions: [step2, {old}]}}"))
        assert checked.returncode == 0, checked.stderr
        printed = " ".join(checked.stdout.split())
        assert f"org/model@step2: is read at commit {new}" in printed
        assert f"org/model@{old}: is read" not in printed

    def test_offline_the_cache_is_enough(self, hub, write, tmp_path, capsweep, no_page, monkeypatch):
        import huggingface_hub

        spec = write()
        assert capsweep("run", spec, "--inline", "--run-dir", tmp_path / "online").returncode == 0
        huggingface_hub.snapshot_download("org/texts", repo_type="dataset")
        hub.asked.clear()
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        ended = capsweep("run", spec, "--inline", "--run-dir", tmp_path / "offline")
        assert ended.returncode == 0, ended.stderr
        assert capsweep("resume", tmp_path / "online", "--inline").returncode == 0
        assert not hub.asked
        both = [
            orchestrator.read(str(tmp_path / name)).searches["search_id"].to_pylist() for name in ("online", "offline")
        ]
        assert sorted(both[0]) == sorted(both[1])

    def test_a_run_goes_on_where_the_hub_cannot_be_reached(self, hub, write, tmp_path, capsweep, no_page, monkeypatch):
        texts = tmp_path / "texts.txt"
        texts.write_text(TEXTS[0])
        spec, run = write(texts="{source: files, path: texts.txt}"), tmp_path / "run"
        assert capsweep("run", spec, "--inline", "--run-dir", run).returncode == 0
        hub.stop()
        monkeypatch.setattr("time.sleep", lambda seconds: None)  # the hub's client waits a minute for it
        ended = capsweep("resume", run, "--inline")
        assert ended.returncode == 0, ended.stderr

    @pytest.mark.parametrize("origin", ["out of reach", "without the data set"])
    def test_a_run_goes_on_without_its_data_set(self, hub, write, tmp_path, capsweep, no_page, monkeypatch, origin):
        spec, run = write(), tmp_path / "run"
        assert capsweep("run", spec, "--inline", "--run-dir", run).returncode == 0
        sweep, commits = (run / "sweep.yaml").read_bytes(), commits_of(run)
        if origin == "out of reach":
            hub.stop()
            monkeypatch.setattr("time.sleep", lambda seconds: None)  # the hub's client waits a minute for it
        else:
            del hub.repositories["datasets", "org/texts"]
        for again in (("resume", run), ("run", spec, "--run-dir", run)):
            # As if half of it had still to be done.
            for path in sorted((run / "probes").iterdir())[::2]:
                path.unlink()
            (run / "searches.parquet").unlink()  # which would tell of rows that are gone
            ended = capsweep(*again, "--inline")
            assert ended.returncode == 0, ended.stderr
            assert "the run's own copy is used" in " ".join(ended.stdout.split())
            assert ((run / "sweep.yaml").read_bytes(), commits_of(run)) == (sweep, commits)

    @pytest.mark.slow
    def test_a_tuning_goes_on_with_its_commits(self, hub, tmp_path, capsweep):
        texts = [f"Text number {number}, and some more of it." for number in range(12)]
        hub.push("org/texts", {"train.jsonl": lines(texts)}, kind="datasets")
        spec, folder = tmp_path / "tuned.yaml", tmp_path / "tuned"
        spec.write_text(f"name: tuned\ntask: toy\nmodels: [toy/model]\ntexts: [{OF_HUB}]\nrecipe: {{steps: 8}}\n")
        tune = ("tune", spec, "--inline", "--run-dir", folder, "--trials")
        assert capsweep(*tune, 2).returncode == 0
        hub.push("org/texts", {"train.jsonl": lines(texts[::-1])}, kind="datasets")
        ended = capsweep(*tune, 3)
        assert ended.returncode == 0, ended.stderr
        spec.write_text(spec.read_text().replace("steps: 8", "steps: 9"))
        assert "already holds another tuning" in capsweep(*tune, 3).stderr
