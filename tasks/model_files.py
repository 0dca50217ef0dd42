"""Reads what the files of a model say of it: its configuration, and the facts that planning needs.

Knows nothing of vectors, memories or recipes.
"""

import copy
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig

from tasks.adapters import adapter_beside
from tasks.facts import ModelFacts
from tasks.gguf_file import (
    alone,
    check_gguf,
    gguf_path,
    is_gguf,
    is_local,
    repository_of,
    why_not_read,
)
from tasks.hub import commit_of, why_refused
from tasks.model_config import bos_of, context_of, layers_of, notes_on_context
from tasks.model_folder import ADAPTER, adapter_problems, folder_problems
from tasks.towers import has_towers, loader_of, notes_on_towers, weights_read
from tasks.values import Model, TaskError, WrongModelError
from tasks.weight_files import weight_files

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
# Otherwise transformers sends the name of a model without safetensors, and the token, to a converter on the hub.
os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""Precision in the sweep file -> the precision of torch."""
CAUSAL_SUFFIXES = ("ForCausalLM", "LMHeadModel")
"""Endings of the class names of causal language models in transformers."""
MULTIMODAL_SUFFIX = "ForConditionalGeneration"
"""Ending of the class names of models with further towers, such as one for images, beside a language model. Those of
encoders with a decoder end so, too."""
IDENTITY_FILES = ("config.json", "tokenizer.json", ADAPTER)
"""Files of a folder, besides its weights, that decide what a model computes."""
RECURRENT = {"mamba", "mamba2", "falcon_mamba", "rwkv", "xlstm"} | {"jamba", "zamba", "zamba2", "bamba", "falcon_h1"}
"""Model types with recurrent layers, alone or among others, that transformers computes without a fused kernel on a CPU.
RecurrentGemma is left out: it takes only about twice the time of a Llama of its size."""


def read_config(model: Model) -> Any:
    """The model's configuration.

    Raises:
        TaskError: when there is no such model, or it is not a causal language model.
    """
    is_folder = Path(model.name).is_dir()
    if is_folder and (problems := folder_problems(model)):
        is_model = (Path(model.name) / "config.json").is_file()
        raise (WrongModelError if is_model else TaskError)(*problems)
    try:
        config = _config_of_gguf(check_gguf(model)) if is_gguf(model) else _loaded_config(model)
    except TaskError:
        raise
    except Exception as error:  # the file decides which exception is raised, even ZeroDivisionError
        if not is_folder and adapter_beside(model):
            raise TaskError(*adapter_problems(f"{model.name}/{ADAPTER}", is_beside_base=False)) from error
        raise TaskError(f"{model.name}: {why_not_loaded(model, error)}") from error
    beside = not is_folder and adapter_beside(model) is not None
    if beside and (problems := [*adapter_problems(f"{model.name}/{ADAPTER}", is_beside_base=True)]):
        raise WrongModelError(*problems)
    architectures = config.architectures if isinstance(config.architectures, list) else []
    endings = (*CAUSAL_SUFFIXES, MULTIMODAL_SUFFIX) if has_towers(config) else CAUSAL_SUFFIXES
    wrong_kind = bool(architectures) and not any(name.endswith(endings) for name in architectures)
    if config.is_encoder_decoder or config.get_text_config().is_encoder_decoder or wrong_kind:
        raise _not_causal(model, ", ".join(architectures) or config.model_type)
    if (quantization := getattr(config, "quantization_config", None)) is not None:
        settings = quantization if isinstance(quantization, dict) else vars(quantization)
        raise TaskError(
            f"{model.name}: its weights are quantized ({settings.get('quant_method', 'unknown')}), which is not "
            "supported. Wanted the unquantized model, with quantization: int8 or nf4 if device memory is short."
        )
    return config


@contextmanager
def source_of(model: Model) -> Iterator[dict[str, Any]]:
    """Arguments of every `from_pretrained`: what is read, of which commit, and whether its code may run.

    Raises:
        TaskError: when a GGUF file of the hub cannot be fetched.
    """
    if not is_gguf(model):
        yield {"pretrained_model_name_or_path": model.name, **_pins(model)}
        return
    with alone(gguf_path(model)) as arguments:
        yield arguments


def _loaded_config(model: Model) -> Any:
    with source_of(model) as source:
        return AutoConfig.from_pretrained(**source)


def _config_of_gguf(path: Path) -> Any:
    state = path.stat()
    return copy.deepcopy(_config_of_gguf_as_of(path, state.st_mtime_ns, state.st_size))


@lru_cache(maxsize=8)
def _config_of_gguf_as_of(path: Path, modified: int, size: int) -> Any:
    """The configuration that a GGUF file states; kept, because reading it takes seconds."""
    with alone(path) as arguments:
        return AutoConfig.from_pretrained(**arguments)


def _pins(model: Model) -> dict[str, Any]:
    return {
        "revision": model.commit or model.revision or "main",
        "code_revision": model.code_commit or model.commit,
        "trust_remote_code": model.trust_remote_code,
    }


def _not_causal(model: Model, found: str) -> TaskError:
    return TaskError(
        f"{model.name}: {found} is not a causal language model. "
        "Wanted a decoder that predicts the next token, such as GPT-2, Pythia or Llama."
    )


def message_of(error: Exception) -> str:
    """The first 200 characters of an error's message, on one line."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def why_not_loaded(model: Model, error: Exception) -> str:
    """Explain an error of transformers, and what the user can do about it."""
    if "trust_remote_code" in str(error):
        return (
            "it comes with its own code, which is not run by default. If you have read that code and trust it, set "
            "trust_remote_code: true in the model's entry."
        )
    if (why := why_refused(error, "model")) is not None:
        return why
    if is_gguf(model):
        return why_not_read(error)
    return f"config.json could not be read as a model ({message_of(error)}). Wanted a model as transformers saves it."


