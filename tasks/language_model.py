"""A frozen causal language model of transformers, seen as: vectors in, logits out.

The only module that knows transformers' models. Knows nothing of probes, searches or recipes.
"""

# Axes: B slots, K vectors of a memory, L tokens, T input positions, D embedding width, H hidden size, V vocabulary.

import copy
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import accumulate
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
import transformers
from huggingface_hub import try_to_load_from_cache
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, PreTrainedModel

from tasks.attention import ATTENTION_BY_LENGTH
from tasks.contract import Encoding, Model, ModelFacts, TaskError, TextCodec

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
CACHES = ("past_key_values", "cache_params")
"""What models call the cache of what they have read: attention's keys and values, Mamba's states. RWKV's `state` is
not among them: with it, transformers 5.23 gives other logits than without it."""
CAUSAL_SUFFIXES = ("ForCausalLM", "LMHeadModel")
RECURRENT = {"mamba", "mamba2", "falcon_mamba", "rwkv", "xlstm"} | {"jamba", "zamba", "zamba2", "bamba", "falcon_h1"}
"""Model types with recurrent layers, alone or between others, that transformers computes without a fused kernel on a
CPU. RecurrentGemma is not among them: about twice the time of a Llama of its size."""


def read_config(model: Model) -> Any:
    """The model's configuration.

    Raises:
        TaskError: when there is no such model, or it is not a causal language model.
    """
    folder = Path(model.name)
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise TaskError(
            f"{model.name}: no config.json in this folder. Wanted a model as transformers saves it "
            "(config.json, *.safetensors, tokenizer.json)."
        )
    if not folder.is_dir() and (model.name.count("/") != 1 or model.name.startswith(("/", ".", "~"))):
        raise TaskError(f"{model.name}: no such folder, and not a hub id (those read 'owner/name').")
    try:
        config = AutoConfig.from_pretrained(
            model.name, revision=model.revision, trust_remote_code=model.trust_remote_code
        )
    except Exception as error:  # what stands in the file decides what is raised: division by zero, among others
        raise TaskError(f"{model.name}: {_why_not_loaded(model, error)}") from error
    architectures = config.architectures if isinstance(config.architectures, list) else []
    wrong_kind = bool(architectures) and not any(name.endswith(CAUSAL_SUFFIXES) for name in architectures)
    if config.is_encoder_decoder or wrong_kind:
        raise _not_causal(model, ", ".join(architectures) or config.model_type)
    if (quantization := getattr(config, "quantization_config", None)) is not None:
        settings = quantization if isinstance(quantization, dict) else vars(quantization)
        raise TaskError(
            f"{model.name}: its weights are quantized ({settings.get('quant_method', 'unknown')}), which is not "
            "supported. Wanted the model as it was before, with quantization: int8 or nf4 if device memory is short."
        )
    return config


def _not_causal(model: Model, found: str) -> TaskError:
    return TaskError(
        f"{model.name}: {found} is not a causal language model. "
        "Wanted a decoder that predicts the next token, such as GPT-2, Pythia or Llama."
    )


