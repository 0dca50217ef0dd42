"""Models of known shapes with random weights, and the operations that one training step of a memory needs.

The numbers are those of the published config.json files; nothing is downloaded. Rotary scaling is left out because it
changes no shape. Knows nothing of engines, clocks or the speed of devices.
"""

from dataclasses import dataclass

import torch
from transformers import AutoModelForCausalLM, GPTNeoXConfig, LlamaConfig, PreTrainedConfig, PreTrainedModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A model that can be built without its weights."""

    config: PreTrainedConfig
    parameters: int
    """Parameters according to the model's card; the model that is built has as many."""
    least_utilization: float | None = None
    """Goal: share of the device's peak that the engine reaches."""
    least_ratio: float | None = None
    """Goal: the engine's tokens per second over those of the published step."""


SHAPES = {
    "pythia-160m": Shape(
        config=GPTNeoXConfig(
            vocab_size=50304,
            hidden_size=768,
            num_hidden_layers=12,
            num_attention_heads=12,
            intermediate_size=3072,
            max_position_embeddings=2048,
        ),
        parameters=162_322_944,
        least_ratio=30,
    ),
    "smollm2-135m": Shape(
        config=LlamaConfig(
            vocab_size=49152,
            hidden_size=576,
            num_hidden_layers=30,
            num_attention_heads=9,
            num_key_value_heads=3,
            intermediate_size=1536,
            max_position_embeddings=8192,
            tie_word_embeddings=True,
        ),
        parameters=134_515_008,
    ),
    "pythia-1.4b": Shape(
        config=GPTNeoXConfig(
            vocab_size=50304,
            hidden_size=2048,
            num_hidden_layers=24,
            num_attention_heads=16,
            intermediate_size=8192,
            max_position_embeddings=2048,
        ),
        parameters=1_414_647_808,
        least_utilization=0.4,
    ),
    "llama-3.2-1b": Shape(
        config=LlamaConfig(
            vocab_size=128256,
            hidden_size=2048,
            num_hidden_layers=16,
            num_attention_heads=32,
            num_key_value_heads=8,
            head_dim=64,
            intermediate_size=8192,
            max_position_embeddings=131072,
            tie_word_embeddings=True,
        ),
        parameters=1_235_814_400,
        least_utilization=0.4,
    ),
    "llama-3.1-8b": Shape(
        config=LlamaConfig(
            vocab_size=128256,
            hidden_size=4096,
            num_hidden_layers=32,
            num_attention_heads=32,
            num_key_value_heads=8,
            head_dim=128,
            intermediate_size=14336,
            max_position_embeddings=131072,
        ),
        parameters=8_030_261_248,
        least_utilization=0.4,
        least_ratio=3,
    ),
    # Not a real model: small enough to try the benchmark itself on a CPU.
    "tiny": Shape(
        config=LlamaConfig(
            vocab_size=512,
            hidden_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            intermediate_size=160,
            max_position_embeddings=2048,
            tie_word_embeddings=True,
        ),
        parameters=119_104,
    ),
}


def random_model(shape: Shape, *, device: str, dtype: torch.dtype) -> PreTrainedModel:
    """The shape with random weights, made on the device itself."""
    with torch.device(device):
        return AutoModelForCausalLM.from_config(shape.config, dtype=dtype)


def operations_per_token(model: PreTrainedModel, length: int) -> float:
    """Floating-point operations that a step needs for each token of a slot of `length` inputs.

    With P the weights of every linear layer, the head among them (an embedding is looked up, not multiplied), A the
    layers, W the heads times their width and T the length:

        forward                        2 P + 2 A W T
        backward through activations   2 P + 4 A W T

    The weights are frozen, so the 2 P of their gradients are missing. In attention both factors of each product are
    activations, so backward costs twice as much as forward; a token sees T / 2 positions on average. What a kernel
    recomputes in backward is not counted.

    Source: Kaplan et al. 2020, "Scaling Laws for Neural Language Models", section 2.1 (2 P a token forward); Chowdhery
    et al. 2022, "PaLM", appendix B (utilization, and 12 A W T for attention, all positions counted: halved here).
    """
    weights = sum(part.weight.numel() for part in model.modules() if isinstance(part, torch.nn.Linear))
    config = model.config
    head_width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    attention = config.num_hidden_layers * config.num_attention_heads * head_width * length
    return 4 * weights + 6 * attention
