"""Input that cannot be used: one clear message on stderr, exit code 2, nothing written, no traceback."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tasks.values import Model, TaskError

VERBS = [
    ("resume",),
    ("extend", "toy.yaml"),
    ("status",),
    ("report",),
    ("verify",),
    ("decode", "3f2a"),
    ("export", "--to", "memories"),
]
"""Every verb that takes a run directory, with what else it wants."""


def tree(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder: files with their contents, folders with None."""
    return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


@pytest.fixture
def refused(capsweep: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Run the command in the test's folder, which must refuse its input; returns the lines of its message."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def run(*arguments: str | Path) -> list[str]:
        before = tree(tmp_path)
        ended = capsweep(*arguments)
        assert ended.returncode == 2, ended.stderr
        assert ended.stdout == ""
        assert tree(tmp_path) == before, "something was written"
        return ended.stderr.splitlines()

    return run


@pytest.fixture
def sweep(toy_sweep: Path) -> Callable[..., Path]:
    """The toy's sweep file with some keys replaced."""

    def write(**changes: Any) -> Path:
        toy_sweep.write_text(yaml.safe_dump({**yaml.safe_load(toy_sweep.read_text()), **changes}))
        return toy_sweep

    return write


@pytest.fixture
def one_problem(refused: Callable[..., list[str]]) -> Callable[[Path], str]:
    """The one line that `check` and `run` alike refuse a sweep file with."""

    def ask(path: Path) -> str:
        (checked,) = refused("check", path)
        assert refused("run", path, "--inline") == [checked]
        return checked

    return ask


def save_tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "number": 1, "long": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[reportAttributeAccessIssue]
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]").save_pretrained(folder)


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


SIZES: dict[str, Any] = {
    "vocab_size": 8,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
}


@pytest.fixture(scope="module")
def made_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    folder = tmp_path_factory.mktemp("models") / "causal"
    config = GPTNeoXConfig(**SIZES, max_position_embeddings=16, bos_token_id=None, eos_token_id=None)
    GPTNeoXForCausalLM(config).save_pretrained(folder)
    save_tokenizer(folder)
    return folder


@pytest.fixture
def causal_model(made_model: Path, tmp_path: Path) -> Path:
    """A random causal model without a BOS; its context is 16 tokens."""
    return shutil.copytree(made_model, tmp_path / "causal")


pytestmark = pytest.mark.usefixtures("no_page")


class TestSweepFiles:
    @pytest.mark.parametrize(
        ("changes", "expected"),
        [
            ({"serch": {}}, ["serch: unknown key.", "known: name, task,", "Did you mean 'search'?"]),
            ({"search": {"max_length": "12"}}, ["search.max_length: found '12'", "a whole number", "did you mean 12?"]),
            ({"seeds": 3}, ["seeds: found 3; it should be a list.", "Did you mean [3]?"]),
            ({"num_vectors": 0}, ["num_vectors: found 0; it should be a list of whole numbers of at least 1"]),
            ({"num_vectors": [0]}, ["num_vectors.0: found 0; it should be greater than or equal to 1."]),
            ({"texts": [{"source": "files", "path": "txts"}]}, ["texts.0.path: found 'txts'", "no such file", "tried"]),
            ({"models": ["./nowhere"]}, ["models.0.name: found './nowhere'", "no such file or folder", "tried"]),
        ],
    )
    def test_one_line_names_file_and_place(self, one_problem, sweep, changes, expected):
        path = sweep(**changes)
        line = one_problem(path)
        assert line.startswith(f"{path}: {expected[0]}")
        assert all(words in line for words in expected)

    def test_a_file_that_is_not_there(self, one_problem, tmp_path):
        assert one_problem(tmp_path / "no.yaml") == f"{tmp_path / 'no.yaml'}: there is no such file. Check the path."

    def test_a_folder(self, one_problem, tmp_path):
        assert one_problem(tmp_path) == f"{tmp_path}: cannot be read (Is a directory). Wanted a YAML file."

    def test_another_encoding(self, one_problem, toy_sweep):
        toy_sweep.write_bytes("name: größe\n".encode("latin-1"))
        assert one_problem(toy_sweep) == f"{toy_sweep}: not UTF-8 at byte 8. Wanted a YAML file in UTF-8."

    def test_all_problems_of_the_file_at_once(self, refused, sweep):
        lines = refused("run", sweep(serch={}, num_vectors=[0], models=[]), "--inline")
        assert {line.split(": ")[1] for line in lines} == {"serch", "num_vectors.0", "models"}


