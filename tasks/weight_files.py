"""Finds the files that hold the weights of a model's folder: those that transformers opens, and those beside them.

Reads config.json and indexes, never weights.
"""

import contextlib
import json
from pathlib import Path
from typing import Any

from tasks.values import Model

WEIGHTS = "*.safetensors"
PICKLED_WEIGHTS = "pytorch_model*.bin"
INDEXES = {"model.safetensors": "model.safetensors.index.json", "pytorch_model.bin": "pytorch_model.bin.index.json"}
"""File that holds all weights -> file that names the shards, if there are several."""


def weight_files(model: Model) -> list[Path]:
    """The files of weights that belong to the model's identity: those that transformers opens, and all safetensors."""
    folder, first = Path(model.name), opened_first(model)
    files = {*opened_files(model), *folder.glob(WEIGHTS)}
    if first is not None and first.name.startswith("pytorch_model.bin"):
        files |= {*folder.glob(PICKLED_WEIGHTS)}
    return sorted(file for file in files if file.is_file())


def opened_files(model: Model) -> list[Path]:
    """The files of weights that transformers opens, of those that are there: one, or the shards that an index names."""
    first = opened_first(model)
    if first is None or not is_index(first):
        return [] if first is None else [first]
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):  # folder_problems says it
        return [file for name in sorted(shards_of(first)) if (file := Path(model.name) / name).is_file()]
    return []


def opened_first(model: Model) -> Path | None:
    """The file of weights, or the index of shards, that transformers opens first; None if none of them is there.

    It opens pickled ones only if there are no others, and may do so only if the model's entry allows it.
    """
    folder = Path(model.name)
    return next((file for name in names_of_first(model) if (file := folder / name).is_file()), None)


def names_of_first(model: Model) -> list[str]:
    """The names of the files that transformers would open first, in its order."""
    if isinstance(name := settings_of(Path(model.name)).get("transformers_weights"), str):
        return [name]
    kinds = [*INDEXES.items()]
    return [name for kind in (kinds if model.allow_pickle else kinds[:1]) for name in kind]


def is_index(file: Path) -> bool:
    """Whether the file names shards, and holds no weights."""
    return file.suffix == ".json"


def shards_of(index: Path) -> set[str]:
    """The files that an index of weights names, from the model's folder.

    Raises:
        OSError, ValueError, KeyError, TypeError, AttributeError: when this is no such index.
    """
    named = set(json.loads(index.read_text())["weight_map"].values())
    if others := [name for name in named if not isinstance(name, str)]:
        raise TypeError(f"{others[0]} is no name of a file")
    return named


def settings_of(folder: Path) -> dict[str, Any]:
    """What config.json says; nothing if it cannot be read."""
    file = folder / "config.json"
    with contextlib.suppress(OSError, ValueError, RecursionError):  # read_config says it
        # A pipe would never end.
        settings = json.loads(file.read_text()) if file.is_file() else {}
        return settings if isinstance(settings, dict) else {}
    return {}
