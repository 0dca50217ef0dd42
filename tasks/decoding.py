"""Greedy decoding: reading with a cache, and comparing the decoded tokens with the wanted ones.

Knows nothing of memories.
"""

# Axes: B slots, L tokens, T input positions, D embedding width, V vocabulary.

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

CACHES = ("past_key_values", "cache_params")
"""Names under which models return the cache of what they have read: keys and values of attention, states of Mamba.
RWKV's `state` is left out, because transformers 5.23 gives other logits with it than without it."""
NEAR_TIE = 1e-3
"""In float32 another batch shape moves logits by up to about 1e-5, so the threshold leaves a factor of 100."""
NEAR_TIE_ULPS = 32
"""The same threshold for coarser precisions, in units of machine epsilon: 0.25 in bfloat16."""


def near_tie(dtype: torch.dtype) -> float:
    """Differences of logits that another way of computing them in this precision might turn around."""
    return max(NEAR_TIE, NEAR_TIE_ULPS * torch.finfo(dtype).eps)


class Reading:
    """A model that reads vectors in order and remembers what it has read."""

    def __init__(self, model: Any, *, has_cache: bool) -> None:
        """Without a cache, all is read again each time, which is slower."""
        self._model = model
        self._has_cache = has_cache
        self._cache: dict[str, Any] = {}
        self._read: list[Tensor] = []

    def begin_after(self, cache: Any) -> None:
        """Go on from a cache that holds keys and values; only for a model that is read with its cache."""
        self._cache = {"past_key_values": cache}

    @torch.no_grad()
    def read(self, inputs_BTD: Tensor) -> Tensor:
        """Read further vectors and return the logits (B, V) of the next token, in float32."""
        if not self._has_cache:
            self._read.append(inputs_BTD)
            inputs_BTD = torch.cat(self._read, dim=1)
        output = self._model(inputs_embeds=inputs_BTD, **self._cache, use_cache=self._has_cache, logits_to_keep=1)
        if self._has_cache:
            self._cache = {name: output[name] for name in CACHES if output.get(name) is not None}
        return output.logits[:, -1].float()


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """Greedy decodings of B memories, compared with B texts."""

    tokens_BL: Tensor
    """Token ids that came out."""
    exact_prefix_B: Tensor
    """Tokens before the first that differs from the text."""
    margins_BL: Tensor
    """Difference of the two largest logits at each token."""
    nats_BL: Tensor
    """Cross-entropy of the text's token at each step; beyond the exact prefix it has no meaning."""

    def firm_prefix(self, *, least_margin: float) -> Tensor:
        """Tokens before the first that differs from the text, or whose margin is less than `least_margin`, (B,)."""
        firm_B = (self.margins_BL >= least_margin).long().cumprod(1).sum(1)
        return torch.minimum(self.exact_prefix_B, firm_B)

    @classmethod
    def in_turn(cls, steps: Sequence["Decoded"], targets_BL: Tensor) -> "Decoded":
        """Join decodings of single tokens, in their order, into one."""
        tokens_BL = torch.cat([step.tokens_BL for step in steps], dim=1)
        return cls(
            tokens_BL=tokens_BL,
            exact_prefix_B=_exact_prefix(tokens_BL, targets_BL),
            margins_BL=torch.cat([step.margins_BL for step in steps], dim=1),
            nats_BL=torch.cat([step.nats_BL for step in steps], dim=1),
        )


def hold_against(logits_BLV: Tensor, targets_BL: Tensor) -> Decoded:
    """The likeliest tokens by these logits, compared with those of the texts."""
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
    # The decoder read its own tokens: after the first that differs, it continues another text.
    return (tokens_BL == targets_BL).long().cumprod(1).sum(1)
