"""What a model's configuration says that an engine must know.

Knows nothing of files or weights.
"""

from collections.abc import Mapping
from typing import Any

LONGEST_INPUT = ("max_position_embeddings", "max_seq_len", "max_sequence_length", "n_positions", "n_ctx", "block_size")
"""What configurations call their longest input; the first counts. MPT and code from the hub have names of their own."""
LONG_AND_SHORT_ROPE = {"longrope", "su"}
"""Kinds of RoPE with other factors for long texts; `su` is an older name, in the code of some models."""


def bos_of(config: Any, *, num_embeddings: int) -> int | None:
    """The model's BOS token; None if it names none, or one that its vocabulary lacks."""
    bos = getattr(config, "bos_token_id", None)
    if bos is None:
        bos = getattr(config.get_text_config(), "bos_token_id", None)
    return bos if isinstance(bos, int) and 0 <= bos < num_embeddings else None


def layers_of(config: Any) -> int | None:
    """The model's layers; None if its configuration does not say."""
    layers = getattr(config.get_text_config(), "num_hidden_layers", None)
    return layers if isinstance(layers, int) else None


def context_of(config: Any) -> int | None:
    """Longest input in positions that the model reads in one way; None if it has no limit.

    With `longrope` the factors of all positions change once a text is longer than the original context. So a token's
    output would depend on tokens after it, and on padding: texts stay below that length.
    """
    text = config.get_text_config()
    limits = [_longest_input(text)]
    settings = getattr(text, "rope_parameters", None) or getattr(text, "rope_scaling", None) or {}
    # Some models have settings for each kind of layer.
    for rope in (settings, *settings.values()):
        if isinstance(rope, Mapping) and rope.get("rope_type", rope.get("type")) in LONG_AND_SHORT_ROPE:
            own = rope.get("original_max_position_embeddings")
            limits.append(own or getattr(text, "original_max_position_embeddings", None))
    return min((limit for limit in limits if isinstance(limit, int) and limit > 0), default=None)


def _longest_input(text: Any) -> Any:
    """What the configuration of a language model states as its longest input; None if it states nothing."""
    return next((value for name in LONGEST_INPUT if (value := getattr(text, name, None)) is not None), None)


def notes_on_context(config: Any) -> tuple[str, ...]:
    """What a user should know of the longest input."""
    whole, context = _longest_input(config.get_text_config()), context_of(config)
    if context is None or context == whole:
        return ()
    return (
        f"its RoPE factors change for all tokens once a text has more than {context} positions, so that what a token "
        f"gives would depend on later ones: texts are limited to {context} positions of its {whole}.",
    )
