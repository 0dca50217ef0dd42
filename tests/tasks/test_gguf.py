"""A model in one GGUF file is the model that it was made of: its facts, its tokens, its logits."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tasks import gguf_file
from tasks.language_model import LanguageModel
from tasks.model_cache import weights_are_here
from tasks.model_files import facts
from tasks.pinning import pinned
from tasks.tokenizer import HubCodec
from tasks.values import Model, TaskError
from tests.gguf_files import write_gguf
from tests.hub import Hub

TEXT = "The clockmaker's daughter was born in 1871, and she never  saw the sea.\n"


@pytest.fixture(scope="module")
def written(shipped_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("gguf", reason="needs the extra `gguf`")
    return write_gguf(shipped_model, tmp_path_factory.mktemp("gguf") / "quickstart.F32.gguf")


def refused(file: Path | str, **settings: Any) -> str:
    with pytest.raises(TaskError) as error:
        facts(Model(name=str(file), **settings))
    (line,) = str(error.value).splitlines()
    assert line.startswith(f"{file}: ")
    return line


class TestTheSameModel:
    def test_its_facts_but_for_the_fingerprint(self, written: Path, shipped_model: Path):
        of_file, of_folder = facts(Model(name=str(written))), facts(Model(name=str(shipped_model)))
        assert replace(of_file, fingerprint="", revision="") == replace(of_folder, fingerprint="", revision="")
        assert of_file.fingerprint != of_folder.fingerprint

    def test_its_tokens(self, written: Path, shipped_model: Path):
        of_file, of_folder = HubCodec(Model(name=str(written))), HubCodec(Model(name=str(shipped_model)))
        assert of_file.encode(TEXT) == of_folder.encode(TEXT)
        assert of_file.decode(of_file.encode(TEXT).tokens) == TEXT
        assert (of_file.bos, of_file.ordinary_tokens) == (of_folder.bos, of_folder.ordinary_tokens)

    def test_its_logits_and_every_check_of_a_model(self, written: Path, shipped_model: Path):
        of_file, of_folder = (LanguageModel(Model(name=str(each)), device="cpu") for each in (written, shipped_model))
        inputs_BTD = of_folder.embed(torch.arange(1, 61).view(2, 30))
        with torch.no_grad():
            assert torch.equal(of_file.head(of_file.hidden(inputs_BTD)), of_folder.head(of_folder.hidden(inputs_BTD)))
        assert of_file.readings == of_folder.readings
        assert of_file.in_float32() is of_file, "dequantized weights are ordinary ones"

    def test_in_another_precision_and_in_silence(self, written: Path, capfd: pytest.CaptureFixture[str]):
        model = LanguageModel(Model(name=str(written), dtype="bfloat16"), device="cpu")
        assert {part.dtype for part in model._model.parameters()} == {torch.bfloat16}
        assert capfd.readouterr() == ("", "")

    def test_nothing_is_read_from_files_beside_it(self, written: Path, shipped_model: Path, tmp_path: Path):
        beside = Path(shutil.copy(written, tmp_path / "model.gguf"))
        for name in ("tokenizer.json", "adapter_config.json", "config.json"):
            (tmp_path / name).write_text("{}")
        alone = Model(name=str(written))
        assert facts(Model(name=str(beside))) == facts(alone)
        assert HubCodec(Model(name=str(beside))).fingerprint == HubCodec(alone).fingerprint

    def test_its_fingerprint_is_that_of_its_bytes(self, written: Path, tmp_path: Path):
        changed = tmp_path / "model.gguf"
        content = bytearray(written.read_bytes())
        content[-1] ^= 1
        changed.write_bytes(content)
        assert facts(Model(name=str(changed))).fingerprint != facts(Model(name=str(written))).fingerprint


class TestOnTheHub:
    def test_a_file_of_a_repository_at_its_commit(self, hub: Hub, written: Path):
        commit = hub.push("org/one-GGUF", {"small/one.gguf": written.read_bytes()})
        model = pinned(Model(name="org/one-GGUF/small/one.gguf"))
        assert model.commit == commit
        assert not weights_are_here(model)
        assert facts(model).revision == commit
        assert weights_are_here(model)
        hub.stop()
        assert HubCodec(model).encode(TEXT) == HubCodec(Model(name=str(written))).encode(TEXT)
        assert LanguageModel(model, device="cpu").vocabulary == 512

    def test_a_file_that_is_not_there(self, hub: Hub):
        hub.push("org/one-GGUF", {"a.gguf": b"", "b.gguf": b""})
        line = refused("org/one-GGUF/c.gguf")
        assert line.endswith("org/one-GGUF has no file 'c.gguf'. Its GGUF files: a.gguf, b.gguf.")


class TestRefused:
    @pytest.fixture
    def made(self, shipped_model: Path, tmp_path: Path, written: Path) -> Callable[..., Path]:
        return lambda **more: write_gguf(shipped_model, tmp_path / "made.gguf", **more)

    @pytest.mark.parametrize("kept", [0, 3, 20, 500, 8000, -100], ids=lambda kept: f"{kept} bytes")
    def test_one_that_was_cut_off(self, written: Path, tmp_path: Path, kept: int):
        (tmp_path / "cut.gguf").write_bytes(written.read_bytes()[:kept])
        line = refused(tmp_path / "cut.gguf")
        assert "not a whole GGUF file (" in line
        assert line.endswith("Copy or download it again.")

    def test_one_that_is_something_else(self, shipped_model: Path, tmp_path: Path):
        other = Path(shutil.copy(shipped_model / "model.safetensors", tmp_path / "other.gguf"))
        assert "does not start with the GGUF magic bytes" in refused(other)

    def test_a_pointer(self, tmp_path: Path):
        (tmp_path / "a.gguf").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
        assert "Run `git lfs pull`" in refused(tmp_path / "a.gguf")

    def test_an_architecture_that_transformers_does_not_read(self, made: Callable[..., Path]):
        line = refused(made(architecture="plamo"))
        assert "does not read this kind of GGUF file (GGUF model with architecture plamo is not supported yet)" in line
        assert line.endswith("Wanted the model's safetensors.")

    def test_one_part_of_several(self, made: Callable[..., Path]):
        assert "one of 3 files of a model. Wanted one file: `llama-gguf-split" in refused(made(**{"split.count": 3}))

    def test_changed_positions_that_transformers_would_leave_out(self, made: Callable[..., Path]):
        frequencies = np.ones(16, dtype=np.float32)
        assert "it changes RoPE (rope_freqs.weight)" in refused(made(**{"rope_freqs.weight": frequencies}))
        assert "(llama.rope.scaling.type: yarn)" in refused(made(**{"rope.scaling.type": "yarn"}))

    def test_a_tokenizer_that_transformers_does_not_read(self, made: Callable[..., Path]):
        with pytest.raises(TaskError, match=r"its tokenizer could not be read \(.*'plamo2'.* Wanted a GGUF file with"):
            HubCodec(Model(name=str(made(tokenizer="plamo2"))))

    def test_weights_quantized_twice(self, written: Path):
        assert "quantization: int8 and a GGUF file" in refused(written, quantization="int8")

    def test_no_package_for_it(self, written: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(gguf_file, "find_spec", lambda name: None)  # as if neither were installed
        assert refused(written).endswith("not installed here. Run pip install 'capsweep[gguf]'.")

    def test_no_such_file(self):
        assert "no such file. Wanted a local GGUF file, or owner/name/file.gguf" in refused("there/is-none.gguf")


@pytest.mark.slow
def test_a_real_file_in_four_bits_knows_what_its_model_knows(shared_data: Path):
    pytest.importorskip("gguf", reason="needs the extra `gguf`")
    files = sorted((shared_data / "models" / "smollm2-135m-instruct").glob("*.gguf"))
    if not files:
        pytest.skip("needs the GGUF file of SmolLM2-135M-Instruct in ../shared/data/models, which is not here")
    model = Model(name=str(files[0]))
    about = facts(model)
    assert (about.num_parameters, about.vocabulary, about.num_layers, about.context) == (134_515_008, 49152, 30, 8192)
    codec, loaded = HubCodec(model), LanguageModel(model, device="cpu")
    assert codec.decode(codec.encode(TEXT).tokens) == TEXT
    assert loaded.readings.notes == ()
    question = torch.tensor([codec.encode("The capital of France is").tokens])
    with torch.no_grad():
        logits_BTV = loaded.head(loaded.hidden(loaded.embed(question)))
    assert codec.decode([int(logits_BTV[0, -1].argmax())]) == " Paris"
