"""The protocols between tasks and orchestrator: what a task must provide, and what it may rely on.

Knows nothing of torch, Ray or files. A third-party task needs this module, tasks/values.py and tasks/facts.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from tasks.facts import Examined, ForGeneration, ModelFacts, Price, Range, SearchDefaults
from tasks.values import (
    DecodeSettings,
    Encoding,
    EngineSettings,
    EngineStats,
    Finished,
    Model,
    Probe,
    Proof,
    Question,
    Snapshot,
)

DEFAULT_DECODING = DecodeSettings()
"""As the run's own certificates were decoded."""
Texts: TypeAlias = Sequence[Sequence[int]]
"""Token ids of several texts."""


class Engine(Protocol):
    """One frozen model on one device, which optimizes many probes side by side, each in a slot.

    What an implementation owes to its caller, and may rely on:

    - Order of calls. The caller submits probes between two steps, or an empty list only to update `num_open`, and calls
      `step` while `num_held` is above 0. A step without probes returns an empty list.
    - Completeness. `step` returns every submitted probe exactly once, in any order, with the `Probe` as it was given.
      The engine never holds two probes of one search.
    - Ownership. Probes are frozen, and the engine keeps them until it returns them. Outcomes and snapshots belong to
      the caller: the engine keeps no reference to them and never changes them.
    - Threads. An engine needs no lock: its calls never overlap. It must not depend on one thread, because it may be
      opened in one, stepped in another, and asked for snapshots in a third after stepping has ended.
    - Out of memory. `step` does not raise when device memory runs out: it computes fewer slots together and goes on. A
      probe that does not fit even alone ends as `Failed`, or keeps what it has proven; the other probes go on.
    - Other faults. A fault of one probe, such as a loss that is not finite, is a `Failed` of that probe. Any exception
      from `step` means that the engine is broken: the caller drops it, and its probes have no verdict.
    - Snapshots. An engine of the same task, model and question continues a probe from its snapshot as if nothing had
      happened. If it cannot read a snapshot, it begins the probe anew.
    """

    @property
    def num_slots(self) -> int:
        """About how many slots are optimized at a time; may change from step to step."""
        ...

    @property
    def num_held(self) -> int:
        """Probes submitted and not yet finished."""
        ...

    @property
    def num_busy(self) -> int:
        """Held probes that are being optimized or wait for a slot; the other held probes wait for their certificate."""
        ...

    def submit(self, probes: Sequence[Probe], *, num_open: int) -> None:
        """Queue probes; they start as slots become free.

        Args:
            probes: Probes of distinct searches, of which this engine holds no other probe.
            num_open: Searches not yet done that this engine may still serve. No more slots than that can be busy.
        """
        ...

    def step(self) -> list[Finished]:
        """Advance every slot by one optimizer step and return the probes that finished."""
        ...

    def snapshots(self) -> list[Snapshot]:
        """The state, between two steps, of all held probes that have taken at least one step."""
        ...

    def stats(self) -> "EngineStats":
        """What the engine has done since it was opened."""
        ...


class TextCodec(Protocol):
    """Turns text into the token ids that one model reads, and back."""

    fingerprint: str
    """Hash of the tokenizer: equal fingerprints cut equal texts alike."""
    ordinary_tokens: Sequence[int]
    """All token ids that are not special, ascending."""
    bos: int | None
    """The BOS token that the tokenizer names; None if it names none."""
    special_before: tuple[int, ...]
    """Special tokens that the tokenizer puts before a text by default."""
    tokenizer: Any
    """The tokenizer of transformers that does so; None if it is another thing."""

    def encode(self, text: str) -> Encoding:
        """Cut the text into tokens, without adding special tokens."""
        ...

    def decode(self, tokens: Sequence[int]) -> str:
        """The text that these token ids stand for."""
        ...


