"""Writes a Llama that transformers saved as a GGUF file, in float32, as llama.cpp's converter does."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "post_attention_layernorm": "ffn_norm",
    "input_layernorm": "attn_norm",
    "model.layers": "blk",
}
"""Part of a weight's name in transformers -> in llama.cpp."""


def write_gguf(model: Path, file: Path, *, architecture: str = "llama", tokenizer: str = "gpt2", **more: Any) -> Path:
    """Write the model of a folder as one file; `more` are tensors and further entries of its header."""
    from gguf import GGUFWriter
    from safetensors.torch import load_file

    config, vocabulary = (json.loads((model / name).read_text()) for name in ("config.json", "tokenizer.json"))
    writer = GGUFWriter(file, architecture)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model(tokenizer)
    _add_tokens(writer, vocabulary["model"], bos=config["bos_token_id"])
    for key, value in more.items():
        if isinstance(value, np.ndarray):
            writer.add_tensor(key, value)
        elif isinstance(value, str):
            writer.add_string(f"{architecture}.{key}", value)
        else:
            writer.add_uint16(key, value)
    for name, weights in load_file(model / "model.safetensors").items():
        heads = {"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads"}.get(name.split(".")[-2])
        array = weights.float().numpy()
        writer.add_tensor(_renamed(name), array if heads is None else _pairs_together(array, config[heads]))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def _add_tokens(writer: Any, bpe: Any, *, bos: int) -> None:
    control, normal = 3, 1
    writer.add_tokenizer_pre("gpt-2")
    tokens = sorted(bpe["vocab"], key=bpe["vocab"].__getitem__)
    writer.add_token_list(tokens)
    writer.add_token_types([control if number == bos else normal for number in range(len(tokens))])
    writer.add_token_merges([" ".join(pair) for pair in bpe["merges"]])
    writer.add_bos_token_id(bos)
    writer.add_eos_token_id(bos)
    writer.add_add_bos_token(False)


def _renamed(name: str) -> str:
    for theirs, ours in NAMES.items():
        name = name.replace(theirs, ours)
    return name


def _pairs_together(weights: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """The rows of each head, so that the two numbers that RoPE turns together lie side by side."""
    rows, width = weights.shape
    halves = weights.reshape(heads, 2, rows // heads // 2, width)
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(rows, width)
