"""Finds the radius of the sphere on which a model's memories lie, by forward passes of the model.

A trained transformer writes a massive activation over whatever stands at the first position. A memory as short as an
embedding is lost after a few layers. A longer one is preserved, and every layer reads it through its normalization. So
the radius is the smallest of RADII at which the residual stream at the memory grows little from layer to layer.

Measures random directions. Knows nothing of texts, probes or searches.
"""

# Axes: B directions, D embedding width, N layers.

from functools import lru_cache

import torch
from torch import Tensor

from tasks.facts import Readings
from tasks.language_model import LanguageModel
from tasks.values import Model

RADII = (10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)
"""Radii to try, in lengths of a cold memory. stories260K, which leaves 10 as it is, reached 27.4 tokens with it and
26.3 with 30 (192 starts each). The largest still leaves room in float16 and bfloat16."""
MOST_GROWTH = 1.5
"""Largest ratio, and inverse of the least ratio, of the residual stream's length after any layer to that before the
first. SmolLM2 has 3.7 at 100, 1.9 at 300 and 1.3 at 1,000 cold lengths, and reached most tokens at 1,000.
tinystories-656k has 2.3 at 10 and 1.2 at 30."""
LONGER = (*RADII[1:], 10 * RADII[-1])
"""The longer radius with which each of RADII is compared."""
NUM_DIRECTIONS = 16
"""Random directions, of which the mean counts. Their standard deviation is a few hundredths of that mean."""


@lru_cache(maxsize=32)
def measured_on(model: Model, fingerprint: str, *, needs_radius: bool) -> tuple[float | None, Readings]:
    """The radius for a model in lengths of a cold memory, and how its ways of being read agree; loads it once.

    Args:
        model: The model to load.
        fingerprint: Tells apart what a name stood for at two times.
        needs_radius: Whether to measure the radius; otherwise it is None. A radius of 0 means that the model ignores
            the length of its input.

    Raises:
        TaskError: when the model cannot be loaded.
    """
    loaded = LanguageModel(model)
    return choose_radius(loaded) if needs_radius else None, loaded.readings


def stream_lengths(model: LanguageModel, radius: float) -> Tensor:
    """Length of the residual stream before the first layer and after each but the last, (N,): mean over directions.

    Args:
        model: The frozen model.
        radius: Length of the memories that it reads, in lengths of a cold one.
    """
    generator = torch.Generator().manual_seed(0)
    direction_B1D = torch.randn(NUM_DIRECTIONS, 1, model.embedding_width, generator=generator)
    direction_B1D /= direction_B1D.norm(dim=-1, keepdim=True)
    inputs_B1D = (direction_B1D * radius * model.cold_length).to(model.device, model.dtype)
    return model.residual_lengths(inputs_B1D).mean(1)


def choose_radius(model: LanguageModel) -> float:
    """The smallest radius at which the layers leave a memory as it is; 0 if none of RADII is."""
    lengths = [stream_lengths(model, radius) for radius in (*RADII, LONGER[-1])]
    for radius, longer, length_N, longer_N in zip(RADII, LONGER, lengths, lengths[1:], strict=False):
        growth_N = length_N / length_N[0]
        # If a model normalizes its inputs, all memories have the same length when the first layer reads them.
        is_read = float(longer_N[0] / length_N[0]) > longer / radius / 2
        if is_read and float(growth_N.min()) >= 1 / MOST_GROWTH and float(growth_N.max()) <= MOST_GROWTH:
            return radius
    return 0.0
