"""The values that tasks and orchestrator exchange, and the protocols between them.

Knows nothing of torch, Ray or files: a third-party task needs this module only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

COLD = "cold"
"""The `start` of a probe that begins from seeded random vectors."""

CRITERION_TOLERANCE = 1e-6
"""Of a number of tokens that a criterion asks for: .99 of 200 is 198, whatever the last bit of the product."""

DecodeFrom = Literal["memory", "memory+first_token"]


class TaskError(Exception):
    """A user can mend this: the message names where, what was found, what was wanted and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """Which model to measure, as the sweep names it."""

    name: str
    """Hub id or local folder."""
    revision: str | None = None
    """Hub revision; None takes the default branch."""
    dtype: str = "float32"
    """Precision of weights and activations; memories are float32 always. `auto` until a run is planned."""
    quantization: str | None = None
    """How its weights are quantized when they are loaded: int8 or nf4; None leaves them as they are."""
    trust_remote_code: bool = False
    """Whether code that comes with the model may run."""
    allow_pickle: bool = False
    """Whether pickled weights are read where there are no safetensors."""
    radius: float | None = None
    """Length of its memories on the sphere, in lengths of a cold one, as it was found when a run was planned; 0 where
    length means nothing to the model, None where nobody has looked. A recipe that names its own radius goes before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What is known of a model before its weights are loaded."""

    fingerprint: str
    """Hash of weights, dtype and tokenizer: equal fingerprints give equal results."""
    revision: str
    """Commit of a hub model; the hash of the weights of a local one."""
    vocabulary: int
    """Rows of the output head."""
    context: int | None
    """Longest input in tokens; None if the model has no limit."""
    embedding_width: int
    """Width of one memory vector."""
    num_parameters: int
    """Weights, those of the embeddings included."""
    has_bos: bool = False
    """Whether the model names a token that may stand before everything: what `prefix: bos` needs."""
    is_recurrent: bool = False
    """Whether its layers read tokens one after the other (Mamba, RWKV), with no fused kernel here: slow on a CPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a sweep asks of every search: decides the result, and so belongs to its identity."""

    criterion: float | None = None
    """None: every token, certified by decoding. Else the share of tokens that must be correct under teacher forcing, of
    those that are not given."""
    decode_from: DecodeFrom = "memory"
    """Whether t_1 must come out of the memory, or is given."""
    prefix: Literal["bos"] | None = None
    """What stands before the memory."""
    growth: float | None = 1.1
    """A probe that is lossless at L continues at L times this, at least at L + 1. None: it adapts how many tokens it
    adds to how long the last ones took, and takes some back where it stalls."""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the recipe; the task knows their meaning."""

    @property
    def num_given(self) -> int:
        """Tokens of the text that are given: they are not scored, cost nothing, and count as correct on both sides."""
        return int(self.decode_from == "memory+first_token")

    def is_met(self, accuracy: float, length: int) -> bool:
        """Whether this share of `length` tokens, those given among them, meets a criterion of teacher forcing.

        What is given is not counted: the published code takes the mean over t_2 .. t_L.
        """
        assert self.criterion is not None, "exact is not a matter of accuracy"
        correct, scored = accuracy * length - self.num_given, length - self.num_given
        return correct >= self.criterion * scored - CRITERION_TOLERANCE


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """How to compute: changes no result but for the last bits of batched arithmetic."""

    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    cpus: int | None = None
    """Threads of the engine; None leaves the choice to torch."""
    tokens_per_step: int | None = None
    """Tokens of all slots together in one optimizer step; None chooses by device."""
    batch_cost_tokens: int | None = None
    """What a batch costs beside its tokens, in tokens: decides which slots are computed together. None measures it."""
    deterministic: bool = False
    """Fixed shapes, so that no result depends on its neighbours in the batch."""
    gpus: float = 1.0
    """GPUs that the engine has, where it computes on them: a part of one's device memory, or several over which the
    layers of a large model are spread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCost:
    """What a step of a model takes on a device, forward and backward."""

    batch_seconds: float
    """Of each batch, however few its tokens."""
    token_seconds: float
    """Of each token of a batch, besides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What a model takes on this machine, and what its texts cost it."""

    step: StepCost
    nats_by_token: tuple[tuple[float, ...], ...]
    """Cross-entropy of each token without memory, of the texts that were read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchDefaults:
    """What a recipe suggests to a search that grows, where the sweep file leaves it open."""

    first_length: int
    """Tokens that the first probe asks for."""
    growth: float | None
    """As in Question."""
    cold_share: float | None
    """Where a later cold start begins, as a share of what is proven; None: at the first length."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Values that a field of a recipe may be tried at."""

    low: float
    high: float
    log: bool = False
    """Whether factors count, not differences."""
    whole: bool = False
    """Whether only whole numbers are meant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One question of a search: is `length` lossless? One optimization from one start."""

    probe_id: str
    """Hash of search_id and number; the slot's random numbers come from it."""
    search_id: str
    number: int
    """Position within its search, from 0."""
    attempt: int = 0
    """How often the machine failed under this probe before."""
    sample_id: str
    tokens: tuple[int, ...]
    """Token ids of the text, up to the longest length this search may reach."""
    length: int
    """Tokens asked for; a probe that is lossless with budget left grows beyond it."""
    num_vectors: int
    """Vectors in the memory."""
    start: str = COLD
    """`cold`, or the probe_id whose memory this one begins from."""
    start_memory: bytes | None = None
    """Little-endian float32 values of that memory, (num_vectors, embedding_width); None when cold."""
    snapshot: bytes | None = None
    """State of its slot as an engine saved it, to continue from; None begins anew."""
    max_trained_tokens: int | None = None
    """Tokens its steps may train on in all: with the step that reaches so many it ends as if it had stalled. None: no
    limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A probe in flight: enough to continue it in another process."""

    probe_id: str
    steps: int
    """Optimizer steps it has taken."""
    state: bytes
    """What the engine needs; nobody else reads it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What an optimization that ran to its end found out."""

    proven_length: int
    """Longest length at which the criterion was met; under `exact` equal to exact_prefix."""
    exact_prefix: int
    """Longest prefix in tokens that the stored memory gives back when decoded greedily from nothing else."""
    failed_length: int | None
    """Length that was given up on; None if the text's end was reached, or the machine ended the slot (see `remark`)."""
    measured_length: int
    """Tokens over which the accuracies and nats below are taken: proven_length, or the length asked if lossy."""
    steps: int
    """Optimizer steps of this probe."""
    steps_to_proof: int
    """Step at which proven_length was reached."""
    trained_tokens: int
    """Sum over the steps of the tokens trained on."""
    seconds: float
    """Share of the engine's time that this slot took."""
    token_accuracy: float
    """Share of tokens correct with the memory, teacher forced."""
    token_accuracy_without_memory: float
    """The same without memory."""
    first_error: int | None
    """Index from 0 of the first wrong token; None if there is none."""
    margin: float | None
    """Smallest difference between the two largest logits over exact_prefix; None if it is 0."""
    nats_without_memory: float
    """Summed cross-entropy without memory; ln V stands for t_1 unless a BOS stands before it, or t_1 is given."""
    nats_with_memory: float
    """Summed cross-entropy with memory."""
    proven_nats_without_memory: float
    """Cross-entropy without memory over proven_length tokens; of a lossy probe that proved a shorter prefix too."""
    proven_nats_with_memory: float
    """The same with the stored memory."""
    proven_token_gain: int
    """Tokens correct with the stored memory over proven_length, minus those correct without."""
    memory: bytes | None
    """Little-endian float32 values of the memory that was certified; None if it proves nothing."""
    memory_shape: tuple[int, ...]
    """(num_vectors, embedding_width)."""
    correct: tuple[bool, ...] = ()
    """Which tokens are correct with the memory, teacher forced, over measured_length; empty where nobody looked, as are
    the next four."""
    correct_without_memory: tuple[bool, ...] = ()
    """The same without memory."""
    nats_by_token: tuple[float, ...] = ()
    """Cross-entropy of each token with the stored memory, over proven_length."""
    nats_by_token_without_memory: tuple[float, ...] = ()
    """The same without memory."""
    margin_by_token: tuple[float, ...] = ()
    """Difference of the two largest logits at each token, over exact_prefix."""
    steps_by_length: tuple[int, ...] = ()
    """Optimizer steps after which each length, from 1, was reached teacher forced; ends with the longest."""
    trained_tokens_by_length: tuple[int, ...] = ()
    """Trained tokens until then."""
    certified_steps: tuple[int, ...] = ()
    """Optimizer steps after which the memory that had proved most was kept, to be decoded as well: 50, 100, 200, .."""
    certified_trained_tokens: tuple[int, ...] = ()
    """Trained tokens until then."""
    certified_lengths: tuple[int, ...] = ()
    """Longest prefix in tokens that each of those memories gives back."""
    exact_in_float32: int | None = None
    """The same of `memory`, decoded once more by the model as transformers has it, in float32; None where nobody
    looked: there is no memory, or the model has no float32 form here (quantized, spread over GPUs, no room)."""
    remark: str | None = None
    """What was out of the ordinary about this optimization; None if nothing was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lossless:
    """The length asked for, or more, was proven."""

    measurement: Measurement


@dataclass(frozen=True, slots=True, kw_only=True)
class Lossy:
    """The optimization ended without proof of the length asked for."""

    measurement: Measurement


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The machine or the arithmetic failed: is no statement about the model."""

    reason: str


