"""Weights that config.json has no place for: layers may be left out, parts of a layer may not."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from tasks.language_model import LanguageModel
from tasks.model_files import facts
from tasks.pinning import pinned
from tasks.values import Model, WrongModelError
from tests.hub import Hub

Weights = dict[str, torch.Tensor]
NARROW: dict[str, Any] = {"vocab_size": 16, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2}
LLAMA: dict[str, Any] = {**NARROW, "intermediate_size": 8, "max_position_embeddings": 32}
GPT2: dict[str, Any] = {"vocab_size": 16, "n_embd": 8, "n_layer": 2, "n_head": 2, "n_positions": 32}
GPT_NEO: dict[str, Any] = {
    "vocab_size": 16,
    "hidden_size": 8,
    "num_layers": 2,
    "num_heads": 2,
    "max_position_embeddings": 32,
    "attention_types": [[["global", "local"], 1]],
}
CODEGEN: dict[str, Any] = {**GPT2, "n_head": 4, "rotary_dim": 2, "n_ctx": 32}


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """Write a random model of a kind, and change the weights in its file."""

    def write(kind: str, settings: dict[str, Any], change: Callable[[Weights], Weights]) -> Path:
        torch.manual_seed(0)
        made = getattr(transformers, f"{kind}ForCausalLM", None) or transformers.GPT2LMHeadModel
        made(getattr(transformers, f"{kind}Config")(**settings)).save_pretrained(tmp_path / "model")
        file = tmp_path / "model" / "model.safetensors"
        save_file(change(load_file(file)), file, metadata={"format": "pt"})
        return tmp_path / "model"

    return write


def adding(**shapes: tuple[int, ...]) -> Callable[[Weights], Weights]:
    """Weights by these names, in which two underscores stand for a dot."""
    more = {name.replace("__", "."): torch.ones(shape) for name, shape in shapes.items()}
    return lambda weights: {**weights, **more}


def scaled(weights: Weights, kind: torch.dtype, largest: float, scale: str | None) -> Weights:
    """Quantized projections, with their scales beside them by this ending."""
    found: Weights = {}
    for name, part in weights.items():
        if "proj" in name:
            step = part.abs().amax(1, keepdim=True) / largest
            found[name] = (part / step).round().to(kind)
            if scale:
                found[name.removesuffix(".weight") + scale] = step[:, 0].clone()
        else:
            found[name] = part
    return found


QUANTIZED: dict[str, tuple[torch.dtype, float, str | None]] = {
    "int8": (torch.int8, 127, None),
    "int8 of bitsandbytes": (torch.int8, 127, ".SCB"),
    "float8": (torch.float8_e4m3fn, 448, ".weight_scale_inv"),
    "float8 with more range": (torch.float8_e5m2, 448, None),
}


class TestQuantizedWeights:
    """config.json may not say what they are."""

    @pytest.mark.parametrize("case", QUANTIZED)
    def test_are_refused_without_their_configuration(self, save, case):
        folder = save("Llama", LLAMA, lambda weights: scaled(weights, *QUANTIZED[case]))
        with pytest.raises(WrongModelError, match=r"model\.safetensors: weights of 8 bits, such as .*_proj\.weight \("):
            facts(Model(name=str(folder)))

    def test_are_refused_from_the_hub(self, save, hub: Hub):
        folder = save("Llama", LLAMA, lambda weights: scaled(weights, *QUANTIZED["int8"]))
        hub.push("org/one", {file.name: file.read_bytes() for file in folder.iterdir()})
        with pytest.raises(WrongModelError, match="weights of 8 bits, such as"):
            LanguageModel(pinned(Model(name="org/one")), device="cpu")

    def test_are_refused_in_pickles_with_scales(self, save):
        folder = save("Llama", LLAMA, lambda weights: weights)
        weights = scaled(load_file(folder / "model.safetensors"), *QUANTIZED["int8 of bitsandbytes"])
        (folder / "model.safetensors").unlink()
        torch.save(weights, folder / "pytorch_model.bin")
        with pytest.raises(WrongModelError, match=r"14 weights in the files that .* such as .*SCB: the layers would"):
            LanguageModel(Model(name=str(folder), allow_pickle=True), device="cpu")

    def test_are_called_what_their_configuration_calls_them(self, save):
        folder = save("Llama", LLAMA, lambda weights: scaled(weights, *QUANTIZED["int8"]))
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "gptq"}}))
        with pytest.raises(Exception, match=r"its weights are quantized \(gptq\)"):
            facts(Model(name=str(folder)))

    def test_masks_are_none(self, save):
        mask = {"model.layers.0.self_attn.causal_mask": torch.ones(1, 1, 32, 32, dtype=torch.uint8)}
        folder = save("Llama", LLAMA, lambda weights: {**weights, **mask})
        (note,) = LanguageModel(Model(name=str(folder)), device="cpu").readings.notes
        assert "1 weight fewer" in note


@pytest.mark.parametrize(
    "more",
    [
        adding(model__layers__0__self_attn__q_norm__weight=(4,)),
        adding(model__layers__0__self_attn__q_proj__bias=(8,)),
        adding(model__layers__1__mlp__down_proj__weight_scale=(8, 1)),
        adding(model__layers__1__post_feedforward_layernorm__weight=(8,)),
        adding(lm_head__bias=(16,)),
        adding(model__norm__bias=(8,)),
    ],
)
def test_parts_of_layers_are_not_left_out(save, more):
    folder = save("Llama", LLAMA, more)
    with pytest.raises(WrongModelError, match=r"1 weight in the files that config\.json leaves out of layers"):
        LanguageModel(Model(name=str(folder)), device="cpu")


def test_nor_where_the_files_leave_out_the_prefix(save):
    """As those of gpt2 do."""
    folder = save(
        "GPT2",
        GPT2,
        lambda weights: {
            **{name.removeprefix("transformer."): part for name, part in weights.items()},
            "h.0.attn.q_norm.weight": torch.ones(4),
        },
    )
    with pytest.raises(WrongModelError, match=r"such as .*h\.0\.attn\.q_norm\.weight"):
        LanguageModel(Model(name=str(folder)), device="cpu")


HARMLESS: dict[str, tuple[str, dict[str, Any], Callable[[Weights], Weights]]] = {
    "a layer": ("Llama", LLAMA, adding(model__layers__2__self_attn__q_proj__weight=(8, 8))),
    "a head for values": ("Llama", LLAMA, adding(v_head__summary__weight=(1, 8), v_head__summary__bias=(1,))),
    "layers that predict more": ("Llama", LLAMA, adding(mtp__layers__0__q_proj__weight=(8, 8))),
    "angles": ("Llama", LLAMA, adding(model__layers__0__self_attn__rotary_emb__inv_freq=(2,))),
    "angles of all layers": ("Llama", LLAMA, adding(rope__freqs=(2,), model__rotary_emb__inv_freq=(2,))),
    "cached angles": ("Llama", LLAMA, adding(model__layers__0__self_attn__rotary_emb__cos_cached=(1, 1, 32, 4))),
    "masks of GPT-2": (
        "GPT2",
        GPT2,
        adding(transformer__h__0__attn__bias=(1, 1, 32, 32), transformer__h__0__attn__masked_bias=()),
    ),
    "masks of GPT-2 without prefix": (
        "GPT2",
        GPT2,
        adding(h__0__attn__bias=(1, 1, 32, 32), h__1__attn__masked_bias=()),
    ),
    "masks of GPT-Neo": (
        "GPTNeo",
        GPT_NEO,
        adding(
            transformer__h__0__attn__attention__bias=(1, 1, 32, 32), transformer__h__1__attn__attention__masked_bias=()
        ),
    ),
    "masks of GPT-NeoX": (
        "GPTNeoX",
        LLAMA,
        adding(
            gpt_neox__layers__0__attention__bias=(1, 1, 32, 32),
            gpt_neox__layers__0__attention__masked_bias=(),
            gpt_neox__layers__0__attention__rotary_emb__inv_freq=(2,),
        ),
    ),
    "masks of CodeGen": ("CodeGen", CODEGEN, adding(transformer__h__0__attn__causal_mask=(1, 1, 32, 32))),
    "a tied head": (
        "Llama",
        {**LLAMA, "tie_word_embeddings": True},
        lambda weights: {**weights, "lm_head.weight": weights["model.embed_tokens.weight"].clone()},
    ),
}


@pytest.mark.parametrize("case", HARMLESS)
def test_what_models_can_do_without_is_left_out(save, case):
    folder = save(*HARMLESS[case])
    notes = LanguageModel(Model(name=str(folder)), device="cpu").readings.notes
    assert all("fewer than are in the files; left out, such as" in note for note in notes)
    assert len(notes) <= 1
