"""Finds a model that is one GGUF file, and says how transformers reads it: from that file, with dequantized weights.

A name that ends in `.gguf` is such a model: a local file, or `owner/name/file.gguf` on the hub. Knows nothing of what
is in a configuration.
"""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import transformers
from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import RemoteEntryNotFoundError

from tasks.homes import names_gguf
from tasks.hub import why_refused
from tasks.pointers import is_pointer, pull
from tasks.values import Model, TaskError

NEEDED = ("gguf", "accelerate")
"""Packages with which transformers dequantizes."""
INSTALL = "pip install 'capsweep[gguf]'"


def is_gguf(model: Model) -> bool:
    """Whether the model is one GGUF file."""
    return names_gguf(model.name)


def is_local(model: Model) -> bool:
    """Whether the model is a folder or a GGUF file of this machine, not one of the hub."""
    path = Path(model.name)
    return path.is_dir() or (is_gguf(model) and path.is_file())


def repository_of(model: Model) -> str:
    """Hub id of the model: its name, without the file of a GGUF model."""
    return "/".join(model.name.split("/")[:2]) if is_gguf(model) else model.name


def file_in_repository(model: Model) -> str:
    """Path of a GGUF model's file within its repository on the hub."""
    return "/".join(model.name.split("/")[2:])


def gguf_path(model: Model) -> Path:
    """The file of a GGUF model; one of the hub is fetched, because only the whole file holds a configuration.

    Raises:
        TaskError: when it is not there, or the hub refuses.
    """
    if (path := Path(model.name)).is_file():
        return path
    repository, file = repository_of(model), file_in_repository(model)
    if not file:
        raise TaskError(f"{model.name}: no such file. Wanted a local GGUF file, or owner/name/file.gguf on the hub.")
    try:
        return Path(hf_hub_download(repository, file, revision=model.commit or model.revision))
    except RemoteEntryNotFoundError as error:
        found = [name for name in HfApi().list_repo_files(repository, revision=model.commit) if names_gguf(name)]
        raise TaskError(
            f"{model.name}: {repository} has no file {file!r}. Its GGUF files: {', '.join(found) or 'none'}."
        ) from error
    except Exception as error:  # what an HTTP library raises below huggingface_hub depends on its version
        why = why_refused(error, "model") or f"it could not be fetched ({' '.join(str(error).split())[:200]})."
        raise TaskError(f"{model.name}: {why}") from error


@contextmanager
def alone(path: Path) -> Iterator[dict[str, Any]]:
    """Arguments of `from_pretrained` with which everything is read from this file, and nothing from files beside it.

    Those may belong to other models: a folder of GGUF files is often just where downloads lie.
    """
    # Whatever its verbosity, transformers draws a bar while it dequantizes. Errors are raised.
    with TemporaryDirectory(prefix="capsweep-gguf-") as empty, redirect_stderr(io.StringIO()):
        yield {"pretrained_model_name_or_path": empty, "gguf_file": os.path.abspath(path)}


def check_gguf(model: Model) -> Path:
    """The file of a GGUF model, once its header says that transformers can read it as it is meant.

    Raises:
        TaskError: when a package is missing, or the file is broken, cut off in its header, or a part of a model.
    """
    if model.quantization is not None:
        raise TaskError(
            f"{model.name}: quantization: {model.quantization} and a GGUF file, whose weights are quantized already. "
            "Wanted quantization: null, or the model's safetensors."
        )
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise TaskError(f"{model.name}: GGUF files need {' and '.join(missing)}, not installed here. Run {INSTALL}.")
    # transformers' own reader; that of the package gguf takes seconds for a vocabulary.
    from transformers.integrations.gguf.reader import read_gguf_metadata

    path = gguf_path(model)
    if is_pointer(path):
        raise TaskError(pull(path))
    try:
        metadata, tensors = read_gguf_metadata(str(path))
    except Exception as error:  # whatever reading past the end raises
        raise TaskError(f"{model.name}: {why_not_read(error)}") from error
    if (parts := metadata.get("split.count", 1)) > 1:
        raise TaskError(
            f"{model.name}: one of {parts} files of a model. Wanted one file: `llama-gguf-split --merge` makes it of "
            "the first."
        )
    _check_positions(model, metadata, tensors)
    return path


def _check_positions(model: Model, metadata: dict[str, Any], tensors: tuple[str, ...]) -> None:
    """Raise TaskError if the file changes RoPE: transformers leaves that out for most architectures, and says nothing.

    The model would then be another one, at every position. GPT-OSS is the exception.
    """
    architecture = metadata["general.architecture"]
    scaling = metadata.get(f"{architecture}.rope.scaling.type", "none")
    changed = [name for name in tensors if name.startswith("rope_")]
    if scaling != "none":
        changed.append(f"{architecture}.rope.scaling.type: {scaling}")
    if changed and architecture != "gpt-oss":
        raise TaskError(
            f"{model.name}: it changes RoPE ({', '.join(changed)}), which transformers {transformers.__version__} does "
            "not read from GGUF files: its figures would not be the model's own. Wanted the model's safetensors."
        )


def why_not_read(error: Exception) -> str:
    """Explain an error that a GGUF file raised in transformers, and what the user can do about it."""
    message = " ".join(str(error).split())[:200] or type(error).__name__
    if "is not supported" in message and "architecture" in message:
        return (
            f"transformers {transformers.__version__} does not read this kind of GGUF file ({message.rstrip('.')}). "
            "Wanted the model's safetensors."
        )
    return f"not a whole GGUF file ({message.rstrip('.')}). Copy or download it again."