Outcome: TypeAlias = Lossless | Lossy | Failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A probe that left the engine."""

    probe: Probe
    outcome: Outcome
    device: str
    started_at: float
    """Unix time in seconds."""
    finished_at: float
    """Unix time in seconds."""
    tokens_per_step: int | None = None
    """As in EngineSettings, as the engine had it last; None of an engine that has no such thing."""
    batch_cost_tokens: int | None = None
    """As in EngineSettings."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStats:
    """What an engine has done; sums of several engines are sums of these."""

    steps: int = 0
    """Optimizer steps of the whole batch."""
    slot_steps: int = 0
    """Optimizer steps of single slots."""
    possible_slot_steps: int = 0
    """The same if at every step every slot had been busy for which there was an open search."""
    trained_tokens: int = 0
    """Sum over the optimizer steps of the tokens trained on."""
    step_seconds: float = 0.0
    """Time spent in steps, certificates included."""
    longest: int = 0
    """Tokens of the longest length that a slot has reached, teacher forced; of several engines the largest."""

    @property
    def slots_busy(self) -> float:
        """Share of the slots with work left for them that were busy, 0 to 1."""
        return self.slot_steps / self.possible_slot_steps if self.possible_slot_steps else 0.0

    def __add__(self, other: "EngineStats") -> "EngineStats":
        return EngineStats(
            steps=self.steps + other.steps,
            slot_steps=self.slot_steps + other.slot_steps,
            possible_slot_steps=self.possible_slot_steps + other.possible_slot_steps,
            trained_tokens=self.trained_tokens + other.trained_tokens,
            step_seconds=self.step_seconds + other.step_seconds,
            longest=max(self.longest, other.longest),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """A text as token ids."""

    tokens: tuple[int, ...]
    """Token ids of the text alone, without special tokens."""
    ends: tuple[int, ...]
    """Where each token ends, in characters of the text; never descending."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What greedy decoding of one memory gave."""

    tokens: tuple[int, ...]
    """Token ids that came out."""
    exact_prefix: int
    """How many of them, from the first, are those of the text."""
    margin: float | None
    """Smallest difference of the two largest logits over the exact prefix; None if that is empty."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """One text as read, before it is cut to tokens."""

    text: str
    source: str
    """Name of the source and of the text within it, for tables: `files:texts/01-story.txt`."""
    tokens: tuple[int, ...] | None = None
    """Token ids, where the source made these; None: the reader's tokenizer cuts `text`."""
