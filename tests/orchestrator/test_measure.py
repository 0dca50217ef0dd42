"""The bits ledger and the lines between memories: really encoded, really decoded."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from orchestrator import cli
from orchestrator.measure import COMPRESSORS, quantize
from orchestrator.run_directory import open_run
from orchestrator.store.reader import read_measured
from tasks.certificate import LayoutProver

MEMORY = np.random.default_rng(0).normal(size=(3, 50)).astype("<f4")


@pytest.mark.parametrize("name", COMPRESSORS)
@pytest.mark.parametrize("text", ["", "a", "Once upon a time " * 40, "🦉 déjà vu"])
def test_compressors_give_the_text_back(name, text):
    compress, decompress = COMPRESSORS[name]
    assert decompress(compress(text.encode())) == text.encode()


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
def measured(tmp_path_factory, stories_model, stories) -> Path:
    """A run of two short stories, measured."""
    folder = tmp_path_factory.mktemp("measured")
    (folder / "texts").mkdir()
    for number, text in enumerate(stories[:2]):
        (folder / "texts" / f"{number}.txt").write_text(text)
    (folder / "sweep.yaml").write_text(
        f"name: measured\nmodels: [{stories_model}]\ntexts: [{{source: files, path: texts/}}]\n"
        "search: {max_length: 14, retries: 1}\nengines: {device: cpu}\n"
    )
    runner = CliRunner()
    ended = runner.invoke(cli.app, ["run", str(folder / "sweep.yaml"), "--inline", "--run-dir", str(folder / "run")])
    assert ended.exit_code == 0, ended.output
    ended = runner.invoke(cli.app, ["measure", str(folder / "run"), "--device", "cpu"])
    assert ended.exit_code == 0, ended.output
    return folder / "run"


def test_every_search_has_a_row(measured):
    run = open_run(str(measured))
    bits = read_measured(run.files)[0].to_pylist()
    searches = {row["search_id"]: row for row in run.searches().to_pylist()}
    assert {row["search_id"] for row in bits} == searches.keys()
    for row in bits:
        assert row["tokens"] == row["float32_exact_prefix"] == searches[row["search_id"]]["capacity_tokens"]
        assert row["float32_bytes"] == 64 * 4
        assert row["bfloat16_bytes"] == row["float16_bytes"] == 64 * 2
        assert 0 <= row["int8_exact_prefix"] <= row["tokens"]
        # The model knows stories: it beats what knows nothing of them, and the memory is larger than either.
        assert row["model_bits"] / 8 <= row["arithmetic_bytes"] < row["zlib_bytes"]
        assert row["arithmetic_bytes"] < row["int8_bytes"]


def test_a_memory_that_is_ruined_no_longer_gives_its_text_back(measured):
    run = open_run(str(measured))
    from orchestrator.memories import Provers

    (search, *_) = run.searches().to_pylist()
    prover = Provers(run, "cpu").of(search["model"])
    assert isinstance(prover, LayoutProver)
    tokens = run.sample(search["model"], search["sample_id"])["tokens"][: search["capacity_tokens"]]
    assert prover(np.zeros(64, dtype="<f4").tobytes(), num_vectors=1, tokens=tokens).exact_prefix < len(tokens)
