"""The bits ledger and the lines between memories: really encoded, really decoded."""

import json
from collections.abc import Callable
from pathlib import Path
from shutil import copytree, rmtree

import numpy as np
import pytest

from orchestrator.analysis.bits_ledger import COMPRESSORS, quantize
from orchestrator.report.figures.memories import bits_ledger, cosines_of_memories, memories_in_two_dimensions
from orchestrator.report.writing import report_tables
from orchestrator.runs.directory import open_run
from orchestrator.store.parquet import read_bits_and_lines
from tasks.prover import LayoutProver

MEMORY = np.random.default_rng(0).normal(size=(3, 50)).astype("<f4")


@pytest.mark.parametrize("name", COMPRESSORS)
@pytest.mark.parametrize("text", ["", "a", "Once upon a time " * 40, "🦉 déjà vu"])
def test_compressors_give_the_text_back(name, text):
    compress, decompress = COMPRESSORS[name]
    assert decompress(compress(text.encode())) == text.encode()


def test_zstd_stores_nothing_but_its_frame():
    """It begins with the number that every frame of zstd begins with."""
    assert COMPRESSORS["zstd"][0](b"Once upon a time")[:4] == bytes.fromhex("28b52ffd")


class TestQuantize:
    @pytest.mark.parametrize(("precision", "num_bytes", "error"), [("float32", 600, 0), ("float16", 300, 2**-11)])
    def test_floats(self, precision, num_bytes, error):
        found = quantize(MEMORY, precision)
        assert found.num_bytes == num_bytes
        assert np.abs(found.values - MEMORY).max() <= error * np.abs(MEMORY).max()

    def test_bfloat16_is_torchs(self):
        import torch

        wanted = torch.from_numpy(MEMORY.copy()).bfloat16().float().numpy()
        assert (quantize(MEMORY, "bfloat16").values == wanted).all()

    def test_int8_is_off_by_half_a_step_of_its_vector(self):
        found = quantize(MEMORY, "int8")
        assert found.num_bytes == 150 + 3 * 4
        step_K1 = np.abs(MEMORY).max(axis=1, keepdims=True) / 127
        assert (np.abs(found.values - MEMORY) <= step_K1 * 0.501).all()
        assert (quantize(np.zeros((1, 4), dtype="<f4"), "int8").values == 0).all()

    def test_others_are_refused(self):
        with pytest.raises(ValueError, match="int4"):
            quantize(MEMORY, "int4")


@pytest.fixture(scope="module")
def run_and_measure(
    capsweep, without_pages, tmp_path_factory: pytest.TempPathFactory, stories_model: Path, stories: list[str]
) -> Callable[[str], Path]:
    """A run of two short stories, measured."""

    def run(asked: str) -> Path:
        folder = tmp_path_factory.mktemp("measured")
        (folder / "texts").mkdir()
        for number, text in enumerate(stories[:2]):
            (folder / "texts" / f"{number}.txt").write_text(text)
        (folder / "sweep.yaml").write_text(
            f"name: measured\nmodels: [{stories_model}]\ntexts: [{{source: files, path: texts/}}]\n"
            f"{asked}engines: {{device: cpu}}\n"
        )
        with without_pages():
            ran = capsweep("run", folder / "sweep.yaml", "--inline", "--run-dir", folder / "run")
            measured = capsweep("measure", folder / "run", "--device", "cpu")
        assert (ran.returncode, measured.returncode) == (0, 0), ran.stderr + measured.stderr
        return folder / "run"

    return run


@pytest.fixture(scope="module")
def measured(run_and_measure: Callable[[str], Path]) -> Path:
    return run_and_measure("search: {max_length: 8, retries: 0}\n")


@pytest.fixture(scope="module")
def measured_as_published(run_and_measure: Callable[[str], Path]) -> Path:
    """Under the published question: t_1 is given, and .6 of the others will do."""
    return run_and_measure(
        "criterion: {teacher_forced: 0.6}\ndecode_from: memory+first_token\nspecial_tokens: false\n"
        "search: {policy: grid, lengths: [4, 6]}\n"
    )


def test_every_search_has_a_row(measured):
    run = open_run(str(measured))
    bits = read_bits_and_lines(run.files)[0].to_pylist()
    searches = {row["search_id"]: row for row in run.searches().to_pylist()}
    assert {row["search_id"] for row in bits} == searches.keys()
    for row in bits:
        assert row["tokens"] == row["float32_exact_prefix"] == searches[row["search_id"]]["capacity_tokens"]
        assert row["float32_bytes"] == 64 * 4
        assert row["bfloat16_bytes"] == row["float16_bytes"] == 64 * 2
        assert 0 <= row["int8_exact_prefix"] <= row["tokens"]
        assert row["int8_lossless"] == (row["int8_exact_prefix"] == row["tokens"])
        assert (row["float32_lossless"], row["float32_accuracy"]) == (True, 1.0)
        # The model knows stories: it beats what knows nothing of them, and the memory is larger than either.
        assert row["model_bits"] / 8 <= row["arithmetic_bytes"] < row["zlib_bytes"]
        assert row["arithmetic_bytes"] < row["int8_bytes"]


