"""Keys and values of all layers as vectors: one vector is a key-value pair in every layer and head.

Knows nothing of tasks, memories or optimizers.
"""

# Axes: B slots, T input positions, K pairs, W numbers of a pair in all layers, H heads, C numbers of a head.

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache


@dataclass(frozen=True, slots=True, kw_only=True)
class PairShapes:
    """How the keys and values of a model's layers follow one another in a vector."""

    shapes: tuple[tuple[int, int], ...]
    """Heads and numbers of a head (H, C): of the keys of the first layer, of its values, of the keys of the second, ..
    """

    @classmethod
    def of(cls, cache: Any) -> "PairShapes":
        """Those of a cache of transformers.

        Raises:
            AttributeError, TypeError: when it does not hold a key and a value for each position.
        """
        parts = [part for layer in cache.layers for part in (layer.keys, layer.values)]
        return cls(shapes=tuple((part.shape[1], part.shape[3]) for part in parts))

    @property
    def width(self) -> int:
        """Numbers of a pair in all layers, W."""
        return sum(heads * numbers for heads, numbers in self.shapes)

    def flat(self, cache: Any) -> Tensor:
        """What a cache holds, (B, T, W)."""
        parts: Sequence[Tensor] = [part for layer in cache.layers for part in (layer.keys, layer.values)]
        return torch.cat([part.transpose(1, 2).flatten(2) for part in parts], dim=-1)

    def cache(self, pairs_BKW: Tensor) -> DynamicCache:
        """A cache of transformers that holds these pairs."""
        parts = pairs_BKW.split([heads * numbers for heads, numbers in self.shapes], dim=-1)
        shaped = [part.unflatten(-1, shape).transpose(1, 2) for part, shape in zip(parts, self.shapes, strict=True)]
        cache = DynamicCache()
        for layer, (keys, values) in enumerate(zip(shaped[::2], shaped[1::2], strict=True)):
            cache.update(keys, values, layer)
        return cache
