"""The frozen values that tasks, engines, searches and stores exchange. Needs no torch.

This file is longer than the others because it is data: a sentence under each field.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

COLD = "cold"
"""The `start` of a probe that begins from seeded random vectors."""

CRITERION_TOLERANCE = 1e-6
"""Slack in tokens when a count is compared with a criterion: 0.99 of 200 is 198, however the product is rounded."""

DecodeFrom = Literal["memory", "memory+first_token"]
Dtype = Literal["float32", "bfloat16", "float16"]
Attention = Literal["eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention"]


class TaskError(Exception):
    """An error that the user can fix: each line states where, what was found, what was wanted and what to do."""

    def __str__(self) -> str:
        """One line for each problem."""
        return "\n".join(map(str, self.args))


class WrongModelError(TaskError):
    """A model whose files or arithmetic are not what they should be; no other machine would help."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """Which model to measure, as the sweep names it."""

    name: str
    """Hub id or local folder; or a GGUF file, local or `owner/name/file.gguf` on the hub."""
    revision: str | None = None
    """Hub revision; None takes the default branch."""
    commit: str | None = None
    """Commit of the hub that everything is read from, on every machine: what `revision` named when the run was planned.
    None: a local folder, or not yet planned."""
    code_commit: str | None = None
    """The same of the repository that its code comes from, if that is another one."""
    dtype: str = "float32"
    """Precision of weights and activations; memories are always float32. `auto` is resolved when a run is planned."""
    quantization: str | None = None
    """How the weights are quantized on loading: int8 or nf4; None leaves them as they are."""
    trust_remote_code: bool = False
    """Whether code that comes with the model may run."""
    allow_pickle: bool = False
    """Whether pickled weights are read if the model has no safetensors."""
    radius: float | None = None
    """Norm of its memory vectors on the sphere, in norms of a cold one, measured when a run is planned. 0: the model
    ignores the norm. None: not measured. A radius in the recipe takes precedence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a sweep asks of every search. It decides the result, so it is part of the identity of a search."""

    criterion: float | None = None
    """None: every token must be correct, certified by decoding. A number: the share of tokens that must be correct
    under teacher forcing; given tokens do not count."""
    least_margin: float = 0.0
    """Under the criterion None: a token counts as correct if its logit exceeds every other one by at least this."""
    decode_from: DecodeFrom = "memory"
    """Whether t_1 must come out of the memory, or is given."""
    prefix: Literal["bos"] | None = None
    """What stands before everything else; None: nothing."""
    context: int = 0
    """Tokens that stand before the memory, where the model sees them. Each probe has its own."""
    repeats_context: bool = False
    """Whether the context is the text itself; otherwise the text follows it."""
    num_texts: int = 1
    """Texts of a sample. Their tokens take turns (tasks/turns.py), and a memory holds all of them."""
    growth: float | None = 1.1
    """A probe that is lossless at L continues at L times this factor, and at least at L + 1. None: a probe adds more
    tokens if the last ones took few steps, fewer if they took many, and gives some back after steps without more
    correct tokens."""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the recipe; only the task interprets them."""

    @property
    def num_given(self) -> int:
        """Tokens of the text that are given: not scored, at no cost, and correct both with memory and without."""
        return int(self.decode_from == "memory+first_token")

    @property
    def num_before(self) -> int:
        """Input positions before the memory: the prefix, then the context."""
        return int(self.prefix is not None) + self.context

    def is_met(self, accuracy: float, length: int) -> bool:
        """Whether an accuracy over `length` tokens meets the criterion of teacher forcing.

        The accuracy includes given tokens; the criterion does not, because the published code averages over t_2 .. t_L.
        """
        assert self.criterion is not None, "the exact criterion has no threshold"
        correct, scored = accuracy * length - self.num_given, length - self.num_given
        return correct >= self.criterion * scored - CRITERION_TOLERANCE


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """How an engine computes. Settings affect results only through the last bits of batched arithmetic."""

    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    cpus: int | None = None
    """Threads of the engine; None leaves the choice to torch."""
    tokens_per_step: int | None = None
    """Tokens of all slots together in one optimizer step; None chooses by device."""
    batch_cost_tokens: int | None = None
    """Fixed cost of a batch, expressed in tokens; it decides which slots are computed together. None measures it."""
    deterministic: bool = False
    """Fixed shapes, so that no result depends on its neighbours in the batch."""
    gpus: float = 1.0
    """GPUs of an engine that computes on CUDA. Below 1: a share of the device memory of one GPU. Above 1: the layers of
    the model are spread over several GPUs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeSettings:
    """How a prover computes. Settings affect results only where the logits of two tokens nearly tie."""

    dtype: Dtype | None = None
    """Precision of weights and activations; None: as the model says."""
    attention: Attention | None = None
    """Implementation of attention, by its name in transformers; None: the one that transformers takes by default."""
    cache: bool = True
    """Whether what was read is kept. Without a cache, everything is read again for each token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One question of a search: is `length` lossless? One optimization from one start."""

    probe_id: str
    """Hash of search_id and number; the slot's random numbers come from it."""
    search_id: str
    """Search that the probe belongs to."""
    number: int
    """Position within its search, from 0."""
    attempt: int = 0
    """How often the machine has failed during this probe."""
    sample_id: str
    """Hash of the tokens of the text and of the tokenizer."""
    tokens: tuple[int, ...]
    """Token ids of the text, up to the longest length this probe may reach: their number is its limit."""
    context: tuple[int, ...] = ()
    """Token ids that stand before the memory, as many as the question asks for."""
    length: int
    """Tokens asked for; a probe that is lossless with budget left grows beyond it."""
    num_vectors: int
    """Vectors in the memory."""
    start: str = COLD
    """`cold`, or the probe_id whose memory this one begins from."""
    start_memory: bytes | None = None
    """Little-endian float32 values of that memory, (num_vectors, memory_width); None when cold."""
    snapshot: bytes | None = None
    """State of its slot, saved by an engine, from which the probe continues; None: it begins anew."""
    max_trained_tokens: int | None = None
    """Most trained tokens. The step that reaches them is the last one: the probe ends as if it had stalled. None: no
    limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A probe in flight: enough to continue it in another process."""

    probe_id: str
    steps: int
    """Optimizer steps it has taken."""
    state: bytes
    """Opaque to everything but engines of the same task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What a probe that ran to its end found out."""

    proven_length: int
    """Longest length at which the criterion was met; if it asks for a certificate, equal to exact_prefix."""
    exact_prefix: int
    """Longest prefix in tokens that the stored memory gives back when decoded greedily, each with the margin that the
    criterion asks for. The model reads nothing but the memory, and what the question puts before it."""
    failed_length: int | None
    """Length that the probe gave up on; None if it reached its limit or the machine ended it (see `remark`)."""
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
    """Summed cross-entropy in nats without memory. t_1 counts as ln V, unless a BOS stands before it or it is given."""
    nats_with_memory: float
    """Summed cross-entropy in nats with memory."""
    proven_nats_without_memory: float
    """Cross-entropy without memory over proven_length tokens, which a lossy probe may have, too."""
    proven_nats_with_memory: float
    """The same with the stored memory."""
    proven_token_gain: int
    """Tokens correct with the stored memory over proven_length, minus those correct without."""
    memory: bytes | None
    """Little-endian float32 values of the memory that was certified; None if it proves nothing."""
    memory_shape: tuple[int, ...]
    """(num_vectors, memory_width)."""
    correct: tuple[bool, ...] = ()
    """Which tokens are correct with the memory, teacher forced, over measured_length; empty if not measured, like the
    next four."""
    correct_without_memory: tuple[bool, ...] = ()
    """The same without memory."""
    nats_by_token: tuple[float, ...] = ()
    """Cross-entropy of each token with the stored memory, over proven_length."""
    nats_by_token_without_memory: tuple[float, ...] = ()
    """The same without memory."""
    margin_by_token: tuple[float, ...] = ()
    """Difference of the two largest logits at each token, over exact_prefix."""
    steps_by_length: tuple[int, ...] = ()
    """Optimizer steps taken when each length, from 1 to the longest, was first reached under teacher forcing."""
    trained_tokens_by_length: tuple[int, ...] = ()
    """Trained tokens at those steps."""
    certified_steps: tuple[int, ...] = ()
    """Optimizer steps after which the memory that had proved most was kept, to be decoded as well: 50, 100, 200, .."""
    certified_trained_tokens: tuple[int, ...] = ()
    """Trained tokens at those steps."""
    certified_lengths: tuple[int, ...] = ()
    """Longest prefix in tokens that each of those memories gives back."""
    exact_in_float32: int | None = None
    """Longest prefix in tokens that `memory` gives back when transformers decodes it in float32. None if not measured:
    there is no memory, or the model has no float32 form here (quantized, spread over GPUs, no room)."""
    remark: str | None = None
    """Anything unusual about this optimization; None if there was nothing."""


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
    """The machine or the arithmetic failed, which says nothing about the model."""

    reason: str
    """What failed, for the row and the report."""


