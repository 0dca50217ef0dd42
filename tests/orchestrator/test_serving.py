"""Memories as vLLM and llama.cpp read them, read back as these do."""

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from orchestrator.runs.directory import open_run
from tasks.language_model import LanguageModel
from tasks.values import Model


@pytest.fixture(scope="module")
def run(capsweep, without_pages, tmp_path_factory, stories_model: Path, stories: list[str]) -> Path:
    """Two short stories, with a BOS before each memory."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "texts").mkdir()
    for number, text in enumerate(stories[:2]):
        (folder / "texts" / f"{number}.txt").write_text(text)
    (folder / "sweep.yaml").write_text(
        f"name: served\nmodels: [{stories_model}]\ntexts: [{{source: files, path: texts/}}]\nnum_vectors: [2]\n"
        "prefix: bos\nsearch: {max_length: 6, retries: 0}\nengines: {device: cpu}\n"
    )
    with without_pages():
        ended = capsweep("run", folder / "sweep.yaml", "--inline", "--run-dir", folder / "run")
    assert ended.returncode == 0, ended.stderr
    return folder / "run"


@pytest.fixture(scope="module")
def model(stories_model: Path) -> LanguageModel:
    return LanguageModel(Model(name=str(stories_model)), device="cpu")


@pytest.fixture
def exported(run, capsweep, tmp_path) -> Callable[[str], tuple[Path, list[dict]]]:
    def export(server: str) -> tuple[Path, list[dict]]:
        ended = capsweep("export", run, "--to", tmp_path, "--format", server, "--device", "cpu")
        assert ended.returncode == 0, ended.stderr
        assert (tmp_path / "README.md").is_file()
        manifest = json.loads((tmp_path / "manifest.json").read_text())
        assert manifest["server"] == server
        return tmp_path, manifest["memories"]

    return export


def decoded(model: LanguageModel, vectors_TD: torch.Tensor, count: int) -> list[int]:
    """What a server does: read the vectors, then each token that comes out."""
    return model.decode(vectors_TD[None], torch.zeros(1, count, dtype=torch.long)).tokens_BL[0].tolist()


def test_vllm_finds_a_tensor_and_a_request(exported, model, run):
    folder, memories = exported("vllm")
    assert {entry["search_id"] for entry in memories} == set(open_run(str(run)).searches()["search_id"].to_pylist())
    for entry in memories:
        request = json.loads((folder / f"{entry['search_id']}.json").read_text())
        sent = torch.load(io.BytesIO(base64.b64decode(request["prompt_embeds"], validate=True)), weights_only=True)
        assert torch.equal(sent, torch.load(folder / entry["file"], weights_only=True))
        assert (sent.dtype, list(sent.shape)) == (torch.float32, entry["shape"])
        assert entry["shape"] == [3, 64]  # BOS and two vectors
        assert (request["max_tokens"], request["temperature"]) == (len(entry["tokens"]), 0)
        assert decoded(model, sent, request["max_tokens"]) == entry["tokens"]


def test_llama_cpp_finds_plain_floats(exported, model):
    folder, memories = exported("llama.cpp")
    for entry in memories:
        vectors = np.fromfile(folder / entry["file"], "<f4").reshape(entry["shape"])
        assert decoded(model, torch.from_numpy(vectors), len(entry["tokens"])) == entry["tokens"]


def test_a_task_without_a_model_is_refused(toy_sweep, finished, capsweep, tmp_path):
    ended = capsweep("export", finished(toy_sweep), "--to", tmp_path / "to", "--format", "vllm")
    assert (ended.returncode, ended.stderr) == (2, "task: toy has no model that a server could load.\n")
    assert not (tmp_path / "to").exists()
