"""Tiny random models that are unlike a Llama in some way: each is measured by the real engine, or refused in words."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import save as save_tensors
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tasks import model_files
from tasks.cramming import CrammingTask
from tasks.language_model import LanguageModel
from tasks.tokenizer import HubCodec
from tasks.values import EngineSettings, Lossless, Lossy, Model, Probe, Question, TaskError

VOCABULARY = 16
SPREAD = 0.5
"""Standard deviation of random weights: far from nought, so that a memory moves what comes out within a few steps."""
LLAMA: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "initializer_range": SPREAD,
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 32,
    "pad_token_id": None,
}
OPT: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "init_std": SPREAD,
    "hidden_size": 8,
    "word_embed_proj_dim": 4,
    "ffn_dim": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 32,
    "do_layer_norm_before": False,
}
BLOOM: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "initializer_range": SPREAD,
    "hidden_size": 8,
    "n_layer": 1,
    "n_head": 2,
}
CODEGEN: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "initializer_range": SPREAD,
    "n_embd": 8,
    "n_layer": 1,
    "n_head": 4,
    "n_positions": 32,
    "n_ctx": 32,
    "rotary_dim": 2,
    "bos_token_id": 1,
}

MEASURED: dict[str, tuple[str, dict[str, Any]]] = {
    "tied head": ("Llama", {**LLAMA, "tie_word_embeddings": True}),
    "untied head": ("Llama", {**LLAMA, "tie_word_embeddings": False}),
    "embedding narrower than the hidden width, as OPT-350M": ("OPT", OPT),
    "no fused attention: CodeGen": ("CodeGen", CODEGEN),
    "attention biased by position: Bloom": ("Bloom", BLOOM),
    "vocabulary padded beyond the tokenizer": ("Llama", {**LLAMA, "vocab_size": 64}),
    "neither BOS nor EOS": ("Llama", {**LLAMA, "bos_token_id": None, "eos_token_id": None}),
    "a BOS that it has no embedding for": ("Llama", {**LLAMA, "bos_token_id": 99}),
}


TEXT: dict[str, Any] = {**LLAMA, "num_key_value_heads": 2, "head_dim": 4, "pad_token_id": 0}
IMAGES: dict[str, Any] = {
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
IMAGES_OF_QWEN = {"depth": 1, "embed_dim": 8, "hidden_size": 8, "num_heads": 2}
ROPE_OF_QWEN = {"rope_type": "default", "mrope_section": [1, 1, 0], "rope_theta": 1e4}
WITH_TOWERS: dict[str, dict[str, Any]] = {
    "Gemma3": {"text_config": TEXT, "vision_config": IMAGES, "image_token_id": 15},
    "Qwen2VL": {
        "text_config": {**TEXT, "rope_parameters": ROPE_OF_QWEN},
        "vision_config": IMAGES_OF_QWEN,
        "image_token_id": 15,
    },
    "SmolVLM": {"text_config": {**TEXT, "model_type": "llama"}, "vision_config": IMAGES, "image_token_id": 15},
}
"""Models that read images, too."""


def save_tokenizer(folder: Path) -> None:
    """Twelve words, no special token."""
    words = Tokenizer(models.WordLevel({f"w{number}": number for number in range(12)}, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[reportAttributeAccessIssue]
    PreTrainedTokenizerFast(tokenizer_object=words).save_pretrained(folder)


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """Write a random model of a kind and its tokenizer into a folder."""

    def write(kind: str, settings: dict[str, Any], *, safe: bool = True) -> Path:
        torch.manual_seed(0)
        config = getattr(transformers, f"{kind}Config")(**settings)
        ending = "ForConditionalGeneration" if "vision_config" in settings else "ForCausalLM"
        made = getattr(transformers, f"{kind}{ending}")(config)
        made.save_pretrained(tmp_path / "model")
        save_tokenizer(tmp_path / "model")
        if not safe:
            (tmp_path / "model" / "model.safetensors").unlink()
            torch.save(made.state_dict(), tmp_path / "model" / "pytorch_model.bin")
        return tmp_path / "model"

    return write


def edit(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


@pytest.mark.parametrize("case", MEASURED)
def test_is_measured_and_certified(case, save, run_engine):
    kind, settings = MEASURED[case]
    model = Model(name=str(save(kind, settings)))
    facts = model_files.facts(model)
    assert facts.vocabulary == settings["vocab_size"]
    assert facts.embedding_width == settings.get("word_embed_proj_dim", 8)
    assert facts.num_layers == settings.get("num_hidden_layers", settings.get("n_layer"))
    assert (facts.bos is not None) == ("BOS" not in case)
    check_measured(model, run_engine)


@pytest.mark.parametrize("kind", WITH_TOWERS)
def test_the_language_model_of_one_that_reads_images_is_measured(kind, save, run_engine):
    model = Model(name=str(save(kind, WITH_TOWERS[kind])))
    facts = model_files.facts(model)
    whole = LanguageModel(model, device="cpu")._model
    towers = ("vision", "visual", "projector", "connector")
    read = [part for name, part in whole.named_parameters() if not any(tower in name for tower in towers)]
    assert facts.num_parameters == sum(part.numel() for part in read)
    assert (facts.vocabulary, facts.embedding_width, facts.context) == (VOCABULARY, 8, 32)
    assert facts.num_layers == whole.config.get_text_config().num_hidden_layers
    assert "its language model is measured" in facts.notes[-1]
    recipe = CrammingTask().recipe({})
    assert CrammingTask().examine(model, facts, recipe).recipe["radius"] is not None
    check_measured(model, run_engine)


def check_measured(model: Model, run_engine: Callable[..., Any]) -> None:
    """A probe of the real engine proves a token, and the memory that it stores gives that token back."""
    tokens = HubCodec(model).encode("w3 w1").tokens
    assert tokens == (3, 1)
    # So many vectors for two tokens that random weights can soon be led to the first.
    question = Question(recipe=CrammingTask().recipe({"optimizer": "adamw", "steps": 10}))
    probe = Probe(
        probe_id="p", search_id="s", number=0, sample_id="t", tokens=tokens, length=len(tokens), num_vectors=4
    )
    engine = CrammingTask().open_engine(model, question, EngineSettings(device="cpu"))
    outcome = run_engine(engine, [probe])["p"].outcome
    assert isinstance(outcome, Lossless | Lossy)
    found = outcome.measurement
    assert found.memory is not None
    assert found.exact_prefix >= 1
    proof = CrammingTask().open_prover(model, question, "cpu")(found.memory, num_vectors=4, tokens=tokens)
    assert proof.exact_prefix == found.exact_prefix


class TestRefused:
    @pytest.mark.parametrize("kind", ["T5", "Bart"])
    def test_an_encoder_with_a_decoder(self, kind, tmp_path):
        config = getattr(transformers, f"{kind}Config")(architectures=[f"{kind}ForConditionalGeneration"])
        config.save_pretrained(tmp_path)
        (tmp_path / "model.safetensors").write_bytes(save_tensors({}))
        with pytest.raises(TaskError, match=f"{kind}ForConditionalGeneration is not a causal language model"):
            model_files.facts(Model(name=str(tmp_path)))

    def test_one_whose_text_is_read_in_both_directions(self, save):
        text = {**TEXT, "model_type": "gemma"}
        towers = {"model_type": "siglip_vision_model", **IMAGES}
        model = Model(name=str(save("PaliGemma", {"text_config": text, "vision_config": towers, "image_token_id": 15})))
        with pytest.raises(TaskError, match="a later token changes the model's output before it"):
            LanguageModel(model, device="cpu")

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"hidden_size": "x"}, r"config\.json could not be read as a model \(.*expected int, got str"),
            ({"hidden_size": 7}, r"The hidden size \(7\) is not a multiple"),
            ({"num_attention_heads": 0}, r"config\.json could not be read as a model \(integer modulo by zero\)"),
            ({"hidden_act": "nope"}, r"config\.json could not be read as a model \('nope'\)"),
            ({"dtype": "flot32"}, r"config\.json could not be read as a model \(.*flot32"),
            ({"vocab_size": 1}, "its vocabulary has 1 tokens; wanted at least two"),
            (
                {"quantization_config": {"quant_method": "gptq", "bits": 4}},
                r"its weights are quantized \(gptq\)",
            ),
            ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}}, "quantized"),
        ],
        ids=str,
    )
    def test_a_configuration_that_cannot_be(self, save, changes, message):
        folder = save("Llama", LLAMA)
        edit(folder, **changes)
        with pytest.raises(TaskError, match=message) as error:
            model_files.facts(Model(name=str(folder)))
        assert "\n" not in str(error.value)

    def test_weights_of_other_shapes(self, save):
        folder = save("Llama", LLAMA)
        edit(folder, vocab_size=20)
        with pytest.raises(TaskError, match=r"2 weights have other shapes .* found \[16, 8\], wanted \[20, 8\]"):
            LanguageModel(Model(name=str(folder)), device="cpu")

    def test_weights_that_are_missing(self, save):
        folder = save("Llama", LLAMA)
        edit(folder, num_hidden_layers=2)
        with pytest.raises(TaskError, match=r"weights that config\.json asks for are not in the weight files"):
            LanguageModel(Model(name=str(folder)), device="cpu")


class TestPickles:
    def test_are_read_only_when_allowed(self, save):
        folder = save("Llama", LLAMA, safe=False)
        with pytest.raises(TaskError, match=r"no \*\.safetensors in this folder.*allow_pickle: true"):
            model_files.facts(Model(name=str(folder)))
        with pytest.raises(TaskError, match=r"no \*\.safetensors in this folder"):
            LanguageModel(Model(name=str(folder)), device="cpu")
        allowed = Model(name=str(folder), allow_pickle=True)
        assert model_files.facts(allowed).vocabulary == VOCABULARY
        assert LanguageModel(allowed, device="cpu").vocabulary == VOCABULARY

    def test_that_would_run_code_are_refused_even_then(self, save, tmp_path):
        class Evil:
            def __reduce__(self):
                return Path.touch, (tmp_path / "ran",)

        folder = save("Llama", LLAMA, safe=False)
        torch.save({"weight": Evil()}, folder / "pytorch_model.bin")
        with pytest.raises(TaskError, match="hold more than tensors, and would run code"):
            LanguageModel(Model(name=str(folder), allow_pickle=True), device="cpu")
        assert not (tmp_path / "ran").exists()


class TestCodeOfTheModel:
    @pytest.fixture
    def folder(self, save: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A model of a kind that only its own code knows; the code leaves a mark when it runs."""
        monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
        folder = save("Llama", LLAMA)
        (folder / "modeling_own.py").write_text(
            f"from pathlib import Path\nPath({str(tmp_path / 'ran')!r}).touch()\n"
            "from transformers import LlamaConfig, LlamaForCausalLM\n"
            "class OwnConfig(LlamaConfig):\n    model_type = 'own'\n"
            "class Own(LlamaForCausalLM):\n    config_class = OwnConfig\n"
        )
        edit(
            folder,
            model_type="own",
            auto_map={"AutoConfig": "modeling_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.Own"},
        )
        return folder

    def test_is_not_run_unasked(self, folder, tmp_path):
        for what in (model_files.facts, LanguageModel):
            with pytest.raises(TaskError, match=r"comes with its own code, which is not run by default\..*trust_"):
                what(Model(name=str(folder)))
        assert not (tmp_path / "ran").exists()

    def test_is_run_when_trusted_and_belongs_to_its_identity(self, folder, tmp_path):
        trusted = Model(name=str(folder), trust_remote_code=True)
        before = model_files.facts(trusted).fingerprint
        assert LanguageModel(trusted, device="cpu").vocabulary == VOCABULARY
        assert (tmp_path / "ran").exists()
        with (folder / "modeling_own.py").open("a") as code:
            code.write("# changed\n")
        assert model_files.facts(trusted).fingerprint != before