def facts(model: Model) -> ModelFacts:
    """Read what planning needs, without loading the weights.

    Raises:
        TaskError: when this is not a causal language model that can be loaded.
    """
    config = read_config(model)
    if model.dtype not in DTYPES:
        raise TaskError(f"{model.name}: dtype {model.dtype!r} is not known; wanted one of {', '.join(DTYPES)}.")
    needed = ("bitsandbytes", "accelerate") if model.quantization else ()
    if missing := [name for name in needed if find_spec(name) is None]:
        raise TaskError(
            f"{model.name}: quantization: {model.quantization} needs {' and '.join(missing)}, not installed here. "
            "Run pip install 'capsweep[quantized]', or set quantization: null."
        )
    fingerprint, revision = _fingerprint(model)
    shell = _without_weights(model, config)
    embedding, head = shell.get_input_embeddings(), shell.get_output_embeddings()
    text_config = config.get_text_config()
    vocabulary = int(head.weight.shape[0] if head is not None else text_config.vocab_size)
    if vocabulary < 2:
        raise TaskError(f"{model.name}: its vocabulary has {vocabulary} tokens; wanted at least two.")
    if embedding.weight.shape[0] < vocabulary:
        raise TaskError(
            f"{model.name}: its head gives {vocabulary} tokens, but its embedding table has "
            f"{embedding.weight.shape[0]} rows. Wanted a model that can read what it writes."
        )
    return ModelFacts(
        fingerprint=fingerprint,
        revision=revision,
        vocabulary=vocabulary,
        context=context_of(config),
        embedding_width=int(embedding.weight.shape[1]),
        num_parameters=sum(p.numel() for p in weights_read(shell, config)),
        num_layers=layers_of(config),
        bos=bos_of(config, num_embeddings=embedding.weight.shape[0]),
        is_recurrent=text_config.model_type in RECURRENT,
        notes=(*notes_on_context(config), *notes_on_towers(config)),
    )


def pair_width(model: Model) -> int:
    """Numbers of a key-value pair in all layers, as the configuration states them.

    Raises:
        TaskError: when it does not state them.
    """
    config: Any = read_config(model).get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or getattr(config, "num_attention_heads", None)
    layers, hidden = getattr(config, "num_hidden_layers", None), getattr(config, "hidden_size", None)
    if not isinstance(heads, int) or not layers or not hidden:
        raise TaskError(f"{model.name}: task: prefix needs layers with keys and values. Wanted a transformer.")
    numbers = getattr(config, "head_dim", None) or hidden // config.num_attention_heads
    return layers * 2 * heads * numbers


def _fingerprint(model: Model) -> tuple[str, str]:
    """A hash of everything that decides what the model computes, and the model's revision."""
    digest = hashlib.sha256(f"{model.dtype}{model.quantization or ''}".encode())
    folder = Path(model.name)
    if is_local(model):
        code = sorted(folder.glob("*.py")) if model.trust_remote_code else []
        parts = [*weight_files(model), *(folder / name for name in IDENTITY_FILES), *code]
        for file in [folder] if is_gguf(model) else parts:
            if file.is_file():
                with file.open("rb") as handle:
                    digest.update(hashlib.file_digest(handle, "sha256").digest())
        digest.update((model.code_commit or "").encode())
        revision = digest.hexdigest()[:16]
    else:
        revision = model.commit or commit_of(repository_of(model), model.revision, "model")
        digest.update(f"{model.name}@{revision}{model.code_commit or ''}".encode())
    return digest.hexdigest(), revision


# Any: the attributes of a transformers model are only known at run time.
def _without_weights(model: Model, config: Any) -> Any:
    """The model of a configuration, with shapes but no values; raises TaskError if the configuration makes no sense."""
    try:
        with torch.device("meta"):
            own = "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {})
            code = {"code_revision": _pins(model)["code_revision"]} if model.trust_remote_code and own else {}
            return loader_of(config).from_config(config, trust_remote_code=model.trust_remote_code, **code)
    except ValueError as error:
        if "Unrecognized configuration class" in str(error):  # the rest of the message lists all model types
            raise _not_causal(model, config.model_type) from error
        raise TaskError(f"{model.name}: {why_not_loaded(model, error)}") from error
    except Exception as error:  # sizes that contradict each other raise whatever the model's code raises
        raise TaskError(f"{model.name}: {why_not_loaded(model, error)}") from error
