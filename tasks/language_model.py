"""A frozen causal language model of transformers that maps input vectors to logits.

Knows nothing of probes, searches or recipes.
"""

# Axes: B slots, K vectors of a memory, L tokens, T input positions, D embedding width, H hidden size, V vocabulary.

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from tasks.decoding import Decoded, Reading, hold_against
from tasks.key_values import PairShapes
from tasks.load_checks import check_ways
from tasks.model_config import bos_of, context_of
from tasks.model_weights import on_device
from tasks.values import Attention, Model, Question, TaskError

SAME_SCALE = 0.02
"""Share by which two vectors, or two standard deviations, may differ and count as the same: bfloat16 rounds by less."""


class LanguageModel:
    """Frozen weights on one device."""

    def __init__(
        self,
        model: Model | PreTrainedModel,
        *,
        device: str = "auto",
        gpus: float = 1.0,
        attention: Attention | None = None,
        cache: bool = True,
    ) -> None:
        """Load the weights, or take a model that transformers has made, for example one with random weights.

        Args:
            model: The model to load, or the loaded one.
            device: Device on which it computes.
            gpus: On CUDA, below 1 the share of device memory that may be used, above 1 the GPUs that share the layers.
            attention: How a model that is loaded computes attention; None: as transformers does by default.
            cache: Whether decoding may use the cache.

        Raises:
            TaskError: when the weights cannot be loaded.
            WrongModelError: when the model cannot be read as transformers reads it; see tasks/load_checks.py.
        """
        # Any: the attributes of a transformers model are only known at run time.
        self._model: Any
        self._model, self.device, notes = on_device(model, device, gpus=gpus, attention=attention)
        self._model.eval().requires_grad_(False)
        config = self._model.config
        self._embedding = self._model.get_input_embeddings()
        self.dtype: torch.dtype = self._embedding.weight.dtype
        self.embedding_width = int(self._embedding.weight.shape[1])
        self.embedding_scale = self._embedding_scale()
        """Factor by which it multiplies the embeddings that it looks up."""
        self.embedding_std = float(self._embedding.weight.float().std()) * self.embedding_scale
        """Standard deviation of the embedding table: the scale at which cold memories begin."""
        self.cold_length = self.embedding_std * self.embedding_width**0.5
        """Length of a vector of a cold memory: the unit of radii."""
        self.context = context_of(config)
        self.bos = bos_of(config, num_embeddings=len(self._embedding.weight))
        name = model.name if isinstance(model, Model) else type(model).__name__
        ways = check_ways(self._model, name, device=self.device, context=self.context)
        self.readings = replace(ways.readings, notes=(*notes, *ways.readings.notes))
        """How its ways of being read agree, and what a user should know of that."""
        self.vocabulary = ways.vocabulary
        self._has_cache = ways.has_cache and cache
        self._head_is_separate = ways.head_is_separate
        self.head: Callable[[Tensor], Tensor] = torch.nn.Identity()
        if self._head_is_separate:
            last = self._model.get_output_embeddings()
            # The last layer may be on another GPU.
            self.head = (lambda hidden: last(hidden).to(self.device)) if self._is_spread else last

    @property
    def transformers_model(self) -> PreTrainedModel:
        """The model of transformers itself."""
        return self._model

    @property
    def _is_spread(self) -> bool:
        """Whether its layers are spread over several GPUs."""
        return len(set((getattr(self._model, "hf_device_map", None) or {}).values())) > 1

    @torch.no_grad()
    def _embedding_scale(self) -> float:
        """Factor on the embedding table: some models, such as Gemma, multiply by one within the embedding."""
        # 256 tokens suffice: the factor is the same for every token.
        some = torch.arange(min(256, len(self._embedding.weight)), device=self.device)
        return float(self.embed(some).float().std() / self._embedding.weight[some].float().std())

    def embed(self, tokens: Tensor) -> Tensor:
        """Map token ids (B, L) to input vectors (B, L, D)."""
        return self._embedding(tokens)

    def hidden(
        self, inputs_BTD: Tensor, positions_BT: Tensor | None = None, *, pairs_BKW: Tensor | None = None
    ) -> Tensor:
        """Map input vectors (B, T, D) to the input of `head`: hidden states (B, T, H), or logits if it is Identity.

        Args:
            inputs_BTD: Rows of input vectors.
            positions_BT: Positions of the inputs within their texts, if a row holds several texts, one after the
                other; only if the model `can_pack`.
            pairs_BKW: Key-value pairs that every layer reads before the inputs; a pair of zeros is none.
        """
        more: dict[str, Any] = {} if positions_BT is None else {"position_ids": positions_BT}
        if pairs_BKW is not None:
            more = self._after_pairs(pairs_BKW, inputs_BTD.shape[1])
        if self._head_is_separate:
            hidden_BTH = self._model.base_model(inputs_embeds=inputs_BTD, use_cache=False, **more).last_hidden_state
        else:
            hidden_BTH = self._model(inputs_embeds=inputs_BTD, use_cache=False, **more).logits
        return hidden_BTH.to(self.device)  # the last layer may be on another GPU

    def _after_pairs(self, pairs_BKW: Tensor, num_inputs: int) -> dict[str, Any]:
        """Arguments of the model for inputs that follow these pairs."""
        is_pair_BK = (pairs_BKW != 0).any(-1)
        is_input_BT = is_pair_BK.new_ones(len(pairs_BKW), num_inputs)
        positions_BT = is_pair_BK.sum(1, keepdim=True) + torch.arange(num_inputs, device=self.device)
        if self.context is not None:  # only padding lies beyond
            positions_BT = positions_BT.clamp_max(self.context - 1)
        return {
            "past_key_values": self._pairs.cache(pairs_BKW.to(self.dtype)),
            "attention_mask": torch.cat([is_pair_BK, is_input_BT], dim=1).long(),
            "position_ids": positions_BT,
        }

    @cached_property
    def pair_width(self) -> int:
        """Numbers of a key-value pair in all layers, W.

        Raises:
            TaskError: when it keeps no key and value for each position, or does not read those that it is given.
        """
        inputs_BTD = self.embed(self._sample_tokens)
        half = inputs_BTD.shape[1] // 2
        try:
            with torch.no_grad():
                pairs_BKW = self._pairs.flat(self._cache_of(inputs_BTD[:, :half]))
                after_BTH = self.hidden(inputs_BTD[:, half:], pairs_BKW=pairs_BKW).float()
                whole_BTH = self.hidden(inputs_BTD)[:, half:].float()
            agree = (whole_BTH - after_BTH).norm() <= torch.finfo(self.dtype).eps ** 0.5 * whole_BTH.norm()
        except (AttributeError, TypeError, IndexError, ValueError, RuntimeError):
            agree = False
        if not agree or not self._has_cache:
            raise TaskError(
                f"{type(self._model).__name__}: it does not go on from keys and values that it is given, as task: "
                "prefix asks. Wanted a transformer whose cache transformers can make."
            )
        return self._pairs.width

    @cached_property
    def pair_std(self) -> Tensor:
        """Standard deviation of each number of a pair over tokens of random texts, (W,)."""
        return self._pairs.flat(self._cache_of(self.embed(self._sample_tokens))).flatten(0, 1).float().std(0)

    @cached_property
    def _pairs(self) -> PairShapes:
        return PairShapes.of(self._cache_of(self.embed(self._sample_tokens[:1])))

    @property
    def _sample_tokens(self) -> Tensor:
        """Token ids (B, T) of random texts."""
        length = 16 if self.context is None else min(16, self.context)
        generator = torch.Generator().manual_seed(0)
        return torch.randint(len(self._embedding.weight), (8, length), generator=generator).to(self.device)

    @torch.no_grad()
    def _cache_of(self, inputs_BTD: Tensor) -> Any:
        return self._model.base_model(inputs_embeds=inputs_BTD, use_cache=True).past_key_values

    @torch.no_grad()
    def can_pack(self) -> bool:
        """Whether texts in one row are read as if each were alone, once their positions say where each begins.

        Attention of transformers does so. A state, as in Mamba, runs on from text to text.
        """
        length = 8
        texts = torch.arange(3 * length, device=self.device).view(3, 1, length) % len(self._embedding.weight)
        first, other, text = (self.embed(tokens) for tokens in texts)
        positions = torch.arange(length, device=self.device).repeat(1, 2)
        alone = self.hidden(text)[0].float()
        try:
            rows = [self.hidden(torch.cat([before, text], 1), positions)[0] for before in (first, other)]
        except (TypeError, ValueError, RuntimeError):
            return False
        # Another shape moves the last bits, and layers multiply them; another text before it moves far more.
        tolerance = torch.finfo(self.dtype).eps ** 0.5
        return all(bool((row[length:].float() - alone).norm() <= tolerance * alone.norm()) for row in rows)

    @torch.no_grad()
    def change_to_inputs(self) -> str:
        """What is done to an embedding before the first layer reads it; empty if nothing but adding a position.

        Where something is done, other implementations of this model may do it before or after the place at which they
        take embeddings.
        """
        if abs(self.embedding_scale - 1) > SAME_SCALE:
            return f"it multiplies the embeddings that it looks up by {self.embedding_scale:.3g}"
        shape = (1, 3, self.embedding_width)
        inputs = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(self.device, self.dtype)
        read, nothing = (self._before_first_layer(given) for given in (inputs, torch.zeros_like(inputs)))
        change = (read - nothing).to(self.device).float()
        if change.shape != inputs.shape or (change - inputs.float()).norm() > SAME_SCALE * inputs.float().norm():
            return "it scales, normalizes or projects embeddings before its first layer"
        return ""

    def _before_first_layer(self, inputs_BTD: Tensor) -> Tensor:
        """What the first layer reads (B, T, H)."""
        base, seen = self._model.base_model, list[Tensor]()
        layers = next(part for part in base.modules() if isinstance(part, torch.nn.ModuleList))

        def keep(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            seen.append(args[0] if args else kwargs["hidden_states"])

        with layers[0].register_forward_pre_hook(keep, with_kwargs=True):
            base(inputs_embeds=inputs_BTD, use_cache=False)
        return seen[0]

    @torch.no_grad()
    def residual_lengths(self, inputs_BTD: Tensor) -> Tensor:
        """Length of the residual stream at the last position, before the first layer and after each layer but the last.

        The output of the last layer is left out, because models return it normalized.

        Returns:
            Lengths (N, B), of N states for each of B inputs.

        Raises:
            TaskError: when the model does not return its hidden states.
        """
        states = self._model.base_model(inputs_embeds=inputs_BTD, use_cache=False, output_hidden_states=True)
        hidden = getattr(states, "hidden_states", None)
        if not hidden:
            raise TaskError(f"{type(self._model).__name__}: this model returns no hidden states.")
        return torch.stack([state[:, -1].float().norm(dim=-1).to(self.device) for state in hidden[:-1]])

    def in_float32(self) -> "LanguageModel | None":
        """The same model in float32: the model itself if it is in float32, else a copy; None if there is no such form.

        There is none for a quantized model. For a model in a coarser precision there is none if it is spread over GPUs,
        or if the copy would take more than half of the free device memory.
        """
        if getattr(self._model, "is_quantized", False):
            return None
        if self.dtype == torch.float32:
            return self
        if self._is_spread:
            return None
        needed = 4 * sum(part.numel() for part in (*self._model.parameters(), *self._model.buffers()))
        if self.device.type == "cuda" and needed > torch.cuda.mem_get_info(self.device)[0] / 2:
            return None
        return LanguageModel(copy.deepcopy(self._model).float(), device=str(self.device))

    def tokens_before(self, question: Question, context: Sequence[int]) -> tuple[int, ...]:
        """Token ids that stand before a memory, or before a text without one: the BOS if asked for, then the context.

        Raises:
            TaskError: when the model names no BOS.
        """
        if question.prefix is None:
            return tuple(context)
        if self.bos is None:
            raise TaskError("prefix: bos was asked for, but this model names no BOS token; use prefix: null.")
        return self.bos, *context

    @torch.no_grad()
    def decode(self, inputs_BTD: Tensor, targets_BL: Tensor, *, pairs_BKW: Tensor | None = None) -> "Decoded":
        """Decode greedily from input vectors and pairs alone, one token at a time with the key-value cache.

        The model never reads the targets: the logits of each step are compared with them.
        """
        steps: list[Decoded] = []
        reading, inputs = self.reading(), inputs_BTD
        if pairs_BKW is not None:
            reading.begin_after(self._pairs.cache(pairs_BKW.to(self.dtype)))
        for target_B in targets_BL.unbind(1):
            steps.append(hold_against(reading.read(inputs)[:, None], target_B[:, None]))
            inputs = self.embed(steps[-1].tokens_BL)
        return Decoded.in_turn(steps, targets_BL)

    def reading(self) -> "Reading":
        """A reader of this model that has read nothing yet."""
        return Reading(self._model, has_cache=self._has_cache)
