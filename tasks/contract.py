"""What a task owes, and what it may count on: the protocols between tasks and orchestrator.

Knows nothing of torch, Ray or files: a third-party task needs this module, and the values in tasks/values.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tasks.values import (
    Encoding,
    EngineSettings,
    EngineStats,
    Finished,
    Model,
    ModelFacts,
    Price,
    Probe,
    Proof,
    Question,
    Range,
    SearchDefaults,
    Snapshot,
)


class Engine(Protocol):
    """One frozen model on one device, optimizing many probes in the slots of one batch."""

    @property
    def num_slots(self) -> int:
        """About how many slots are optimized at a time."""
        ...

    @property
    def num_held(self) -> int:
        """Probes submitted and not yet finished."""
        ...

    @property
    def num_busy(self) -> int:
        """Those of them that are optimized or wait to be; the others are optimized and wait for their proof."""
        ...

    def submit(self, probes: Sequence[Probe], *, num_open: int) -> None:
        """Queue probes; they start as slots become free.

        Args:
            probes: Of distinct searches.
            num_open: Searches not done yet that this engine may still serve: more slots than that cannot be busy.
        """
        ...

    def step(self) -> list[Finished]:
        """Advance every slot by one optimizer step and return the probes that finished."""
        ...

    def snapshots(self) -> list[Snapshot]:
        """All slots that have taken a step and are not finished, as they are between two steps."""
        ...

    def stats(self) -> "EngineStats":
        """What it has done since it was opened."""
        ...


class TextCodec(Protocol):
    """Turns text into the token ids that one model reads, and back."""

    fingerprint: str
    """Hash of the tokenizer: equal fingerprints cut equal texts alike."""
    ordinary_tokens: Sequence[int]
    """Every token id that is not a special one, ascending."""
    special_before: tuple[int, ...]
    """Special tokens that the tokenizer puts before a text unless asked not to."""

    def encode(self, text: str) -> Encoding:
        """Cut the text into tokens, without special tokens."""
        ...

    def decode(self, tokens: Sequence[int]) -> str:
        """The text that these token ids stand for."""
        ...


class Task(Protocol):
    """A kind of measurement: what goes into a model, what must come out, and how to prove it."""

    name: str

    def facts(self, model: Model) -> ModelFacts:
        """Read what is needed to plan, without loading weights.

        Raises:
            TaskError: when this is not a model that the task can measure.
        """
        ...

    def codec(self, model: Model) -> TextCodec:
        """Raises TaskError when the model has no usable tokenizer."""
        ...

    def dtype_for(self, device: str) -> str:
        """The precision that `dtype: auto` stands for on this device of this machine.

        Called once, when a run is planned: the result is kept with the run.
        """
        ...

    def longest_text(self, facts: ModelFacts, *, num_vectors: int, question: Question) -> int | None:
        """Most tokens of text that fit into the model's context beside the memory; None if unlimited.

        Raises:
            TaskError: when the question cannot be put to this model, such as a prefix that it does not have.
        """
        ...

    def recipe(self, overrides: str | Mapping[str, Any]) -> Mapping[str, Any]:
        """The whole recipe, every field filled in.

        Raises:
            TaskError: when the recipe's name or a field is unknown, or a value is out of range.
        """
        ...

    def search_defaults(self, recipe: Mapping[str, Any]) -> SearchDefaults:
        """What this recipe suggests to a search that grows."""
        ...

    def recipe_for(self, model: Model, facts: ModelFacts, recipe: Mapping[str, Any]) -> tuple[Mapping[str, Any], str]:
        """The recipe with what is measured on the model itself filled in, and a note for the user; empty if none.

        Called once, when a run is planned: the result is kept with the run. May load the weights.

        Raises:
            TaskError: when the model cannot be loaded.
        """
        ...

    def recipe_identity(self, recipe: Mapping[str, Any]) -> Mapping[str, Any]:
        """What of a whole recipe decides results, as JSON under keys of its own: a part of each search's identity.

        The keys never change, whatever the fields are called in a later version. `recipe_version` rises when the same
        fields come to mean another optimization.
        """
        ...

    def tunable(self, recipe: Mapping[str, Any]) -> Mapping[str, Range]:
        """Fields of this recipe that `capsweep tune` may change, and between what; empty where there are none."""
        ...

    def price(self, model: Model, texts: Sequence[Sequence[int]], question: Question, device: str) -> Price:
        """Load the weights, time a few seconds of steps, and read these texts without memory.

        Raises:
            TaskError: when the model cannot be loaded, or not without a download.
        """
        ...

    def open_engine(self, model: Model, question: Question, settings: EngineSettings) -> Engine:
        """Load the weights and be ready for probes."""
        ...

    def prove(self, model: Model, question: Question, device: str) -> "Prover":
        """Load the weights for decoding stored memories, one text at a time."""
        ...


class Prover(Protocol):
    """A loaded model, to be asked about stored memories and their texts, one at a time."""

    def __call__(self, memory: bytes, *, num_vectors: int, tokens: Sequence[int]) -> Proof:
        """Decode `len(tokens)` tokens from nothing but the memory and compare them with the text's."""
        ...

    def accuracy(self, memory: bytes, *, num_vectors: int, tokens: Sequence[int]) -> float:
        """Share of the tokens that are correct with this memory, each predicted from the correct ones before it."""
        ...

    def compress(self, tokens: Sequence[int]) -> bytes:
        """The tokens that are not given, without any memory, in as few bytes as the model's own predictions allow."""
        ...

    def decompress(self, data: bytes, num_tokens: int, *, given: Sequence[int] = ()) -> tuple[int, ...]:
        """The tokens that `compress` made these bytes of, on the same machine.

        Args:
            data: The bytes.
            num_tokens: How many tokens, those given among them.
            given: The first `num_given` of the question.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """A model as a text source sees it: what will read the texts."""

    model: Model
    facts: ModelFacts
    codec: TextCodec