def _message_of(error: Exception) -> str:
    """The beginning of an error's message, on one line."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def _why_not_loaded(model: Model, error: Exception) -> str:
    """Turn an error of transformers into what a user can do."""
    if "trust_remote_code" in str(error):
        return (
            "it comes with code of its own, which is not run unasked. If you have read that code and trust it, set "
            "trust_remote_code: true in the model's entry."
        )
    message = _message_of(error)
    chain = f"{error!r} {error.__cause__!r}"
    if Path(model.name).is_dir():
        return f"config.json could not be read as a model ({message}). Wanted a model as transformers saves it."
    if "gated" in chain.lower() or "401" in chain or "403" in chain:
        return (
            "the hub refuses it: gated or private. Accept its licence on its hub page, then run `hf auth login` "
            "or set HF_TOKEN."
        )
    if "RepositoryNotFound" in chain or "404" in chain:
        return "the hub has no model of this name (or it is private and HF_TOKEN is not set)."
    if os.environ.get("HF_HUB_OFFLINE"):
        return "HF_HUB_OFFLINE is set and the model is not in the local cache. Fetch it once with the network on."
    return (
        f"could not be fetched ({message}). Check the name and the network, or give a local folder; "
        "with HF_HUB_OFFLINE=1 only the local cache is used."
    )


def _weight_files(model: Model) -> list[Path]:
    files = sorted(Path(model.name).glob("*.safetensors"))
    if not files and model.allow_pickle and (pickles := sorted(Path(model.name).glob("pytorch_model*.bin"))):
        return pickles
    if not files:
        raise TaskError(
            f"{model.name}: no *.safetensors in this folder. Wanted weights as safetensors; pickled weights are "
            "not loaded (convert them with save_pretrained, or set allow_pickle: true in the model's entry)."
        )
    for file in files:
        try:
            with safe_open(file, framework="pt"):  # reads the header, and checks the file against the length in it
                pass
        except SafetensorError as error:
            raise TaskError(f"{file}: not a whole safetensors file ({error}). Copy or download it again.") from error
    return files


def weights_are_here(model: Model) -> bool:
    """Whether loading it downloads nothing: a folder, or weights that are in the hub's cache whole."""
    if Path(model.name).is_dir():
        return True

    def cached(file: str) -> str | None:
        place = try_to_load_from_cache(model.name, file, revision=model.revision)
        return place if isinstance(place, str) else None

    if cached("model.safetensors"):
        return True
    index = cached("model.safetensors.index.json")
    return index is not None and all(map(cached, set(json.loads(Path(index).read_text())["weight_map"].values())))


def facts(model: Model) -> ModelFacts:
    """What planning needs, without loading the weights.

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
    digest = hashlib.sha256(f"{model.dtype}{model.quantization or ''}".encode())
    folder = Path(model.name)
    if folder.is_dir():
        code = sorted(folder.glob("*.py")) if model.trust_remote_code else []
        for file in [*_weight_files(model), folder / "config.json", folder / "tokenizer.json", *code]:
            if file.is_file():
                with file.open("rb") as handle:
                    digest.update(hashlib.file_digest(handle, "sha256").digest())
        revision = digest.hexdigest()[:16]
    else:
        revision = str(getattr(config, "_commit_hash", None) or model.revision)
        digest.update(f"{model.name}@{revision}".encode())
    try:
        with torch.device("meta"):
            shell = AutoModelForCausalLM.from_config(config, trust_remote_code=model.trust_remote_code)
    except ValueError as error:
        if "Unrecognized configuration class" in str(error):  # and then every model type there is
            raise _not_causal(model, config.model_type) from error
        raise TaskError(f"{model.name}: {_why_not_loaded(model, error)}") from error
    except Exception as error:  # sizes that do not fit each other, in as many ways as there are models
        raise TaskError(f"{model.name}: {_why_not_loaded(model, error)}") from error
    embedding, head = shell.get_input_embeddings(), shell.get_output_embeddings()
    text_config = config.get_text_config()
    vocabulary = int(head.weight.shape[0] if head is not None else text_config.vocab_size)
    if vocabulary < 2:
        raise TaskError(f"{model.name}: its vocabulary has {vocabulary} tokens; wanted two at least, to choose from.")
    return ModelFacts(
        fingerprint=digest.hexdigest(),
        revision=revision,
        vocabulary=vocabulary,
        context=getattr(text_config, "max_position_embeddings", None),
        embedding_width=int(embedding.weight.shape[1]),
        num_parameters=sum(p.numel() for p in shell.parameters()),
        has_bos=_bos(config, num_embeddings=embedding.weight.shape[0]) is not None,
        is_recurrent=text_config.model_type in RECURRENT,
    )


def _bos(config: Any, *, num_embeddings: int) -> int | None:
    """The token that may stand before everything, if the model names one that it has."""
    bos = getattr(config, "bos_token_id", None)
    return bos if isinstance(bos, int) and 0 <= bos < num_embeddings else None


class HubCodec:
    """The model's own tokenizer, without the special tokens it adds."""

    def __init__(self, model: Model) -> None:
        """Raises TaskError when the model has no tokenizer."""
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(
                model.name, revision=model.revision, trust_remote_code=model.trust_remote_code
            )
        except Exception as error:  # tokenizers raises bare exceptions
            raise TaskError(
                f"{model.name}: its tokenizer could not be read ({_message_of(error)}). "
                "Wanted a tokenizer.json and tokenizer_config.json beside the weights."
            ) from error
        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise TaskError(
                f"{model.name}: its tokenizer is not a fast one; wanted a tokenizer.json beside the weights."
            )
        # Without its files, transformers gives some kinds of model a tokenizer with nothing but special tokens.
        if self._tokenizer.get_vocab().keys() <= self._tokenizer.get_added_vocab().keys():
            raise TaskError(f"{model.name}: its tokenizer has no tokens; wanted a tokenizer.json beside the weights.")
        self.fingerprint = hashlib.sha256(backend.to_str().encode()).hexdigest()
        special = {*self._tokenizer.all_special_ids, *self._tokenizer.get_added_vocab().values()}
        self.ordinary_tokens: Sequence[int] = sorted(set(self._tokenizer.get_vocab().values()) - special)
        whole = self._tokenizer("a")["input_ids"]
        bare = self._tokenizer("a", add_special_tokens=False)["input_ids"]
        before = next((i for i in range(len(whole)) if whole[i : i + len(bare)] == bare), 0)
        self.special_before: tuple[int, ...] = tuple(whole[:before])

    def encode(self, text: str) -> Encoding:
        """Cut the text into tokens, none of them a special one."""
        # What reads like a special token (`</s>`) is text here, as any other.
        encoded = self._tokenizer(
            text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True, verbose=False
        )
        ends = accumulate((end for _, end in encoded["offset_mapping"]), max)
        return Encoding(tokens=tuple(encoded["input_ids"]), ends=tuple(ends))

    def decode(self, tokens: Sequence[int]) -> str:
        """The text that these token ids stand for."""
        return self._tokenizer.decode(list(tokens), skip_special_tokens=False, clean_up_tokenization_spaces=False)