class TestTexts:
    def test_an_empty_folder(self, one_problem, sweep, tmp_path):
        (tmp_path / "none").mkdir()
        line = one_problem(sweep(texts=[{"source": "files", "path": "none"}]))
        assert line == (
            f"texts.0: {tmp_path / 'none'}: no usable file; found nothing; "
            "wanted .txt, .jsonl, .ndjson, .parquet, .csv."
        )

    def test_fewer_texts_than_asked_for(self, one_problem, sweep):
        line = one_problem(sweep(texts=[{"source": "files", "path": "texts", "samples": 15}]))
        assert line.startswith("texts.0: 15 samples were asked for, the source has 12.")
        assert "--allow-fewer" in line

    def test_fewer_texts_may_be_allowed(self, capsweep, sweep, tmp_path):
        path = sweep(texts=[{"source": "files", "path": "texts", "samples": 15}])
        assert capsweep("check", path, "--allow-fewer").returncode == 0
        ended = capsweep("run", path, "--inline", "--allow-fewer", "--run-dir", tmp_path / "run")
        assert ended.returncode == 0
        assert "15 samples were asked for, the source has 12. Continuing with 12." in ended.stdout
        assert "12 searches" in ended.stdout


class TestModels:
    @pytest.fixture
    def measuring(self, sweep: Callable[..., Path]) -> Callable[..., Path]:
        def write(model: Path, **changes: Any) -> Path:
            return sweep(task="cramming", models=[str(model)], **changes)

        return write

    def test_the_model_that_the_others_are_made_from_is_good(self, capsweep, measuring, causal_model):
        ended = capsweep("check", measuring(causal_model))
        assert ended.returncode == 0, ended.stderr
        assert "causal" in ended.stdout

    def test_a_folder_without_a_model(self, one_problem, measuring, tmp_path):
        line = one_problem(measuring(tmp_path / "texts"))
        assert line.startswith(f"models.0: {tmp_path / 'texts'}: no config.json in this folder. Wanted a model")

    @pytest.mark.parametrize("content", ["{not json", "[1]", "{}", '{"model_type": "nobody-knows"}'])
    def test_a_configuration_of_nothing_known(self, one_problem, measuring, causal_model, content):
        (causal_model / "config.json").write_text(content)
        line = one_problem(measuring(causal_model))
        assert line.startswith(f"models.0: {causal_model}: config.json could not be read as a model (")
        assert line.endswith("Wanted a model as transformers saves it.")

    @pytest.mark.parametrize("kind", ["BertModel", "BertForMaskedLM"])
    def test_an_encoder(self, one_problem, measuring, tmp_path, kind):
        import transformers

        config = transformers.BertConfig(**SIZES)
        getattr(transformers, kind)(config).save_pretrained(tmp_path / "encoder")
        save_tokenizer(tmp_path / "encoder")
        line = one_problem(measuring(tmp_path / "encoder"))
        assert line.startswith(f"models.0: {tmp_path / 'encoder'}: {kind} is not a causal language model. Wanted a dec")

    def test_a_model_that_reads_no_text(self, one_problem, measuring, causal_model):
        (causal_model / "config.json").write_text('{"model_type": "vit"}')
        assert "vit is not a causal language model" in one_problem(measuring(causal_model))

    def test_pickled_weights(self, one_problem, measuring, causal_model):
        (causal_model / "model.safetensors").rename(causal_model / "pytorch_model.bin")
        line = one_problem(measuring(causal_model))
        assert "no *.safetensors in this folder" in line
        assert "save_pretrained" in line

    def test_weights_cut_off(self, one_problem, measuring, causal_model):
        weights = causal_model / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-4])
        line = one_problem(measuring(causal_model))
        assert line.startswith(f"models.0: {weights}: not a whole safetensors file")
        assert line.endswith("Copy or download it again.")

    def test_weights_that_are_missing(self, one_problem, measuring, causal_model):
        edit(causal_model / "config.json", num_hidden_layers=2)
        line = one_problem(measuring(causal_model))
        assert line.startswith(f"models.0: {causal_model}: 12 weights that config.json asks for are not in the weight")

    def test_an_encoder_that_was_saved_as_a_decoder(self, one_problem, measuring, tmp_path):
        from transformers import BertConfig, BertLMHeadModel

        BertLMHeadModel(BertConfig(**SIZES, initializer_range=0.5)).save_pretrained(tmp_path / "encoder")
        save_tokenizer(tmp_path / "encoder")
        line = one_problem(measuring(tmp_path / "encoder"))
        assert line.startswith(f"models.0: {tmp_path / 'encoder'}: a later token changes the model's output before it.")
        assert "Wanted a causal model" in line

    def test_other_rope_factors_for_long_texts_limit_the_context(self, capsweep, measuring, tmp_path):
        from transformers import Phi3Config, Phi3ForCausalLM

        context: dict[str, Any] = {
            "max_position_embeddings": 32,
            "original_max_position_embeddings": 16,
            "rope_scaling": {"type": "longrope", "short_factor": [1.0, 1.0], "long_factor": [4.0, 4.0]},
        }
        config = Phi3Config(**SIZES, **context, pad_token_id=0)
        Phi3ForCausalLM(config).save_pretrained(tmp_path / "phi")
        save_tokenizer(tmp_path / "phi")
        ended = capsweep("check", measuring(tmp_path / "phi"))
        assert ended.returncode == 0, ended.stderr
        assert "texts are limited to 16 positions of its 32" in " ".join(ended.stdout.split())
        ended = capsweep("check", measuring(tmp_path / "phi", search={"max_length": 17}))
        assert ended.returncode == 2
        assert "Ask for at most 16" in ended.stderr

    def test_a_bos_with_two_meanings(self, capsweep, one_problem, measuring, causal_model):
        edit(causal_model / "config.json", bos_token_id=1)
        edit(causal_model / "tokenizer_config.json", bos_token="long")
        line = one_problem(measuring(causal_model, prefix="bos"))
        assert line.startswith(f"models.0: {causal_model}: prefix: bos has two meanings: the BOS is 1 in its config")
        assert "2 in its tokenizer" in line
        drawn = [{"source": "model_samples", "samples": 1}]
        assert "model_samples has two meanings" in one_problem(measuring(causal_model, prefix=None, texts=drawn))
        texts = [{"source": "files", "path": "texts"}]
        assert capsweep("check", measuring(causal_model, prefix=None, texts=texts)).returncode == 0

    def test_a_tokenizer_with_more_tokens_than_the_table(self, one_problem, measuring, causal_model):
        from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

        config = GPTNeoXConfig(**{**SIZES, "vocab_size": 2}, max_position_embeddings=16, bos_token_id=None)
        GPTNeoXForCausalLM(config).save_pretrained(causal_model)
        line = one_problem(measuring(causal_model))
        assert line == (
            f"models.0: {causal_model}: its tokenizer has tokens up to 2, but its vocabulary has 2. "
            "Wanted the tokenizer of this model."
        )

    def test_all_problems_of_a_folder_at_once(self, refused, measuring, causal_model, monkeypatch):
        monkeypatch.setattr("tasks.model_folder.find_spec", lambda name: None)  # as if peft were not installed
        weights = causal_model / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-4])
        (causal_model / "adapter_config.json").write_text("version https://git-lfs.github.com/spec/v1\n")
        (causal_model / "tokenizer.json").write_text("{}")
        lines = refused("check", measuring(causal_model))
        assert len(lines) == 4
        for words in ("a Git LFS pointer", "an adapter", "not a whole safetensors file", "tokenizer could not be read"):
            assert sum(words in line for line in lines) == 1

    def test_weights_that_are_missing_are_not_made_up(self, causal_model):
        from tasks.language_model import LanguageModel

        LanguageModel(Model(name=str(causal_model)), device="cpu")
        config = json.loads((causal_model / "config.json").read_text())
        (causal_model / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 2}))
        with pytest.raises(TaskError, match=r"weights that config\.json asks for are not in the weight files, such as"):
            LanguageModel(Model(name=str(causal_model)), device="cpu")

    def test_no_tokenizer(self, one_problem, measuring, causal_model):
        for path in causal_model.glob("*token*"):
            path.unlink()
        assert one_problem(measuring(causal_model)) == (
            f"models.0: {causal_model}: its tokenizer has no tokens; wanted a tokenizer.json beside the weights."
        )

    def test_a_broken_tokenizer(self, one_problem, measuring, causal_model):
        (causal_model / "tokenizer.json").write_text("{}")
        line = one_problem(measuring(causal_model))
        assert line.startswith(f"models.0: {causal_model}: its tokenizer could not be read (")
        assert "Wanted a tokenizer.json" in line

    def test_no_bos_to_stand_before_the_memory(self, one_problem, measuring, causal_model):
        line = one_problem(measuring(causal_model, prefix="bos", num_vectors=[1, 2]))
        assert line == "causal: prefix: bos was asked for, but this model names no BOS token; use prefix: null."

    def test_longer_than_the_context(self, one_problem, measuring, stories_model):
        line = one_problem(measuring(stories_model, search={"max_length": 600}, num_vectors=[2]))
        assert line.startswith("search.max_length: 600 tokens do not fit into the context of stories260K")
        assert "Ask for at most 511" in line  # 512 positions, 2 of them for the memory; the last token is never read

    def test_as_long_as_the_context(self, capsweep, measuring, stories_model):
        fitting = measuring(stories_model, search={"max_length": 511}, num_vectors=[2])
        assert capsweep("check", fitting).returncode == 0

    def test_more_vectors_than_the_context(self, one_problem, measuring, causal_model):
        line = one_problem(measuring(causal_model, num_vectors=[17]))
        assert line == "num_vectors: 17 vectors leave no room in the context of causal."

    def test_several_problems_at_once(self, refused, sweep, causal_model, tmp_path):
        (tmp_path / "none").mkdir()
        (causal_model / "model.safetensors").unlink()
        path = sweep(
            task="cramming",
            models=[str(causal_model), str(tmp_path / "texts")],
            texts=[{"source": "files", "path": "texts", "samples": 13}, {"source": "files", "path": "none"}],
        )
        lines = refused("run", path, "--inline")
        assert [line.split(":")[0] for line in lines] == ["texts.0", "texts.1", "models.0", "models.1"]

    def test_a_hub_model_that_cannot_be_reached_in_a_process_of_its_own(
        self, start, measuring, tmp_path, tmp_path_factory, monkeypatch
    ):
        path = measuring(Path("someone/some-model"))
        before = tree(tmp_path)
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        monkeypatch.setenv("HF_HOME", str(tmp_path_factory.mktemp("hub")))
        process = start("run", path, "--run-dir", tmp_path / "run")
        assert process.communicate(timeout=240) == (
            "",
            "models.0: someone/some-model: HF_HUB_OFFLINE is set and the model is not in the local cache. "
            "Fetch it once with the network on.\n",
        )
        assert process.returncode == 2
        assert tree(tmp_path) == before


