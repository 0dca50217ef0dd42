"""Loads the weights of a model, and puts them on a device.

Knows nothing of vectors, memories or recipes.
"""

import logging
from dataclasses import replace
from pickle import UnpicklingError
from typing import Any

import torch
from transformers import BitsAndBytesConfig, GgufConfig, PreTrainedModel

from tasks.adapters import BASE_ALONE, add_adapter
from tasks.devices import pick_device
from tasks.gguf_file import is_gguf
from tasks.model_cache import cached_folder, weights_are_here, why_not_fetched
from tasks.model_files import DTYPES, message_of, read_config, source_of
from tasks.model_folder import quantized_weights
from tasks.towers import loader_of
from tasks.unused_weights import about_unused
from tasks.values import Attention, Model, TaskError, WrongModelError
from tasks.wording import counted


def on_device(
    model: Model | PreTrainedModel, name: str, *, gpus: float, attention: Attention | None
) -> tuple[PreTrainedModel, torch.device, tuple[str, ...]]:
    """Load the model if it is not loaded, and put it on the named device.

    Args:
        model: The model to load, or the loaded one.
        name: The device, as `pick_device` takes it.
        gpus: On CUDA, below 1 the share of device memory that may be used, above 1 the GPUs that share the layers.
        attention: How a model that is loaded computes attention; None: as transformers does by default.

    Returns:
        The model, the device of its embeddings, and notes on what in its files was left out.

    Raises:
        TaskError: when the device is not on this machine, or the weights cannot be loaded.
        WrongModelError: when the files do not belong together, or would run code.
    """
    device = pick_device(name)
    if device.type == "cuda" and gpus < 1:
        torch.cuda.set_per_process_memory_fraction(gpus, device)
    notes: tuple[str, ...] = ()
    if isinstance(model, Model):
        model, notes = load_model(model, device, spread=device.type == "cuda" and gpus > 1, attention=attention)
    # Any: transformers wraps `to`, and its annotation is lost.
    loaded: Any = model
    if getattr(loaded, "hf_device_map", None):
        # accelerate moves activations from layer to layer; memories and losses stay on the device of the embeddings.
        device = loaded.get_input_embeddings().weight.device
    elif not getattr(loaded, "is_quantized", False):
        loaded.to(device)
    return loaded, device, notes


def load_model(
    model: Model, device: torch.device, *, spread: bool, attention: Attention | None = None
) -> tuple[PreTrainedModel, tuple[str, ...]]:
    """Load the model with its weights onto the CPU.

    Quantized weights go to the device, because they cannot be moved later. `spread` distributes the layers evenly over
    all visible GPUs. `attention` is one other than transformers would take. An adapter beside the weights is merged.

    Returns:
        The model, and notes on what in its files was left out.

    Raises:
        TaskError: when they cannot be loaded.
        WrongModelError: when the files do not belong together, or would run code.
    """
    config = read_config(model)
    try:
        with source_of(model) as source:
            # Any: with `output_loading_info` the function returns a pair, which its annotation does not state.
            loaded: Any = loader_of(config).from_pretrained(
                **source,
                **BASE_ALONE,
                **({"config": config} if is_gguf(model) else {}),  # reading it again takes seconds
                dtype=DTYPES[model.dtype],
                quantization_config=_quantization(model),
                device_map="balanced" if spread else {"": device} if model.quantization else None,
                # None prefers safetensors.
                use_safetensors=None if model.allow_pickle else True,
                **({} if attention is None else {"attn_implementation": attention}),
                ignore_mismatched_sizes=True,  # otherwise the error does not name them
                output_loading_info=True,
            )
        loaded_model, info = loaded
        notes = _check_weights(model, loaded_model, config, info)
        add_adapter(model, loaded_model, DTYPES[model.dtype])
    except TaskError:
        raise
    except UnpicklingError as error:
        raise WrongModelError(
            f"{model.name}: its pickled weights hold more than tensors, and would run code. Not loaded; "
            "get them as safetensors from someone you trust."
        ) from error
    except Exception as error:
        how = "" if attention is None else f" with attention={attention}"
        refused = why_not_fetched(model, error, are_here=weights_are_here(model))
        why = refused or f"its weights could not be loaded{how} ({message_of(error)})."
        raise TaskError(f"{model.name}: {why}") from error
    _settle_layers(loaded_model)
    return loaded_model, notes


def _quantization(model: Model) -> Any:
    """The settings of transformers for a quantization that the sweep names, or for weights that a file quantizes."""
    if is_gguf(model):
        return GgufConfig(dequantize=True)
    if (name := model.quantization) is None:
        return None
    if name == "int8":
        # Otherwise every layer says in every step that its inputs are cast to float16.
        logging.getLogger("bitsandbytes.autograd").setLevel(logging.ERROR)
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type=name, bnb_4bit_compute_dtype=torch.float32)


def _settle_layers(model: PreTrainedModel) -> None:
    """Merge adapters into the weights, and keep quantized layers as they are stored."""
    layer: Any
    for layer in model.modules():
        # On CPUs with AVX512-BF16, bitsandbytes repacks 4-bit weights at the first pass without gradient. From then on
        # it computes in bfloat16, without gradients, and fails if the width of a layer is no multiple of 32.
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False
        if hasattr(layer, "merge") and hasattr(layer, "merged_adapters"):  # a layer of peft
            layer.merge()


def _check_weights(model: Model, loaded: PreTrainedModel, config: Any, info: dict[str, Any]) -> tuple[str, ...]:
    """Notes on weights that were left out; raises WrongModelError if the weights are not those of the configuration."""
    # Those of a folder have been looked at; those of the hub have just been fetched.
    here = cached_folder(model)
    if here is not None and (problems := [*quantized_weights(replace(model, name=str(here)))]):
        raise WrongModelError(*problems)
    _check_shapes(model, info)
    return about_unused(model.name, loaded, config, sorted(info["unexpected_keys"]))


def _check_shapes(model: Model, info: dict[str, Any]) -> None:
    """Raise WrongModelError if a weight that config.json asks for has another shape in the files, or is not there."""
    if mismatched := sorted(info["mismatched_keys"]):
        name, found, wanted = mismatched[0]
        number = counted(len(mismatched), "weight has another shape", "weights have other shapes")
        raise WrongModelError(
            f"{model.name}: {number} than config.json asks for, such as {name}: found {list(found)}, wanted "
            f"{list(wanted)}. Wanted the files of one model; copy or download them again."
        )
    if missing := sorted(info["missing_keys"]):
        # transformers would continue with random values in their place.
        raise WrongModelError(
            f"{model.name}: {counted(len(missing), 'weight')} that config.json asks for "
            f"{'is' if len(missing) == 1 else 'are'} not in the weight files, such as {missing[0]}. Wanted the files "
            "of one model; copy or download them again."
        )
