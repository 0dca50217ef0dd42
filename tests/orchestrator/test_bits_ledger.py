"""The bits ledger and the lines between memories: really encoded, really decoded."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from shutil import copytree, rmtree

import numpy as np
import pytest

from orchestrator.analysis.bits_ledger import COMPRESSORS
from orchestrator.analysis.memories import Provers
from orchestrator.analysis.noise import NUM_DRAWS, STEPS_PER_OCTAVE, bound_bits, direction
from orchestrator.analysis.sphere import turned
from orchestrator.report.figures.memories import bits_ledger, cosines_of_memories, memories_in_two_dimensions
from orchestrator.report.writing import report_tables
from orchestrator.runs.directory import open_run
from orchestrator.store.parquet import read_measured
from orchestrator.store.schema import BITS_FILE, LINES_FILE, NOISE_FILE, QUANTIZED_FILE
from tasks.prover import LayoutProver
from tasks.registry import TASKS
from tasks.values import Model


@pytest.mark.parametrize("name", COMPRESSORS)
@pytest.mark.parametrize("text", ["", "a", "Once upon a time " * 40, "🦉 déjà vu"])
def test_compressors_give_the_text_back(name, text):
    compress, decompress = COMPRESSORS[name]
    assert decompress(compress(text.encode())) == text.encode()


def test_zstd_stores_nothing_but_its_frame():
    """It begins with the number that every frame of zstd begins with."""
    assert COMPRESSORS["zstd"][0](b"Once upon a time")[:4] == bytes.fromhex("28b52ffd")


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
            noise = [] if "criterion" in asked else ["--noise"]
            measured = capsweep("measure", folder / "run", "--device", "cpu", *noise)
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
    bits = read_measured(run.files)[BITS_FILE].to_pylist()
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
    (search, *_) = run.searches().to_pylist()
    prover = Provers(run, "cpu", [search["model"]]).of(search["model"])
    assert isinstance(prover, LayoutProver)
    tokens = run.sample(search["model"], search["sample_id"])["tokens"][: search["capacity_tokens"]]
    assert prover(np.zeros(64, dtype="<f4").tobytes(), num_vectors=1, tokens=tokens).exact_prefix < len(tokens)


def test_memories_in_few_bits_and_turned_memories_have_rows(measured):
    run = open_run(str(measured))
    tables = read_measured(run.files)
    bits = {row["search_id"]: row for row in tables[BITS_FILE].to_pylist()}
    quantized = tables[QUANTIZED_FILE].to_pylist()
    assert len(quantized) == 10 * len(bits)
    for row in quantized:
        assert row["lossless"] == (row["exact_prefix"] == row["tokens"])
        if row["format"] == "int8":
            assert row["bytes"] == bits[row["search_id"]]["int8_bytes"] == 64 + 4
            assert row["exact_prefix"] == bits[row["search_id"]]["int8_exact_prefix"]
    by_format = {row["format"]: row for row in quantized}
    assert (by_format["int4/32"]["bits"], by_format["int4/32"]["block"], by_format["int4/32"]["bytes"]) == (4, 32, 40)
    noise = tables[NOISE_FILE].to_pylist()
    assert len(noise) == NUM_DRAWS * len(bits)
    for row in noise:
        assert (row["tokens"], row["width"]) == (8, 64)
        assert 1 < row["angle_degrees"] < 90
        assert row["bound_bits"] == bound_bits(row["angle_degrees"], num_vectors=1, width=64)


def test_a_memory_that_is_turned_as_far_gives_its_text_and_no_further(measured):
    run = open_run(str(measured))
    row = read_measured(run.files)[NOISE_FILE].to_pylist()[0]
    search = next(search for search in run.searches().to_pylist() if search["search_id"] == row["search_id"])
    probes = run.probes(("probe_id", "memory")).to_pylist()
    memory = next(probe["memory"] for probe in probes if probe["probe_id"] == search["probe_id"])
    memory_KD = np.frombuffer(memory, dtype="<f4").reshape(1, 64)
    tokens = run.sample(search["model"], search["sample_id"])["tokens"][: row["tokens"]]
    prover = Provers(run, "cpu", [search["model"]]).of(search["model"])
    step = 2 ** (1 / STEPS_PER_OCTAVE)
    for angle, is_whole in ((row["angle_degrees"], True), (row["angle_degrees"] * step, False)):
        vector_KD = turned(memory_KD, direction(f"{row['search_id']}/noise {row['draw']}", (1, 64)), np.radians(angle))
        found = prover(vector_KD.astype("<f4").tobytes(), num_vectors=1, tokens=tokens)
        assert (found.exact_prefix == len(tokens)) == is_whole


def test_noise_is_refused_where_texts_need_not_come_out(measured_as_published, capsweep):
    before = (measured_as_published / BITS_FILE).read_bytes()
    ended = capsweep("measure", measured_as_published, "--noise")
    assert ended.returncode == 2
    assert "found criterion: {teacher_forced: 0.6}" in ended.stderr
    assert "Run `capsweep measure` without --noise" in ended.stderr
    assert (measured_as_published / BITS_FILE).read_bytes() == before


def test_memories_are_decoded_under_the_settings_that_are_named(measured, capsweep, no_page, tmp_path):
    run = copytree(measured, tmp_path / "run")
    ended = capsweep("verify", run, "--device", "cpu", "--as", "attention=eager,batch=2,cache=off")
    assert ended.returncode == 0, ended.stderr
    assert re.match(r"attention=eager,device=cpu,batch=2,cache=off: (\d) of \1 memor(y|ies) exact\n", ended.stdout)
    # Not installed: whoever ignored the setting would decode.
    ended = capsweep("verify", run, "--device", "cpu", "--as", "attention=flash_attention_2")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "its weights could not be loaded with attention=flash_attention_2" in ended.stderr


def test_memories_are_judged_by_the_criterion_of_their_run(measured_as_published):
    """Decoded from the memory alone they give little: t_1 was never trained."""
    run = open_run(str(measured_as_published))
    tables = read_measured(run.files)
    bits, lines = tables[BITS_FILE], tables[LINES_FILE]
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


def test_the_way_between_two_memories_begins_and_ends_at_them(measured, measured_as_published):
    for run in (measured, measured_as_published):
        for row in read_measured(open_run(str(run)).files)[LINES_FILE].to_pylist():
            if row["share"] in (0, 1):
                assert row["accuracy"] >= 0.75


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

    def test_a_tokenizer_that_the_fingerprint_does_not_hold(self, capsweep, moved, shipped_model):
        """That of old models lies in vocab.json and merges.txt, or tokenizer.model."""
        run, model = moved
        of_another = json.loads((shipped_model / "tokenizer.json").read_text())["model"]
        (model / "tokenizer.json").unlink()
        (model / "vocab.json").write_text(json.dumps(of_another["vocab"]))
        (model / "merges.txt").write_text("\n".join(" ".join(pair) for pair in of_another["merges"]))
        (model / "tokenizer_config.json").write_text('{"tokenizer_class": "GPT2Tokenizer"}')
        provenance = json.loads((run / "provenance.json").read_text())
        held = provenance["models"]["stories260K"]
        held["facts"]["fingerprint"] = TASKS["cramming"].facts(Model(name=str(model))).fingerprint
        (run / "provenance.json").write_text(json.dumps(provenance))
        assert capsweep("verify", run, "--device", "cpu").returncode == 0
        ended = capsweep("decode", run, open_run(str(run)).searches()["search_id"][0], "--device", "cpu")
        assert (ended.returncode, ended.stdout) == (2, "")
        assert ended.stderr.startswith(f"{run}: the tokenizer of stories260K has changed since the run began: ")

    def test_the_same_model_in_another_folder_is_the_same(self, capsweep, moved):
        assert capsweep("verify", moved[0], "--device", "cpu").returncode == 0

    def test_a_folder_that_is_gone_is_named_with_the_run(self, capsweep, moved):
        run, model = moved
        rmtree(model)
        ended = capsweep("measure", run)
        assert ended.returncode == 2
        assert ended.stderr.startswith(f"{run}: model stories260K cannot be loaded: {model}: no such folder")
