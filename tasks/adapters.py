"""Finds the adapter (such as LoRA) that lies beside a model, and puts it onto the base that was loaded without it.

transformers would load both at once. It would then report on the adapter's weights alone, and take the base of a
repository of the hub from wherever `adapter_config.json` says that the adapter was trained.
"""

from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.utils.hub import cached_file

from tasks.gguf_file import is_gguf
from tasks.model_folder import ADAPTER, ADAPTER_WEIGHTS
from tasks.values import Model, WrongModelError
from tasks.wording import counted

BASE_ALONE: dict[str, Any] = {"adapter_kwargs": {"subfolder": ".no-adapter"}}
"""Arguments of `from_pretrained` with which it finds no adapter: it looks for one where none is."""
AGAIN = "Wanted an adapter of this base; copy or download it again, or remove its files to measure the base alone."


def adapter_beside(model: Model) -> Path | None:
    """The folder that holds the settings of the model's adapter; None if there is none, as far as one can tell.

    The hub or the cache may not answer. Whatever else is wrong with the repository is said elsewhere.
    """
    if is_gguf(model):
        return None  # nothing but the file is read
    if (folder := Path(model.name)).is_dir():
        return folder if (folder / ADAPTER).is_file() else None
    silent = dict.fromkeys(("gated_repo", "missing_entries", "connection_errors"), False)
    options = {f"_raise_exceptions_for_{what}": raises for what, raises in silent.items()}
    try:
        settings = cached_file(model.name, ADAPTER, revision=model.commit or model.revision or "main", **options)
    except Exception:
        return None
    return None if settings is None else Path(settings).parent


def add_adapter(model: Model, base: PreTrainedModel, dtype: torch.dtype) -> None:
    """Load the adapter that lies beside the base, if there is one. It is not merged yet.

    Raises:
        WrongModelError: when its weights are not those that its settings and the base have a place for.
        OSError: when it holds no safetensors.
    """
    if (folder := adapter_beside(model)) is None:
        return
    # In the cache, this puts the weights beside the settings.
    cached_file(model.name, ADAPTER_WEIGHTS, revision=model.commit or model.revision or "main")
    # Any: transformers annotates neither the function nor its result.
    loading: Any = base
    info = loading.load_adapter(
        str(folder),
        dtype=dtype,
        use_safetensors=True,
        ignore_mismatched_sizes=True,  # otherwise the error does not name them
    )
    for names, are in (
        (sorted(name for name, *_ in info.mismatched_keys), "of other shapes than its settings ask for"),
        (sorted(info.missing_keys), "missing that its settings ask for"),
        (sorted(info.unexpected_keys), "that neither its settings nor the base have a place for"),
    ):
        if names:
            raise WrongModelError(
                f"{model.name}/{ADAPTER_WEIGHTS}: {counted(len(names), 'weight')} {are}, such as {names[0]}. {AGAIN}"
            )
