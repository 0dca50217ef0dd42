"""Checks a model as it is loaded: whatever the engine reads must be what transformers reads from token ids.

Random tokens are read in every way that the engine uses. The reference is the model's own reading of their ids.

1. Embeddings given, through the head alone or through the whole model; with another second half, which must change
   nothing before it.
2. Token by token with the cache, from one position and from many, alone and beside other texts. Each call and each text
   is judged by itself.
3. The ids again, with the last token at the end of the context. What stands before it must not change: so a reading
   repeats whatever was read in between, and its length has no effect.

A way that disagrees is replaced by a slower one that agrees, with a note. If none agrees, the model is refused.

Knows nothing of memories, tasks or engines.
"""

# Axes: B texts, C calls, T input positions, D embedding width, H hidden size, V vocabulary.

import inspect
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from tasks.agreement import Agreement
from tasks.decoding import Reading
from tasks.devices import is_out_of_memory
from tasks.facts import Readings
from tasks.model_files import message_of
from tasks.values import TaskError, WrongModelError
from tasks.wording import counted

NUM_TEXTS = 4
"""Texts that are read side by side: so many that a near tie within the model, in one or two, decides nothing."""
LENGTH = 18
"""Tokens of a text, or as many as the context holds. All ways together read ten texts of so many tokens, in four calls,
and make seven calls for single tokens."""
HEAD_TOLERANCE = 1e-5
"""Largest difference of logits, in units of the largest, between the whole model and its head alone. Gemma 2's cap of
30 changes logits of 1 by 4e-4."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ways:
    """The fastest ways to read a model that agree with transformers' own."""

    head_is_separate: bool
    """Whether its logits are those of its head for the hidden states of its base."""
    has_cache: bool
    """Whether it can be read token by token with its cache."""
    vocabulary: int
    """Number of logits at a position."""
    readings: Readings
    """What to tell of these ways."""


@torch.no_grad()
def check_ways(model: Any, name: str, *, device: torch.device, context: int | None) -> Ways:
    """Read the model in every way that the engine uses.

    Args:
        model: A causal language model of transformers, in evaluation mode.
        name: The model, for messages.
        device: Device of its input embeddings.
        context: Longest input in tokens; None if the model has no limit.

    Raises:
        WrongModelError: when embeddings are read unlike their ids, a later token changes an earlier output, a reading
            does not repeat, depends on the length of the text, or changes the weights.
    """
    return _Check(model, name, device, context).ways()


