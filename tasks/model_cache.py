"""Which files of a model are on this machine, and why others could not be fetched.

Knows nothing of what is in them.
"""

import json
from pathlib import Path

from huggingface_hub import try_to_load_from_cache

from tasks.gguf_file import file_in_repository, is_gguf, is_local, repository_of
from tasks.hub import refusal_of, why_refused
from tasks.values import Model
from tasks.weight_files import INDEXES

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json")
"""Files, one of which a tokenizer has."""


def weights_are_here(model: Model) -> bool:
    """Whether the model can be loaded without a download: from a folder or file, or from the hub's cache."""
    if is_local(model):
        return True
    if is_gguf(model):
        return _cached(model, file_in_repository(model)) is not None
    for whole, index in INDEXES.items() if model.allow_pickle else [*INDEXES.items()][:1]:
        if _cached(model, whole):
            return True
        if place := _cached(model, index):
            return all(_cached(model, file) for file in set(json.loads(Path(place).read_text())["weight_map"].values()))
    return False


def cached_folder(model: Model) -> Path | None:
    """Where the hub's cache has the files of the model; None if it has none, or the model is no repository."""
    if is_local(model) or is_gguf(model) or (settings := _cached(model, "config.json")) is None:
        return None
    return Path(settings).parent


def _cached(model: Model, file: str) -> str | None:
    """Where the hub's cache has a file of the model; None if it has not."""
    place = try_to_load_from_cache(repository_of(model), file, revision=model.commit or model.revision)
    return place if isinstance(place, str) else None


def why_not_fetched(model: Model, error: Exception, *, are_here: bool) -> str | None:
    """What the hub has against a download that ended in this error; None if that is not the reason.

    transformers may say that a file is not in a repository where it could not ask for it.

    Args:
        model: The model.
        error: The error of transformers.
        are_here: Whether the files that were to be read are on this machine.
    """
    if (why := why_refused(error, "model")) is not None or are_here:
        return why
    of_hub = refusal_of(repository_of(model), model.commit or model.revision, "model")
    return None if of_hub is None else why_refused(of_hub, "model")


def tokenizer_is_here(model: Model) -> bool:
    """Whether a file of its tokenizer is on this machine."""
    return is_local(model) or any(_cached(model, file) for file in TOKENIZER_FILES)
