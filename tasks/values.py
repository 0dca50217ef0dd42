"""The values that tasks, engines, searches and stores hand to each other: frozen, and without torch.

Longer than other files because it is data: a field and a sentence each.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What greedy decoding of one memory gave."""

    tokens: tuple[int, ...]
    """Token ids that came out."""
    exact_prefix: int
    """How many of them, from the first, are those of the text."""
    margin: float | None
    """Smallest difference of the two largest logits over the exact prefix; None if that is empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """One text as read, before it is cut to tokens."""

    text: str
    source: str
    """Name of the source and of the text within it, for tables: `files:texts/01-story.txt`."""
    tokens: tuple[int, ...] | None = None
    """Token ids, where the source made these; None: the reader's tokenizer cuts `text`."""