def codec(model: Model) -> TextCodec:
    """The model's tokenizer; raises TaskError when it has none."""
    return HubCodec(model)


def pick_device(name: str) -> torch.device:
    """`auto` is CUDA where there is one, then MPS, then the CPU.

    Raises:
        TaskError: when the named device is not on this machine.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise TaskError(f"device: {name!r} is not known; wanted auto, cpu, cuda or mps.") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise TaskError("engines.device: cuda was asked for, but torch finds no CUDA device; use auto or cpu.")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise TaskError("engines.device: mps was asked for, but torch finds none here; use auto or cpu.")
    return device


def native_dtype(name: str) -> str:
    """bfloat16 on a device that multiplies matrices in it, float32 on any other: by what it can do, not by a clock.

    Raises:
        TaskError: when the named device is not on this machine.
    """
    device = pick_device(name)
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    if device.type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()):
        return "bfloat16"
    return "float32"


def _quantized(name: str) -> Any:
    """Transformers' settings for a quantization, by the sweep's name of it."""
    if name == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type=name, bnb_4bit_compute_dtype=torch.float32)


def _load(model: Model, device: torch.device, *, spread: bool) -> PreTrainedModel:
    """The model with its weights, on the CPU; where they are quantized, on the device: they cannot be moved later.

    `spread` puts its layers on all GPUs that there are, as evenly as they go.

    Raises:
        TaskError: when they cannot be loaded.
    """
    read_config(model)
    try:
        # Any: with `output_loading_info` it returns two things, which its annotation does not show.
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            model.name,
            revision=model.revision,
            trust_remote_code=model.trust_remote_code,
            dtype=DTYPES[model.dtype],
            quantization_config=_quantized(model.quantization) if model.quantization else None,
            device_map="balanced" if spread else {"": device} if model.quantization else None,
            # None: safetensors where there are any.
            use_safetensors=None if model.allow_pickle else True,
            ignore_mismatched_sizes=True,  # else the error only states that there are some
            output_loading_info=True,
        )
    except UnpicklingError as error:
        raise TaskError(
            f"{model.name}: its pickled weights hold more than tensors, and would run code. Not loaded; "
            "get them as safetensors from someone you trust."
        ) from error
    except Exception as error:
        raise TaskError(f"{model.name}: its weights could not be loaded ({_message_of(error)}).") from error
    loaded_model, info = loaded
    if mismatched := sorted(info["mismatched_keys"]):
        name, found, wanted = mismatched[0]
        raise TaskError(
            f"{model.name}: {len(mismatched)} weights have other shapes than config.json asks for, such as {name}: "
            f"found {list(found)}, wanted {list(wanted)}. Wanted the files of one model; copy or download them again."
        )
    if missing := sorted(info["missing_keys"]):
        # transformers would continue with random values in their place.
        raise TaskError(
            f"{model.name}: {len(missing)} weights that config.json asks for are not in the weight files, such as "
            f"{missing[0]}. Wanted the files of one model; copy or download them again."
        )
    for part in loaded_model.modules():
        # bitsandbytes repacks 4-bit weights for such CPUs at the first pass without gradient: computed in bfloat16
        # from then on, with no gradient, and not at all where a layer's width is no multiple of 32.
        if hasattr(part, "support_avx512bf16_for_cpu"):
            part.support_avx512bf16_for_cpu = False
    return loaded_model


class LanguageModel:
    """Frozen weights on one device."""

    def __init__(
        self, model: Model | PreTrainedModel, *, device: str = "auto", gpus: float = 1.0, is_plain: bool = False
    ) -> None:
        """Load the weights, or take a model as transformers made it (with random weights, for instance).

        Args:
            model: Which one.
            device: Where it computes.
            gpus: On CUDA, the part of the device memory that may be used, or the GPUs over which the layers are spread.
            is_plain: Whether attention is left to transformers on a CPU, too.

        Raises:
            TaskError: when they cannot be loaded, or later tokens change what stands before them.
        """
        self.device = pick_device(device)
        if self.device.type == "cuda" and gpus < 1:
            torch.cuda.set_per_process_memory_fraction(gpus, self.device)
        spread = self.device.type == "cuda" and gpus > 1
        # Any: what a model of transformers has is decided at run time.
        self._model: Any = _load(model, self.device, spread=spread) if isinstance(model, Model) else model
        config = self._model.config
        if getattr(self._model, "hf_device_map", None):
            # accelerate moves what goes from layer to layer; memories and losses stay where the embeddings are.
            self.device = self._model.get_input_embeddings().weight.device
        elif not getattr(self._model, "is_quantized", False):
            self._model.to(self.device)
        self._model.eval().requires_grad_(False)
        attention = getattr(self._model.config, "_attn_implementation", None)
        if self.device.type == "cpu" and attention in ("sdpa", ATTENTION_BY_LENGTH):
            self._model.set_attn_implementation("sdpa" if is_plain else ATTENTION_BY_LENGTH)
        self._embedding = self._model.get_input_embeddings()
        self.dtype: torch.dtype = self._embedding.weight.dtype
        self.embedding_width = int(self._embedding.weight.shape[1])
        self.embedding_std = float(self._embedding.weight.float().std()) * self._embedding_scale()
        """Spread of the values of the embedding table: the scale at which memories begin."""
        self.cold_length = self.embedding_std * self.embedding_width**0.5
        """Length of a vector of a cold memory, the unit of radii."""
        self.context: int | None = getattr(config.get_text_config(), "max_position_embeddings", None)
        self.bos = _bos(config, num_embeddings=len(self._embedding.weight))
        self.vocabulary = int(self._model(inputs_embeds=self._embedding.weight[None, :1]).logits.shape[-1])
        self.head: Callable[[Tensor], Tensor] = self._model.get_output_embeddings()
        if spread:
            last = self.head
            self.head = lambda hidden: last(hidden).to(self.device)
        self._head_is_separate = True
        self._check_head()
        self._check_causal(model.name if isinstance(model, Model) else type(model).__name__)

    @torch.no_grad()
    def _embedding_scale(self) -> float:
        """What the model multiplies its table by: some, such as Gemma, do so within the embedding."""
        some = torch.arange(min(256, len(self._embedding.weight)), device=self.device)
        return float(self.embed(some).float().std() / self._embedding.weight[some].float().std())

    @torch.no_grad()
    def _check_head(self) -> None:
        """Some models do more than multiply by the head (they cap or scale logits): then take their own path."""
        tokens = torch.arange(8, device=self.device)[None] % self._embedding.weight.shape[0]
        inputs = self.embed(tokens)
        if self.head is not None:
            split = self.head(self.hidden(inputs))
            own = self._model(inputs_embeds=inputs, use_cache=False).logits
            # Numbers that are not finite, should there be any, fail in the engine.
            scale = float(own.abs().nan_to_num(0, 0).max())
            if torch.allclose(split, own, rtol=1e-3, atol=1e-3 * scale, equal_nan=True):
                return
        self._head_is_separate = False
        self.head = torch.nn.Identity()

    @torch.no_grad()
    def _check_causal(self, name: str) -> None:
        tokens = torch.arange(8, device=self.device)[None] % self._embedding.weight.shape[0]
        changed = tokens.clone()
        changed[0, -1] = 0
        before, after = (self.hidden(self.embed(t))[0, :-1].float() for t in (tokens, changed))
        # Numbers that are not finite prove nothing about causality: they fail in the engine.
        finite = bool(before.isfinite().all() and after.isfinite().all())
        if finite and not torch.allclose(before, after, rtol=1e-2, atol=1e-2 * float(before.abs().max())):
            raise TaskError(f"{name}: a later token changes the model's output before it; wanted a causal model.")

    def embed(self, tokens: Tensor) -> Tensor:
        """Token ids (B, L) -> input vectors (B, L, D)."""
        return self._embedding(tokens)

    def hidden(self, inputs_BTD: Tensor) -> Tensor:
        """Input vectors (B, T, D) -> what `head` reads: hidden states (B, T, H), or logits where it is Identity."""
        if self._head_is_separate:
            hidden_BTH = self._model.base_model(inputs_embeds=inputs_BTD, use_cache=False).last_hidden_state
        else:
            hidden_BTH = self._model(inputs_embeds=inputs_BTD, use_cache=False).logits
        return hidden_BTH.to(self.device)  # of a model that is spread over several

    @torch.no_grad()
    def residual_lengths(self, inputs_BTD: Tensor) -> Tensor:
        """Length of the residual stream at the last position, before the first layer and after all but the last.

        The last layer's output is left out: models return it normalized.

        Returns:
            Lengths (N, B), of N states for B rows.

        Raises:
            TaskError: when the model does not return its hidden states.
        """
        states = self._model.base_model(inputs_embeds=inputs_BTD, use_cache=False, output_hidden_states=True)
        hidden = getattr(states, "hidden_states", None)
        if not hidden:
            raise TaskError(f"{type(self._model).__name__}: this model returns no hidden states.")
        return torch.stack([state[:, -1].float().norm(dim=-1).to(self.device) for state in hidden[:-1]])

    def in_float32(self) -> "LanguageModel | None":
        """The same model in float32, as transformers has it; None where it has no such form here.

        Shares its weights where they are in float32 already. None of a quantized model, of one that is spread over
        GPUs, and where a second set of weights would take more than half of the free device memory.
        """
        if getattr(self._model, "is_quantized", False) or getattr(self._model, "hf_device_map", None):
            return None
        weights = {id(part): part for part in (*self._model.parameters(), *self._model.buffers())}
        if self.dtype == torch.float32:
            return LanguageModel(copy.deepcopy(self._model, weights), device=str(self.device), is_plain=True)
        needed = 4 * sum(part.numel() for part in weights.values())
        if self.device.type == "cuda" and needed > torch.cuda.mem_get_info(self.device)[0] / 2:
            return None
        return LanguageModel(copy.deepcopy(self._model).float(), device=str(self.device), is_plain=True)

    def prefix(self, num_slots: int) -> Tensor:
        """The BOS that may stand before a memory, (B, 1, D).

        Raises:
            TaskError: when the model names no BOS.
        """
        if self.bos is None:
            raise TaskError("prefix: bos was asked for, but this model names no BOS token; use prefix: null.")
        return self.embed(torch.full((num_slots, 1), self.bos, device=self.device))

    @torch.no_grad()
    def sample(
        self, num_texts: int, length: int, *, temperature: float, seed: int, ordinary_tokens: Sequence[int]
    ) -> Tensor:
        """Texts that the model draws by itself, (B, L) token ids, none of them special.

        The first token follows the BOS; without one it is any, each as likely as another.
        """
        generator = torch.Generator().manual_seed(seed)
        ordinary_V = torch.tensor(ordinary_tokens)
        drawn: list[Tensor] = []
        if self.bos is None:
            drawn.append(ordinary_V[torch.randint(len(ordinary_V), (num_texts,), generator=generator)][:, None])
        inputs = self.prefix(num_texts) if self.bos is not None else self.embed(drawn[0].to(self.device))
        reading = self.reading()
        while len(drawn) < length:
            logits_BV = reading.read(inputs).cpu()[:, ordinary_V]
            if temperature == 0:
                choice_B1 = logits_BV.argmax(-1, keepdim=True)
            else:
                choice_B1 = (logits_BV / temperature).softmax(-1).multinomial(1, generator=generator)
            drawn.append(ordinary_V[choice_B1])
            inputs = self.embed(drawn[-1].to(self.device))
        return torch.cat(drawn, dim=1)

    @torch.no_grad()
    def decode(self, inputs_BTD: Tensor, targets_BL: Tensor) -> "Decoded":
        """Greedy decoding from input vectors alone, one token at a time with the key-value cache.

        The targets are never fed: they are what each step's logits are held against.
        """
        steps: list[Decoded] = []
        reading, inputs = self.reading(), inputs_BTD
        for target_B in targets_BL.unbind(1):
            steps.append(hold_against(reading.read(inputs)[:, None], target_B[:, None]))
            inputs = self.embed(steps[-1].tokens_BL)
        return Decoded.in_turn(steps, targets_BL)

    def reading(self) -> "Reading":
        """A reading that begins with nothing read."""
        return Reading(self._model)


class Reading:
    """A model that reads vectors one after the other and remembers them."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._cache: dict[str, Any] = {}
        self._has_cache = True
        """False once the model has returned none of CACHES."""
        self._read: list[Tensor] = []

    @torch.no_grad()
    def read(self, inputs_BTD: Tensor) -> Tensor:
        """Read these vectors after all before; returns the logits (B, V) of what follows, in float32."""
        if not self._cache:
            # A model without a cache reads everything again: slower, the same answer.
            self._read.append(inputs_BTD)
            inputs_BTD = torch.cat(self._read, dim=1)
        output = self._call(inputs_BTD)
        self._cache = {name: output[name] for name in CACHES if output.get(name) is not None}
        if self._has_cache and not self._cache:
            # Asked for a state that is not used, RWKV mixes the slots of a batch that reads one position.
            self._has_cache = False
            output = self._call(inputs_BTD)
        return output.logits[:, -1].float()

    def _call(self, inputs_BTD: Tensor) -> Any:
        return self._model(inputs_embeds=inputs_BTD, **self._cache, use_cache=self._has_cache, logits_to_keep=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """Greedy decodings of B memories, held against B texts."""

    tokens_BL: Tensor
    """Token ids that came out."""
    exact_prefix_B: Tensor
    """Tokens from the first that are those of the text."""
    margins_BL: Tensor
    """Difference of the two largest logits at each step."""
    nats_BL: Tensor
    """Cross-entropy of the text's token at each step; means something up to the exact prefix."""

    @classmethod
    def in_turn(cls, steps: Sequence["Decoded"], targets_BL: Tensor) -> "Decoded":
        """One decoding of several of single tokens."""
        tokens_BL = torch.cat([step.tokens_BL for step in steps], dim=1)
        return cls(
            tokens_BL=tokens_BL,
            exact_prefix_B=_exact_prefix(tokens_BL, targets_BL),
            margins_BL=torch.cat([step.margins_BL for step in steps], dim=1),
            nats_BL=torch.cat([step.nats_BL for step in steps], dim=1),
        )


def hold_against(logits_BLV: Tensor, targets_BL: Tensor) -> Decoded:
    """The likeliest tokens by these logits, held against the texts'."""
    logits_BLV = logits_BLV.float()
    best_two = logits_BLV.topk(2, dim=-1)
    tokens_BL = best_two.indices[..., 0]
    return Decoded(
        tokens_BL=tokens_BL,
        exact_prefix_B=_exact_prefix(tokens_BL, targets_BL),
        margins_BL=best_two.values[..., 0] - best_two.values[..., 1],
        nats_BL=torch.nn.functional.cross_entropy(logits_BLV.transpose(1, 2), targets_BL, reduction="none"),
    )


def _exact_prefix(tokens_BL: Tensor, targets_BL: Tensor) -> Tensor:
    # A text is reproduced up to the first token that differs; what follows was decoded from another text.
    return (tokens_BL == targets_BL).long().cumprod(1).sum(1)
