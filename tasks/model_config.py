"""What a model's configuration says that an engine must know.

Knows nothing of files or weights.
"""

from collections.abc import Mapping
from typing import Any, TypeGuard

LONGEST_INPUT = ("max_position_embeddings", "max_seq_len", "max_sequence_length", "n_positions", "n_ctx", "block_size")
"""What configurations call their longest input; the first counts. MPT and code from the hub have names of their own."""
LONG_AND_SHORT_ROPE = {"longrope", "su"}
"""Kinds of RoPE with other factors for long texts; `su` is an older name, in the code of some models."""
ROPE_CHANGES = (
    "its RoPE factors change for all tokens once a text has more than {} positions, so that what a token gives would "
    "depend on later ones"
)
LEAVES_OUT = (
    "its attention leaves tokens out once a text has more than {} positions, and which of equal ones depends on how "
    "long the text is, so that what a token gives may depend on later ones"
)
SPARSE_BEYOND = {
    "keep_window_size": LEAVES_OUT,  # Doge: the positions that its dynamic mask keeps
    "index_topk": LEAVES_OUT,  # DeepSeek V3.2, GLM with DSA, A.X K2, HY V4: the positions that its indexer selects
}
"""Fields that say how many positions attention reads at most -> what happens in a longer text. Where scores are equal,
such as those that a ReLU makes zero, transformers 5.23 chooses by an order that depends on the length of the text."""


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

    Beyond, a token's output could depend on tokens after it, and on padding: texts stay below that length.
    """
    text = config.get_text_config()
    limits = [_longest_input(text), *_changes(text)]
    return min((limit for limit in limits if _is_length(limit)), default=None)


def notes_on_context(config: Any) -> tuple[str, ...]:
    """What a user should know of the longest input."""
    text = config.get_text_config()
    whole, context = _longest_input(text), context_of(config)
    if context is None or context == whole:
        return ()
    of_its = f" of its {whole}" if _is_length(whole) else ""
    return (f"{_changes(text)[context].format(context)}: texts are limited to {context} positions{of_its}.",)


def _longest_input(text: Any) -> Any:
    """What the configuration of a language model states as its longest input; None if it states nothing."""
    return next((value for name in LONGEST_INPUT if (value := getattr(text, name, None)) is not None), None)


def _changes(text: Any) -> dict[int, str]:
    """Lengths beyond which the model reads a text otherwise -> what happens there."""
    found = [(getattr(text, name, None), what) for name, what in SPARSE_BEYOND.items()]
    settings = getattr(text, "rope_parameters", None) or getattr(text, "rope_scaling", None) or {}
    # Some models have settings for each kind of layer.
    for rope in (settings, *settings.values()):
        if isinstance(rope, Mapping) and rope.get("rope_type", rope.get("type")) in LONG_AND_SHORT_ROPE:
            own = rope.get("original_max_position_embeddings")
            found.append((own or getattr(text, "original_max_position_embeddings", None), ROPE_CHANGES))
    return {length: what for length, what in found if _is_length(length)}


def _is_length(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and value > 0
