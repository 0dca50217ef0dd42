"""The task `toy`: a real task with known answers, to try searches, stores and clusters without a model.

Its "model" reads characters, and each text has a known capacity. A probe reaches that capacity or stays a little short
of it, depending on its identity. Fields of the recipe set how long a probe takes, so that a run can be interrupted.

Knows nothing of torch.
"""

import hashlib
import struct
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasks.contract import DEFAULT_DECODING, Texts
from tasks.facts import Examined, ModelFacts, Price, Range, SearchDefaults, StepCost
from tasks.toy_prover import MARGIN, ToyProver
from tasks.values import (
    DecodeSettings,
    Encoding,
    EngineSettings,
    EngineStats,
    Failed,
    Finished,
    Lossless,
    Lossy,
    Measurement,
    Model,
    Outcome,
    Probe,
    Question,
    Snapshot,
    TaskError,
)

NATS_PER_TOKEN = 2.0
"""Cross-entropy of every token that a toy memory does not hold."""


class ToyRecipe(BaseModel):
    """How the toy's slots behave."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    steps: int = Field(default=20, ge=1)
    """Steps of a probe."""
    spread: float = Field(default=0.0, ge=0, lt=1)
    """Largest share by which the steps of a probe differ from `steps`, depending on its identity."""
    step_seconds: float = Field(default=0.0, ge=0)
    """How long a step of the whole batch sleeps."""
    slots: int = Field(default=8, ge=1)
    """Probes optimized at a time."""
    shortfall: int = Field(default=2, ge=0)
    """A probe stays up to this many tokens short of the text's capacity."""
    machine_failures: int = Field(default=0, ge=0)
    """Attempts of each probe that end as if the machine had failed."""


def toy_capacity(tokens: Sequence[int]) -> int:
    """The known answer: 5 to 44 tokens, depending on the first 20 token ids of the text."""
    return 5 + _number(f"capacity {list(tokens[:20])}") % 40


def _number(text: str) -> int:
    return struct.unpack("<Q", hashlib.sha256(text.encode()).digest()[:8])[0]


def _steps_in(snapshot: bytes | None) -> int:
    """Steps that a probe has taken; 0 if its snapshot cannot be read."""
    try:
        return 0 if snapshot is None else struct.unpack("<q", snapshot)[0]
    except struct.error:
        return 0