class Task(Protocol):
    """A kind of measurement: what goes into a model, what must come out, and how to prove it."""

    name: str
    """Name of the task in the sweep file."""

    def pinned(self, model: Model) -> Model:
        """The model at the commit that it will be read at on every machine; the model itself if it has no commits.

        Called once, when a run is planned; the run keeps the result.

        Raises:
            TaskError: when the commit cannot be found out.
        """
        ...

    def facts(self, model: Model) -> ModelFacts:
        """Read what planning needs, without loading weights.

        Raises:
            TaskError: when the task cannot measure this model.
        """
        ...

    def codec(self, model: Model) -> TextCodec:
        """Raises TaskError when the model has no usable tokenizer."""
        ...

    def dtype_for(self, device: str) -> str:
        """The precision that `dtype: auto` stands for on a device of this machine.

        Called once, when a run is planned; the run keeps the result.
        """
        ...

    def longest_text(self, facts: ModelFacts, *, num_vectors: int, question: Question) -> int | None:
        """Most tokens of text that fit into the model's context beside the memory; None if unlimited.

        Raises:
            TaskError: when the model cannot answer the question, for example because it has no token for the prefix.
        """
        ...

    def recipe(self, overrides: str | Mapping[str, Any]) -> Mapping[str, Any]:
        """The whole recipe, with every field filled in.

        Raises:
            TaskError: when the recipe's name or a field is unknown, or a value is out of range.
        """
        ...

    def search_defaults(self, recipe: Mapping[str, Any]) -> SearchDefaults:
        """What this recipe suggests for a growing search."""
        ...

    def examine(self, model: Model, facts: ModelFacts, recipe: Mapping[str, Any]) -> Examined:
        """Check the model itself, and fill in the fields of the recipe that are measured on it.

        Called once, when a run is planned; the run keeps the result. May load the weights.

        Raises:
            TaskError: when the model cannot be loaded.
            WrongModelError: when its files or its arithmetic are not what they should be.
        """
        ...

    def recipe_identity(self, recipe: Mapping[str, Any]) -> Mapping[str, Any]:
        """The part of a whole recipe that decides results, as JSON; it enters the identity of every search.

        The keys never change, even if a later version renames the fields. `recipe_version` rises when the same fields
        come to mean another optimization.
        """
        ...

    def tunable(self, recipe: Mapping[str, Any]) -> Mapping[str, Range]:
        """Fields of this recipe that `capsweep tune` may change, with their ranges; may be empty."""
        ...

    def price(self, model: Model, texts: Texts, question: Question, device: str, *, contexts: Texts) -> Price:
        """Load the weights, time a few seconds of steps, and read these texts without memory, each after its context.

        Raises:
            TaskError: when the model cannot be loaded, or would have to be downloaded.
            WrongModelError: when its files or its arithmetic are not what they should be.
        """
        ...

    def open_engine(self, model: Model, question: Question, settings: EngineSettings) -> Engine:
        """Load the weights and be ready for probes."""
        ...

    def open_prover(
        self, model: Model, question: Question, device: str, settings: DecodeSettings = DEFAULT_DECODING
    ) -> "Prover":
        """Load the weights for decoding stored memories.

        Raises:
            TaskError: when the model cannot be loaded, or does not compute with these settings here.
        """
        ...


class Prover(Protocol):
    """A loaded model that answers questions about stored memories and their texts.

    `context` holds the tokens that stand before the memory, or before the text where there is no memory: as many as the
    question asks for.
    """

    def __call__(self, memory: bytes, *, num_vectors: int, tokens: Sequence[int], context: Sequence[int] = ()) -> Proof:
        """Decode `len(tokens)` tokens from the memory alone, after its context, and compare them with the text's."""
        ...

    def exact_prefixes(
        self, memories: Sequence[bytes], *, num_vectors: int, tokens: Sequence[int], context: Sequence[int] = ()
    ) -> list[int]:
        """Tokens of the text that each of several memories gives back by itself before the first that differs.

        They may be decoded together: then a near tie may fall otherwise than when one is decoded at a time.
        """
        ...

    def together(
        self, memories: Sequence[bytes], *, num_vectors: int, texts: Texts, contexts: Texts = ()
    ) -> list[Proof]:
        """Decode several memories in one batch, each as many tokens as its text has.

        Args:
            memories: Memories of `num_vectors` vectors each.
            num_vectors: Vectors of each memory.
            texts: Token ids of their texts, in the same order.
            contexts: The visible tokens before each; empty if there are none.

        Raises:
            TaskError: when so many do not fit into device memory.
        """
        ...

    def prompt(self, memory: bytes, *, num_vectors: int, context: Sequence[int] = ()) -> bytes:
        """The vectors that other implementations of this model read before the first token, to decode this memory.

        Returns:
            Little-endian float32 values, (inputs, embedding_width).

        Raises:
            TaskError: when the memory is not decoded token by token, or other implementations read embeddings unlike
                this one.
        """
        ...

    def for_generation(self, memory: bytes, *, num_vectors: int, context: Sequence[int] = ()) -> ForGeneration:
        """The model of transformers, and what it reads before the first token to decode this memory.

        Raises:
            TaskError: when there is no such model, or the memory is not decoded token by token from input vectors.
        """
        ...

    def accuracy(self, memory: bytes, *, num_vectors: int, tokens: Sequence[int], context: Sequence[int] = ()) -> float:
        """Share of the tokens that are correct with this memory, each predicted from the correct ones before it."""
        ...

    def compress(self, tokens: Sequence[int], *, context: Sequence[int] = ()) -> bytes:
        """Compress the tokens that are not given, without any memory, by the model's own predictions."""
        ...

    def decompress(
        self, data: bytes, num_tokens: int, *, given: Sequence[int] = (), context: Sequence[int] = ()
    ) -> tuple[int, ...]:
        """Invert `compress`, on the same machine.

        Args:
            data: What `compress` returned.
            num_tokens: Number of tokens, given ones included.
            given: The first `num_given` tokens of the question.
            context: The tokens before the text that `compress` was given.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """The model that will read the texts, as a text source sees it."""

    model: Model
    facts: ModelFacts
    codec: TextCodec