class _Check:
    def __init__(self, model: Any, name: str, device: torch.device, context: int | None) -> None:
        self._model = model
        self._name = name
        self._device = device
        self._context = context
        self._table = model.get_input_embeddings()
        length = LENGTH if context is None else min(LENGTH, context)
        rows = len(self._table.weight)
        # Drawn on the host: the same on every device. Padding is left out: some models give it no position.
        drawn_BT = torch.randint(rows, (NUM_TEXTS, length), generator=torch.Generator().manual_seed(0))
        padding = getattr(model.config.get_text_config(), "pad_token_id", None)
        drawn_BT[drawn_BT == (-1 if padding is None else padding)] += 1
        self._tokens_BT = (drawn_BT % rows).to(device)
        self._hidden_BTH: Tensor | None = None
        self._notes: list[str] = []

    def ways(self) -> Ways:
        """See `check_ways`."""
        try:
            return self._ways()
        except Exception as error:  # the model's code decides which
            if isinstance(error, TaskError) or is_out_of_memory(error):
                raise
            raise WrongModelError(
                f"{self._name}: transformers cannot read tokens with it ({message_of(error)}). Wanted a model whose "
                "files belong together and whose code runs here."
            ) from error

    def _ways(self) -> Ways:
        with self._model.base_model.register_forward_hook(self._keep_hidden):
            self._reference_BTV = self._by_ids(self._tokens_BT)
        # RWKV rescales its weights once, before it first reads.
        weights = _versions(self._model)
        dtype = torch.bfloat16 if getattr(self._model, "is_quantized", False) else self._table.weight.dtype
        self._agreement = Agreement(dtype, self._reference_BTV)
        head_is_separate = self._check_embeddings()
        has_cache = self._check_cache()
        self._check_again()
        if _versions(self._model) != weights:
            raise self._refused("reading it changes its weights", "a model whose weights stay as they are")
        return Ways(
            head_is_separate=head_is_separate,
            has_cache=has_cache,
            vocabulary=self._reference_BTV.shape[-1],
            readings=Readings(largest_difference=self._agreement.largest, notes=tuple(self._notes)),
        )

    def _check_embeddings(self) -> bool:
        """Whether the head is separate; raises WrongModelError if embeddings are read unlike their ids."""
        first_1T, wanted_1TV = self._tokens_BT[:1], self._reference_BTV[:1]
        half = (first_1T.shape[1] + 1) // 2
        changed_1T = torch.cat([first_1T[:, :half], self._tokens_BT[1:2, half:]], dim=1)
        for is_separate in (True, False) if self._multiplies_by_head() else (False,):
            found_1TV = self._by_embeddings(changed_1T, is_separate=is_separate)
            if self._agreement.holds(found_1TV[:, :half], wanted_1TV[:, :half]):
                return is_separate
        self._check_repeats()
        if self._agreement.holds(self._by_embeddings(first_1T, is_separate=False), wanted_1TV):
            raise self._refused("a later token changes the model's output before it", "a causal model")
        raise self._refused(
            f"it reads input embeddings unlike the token ids that they stand for: {self._agreement.shown()}",
            "a model that reads nothing but its input embeddings",
        )

    def _check_cache(self) -> bool:
        """Whether decoding with the cache agrees; raises WrongModelError if reading everything again does not."""
        try:
            if self._agreement.holds_in(self._by_call_and_text(self._decoded(has_cache=True))):
                return True
            why = self._agreement.shown()
        except Exception as error:  # the model's code decides which
            if is_out_of_memory(error):
                raise
            why = message_of(error)
        # All calls together: a near tie must not refuse a model, while above it only costs the faster way.
        everything = torch.cat([found_CB.flatten() for found_CB in self._decoded(has_cache=False)])
        if not self._agreement.holds_in([everything]):
            raise self._refused(
                "it reads the beginning of a text otherwise than within the text, or beside another: "
                f"{self._agreement.shown()}",
                "a model whose outputs depend on nothing but the tokens before them",
            )
        self._notes.append(
            "with its cache it gives other logits than without, or it has none: decoding reads everything again at "
            f"every token, which is slower ({why})."
        )
        return False

    def _by_call_and_text(self, decoded: Iterable[Tensor]) -> Iterator[Tensor]:
        """The differences (C, B) of each call, if it reads texts side by side, and of each text.

        Something may be wrong in one call alone (the first after many positions) or in one text alone (the second).
        """
        for found_CB in decoded:
            if found_CB.shape[1] > 1:
                yield from found_CB
            yield from found_CB.T

    def _check_again(self) -> None:
        """Raises WrongModelError if the ids are read otherwise by now, or if the length of the text has an effect."""
        last = self._last_position()
        if self._agreement.holds(self._before_last(last), self._reference_BTV[:1, :-1]):
            return
        self._check_repeats()
        # Given positions may mean something else than positions that are not given: RoBERTa's begin after its padding.
        agrees, differs = self._tokens_BT.shape[1], (last or 0) + 1
        given_1TV = self._before_last(agrees - 1)
        if self._agreement.holds(self._before_last(last), given_1TV):
            return
        while differs - agrees > 1:
            middle = (agrees + differs) // 2
            if self._agreement.holds(self._before_last(middle - 1), given_1TV):
                agrees = middle
            else:
                differs = middle
        raise self._refused(
            f"it reads tokens otherwise once a text has more than {counted(agrees, 'position')}",
            f"one reading for all lengths; set max_position_embeddings: {agrees} in its config.json",
        )

    def _check_repeats(self) -> None:
        if not self._agreement.holds(self._by_ids(self._tokens_BT[:1]), self._reference_BTV[:1]):
            raise self._refused(
                f"it gives other outputs when it reads the same tokens again: {self._agreement.shown()}",
                "a model without dropout, noise or a memory of earlier texts",
            )

    def _before_last(self, last: int | None) -> Tensor:
        """Logits (1, T - 1, V) of the first text before its last token, whose position is `last`."""
        return self._by_ids(self._tokens_BT[:1], last=last)[:, :-1]

    def _by_ids(self, tokens_BT: Tensor, *, last: int | None = None) -> Tensor:
        """Logits (B, T, V); `last` is the position of the last token, if it is not the next one."""
        positions: dict[str, Tensor] = {}
        if last is not None:
            positions["position_ids"] = torch.arange(tokens_BT.shape[1], device=self._device)[None]
            positions["position_ids"][0, -1] = last
        return self._logits(self._model(input_ids=tokens_BT, use_cache=False, **positions).logits)

    def _by_embeddings(self, tokens_BT: Tensor, *, is_separate: bool) -> Tensor:
        """Logits (B, T, V) of the head alone, or of the whole model."""
        inputs_BTD = self._table(tokens_BT)
        version = inputs_BTD._version
        if is_separate:
            output = self._model.base_model(inputs_embeds=inputs_BTD, use_cache=False)
            logits_BTV = self._model.get_output_embeddings()(output.last_hidden_state)
        else:
            logits_BTV = self._model(inputs_embeds=inputs_BTD, use_cache=False).logits
        if inputs_BTD._version != version:  # CTRL scales what it is given, in place
            self._model.base_model.register_forward_pre_hook(_with_own_inputs, with_kwargs=True)
        return self._logits(logits_BTV)

    def _keep_hidden(self, module: Any, args: Any, output: Any) -> None:
        """Keep the hidden states (B, T, H) that the base gives to the rest of the model; a hook of torch."""
        self._hidden_BTH = getattr(output, "last_hidden_state", None)

    def _multiplies_by_head(self) -> bool:
        """Whether the reference is the head times the hidden states: the same numbers in every precision."""
        head = self._model.get_output_embeddings()
        if self._hidden_BTH is None:  # OPT calls a part of its base, not the base
            self._keep_hidden(None, None, self._model.base_model(input_ids=self._tokens_BT, use_cache=False))
        if head is None or self._hidden_BTH is None:
            return False
        split_BTV = self._logits(head(self._hidden_BTH))
        return float(self._agreement.differences(split_BTV, self._reference_BTV).max()) <= HEAD_TOLERANCE

    def _decoded(self, *, has_cache: bool) -> Iterator[Tensor]:
        """Differences (C, B) from the reference after the calls that `_decodings` names."""
        for tokens_BT, ends in self._decodings():
            reading = Reading(self._model, has_cache=has_cache)
            inputs_BTD = self._table(tokens_BT)
            found_CB: list[Tensor] = []
            for begin, end in pairwise((0, *ends)):
                logits_BV = self._logits(reading.read(inputs_BTD[:, begin:end]))
                wanted_BV = self._reference_BTV[: len(tokens_BT), end - 1]
                found_CB.append(self._agreement.differences(logits_BV, wanted_BV))
            yield torch.stack(found_CB)

    def _decodings(self) -> list[tuple[Tensor, list[int]]]:
        """Texts (B, T), and the number of positions that is read after each call."""
        length = self._tokens_BT.shape[1]
        beginning = (1, 2, 3)
        calls = (
            (self._tokens_BT, beginning),
            (self._tokens_BT, (length - 1, length)),
            (self._tokens_BT[:1], beginning),
        )
        return [(tokens_BT, [end for end in ends if 1 <= end <= length]) for tokens_BT, ends in calls]

    def _last_position(self) -> int | None:
        """The last position of the context; None if the model takes no positions, or has no such limit."""
        parts = [self._model]
        taken = inspect.signature(self._model.forward).parameters.values()
        if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in taken):  # for its base
            parts.append(self._model.base_model)
        takes_positions = any("position_ids" in inspect.signature(part.forward).parameters for part in parts)
        return self._context - 1 if takes_positions and self._context is not None else None

    def _logits(self, logits: Tensor) -> Tensor:
        return logits.to(self._device).float()

    def _refused(self, found: str, wanted: str) -> WrongModelError:
        return WrongModelError(f"{self._name}: {found}. Wanted {wanted}; its figures would not be the model's own.")


def _versions(model: Any) -> int:
    """Rises whenever a weight is written to."""
    return sum(weights._version for weights in model.parameters())


def _with_own_inputs(module: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Give a model that writes to its input embeddings a copy of them."""
    given = kwargs.get("inputs_embeds")
    return args, kwargs if given is None else {**kwargs, "inputs_embeds": given.clone()}
