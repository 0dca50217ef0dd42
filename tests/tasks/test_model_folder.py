"""Files of a model's folder that contradict each other: every problem at once, before any weight is loaded."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tasks import model_files
from tasks.language_model import LanguageModel
from tasks.model_folder import folder_problems
from tasks.texts.files import FilesSource
from tasks.values import Model, TaskError, WrongModelError
from tests.tasks.conftest import SIZES

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


@pytest.fixture
def sharded(made: LlamaForCausalLM, tmp_path: Path) -> Path:
    """Weights in several files and their index."""
    made.save_pretrained(tmp_path / "sharded", max_shard_size="1KB")
    assert len(list((tmp_path / "sharded").glob("*.safetensors"))) > 2
    return tmp_path / "sharded"


def problems_of(folder: Path, **settings: Any) -> tuple[str, ...]:
    with pytest.raises(TaskError) as error:
        model_files.facts(Model(name=str(folder), **settings))
    assert str(error.value).splitlines() == list(error.value.args)
    return error.value.args


class TestShards:
    def test_all_of_them_are_a_model(self, sharded):
        assert folder_problems(Model(name=str(sharded))) == []
        assert LanguageModel(Model(name=str(sharded)), device="cpu").vocabulary == 16

    def test_those_in_a_folder_of_their_own_belong_to_the_identity(self, sharded):
        """The index may name any place."""
        (sharded / "weights").mkdir()
        for shard in sharded.glob("*.safetensors"):
            shard.rename(sharded / "weights" / shard.name)
        index = sharded / "model.safetensors.index.json"
        named = json.loads(index.read_text())
        named["weight_map"] = {name: f"weights/{shard}" for name, shard in named["weight_map"].items()}
        index.write_text(json.dumps(named))
        assert LanguageModel(Model(name=str(sharded)), device="cpu").vocabulary == 16
        before = model_files.facts(Model(name=str(sharded))).fingerprint
        shard = sorted((sharded / "weights").iterdir())[1]
        content = bytearray(shard.read_bytes())
        content[-2] ^= 1
        shard.write_bytes(content)
        assert model_files.facts(Model(name=str(sharded))).fingerprint != before
        shard.write_text(POINTER)
        (line,) = problems_of(sharded)
        assert line.startswith(f"{shard}: a Git LFS pointer")

    def test_one_that_is_named_and_not_there(self, sharded):
        lost = sorted(sharded.glob("*.safetensors"))[1]
        lost.unlink()
        (line,) = problems_of(sharded)
        assert line.startswith(f"{sharded / 'model.safetensors.index.json'}: names ")
        assert f"{lost.name} is not there. Copy or download" in line

    def test_all_of_them_gone(self, sharded):
        for shard in sharded.glob("*.safetensors"):
            shard.unlink()
        (line,) = problems_of(sharded)
        assert "more are not there" in line

    def test_pickled_ones(self, folder):
        (folder / "model.safetensors").unlink()
        weights = {"weight_map": {"a": "pytorch_model-00001-of-00002.bin", "b": "pytorch_model-00002-of-00002.bin"}}
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps(weights))
        torch.save({}, folder / "pytorch_model-00001-of-00002.bin")
        (line,) = problems_of(folder, allow_pickle=True)
        assert "names 2 shards, and pytorch_model-00002-of-00002.bin is not there" in line

    @pytest.mark.parametrize("content", ["{", "[]", '{"weight_map": 3}', '{"weight_map": {"a": 3}}', "null"])
    def test_an_index_of_nothing(self, sharded, content):
        (sharded / "model.safetensors.index.json").write_text(content)
        (line,) = problems_of(sharded)
        assert "not an index of weights" in line

    def test_an_index_beside_a_file_that_holds_everything_is_not_read(self, folder):
        (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "gone.safetensors"}}')
        assert LanguageModel(Model(name=str(folder)), device="cpu").vocabulary == 16


class TestPointers:
    @pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
    def test_for_a_file_of_a_model(self, folder, name):
        (folder / name).write_text(POINTER)
        (line,) = problems_of(folder)
        assert line.startswith(f"{folder / name}: a Git LFS pointer")
        assert "git lfs pull" in line

    def test_for_shards_are_counted(self, sharded):
        shards = sorted(sharded.glob("*.safetensors"))
        for shard in shards:
            shard.write_text(POINTER)
        (line,) = problems_of(sharded)
        assert line.startswith(f"{shards[0]}: a Git LFS pointer")
        assert line.endswith(f"So are {len(shards) - 1} more.")

    def test_for_pickled_weights(self, folder):
        (folder / "model.safetensors").unlink()
        (folder / "pytorch_model.bin").write_text(POINTER)
        (line,) = problems_of(folder, allow_pickle=True)
        assert "a Git LFS pointer" in line

    @pytest.mark.parametrize("suffix", [".txt", ".jsonl", ".parquet", ".csv"])
    def test_for_texts(self, tmp_path, suffix):
        (tmp_path / f"b{suffix}").write_text(POINTER)
        with pytest.raises(TaskError, match=r"a Git LFS pointer.*git lfs pull"):
            FilesSource(path=str(tmp_path)).read()

    def test_a_text_about_them_is_a_text(self, tmp_path):
        (tmp_path / "a.txt").write_text(f"A pointer begins so:\n{POINTER}")
        assert len(FilesSource(path=str(tmp_path)).read()) == 1


class TestWeights:
    def test_pickles_cut_off(self, folder, made):
        (folder / "model.safetensors").unlink()
        torch.save(made.state_dict(), folder / "pytorch_model.bin")
        assert folder_problems(Model(name=str(folder), allow_pickle=True)) == []
        whole = (folder / "pytorch_model.bin").read_bytes()
        for cut in (whole[: len(whole) // 2], b""):
            (folder / "pytorch_model.bin").write_bytes(cut)
            assert problems_of(folder, allow_pickle=True) == (
                f"{folder / 'pytorch_model.bin'}: cut off. Copy or download it again.",
            )

    def test_safetensors_go_before_pickles(self, folder):
        (folder / "pytorch_model.bin").write_bytes(b"not weights")
        assert LanguageModel(Model(name=str(folder), allow_pickle=True), device="cpu").vocabulary == 16

    def test_more_than_the_configuration_asks_for_are_named(self, folder):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 1}))
        (note,) = LanguageModel(Model(name=str(folder)), device="cpu").readings.notes
        assert "config.json asks for 9 weights fewer than are in the files" in note
        assert "layers.1." in note

    def test_a_head_that_is_neither_tied_nor_there(self, folder, made):
        tied = LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=True))
        tied.save_pretrained(folder)
        assert LanguageModel(Model(name=str(folder)), device="cpu").vocabulary == 16
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))
        with pytest.raises(WrongModelError, match=r"1 weight that config\.json asks for is not .* lm_head"):
            LanguageModel(Model(name=str(folder)), device="cpu")


def pipe(path: Path) -> None:
    os.mkfifo(path)


def link_to_nothing(path: Path) -> None:
    path.symlink_to(path.parent / "blobs" / "gone")


@pytest.mark.parametrize("make", [pipe, link_to_nothing, Path.mkdir])
class TestWhatIsNoFile:
    """Opening a pipe would never end; transformers does without what is no file."""

    @pytest.mark.parametrize(
        "name", ["notes.txt", "data.json", "x.model", "x.safetensors", "model.safetensors.index.json"]
    )
    def test_is_nothing_to_a_model_that_does_not_need_it(self, folder, make, name):
        before = model_files.facts(Model(name=str(folder)))
        make(folder / name)
        assert model_files.facts(Model(name=str(folder))) == before

    @pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "adapter_config.json", "model.safetensors"])
    def test_is_refused_in_the_place_of_a_needed_file(self, folder, make, name):
        (folder / name).unlink(missing_ok=True)
        make(folder / name)
        (line,) = problems_of(folder)
        assert line == (
            f"{folder / name}: a folder, pipe or link to nothing. Wanted a file; copy or download it again."
        )

    def test_is_refused_in_the_place_of_pickled_weights(self, folder, make):
        (folder / "model.safetensors").unlink()
        make(folder / "pytorch_model.bin")
        (line,) = problems_of(folder, allow_pickle=True)
        assert "pytorch_model.bin: a folder, pipe or link to nothing" in line

    def test_is_no_shard(self, sharded, make):
        lost = sorted(sharded.glob("*.safetensors"))[1]
        lost.unlink()
        make(lost)
        (line,) = problems_of(sharded)
        assert f"{lost.name} is not there" in line


def test_every_problem_at_once(sharded):
    shards = sorted(sharded.glob("*.safetensors"))
    shards[0].write_text(POINTER)
    shards[1].write_bytes(shards[1].read_bytes()[:-4])
    shards[2].unlink()
    (sharded / "config.json").unlink()
    lines = problems_of(sharded)
    assert len(lines) == 4
    for words in ("a Git LFS pointer", "no config.json", f"{shards[2].name} is not there", "not a whole safetensors"):
        assert sum(words in line for line in lines) == 1


def test_a_folder_without_anything(tmp_path):
    (line,) = problems_of(tmp_path)
    assert "no config.json in this folder" in line
    assert "GGUF" not in line


def test_a_folder_of_gguf_files_names_them(tmp_path):
    (tmp_path / "tiny.Q8_0.gguf").write_bytes(b"GGUF")
    (line,) = problems_of(tmp_path)
    assert line.endswith(f"tokenizer.json). Or name one GGUF file: {tmp_path}/tiny.Q8_0.gguf.")