class TestRunDirectories:
    @pytest.fixture
    def run(self, finished: Callable[..., Path], toy_sweep: Path) -> Path:
        """A finished run of the toy's sweep."""
        return finished(toy_sweep)

    def test_one_that_holds_another_sweep(self, refused, run, sweep):
        (line,) = refused("run", sweep(seeds=[1]), "--inline", "--run-dir", run)
        assert line.startswith(f"{run}: already holds another sweep")
        assert "Choose another --run-dir" in line
        assert "capsweep resume" in line

    def test_one_that_holds_other_things(self, refused, toy_sweep, tmp_path):
        (line,) = refused("run", toy_sweep, "--inline", "--run-dir", tmp_path / "texts")
        assert line.startswith(f"{tmp_path / 'texts'}: holds 00.txt, 01.txt, 02.txt, which is not part of a run.")
        assert "choose another --run-dir" in line

    def test_an_empty_one_will_do(self, capsweep, toy_sweep, tmp_path):
        (tmp_path / "run").mkdir()
        assert capsweep("run", toy_sweep, "--inline", "--run-dir", tmp_path / "run").returncode == 0

    def test_a_file(self, refused, toy_sweep):
        (line,) = refused("run", toy_sweep, "--inline", "--run-dir", toy_sweep)
        assert line.startswith(f"{toy_sweep}: cannot be written to (Not a directory).")

    @pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb[0])
    @pytest.mark.parametrize("place", ["texts", "nowhere", "toy.yaml"])
    def test_what_is_no_run(self, refused, toy_sweep, verb, place):
        (line,) = refused(verb[0], place, *verb[1:])
        assert line.startswith(f"{place}: not a run directory (no sweep.yaml in it).")
        assert "Give the folder that `capsweep run` printed" in line

    @pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb[0])
    def test_a_storage_that_nobody_knows(self, refused, verb):
        (line,) = refused(verb[0], "nosuch://place", *verb[1:])
        assert line.startswith("nosuch://place: this storage cannot be reached (Protocol not known: nosuch).")

    @pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb[0])
    @pytest.mark.parametrize("content", ["task: [", "name: toy\n"])
    def test_a_run_whose_sweep_and_its_copy_cannot_be_read(self, refused, run, verb, content):
        (run / "sweep.yaml").write_text(content)
        provenance = json.loads((run / "provenance.json").read_text())
        (run / "provenance.json").write_text(json.dumps({**provenance, "sweep": content}))
        (line,) = refused(verb[0], run, *verb[1:])
        assert line.startswith(f"{run}/sweep.yaml: damaged (it cannot be read as this version writes it")
        assert "restore it" in line

    def test_a_search_that_is_not_in_the_run(self, refused, run):
        (line,) = refused("decode", run, "zz")
        assert line.startswith("'zz': no search_ids of this run begin with it; wanted one search_id of searches.")

    def test_too_short_a_beginning_of_a_search_id(self, refused, run):
        (line,) = refused("decode", run, "")
        assert line.startswith("'': 12 search_ids of this run begin with it; ")

    def test_a_file_to_export_to(self, refused, run, toy_sweep):
        (line,) = refused("export", run, "--to", toy_sweep)
        assert line == f"{toy_sweep}: cannot be written to (File exists). Choose another --to."


class TestTheCommandLine:
    @pytest.mark.parametrize("arguments", [["run"], ["run", "toy.yaml", "--inlined"], ["rnu", "toy.yaml"]])
    def test_what_it_does_not_know(self, refused, toy_sweep, arguments):
        assert any("Usage: " in line for line in refused(*arguments))