Outcome: TypeAlias = Lossless | Lossy | Failed
"""How a probe ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A probe that left the engine."""

    probe: Probe
    outcome: Outcome
    device: str
    """Device of the engine, such as `cpu` or `cuda:0`."""
    started_at: float
    """Unix time in seconds."""
    finished_at: float
    """Unix time in seconds."""
    tokens_per_step: int | None = None
    """As in EngineSettings, with the value that the engine used last; None if the engine has no such limit."""
    batch_cost_tokens: int | None = None
    """As in EngineSettings; None if the engine has no such cost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStats:
    """What an engine has done; the stats of several engines add up."""

    steps: int = 0
    """Optimizer steps of the whole batch."""
    slot_steps: int = 0
    """Optimizer steps of single slots."""
    possible_slot_steps: int = 0
    """`slot_steps`, had every slot with an open search to serve been busy at every step."""
    trained_tokens: int = 0
    """Sum over the optimizer steps of the tokens trained on."""
    step_seconds: float = 0.0
    """Time spent in steps, certificates included."""
    longest: int = 0
    """Longest length in tokens that a slot has reached under teacher forcing; the maximum over engines."""

    @property
    def slots_busy(self) -> float:
        """Share of the slots with a search to serve that were busy, 0 to 1."""
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
    """End of each token, in characters of the text; never descending."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """Result of decoding one memory greedily."""

    tokens: tuple[int, ...]
    """Token ids that came out."""
    exact_prefix: int
    """Number of tokens before the first that differs from the text, or has less than the margin that is asked for."""
    margin: float | None
    """Smallest difference of the two largest logits over the exact prefix; None if that is empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """One text as read, before it is cut to tokens."""

    text: str
    source: str
    """Name of the source and of the text within it, for tables: `files:texts/01-story.txt`."""
    tokens: tuple[int, ...] | None = None
    """Token ids, if the source makes tokens; None: the reader's tokenizer cuts `text`."""