def test_a_memory_that_is_ruined_no_longer_gives_its_text_back(measured):
    run = open_run(str(measured))
    from orchestrator.analysis.memories import Provers

    (search, *_) = run.searches().to_pylist()
    prover = Provers(run, "cpu", [search["model"]]).of(search["model"])
    assert isinstance(prover, LayoutProver)
    tokens = run.sample(search["model"], search["sample_id"])["tokens"][: search["capacity_tokens"]]
    assert prover(np.zeros(64, dtype="<f4").tobytes(), num_vectors=1, tokens=tokens).exact_prefix < len(tokens)


def test_memories_are_decoded_under_the_settings_that_are_named(measured, capsweep, no_page, tmp_path):
    run = copytree(measured, tmp_path / "run")
    ended = capsweep("verify", run, "--device", "cpu", "--as", "attention=eager,batch=2,cache=off")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("attention=eager,device=cpu,batch=2,cache=off: 2 of 2 memories exact\n")
    # Not installed: whoever ignored the setting would decode.
    ended = capsweep("verify", run, "--device", "cpu", "--as", "attention=flash_attention_2")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "its weights could not be loaded with attention=flash_attention_2" in ended.stderr


def test_memories_are_judged_by_the_criterion_of_their_run(measured_as_published):
    """Decoded from the memory alone they give little: t_1 was never trained."""
    run = open_run(str(measured_as_published))
    bits, lines = read_bits_and_lines(run.files)
    searches = {row["search_id"]: row for row in run.searches().to_pylist()}
    assert {row["search_id"] for row in bits.to_pylist()} == searches.keys()
    assert any(row["float32_exact_prefix"] == 0 for row in bits.to_pylist())
    for row in bits.to_pylist():
        assert row["tokens"] == searches[row["search_id"]]["capacity_tokens"] == 6
        # At least 3 of t_2 .. t_6, and t_1.
        assert row["float32_lossless"]
        assert row["float32_accuracy"] >= 4 / 6 - 1e-9
        assert row["int8_lossless"] == (row["int8_accuracy"] >= 4 / 6 - 1e-9)
        # Neither charges t_1: ideal, and at most two words of 32 bits above it.
        assert row["model_bits"] - 1 <= 8 * row["arithmetic_bytes"] <= row["model_bits"] + 64
    assert set(lines["tokens"].to_pylist()) == {4}
    assert {row["accuracy"] >= 3 / 4 - 1e-9 for row in lines.to_pylist() if row["share"] in (0, 1)} == {True}


def test_geometry_and_ledger_are_drawn_of_what_meets_the_criterion(measured_as_published):
    tables = report_tables(open_run(str(measured_as_published)))
    assert cosines_of_memories(tables) is not None
    assert memories_in_two_dimensions(tables) is not None
    ledger = bits_ledger(tables)
    assert ledger is not None
    assert "100% at float32" in ledger.caption


class TestAnotherModelUnderTheSameName:
    """Every verb that loads a model refuses it, and writes nothing."""

    @pytest.fixture
    def moved(self, measured: Path, stories_model: Path, tmp_path: Path) -> tuple[Path, Path]:
        """Copies of the run and of its model's folder, which the run then names."""
        run, model = copytree(measured, tmp_path / "run"), copytree(stories_model, tmp_path / "stories260K")
        provenance = json.loads((run / "provenance.json").read_text())
        provenance["models"]["stories260K"]["model"]["name"] = str(model)
        (run / "provenance.json").write_text(json.dumps(provenance))
        return run, model

    @staticmethod
    def files_of(run: Path) -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file()}

    @staticmethod
    def other_weights(model: Path) -> None:
        content = bytearray((model / "model.safetensors").read_bytes())
        content[-2] ^= 1
        (model / "model.safetensors").write_bytes(content)

    @staticmethod
    def other_tokenizer(model: Path) -> None:
        tokenizer = json.loads((model / "tokenizer.json").read_text())
        tokenizer["added_tokens"] = tokenizer["added_tokens"][:1]
        (model / "tokenizer.json").write_text(json.dumps(tokenizer))

    @staticmethod
    def other_configuration(model: Path) -> None:
        config = json.loads((model / "config.json").read_text())
        (model / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 0.1}))

    @pytest.mark.parametrize("verb", ["measure", "verify", "decode"])
    @pytest.mark.parametrize("change", [other_weights, other_tokenizer, other_configuration])
    def test_is_refused(self, capsweep, moved, change, verb):
        run, model = moved
        change(model)
        before = self.files_of(run)
        words = open_run(str(run)).searches()["search_id"].to_pylist()[:1] if verb == "decode" else []
        ended = capsweep(verb, run, *words, "--device", "cpu")
        assert (ended.returncode, ended.stdout) == (2, "")
        assert ended.stderr.startswith(f"{run}: model stories260K has changed since the run began: fingerprint ")
        assert len(ended.stderr.splitlines()) == 1
        assert self.files_of(run) == before

    def test_the_same_model_in_another_folder_is_the_same(self, capsweep, moved):
        assert capsweep("verify", moved[0], "--device", "cpu").returncode == 0

    def test_a_folder_that_is_gone_is_named_with_the_run(self, capsweep, moved):
        run, model = moved
        rmtree(model)
        ended = capsweep("measure", run)
        assert ended.returncode == 2
        assert ended.stderr.startswith(f"{run}: model stories260K cannot be loaded: {model}: no such folder")
