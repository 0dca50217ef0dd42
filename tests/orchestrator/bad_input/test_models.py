"""Models that cannot be used."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks.values import Model, TaskError

pytestmark = pytest.mark.usefixtures("no_page")


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
        fits = measuring(stories_model, search={"max_length": 511}, num_vectors=[2])
        assert capsweep("check", fits).returncode == 0

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

    @pytest.mark.slow
    def test_a_hub_model_that_cannot_be_reached_in_a_process_of_its_own(
        self, start, measuring, tree, tmp_path, tmp_path_factory, monkeypatch
    ):
        path = measuring(Path("someone/some-model"))
        before = tree(tmp_path)
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        monkeypatch.setenv("HF_HOME", str(tmp_path_factory.mktemp("hub")))
        process = start("run", path, "--run-dir", tmp_path / "run")
        assert process.communicate(timeout=240) == (
            "",
            "models.0: someone/some-model: HF_HUB_OFFLINE is set and the model is not in the local cache. "
            "Fetch it once with the network on. It was taken for a hub id, as no such file or folder is here.\n",
        )
        assert process.returncode == 2
        assert tree(tmp_path) == before