class ToyEngine:
    """Answers probes from `toy_capacity`, some steps after they were submitted."""

    def __init__(self, question: Question) -> None:
        self._recipe = ToyRecipe.model_validate(dict(question.recipe))
        self._least_margin = question.least_margin
        self._waiting: deque[Probe] = deque()
        self._slots: list[tuple[Probe, int, float]] = []
        self._num_open = 0
        self._stats = EngineStats()

    @property
    def num_slots(self) -> int:
        """Probes optimized at a time."""
        return self._recipe.slots

    @property
    def num_held(self) -> int:
        """Probes submitted and not yet finished."""
        return len(self._waiting) + len(self._slots)

    @property
    def num_busy(self) -> int:
        """All held probes: a toy needs no certificate."""
        return self.num_held

    def submit(self, probes: Sequence[Probe], *, num_open: int) -> None:
        """Queue probes; they start as slots become free."""
        self._waiting.extend(probes)
        self._num_open = num_open

    def step(self) -> list[Finished]:
        """Advance every slot by one step and return the probes that finished."""
        while self._waiting and len(self._slots) < self._recipe.slots:
            probe = self._waiting.popleft()
            self._slots.append((probe, _steps_in(probe.snapshot), time.time()))
        time.sleep(self._recipe.step_seconds)
        self._slots = [(probe, steps + 1, started) for probe, steps, started in self._slots]
        self._stats += EngineStats(
            steps=1,
            slot_steps=len(self._slots),
            possible_slot_steps=max(len(self._slots), min(self._recipe.slots, self._num_open)),
            trained_tokens=sum(probe.length for probe, _, _ in self._slots),
            step_seconds=self._recipe.step_seconds,
        )
        done = [slot for slot in self._slots if slot[1] >= self._steps_of(slot[0])]
        self._slots = [slot for slot in self._slots if slot[1] < self._steps_of(slot[0])]
        return [
            Finished(
                probe=probe, outcome=self._outcome(probe), device="toy", started_at=started, finished_at=time.time()
            )
            for probe, _, started in done
        ]

    def snapshots(self) -> list[Snapshot]:
        """How many steps each slot has taken."""
        return [
            Snapshot(probe_id=probe.probe_id, steps=steps, state=struct.pack("<q", steps))
            for probe, steps, _ in self._slots
        ]

    def stats(self) -> EngineStats:
        """What the engine has done since it was opened."""
        return self._stats

    def _steps_of(self, probe: Probe) -> int:
        """Steps that the probe takes: those of the recipe, or fewer if its budget of trained tokens ends it."""
        steps = self._recipe.steps
        if self._recipe.spread:
            share = _number(f"steps {probe.probe_id}") / 2**64
            steps = max(1, round(steps * (1 + self._recipe.spread * (2 * share - 1))))
        return steps if probe.max_trained_tokens is None else min(steps, -(-probe.max_trained_tokens // probe.length))

    def _outcome(self, probe: Probe) -> Outcome:
        if probe.attempt < self._recipe.machine_failures:
            return Failed(reason="the recipe of the toy asks for a failure")
        capacity, steps = toy_capacity(probe.tokens), self._steps_of(probe)
        reached = min(len(probe.tokens), capacity - _number(probe.probe_id) % (self._recipe.shortfall + 1))
        if steps < self._recipe.steps or self._least_margin > MARGIN:
            reached = 0
        lossless = reached >= probe.length
        proven = reached if lossless else 0
        length = proven if lossless else probe.length
        measurement = Measurement(
            proven_length=proven,
            exact_prefix=proven,
            failed_length=None if reached >= len(probe.tokens) else max(reached + 1, probe.length),
            measured_length=length,
            steps=steps,
            steps_to_proof=steps if proven else 0,
            trained_tokens=steps * length,
            seconds=steps * self._recipe.step_seconds,
            token_accuracy=1.0 if lossless else max(0, reached) / length,
            token_accuracy_without_memory=0.0,
            first_error=None if lossless else max(0, reached),
            margin=MARGIN if proven else None,
            nats_without_memory=NATS_PER_TOKEN * length,
            nats_with_memory=0.0 if lossless else NATS_PER_TOKEN * (length - max(0, reached)),
            proven_nats_without_memory=NATS_PER_TOKEN * proven,
            proven_nats_with_memory=0.0,
            proven_token_gain=proven,
            memory=struct.pack("<f", float(reached)) if proven else None,
            memory_shape=(1, 1),
            nats_by_token_without_memory=(NATS_PER_TOKEN,) * proven,
            steps_by_length=(steps,) * proven,
            trained_tokens_by_length=(steps * length,) * proven,
        )
        return Lossless(measurement=measurement) if lossless else Lossy(measurement=measurement)


class ToyCodec:
    """Each character is a token."""

    fingerprint = "toy"
    ordinary_tokens: Sequence[int] = range(ord(" "), ord("~") + 1)
    bos: int | None = None
    special_before: tuple[int, ...] = ()
    tokenizer: Any = None

    def encode(self, text: str) -> Encoding:
        """The code points of the text."""
        return Encoding(tokens=tuple(map(ord, text)), ends=tuple(range(1, len(text) + 1)))

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of these code points."""
        return "".join(map(chr, tokens))


class ToyTask:
    """A task whose capacities are known."""

    name = "toy"

    def pinned(self, model: Model) -> Model:
        """The model itself: there is nothing to read."""
        return model

    def facts(self, model: Model) -> ModelFacts:
        """The same facts for every name, except the fingerprint."""
        return ModelFacts(
            fingerprint=f"toy {model.name}",
            revision="toy",
            vocabulary=0x110000,
            context=None,
            embedding_width=1,
            num_parameters=1,
        )

    def codec(self, model: Model) -> ToyCodec:
        """Each character is a token."""
        return ToyCodec()

    def longest_text(self, facts: ModelFacts, *, num_vectors: int, question: Question) -> int | None:
        """The toy has no limit."""
        return None

    def recipe(self, overrides: str | Mapping[str, Any]) -> Mapping[str, Any]:
        """The whole recipe; raises TaskError for unknown fields or values."""
        try:
            return ToyRecipe.model_validate({} if overrides == "default" else overrides).model_dump()
        except ValidationError as error:
            known = ", ".join(ToyRecipe.model_fields)
            raise TaskError(f"{overrides!r} does not fit the toy's recipe; its fields: {known}.") from error

    def search_defaults(self, recipe: Mapping[str, Any]) -> SearchDefaults:
        """The settings with which the known answers were recorded."""
        return SearchDefaults(first_length=8, growth=1.1, cold_share=0.5)

    def dtype_for(self, device: str) -> str:
        """A toy computes in whole numbers."""
        return "float32"

    def examine(self, model: Model, facts: ModelFacts, recipe: Mapping[str, Any]) -> Examined:
        """Nothing is measured on a toy."""
        return Examined(recipe=recipe)

    def recipe_identity(self, recipe: Mapping[str, Any]) -> Mapping[str, Any]:
        """The fields that decide outcomes. How long a step sleeps, and how many probes share it, do not."""
        return {
            "recipe_version": 1,
            "steps": recipe["steps"],
            "spread": recipe["spread"],
            "shortfall": recipe["shortfall"],
            "machine_failures": recipe["machine_failures"],
        }

    def tunable(self, recipe: Mapping[str, Any]) -> Mapping[str, Range]:
        """The fields that decide how soon a search has its answer; best are no shortfall and few steps."""
        return {"shortfall": Range(low=0, high=4, whole=True), "steps": Range(low=1, high=40, log=True, whole=True)}

    def price(self, model: Model, texts: Texts, question: Question, device: str, *, contexts: Texts) -> Price:
        """A step of a toy takes the time that its recipe states."""
        cost = StepCost(batch_seconds=question.recipe["step_seconds"], token_seconds=1e-6)
        return Price(step=cost, nats_by_token=tuple((NATS_PER_TOKEN,) * len(tokens) for tokens in texts))

    def open_engine(self, model: Model, question: Question, settings: EngineSettings) -> ToyEngine:
        """Ready at once."""
        return ToyEngine(question)

    def open_prover(
        self, model: Model, question: Question, device: str, settings: DecodeSettings = DEFAULT_DECODING
    ) -> ToyProver:
        """Ready at once; whole numbers are the same under all settings."""
        return ToyProver()
