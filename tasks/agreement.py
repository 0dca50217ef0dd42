"""Whether logits agree with those of a reference, by a measure that allows for rounding.

Knows nothing of models or of the ways in which they are read.
"""

# Axes: V vocabulary.

from collections.abc import Iterable

import torch
from torch import Tensor

TOLERANCE = 1e-3
"""Largest difference of logits, in units of the largest logit, between ways that agree. In float32, those that agree
differ by about 1e-6, and those that do not by more than 1e-2."""
COARSE_TOLERANCE_ULPS = 16
"""The same in coarser precisions, in units of machine epsilon: 0.125 in bfloat16."""
HUGE = 1e30
"""Logits beyond this are masks, and say nothing about the scale of the others."""


class Agreement:
    """Compares logits of one model, and remembers how far they differed."""

    def __init__(self, dtype: torch.dtype, reference: Tensor) -> None:
        """Take the largest logit of the reference as the unit.

        Args:
            dtype: Precision in which the model computes.
            reference: Logits (.., V).
        """
        self._is_coarse = torch.finfo(dtype).eps > torch.finfo(torch.float32).eps
        self._tolerance = COARSE_TOLERANCE_ULPS * torch.finfo(dtype).eps if self._is_coarse else TOLERANCE
        size = reference.abs()
        self._scale = float(size.where(size < HUGE, 0).max()) or 1.0
        self.largest = 0.0
        """Largest difference between logits that agree."""
        self._last = 0.0
        """Largest difference of the last comparison."""

    def differences(self, found: Tensor, wanted: Tensor) -> Tensor:
        """Largest difference of logits (.., V) at each position (..); infinite where only `found` is not finite.

        Where the reference is not finite, it says nothing: such a model fails in the engine.
        """
        difference = (found - wanted).abs().nan_to_num(torch.inf, torch.inf)
        return difference.where(wanted.isfinite(), 0).amax(-1) / self._scale

    def holds(self, found: Tensor, wanted: Tensor) -> bool:
        """Whether logits (.., V) agree."""
        return self.holds_in([self.differences(found, wanted).flatten()])

    def holds_in(self, groups: Iterable[Tensor]) -> bool:
        """Whether these differences are small in each group of positions."""
        given = [group for group in groups if group.numel()]
        if not given:
            return True
        self._last = max(float(group.max()) for group in given)
        # In coarse precisions, near ties within the model (experts, outliers) may differ at single positions.
        typical = max(float(group.median()) for group in given)
        holds = (typical if self._is_coarse else self._last) <= self._tolerance
        if holds:
            self.largest = max(self.largest, self._last)
        return holds

    def shown(self) -> str:
        """The last comparison, in words."""
        if self._last == torch.inf:
            return "logits are not finite"
        return f"logits differ by up to {self._last:.2g} of the largest"
