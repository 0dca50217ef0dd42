"""Models with towers beside their language model, such as one for images. Only the language model is measured.

Knows nothing of files.
"""

from collections.abc import Iterable
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText


def has_towers(config: Any) -> bool:
    """Whether the model has towers beside its language model, such as one for images."""
    return config.get_text_config() is not config


def notes_on_towers(config: Any) -> tuple[str, ...]:
    """What a user should know of them."""
    if not has_towers(config):
        return ()
    return (f"a {config.model_type} model reads more than text: its language model is measured, the rest is not read.",)


def loader_of(config: Any) -> Any:
    """The class of transformers that makes the model of a configuration, its towers included."""
    return AutoModelForImageTextToText if has_towers(config) else AutoModelForCausalLM


def parts_read(shell: Any, config: Any) -> tuple[torch.nn.Module, ...]:
    """The parts of a model that a text passes; some may lie within others."""
    if not has_towers(config):
        return (shell,)
    parts = (shell.get_decoder(), shell.get_input_embeddings(), shell.get_output_embeddings())
    return tuple(part for part in parts if part is not None)


def weights_read(shell: Any, config: Any) -> Iterable[torch.nn.Parameter]:
    """The weights that a text passes, each once."""
    return {id(weights): weights for part in parts_read(shell, config) for weights in part.parameters()}.values()
