"""A sweep over a model in a GGUF file: how the file is named, and a run from it to decoded memories."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from orchestrator.errors import BadInput
from orchestrator.spec.sweep_file import load_sweep
from tests.gguf_files import write_gguf

SWEEP = "name: small\nmodels: [{model}]\ntexts: [{{source: files, path: texts/, samples: 1}}]\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("The clockmaker's daughter was born in the year of the great storm. " * 3)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "m.Q8_0.gguf").write_bytes(b"GGUF")
    return tmp_path


def model_of(folder: Path, entry: str) -> str:
    (folder / "mine.yaml").write_text(SWEEP.format(model=entry))
    return load_sweep(folder / "mine.yaml").models[0].name


@pytest.mark.parametrize(
    ("entry", "name"),
    [
        ("models/m.Q8_0.gguf", "{folder}/models/m.Q8_0.gguf"),
        ("{name: models, gguf_file: m.Q8_0.gguf}", "{folder}/models/m.Q8_0.gguf"),
        ("org/name-GGUF/m.Q8_0.gguf", "org/name-GGUF/m.Q8_0.gguf"),
        ("org/name-GGUF/q8/m.Q8_0.gguf", "org/name-GGUF/q8/m.Q8_0.gguf"),
        ("{name: org/name-GGUF, gguf_file: q8/m.Q8_0.gguf}", "org/name-GGUF/q8/m.Q8_0.gguf"),
        ("org/name", "org/name"),
    ],
)
def test_a_file_is_named_as_users_of_llama_cpp_and_of_transformers_do(folder: Path, entry: str, name: str):
    assert model_of(folder, entry) == name.format(folder=folder)


@pytest.mark.parametrize("entry", ["models/none.gguf", "./org/name/none.gguf", "none.gguf", "org/name/folder"])
def test_what_can_be_no_file_of_the_hub_must_be_there(folder: Path, entry: str):
    with pytest.raises(BadInput, match=rf"models\.0\.name: found '{entry}', but there is no such file or folder"):
        model_of(folder, entry)


def test_a_file_cut_off_is_one_problem_of_the_sweep(capsweep, folder: Path):
    model_of(folder, "models/m.Q8_0.gguf")
    ended = capsweep("check", folder / "mine.yaml")
    assert (ended.returncode, ended.stdout) == (2, "")
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"models.0: {folder}/models/m.Q8_0.gguf: not a whole GGUF file (")


@pytest.mark.slow
def test_a_run_from_a_file_to_memories_that_decode(capsweep, folder: Path, shipped_model: Path):
    pytest.importorskip("gguf", reason="needs the extra `gguf`")
    write_gguf(shipped_model, folder / "models" / "quick.F32.gguf")
    model_of(folder, "models/quick.F32.gguf")
    sweep = folder / "mine.yaml"
    sweep.write_text(sweep.read_text() + "recipe: {patience: 20}\nsearch: {max_length: 6}\n")
    ended = capsweep("run", sweep, "--run-dir", folder / "run", "--inline")
    assert ended.returncode == 0, ended.stderr
    (row,) = pq.read_table(folder / "run" / "searches.parquet").to_pylist()
    assert row["model"] == "quick.F32"
    assert row["capacity_tokens"] > 0
    assert str(folder) not in str(row), "tables hold no path"
    assert "1 exact, 0 not" in capsweep("verify", folder / "run").stdout
