"""A model's tokenizer: turns text into token ids, and back.

Knows nothing of weights.
"""

import hashlib
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from transformers import AutoTokenizer

from tasks.contract import TextCodec
from tasks.gguf_file import is_gguf
from tasks.model_cache import tokenizer_is_here, why_not_fetched
from tasks.model_files import message_of, source_of
from tasks.values import Encoding, Model, TaskError


class HubCodec:
    """The model's own tokenizer, without the special tokens it adds."""

    def __init__(self, model: Model) -> None:
        """Raises TaskError when the model has no tokenizer."""
        try:
            with source_of(model) as source:
                # Any: what transformers makes is only known at run time.
                self.tokenizer: Any = AutoTokenizer.from_pretrained(**source)
        except Exception as error:  # tokenizers raises plain Exception
            wanted = "a tokenizer.json and tokenizer_config.json beside the weights"
            if is_gguf(model):
                wanted = "a GGUF file with a tokenizer that transformers reads, or the model's safetensors"
            found = f"its tokenizer could not be read ({message_of(error)}). Wanted {wanted}."
            why = why_not_fetched(model, error, are_here=tokenizer_is_here(model)) or found
            raise TaskError(f"{model.name}: {why}") from error
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise TaskError(
                f"{model.name}: its tokenizer is not a fast one; wanted a tokenizer.json beside the weights."
            )
        # If the files are missing, transformers makes a tokenizer with only special tokens for some kinds of model.
        if self.tokenizer.get_vocab().keys() <= self.tokenizer.get_added_vocab().keys():
            raise TaskError(f"{model.name}: its tokenizer has no tokens; wanted a tokenizer.json beside the weights.")
        if getattr(backend.model, "dropout", None):
            raise TaskError(
                f"{model.name}: its tokenizer leaves out merges at random (dropout {backend.model.dropout:g}), so that "
                "a text has other tokens each time. Wanted dropout: null in the model of its tokenizer.json."
            )
        self.fingerprint = hashlib.sha256(backend.to_str().encode()).hexdigest()
        special = {*self.tokenizer.all_special_ids, *self.tokenizer.get_added_vocab().values()}
        self.ordinary_tokens: Sequence[int] = sorted(set(self.tokenizer.get_vocab().values()) - special)
        self.bos: int | None = self.tokenizer.bos_token_id
        whole = self.tokenizer("a")["input_ids"]
        bare = self.tokenizer("a", add_special_tokens=False)["input_ids"]
        before = next((i for i in range(len(whole)) if whole[i : i + len(bare)] == bare), 0)
        self.special_before: tuple[int, ...] = tuple(whole[:before])

    def encode(self, text: str) -> Encoding:
        """Cut the text into tokens, none of them a special one."""
        # A text that spells a special token (`</s>`) is ordinary text here.
        encoded = self.tokenizer(
            text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True, verbose=False
        )
        ends = accumulate((end for _, end in encoded["offset_mapping"]), max)
        return Encoding(tokens=tuple(encoded["input_ids"]), ends=tuple(ends))

    def decode(self, tokens: Sequence[int]) -> str:
        """The text that these token ids stand for."""
        return self.tokenizer.decode(list(tokens), skip_special_tokens=False, clean_up_tokenization_spaces=False)


def codec(model: Model) -> TextCodec:
    """The model's tokenizer; raises TaskError when it has none."""
    return HubCodec(model)
