"""Checks the files of a model's folder against each other, before anything is loaded: all problems at once.

Reads headers and indexes, never weights.
"""

import os
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from itertools import takewhile
from pathlib import Path

from safetensors import SafetensorError, safe_open

from tasks.pointers import is_pointer, pull
from tasks.values import Model
from tasks.weight_files import (
    is_index,
    names_of_first,
    opened_files,
    opened_first,
    settings_of,
    shards_of,
    weight_files,
)
from tasks.wording import counted

READ = ("*.json", "*.model", "*.txt")
"""Files of a configuration and of tokenizers."""
ADAPTER = "adapter_config.json"
"""Settings of an adapter, such as LoRA: its weights are added to those of a base model."""
ADAPTER_WEIGHTS = "adapter_model.safetensors"
NEEDED = (
    *("config.json", "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "merges.txt"),
    *(ADAPTER, ADAPTER_WEIGHTS),
)
"""Files, besides those of the weights, without which the model or its tokenizer would be another."""
EIGHT_BITS = ("I8", "U8", "F8_E4M3", "F8_E5M2")
"""Types of quantized weights, as safetensors names them."""
SHOWN = 3
"""Names in one message."""


def folder_problems(model: Model) -> list[str]:
    """One line for each problem of a local model's folder."""
    folder = Path(model.name)
    pointers = [file for file in _files(model) if is_pointer(file)]
    problems: list[str] = []
    if pointers:
        more = len(pointers) - 1
        problems.append(pull(pointers[0]) + (f" So {'is' if more == 1 else 'are'} {more} more." if more else ""))
    problems += _no_files(model)
    problems += _problems_with_adapter(folder)
    if not os.path.lexists(folder / ADAPTER) and not os.path.lexists(folder / "config.json"):
        problems.append(
            f"{model.name}: no config.json in this folder. Wanted a model as transformers saves it "
            f"(config.json, *.safetensors, tokenizer.json).{_gguf_hint(folder)}"
        )
    problems += _missing_shards(model)
    problems += [line for file in weight_files(model) if file not in pointers for line in _damage(file)]
    problems += quantized_weights(model)
    if opened_first(model) is None and not problems:
        problems.append(_no_weights(model))
    return problems


def _no_weights(model: Model) -> str:
    """One line about a folder without the file that transformers opens first."""
    if len(wanted := names_of_first(model)) == 1:
        return (
            f"{model.name}/config.json: names {wanted[0]} as the file of the weights, which is not there. Copy or "
            "download it, or remove transformers_weights."
        )
    if found := [file.name for file in weight_files(model)]:
        return (
            f"{model.name}: no {' or '.join(wanted)} in this folder, only {', '.join(found[:SHOWN])}. Wanted a model "
            "as transformers saves it."
        )
    return (
        f"{model.name}: no *.safetensors in this folder. Wanted weights as safetensors; pickled weights are "
        "not loaded (convert them with save_pretrained, or set allow_pickle: true in the model's entry)."
    )


def _gguf_hint(folder: Path) -> str:
    """The GGUF files of a folder, each of which is a model by itself."""
    files = [str(file) for file in sorted(folder.glob("*.gguf"))[:SHOWN]]
    return f" Or name one GGUF file: {', '.join(files)}." if files else ""


def _files(model: Model) -> list[Path]:
    """Every file of the folder that is read. Reading a pipe would never end."""
    found = (file for kind in READ for file in sorted(Path(model.name).glob(kind)) if file.is_file())
    return [*found, *weight_files(model)]


def _no_files(model: Model) -> Iterator[str]:
    """One line for each name of a needed file that something else has: transformers would do without the file."""
    folder = Path(model.name)
    weights = takewhile(lambda name: not (folder / name).is_file(), names_of_first(model))
    for path in (folder / name for name in (*NEEDED, *weights)):
        if os.path.lexists(path) and not path.is_file():
            yield f"{path}: a folder, pipe or link to nothing. Wanted a file; copy or download it again."


def _problems_with_adapter(folder: Path) -> Iterator[str]:
    """What an adapter in the folder lacks: its settings, its weights, its base, or peft."""
    weights = sorted({*folder.glob("adapter_model*.safetensors"), *folder.glob("adapter_model*.bin")})
    if (settings := folder / ADAPTER).is_file():
        problems = [*adapter_problems(settings, is_beside_base=(folder / "config.json").is_file())]
        yield from problems
        if not problems and not os.path.lexists(folder / ADAPTER_WEIGHTS):
            found = f", only {weights[0].name}" if weights else ""
            yield (
                f"{settings}: an adapter (such as LoRA) without {ADAPTER_WEIGHTS}{found}. Copy or download it, save it "
                f"as safetensors, or remove {ADAPTER} to measure the base alone."
            )
    elif weights and not os.path.lexists(settings):
        yield (
            f"{weights[0]}: weights of an adapter (such as LoRA) without their {ADAPTER}. Copy or download that file, "
            "or remove the weights to measure the base alone."
        )


def adapter_problems(settings: Path | str, *, is_beside_base: bool) -> Iterator[str]:
    """An adapter needs a base beside it, and peft to add it; otherwise the base would be measured without it.

    Args:
        settings: Where its settings lie.
        is_beside_base: Whether a model lies there, too.
    """
    if is_beside_base and find_spec("peft"):
        return
    found = (
        "an adapter (such as LoRA) beside its base" if is_beside_base else "an adapter (such as LoRA) without its base"
    )
    wanted = "peft, to merge them" if is_beside_base else "one model"
    yield (
        f"{settings}: {found}; wanted {wanted}. Merge them once with peft "
        "(AutoPeftModelForCausalLM.from_pretrained(..).merge_and_unload().save_pretrained(..)) and name the result"
        + (
            ", run pip install peft, or remove the adapter's files to measure the base alone."
            if is_beside_base
            else "."
        )
    )


def _missing_shards(model: Model) -> Iterator[str]:
    """What the index names and the folder lacks. transformers reads an index only if no file holds all weights."""
    path = opened_first(model)
    if path is None or not is_index(path) or is_pointer(path):
        return
    try:
        named = sorted(shards_of(path))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        yield f"{path}: not an index of weights ({error!r}). Copy or download it again."
        return
    if missing := [name for name in named if not (Path(model.name) / name).is_file()]:
        more = f" and {len(missing) - SHOWN} more" if missing[SHOWN:] else ""
        yield (
            f"{path}: names {counted(len(named), 'shard')}, and {', '.join(missing[:SHOWN])}{more} "
            f"{'are' if missing[1:] else 'is'} not there. Copy or download the rest of the model."
        )


def _damage(file: Path) -> Iterator[str]:
    """What is wrong with a file of weights, as far as its header and length tell."""
    if file.suffix == ".safetensors":
        try:
            with safe_open(file, framework="pt"):
                pass
        except (SafetensorError, OSError) as error:
            yield f"{file}: not a whole safetensors file ({error}). Copy or download it again."
    elif not zipfile.is_zipfile(file) and file.open("rb").read(2) in (b"PK", b""):
        # torch writes zip files; what it wrote before 2020 has no length to compare with.
        yield f"{file}: cut off. Copy or download it again."


def quantized_weights(model: Model) -> Iterator[str]:
    """One line if layers have weights of 8 bits and config.json names no quantization.

    transformers would take the integers, which stand for multiples of a scale, for the weights themselves.
    """
    if settings_of(Path(model.name)).get("quantization_config") is not None:  # read_config says it
        return
    for file in opened_files(model):
        if found := [*_weights_of_8_bits(file)]:
            yield (
                f"{file}: weights of 8 bits, such as {found[0]}, and config.json names no quantization. Quantized "
                "weights are not supported. Wanted the unquantized model, with quantization: int8 or nf4 if device "
                "memory is short."
            )
            return


def _weights_of_8_bits(file: Path) -> Iterator[str]:
    """The names and types of such weights in a file of safetensors. Masks and the like may well have 8 bits."""
    with suppress(SafetensorError, OSError), safe_open(file, framework="pt") as tensors:  # _damage says it
        for name in tensors.keys():  # noqa: SIM118 - no mapping
            if name.endswith(".weight") and (kind := tensors.get_slice(name).get_dtype()) in EIGHT_BITS:
                yield f"{name} ({kind})"
