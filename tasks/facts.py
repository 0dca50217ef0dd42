"""The frozen values that say what is known and measured of a model before it is probed. Needs no torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What is known of a model before its weights are loaded."""

    fingerprint: str
    """Hash of weights, dtype and tokenizer: equal fingerprints give equal results."""
    revision: str
    """Commit of a hub model; hash of the weights of a local model."""
    vocabulary: int
    """Rows of the output head."""
    context: int | None
    """Longest input in tokens; None if the model has no limit."""
    embedding_width: int
    """Width of the input embedding."""
    num_parameters: int
    """Number of weights, embeddings included."""
    num_layers: int | None = None
    """Layers, as its configuration counts them; None if it does not say."""
    vector_width: int | None = None
    """Numbers in one vector of a memory; None: those of an input embedding."""
    bos: int | None = None
    """The BOS token that its configuration names, which `prefix: bos` needs; None if it names none."""
    is_recurrent: bool = False
    """Whether its layers read tokens one after the other without a fused kernel (Mamba, RWKV): slow on a CPU."""
    notes: tuple[str, ...] = ()
    """What a user should know of its configuration."""

    @property
    def memory_width(self) -> int:
        """Numbers in one vector of a memory."""
        return self.embedding_width if self.vector_width is None else self.vector_width


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """How well the ways in which an engine reads a model agree with transformers' own reading of token ids."""

    largest_difference: float
    """Largest difference of a logit between any two of these ways, in units of the largest logit."""
    notes: tuple[str, ...] = ()
    """What a user should know: which slower way is taken and why, and what in the model's files was left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """What was measured on a model when a run was planned."""

    recipe: Mapping[str, Any]
    """The recipe, with the fields filled in that depend on the model."""
    readings: Readings | None = None
    """None if its weights were not loaded: nothing was to be measured, or they are not on this machine."""
    note: str = ""
    """What a user should know of the recipe; may be empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCost:
    """Time of a forward and backward pass of a model on a device."""

    batch_seconds: float
    """Seconds for each batch, regardless of its tokens."""
    token_seconds: float
    """Further seconds for each token of the batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """Time that a model takes on this machine, and its cross-entropy on some texts."""

    step: StepCost
    """Time of an optimizer step."""
    nats_by_token: tuple[tuple[float, ...], ...]
    """Cross-entropy in nats of each token without memory; one tuple for each text."""
    readings: Readings | None = None
    """None if the task does not check how a model is read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchDefaults:
    """What a recipe suggests for a growing search; used where the sweep file sets nothing."""

    first_length: int
    """Tokens that the first probe asks for."""
    growth: float | None
    """As in Question."""
    cold_share: float | None
    """Length of a later cold start, as a share of the proven length; None: the first length."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Values that tuning may try for a field of a recipe."""

    low: float
    """Least value."""
    high: float
    """Largest value."""
    log: bool = False
    """Whether values are spread evenly in their logarithm."""
    whole: bool = False
    """Whether only whole numbers are tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForGeneration:
    """What `generate` of transformers needs to decode a memory."""

    model: Any
    """The frozen model of transformers."""
    inputs_embeds: Any
    """A tensor (1, inputs, width) on its device, in its dtype."""
