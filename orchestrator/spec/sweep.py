"""The sweep: what a user asks for, checked and with its defaults filled in.

States which values are allowed; orchestrator/spec/sweep_file.py reads the file and words the messages. Knows nothing of
files, runs or how a model is loaded.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    SerializeAsAny,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from orchestrator.errors import suggest
from orchestrator.redact import credentials_in
from orchestrator.search.policy import SearchSettings
from tasks.registry import TASKS, TEXT_SOURCES
from tasks.texts import TextEntry
from tasks.values import DecodeFrom, EngineSettings, Model, Question, SearchDefaults, TaskError

T = TypeVar("T")


def problem(message: str) -> PydanticCustomError:
    """A problem whose message is a whole sentence already."""
    return PydanticCustomError("problem", "{message}", {"message": message})


def wanted(description: str) -> WrapValidator:
    """Report `description` in place of pydantic's own messages, such as one line for each branch of a union."""

    def check(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(value)
        except ValidationError:
            raise PydanticCustomError("wanted", "{wanted}", {"wanted": description}) from None

    return WrapValidator(check)


def _list_to_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _list_of_counts(value: Any) -> Any:
    """A bare number is refused as no list; of one that is no count either, both are reported at once."""
    if isinstance(value, int | float) and not isinstance(value, bool) and value < 1:
        raise problem(f"found {value}; it should be a list of whole numbers of at least 1, such as [1].")
    return _list_to_tuple(value)


def _distinct(values: tuple[T, ...]) -> tuple[T, ...]:
    if not values:
        raise problem("the list is empty; it should have at least one entry.")
    met: dict[T, int] = {}
    for i, value in enumerate(values):
        if (first := met.setdefault(value, i)) != i:
            raise problem(f"entries {first} and {i} are the same; remove one.")
    return values


def _without_credentials(url: str) -> str:
    if message := credentials_in(url):
        raise problem(message)
    return url


def _name_known(names: Callable[[], Mapping[str, Any]], kind: str) -> AfterValidator:
    def check(name: str) -> str:
        if name not in names():
            raise problem(f"{name!r} is not a {kind}. {suggest(name, names())}")
        return name

    return AfterValidator(check)


Count = Annotated[int, Field(ge=1, lt=2**31)]
AutoCount = Annotated[Count | Literal["auto"], wanted("a whole number of at least 1, or auto")]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Name = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100),
    wanted("a text that can name a folder: letters, digits, '.', '_' and '-', with a letter or digit first"),
]


class Entry(BaseModel, frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True):
    """A mapping of the sweep file."""


class ModelEntry(Entry, frozen=True):
    """One entry of `models`, where more than its name is given."""

    name: Annotated[str, Field(min_length=1)]
    """Hub id, or a local folder."""
    revision: str | None = None
    """Revision of a hub model; null takes the default branch."""
    revisions: tuple[str, ...] | None = None
    """Several revisions of it, each measured as a model of its own: checkpoints of one training."""
    dtype: Literal["float32", "bfloat16", "float16", "auto"] = "float32"
    """Precision of weights and activations; auto: bfloat16 where the machine that plans the run multiplies in it, else
    float32; decided when a run begins, and kept in the run's sweep."""
    quantization: Literal["int8", "nf4"] | None = None
    """Quantize the weights as they are loaded, with bitsandbytes; null leaves them as they are."""
    trust_remote_code: bool = False
    """Whether code that comes with the model may run."""
    allow_pickle: bool = False
    """Whether pickled weights are read where there are no safetensors."""
    radius: Annotated[float, Field(ge=0)] | None = None
    """Length of its memories under a recipe of the sphere, in lengths of a cold memory; 0 asks for optimizer: adamw;
    null: found from the model itself when a run begins, and kept in the run's sweep."""


class TeacherForced(Entry, frozen=True):
    """A criterion: enough tokens correct when each is predicted from the correct ones before it."""

    teacher_forced: Annotated[float, Field(gt=0, le=1)]
    """Share of the tokens that must be correct."""


class RandomLengths(Entry, frozen=True):
    """Lengths that each search draws for itself, as published for random words."""

    draws: Count
    """How many lengths."""
    shortest: Count = 1
    """The shortest that may be drawn, in tokens."""
    longest: Count
    """The longest."""

    def draw(self, seed: str) -> tuple[int, ...]:
        """`draws` lengths, each as likely as any other, the same for equal seeds; ascending, none twice."""
        generator = random.Random(seed)
        span = self.longest - self.shortest + 1
        return tuple(sorted({self.shortest + int(generator.random() * span) for _ in range(self.draws)}))

    @field_validator("longest")
    @classmethod
    def _in_order(cls, value: int, info: ValidationInfo) -> int:
        if value < info.data.get("shortest", 1):
            raise problem(f"found {value}, less than shortest; wanted at least {info.data['shortest']}.")
        return value


class SearchEntry(Entry, frozen=True):
    """How a search goes about its question."""

    policy: Literal["grow", "bisect", "grid"] = "grow"
    """grow: search for the longest lossless length, each probe growing while it can; bisect: search for it by probes of
    one length each, doubling up to the first that fails, then halving; grid: ask for each of `lengths` once, cold."""
    lengths: Annotated[
        Annotated[tuple[Count, ...], BeforeValidator(_list_to_tuple), AfterValidator(_distinct)] | RandomLengths | None,
        wanted("a list of lengths in tokens, or {draws: N, shortest: S, longest: L}"),
    ] = None
    """Of policy: grid, in tokens: a list, or {draws, shortest, longest} for lengths that each search draws."""
    max_length: Count | None = None
    """Longest length in tokens; null: to the text's end or the model's context."""
    growth: Annotated[float, Field(gt=1)] | None = None
    """A probe that is lossless at L continues at L times this, at least at L + 1. null: as the recipe suggests, which
    is 1.1 for optimizer: adamw; with optimizer: sphere growth adapts and retreats."""
    retries: Annotated[int, Field(ge=0, lt=2**31)] = 2
    """Starts after the first that stalled, before the search ends."""

    @field_validator("lengths")
    @classmethod
    def _belong_to_a_grid(cls, value: Any, info: ValidationInfo) -> Any:
        if value is not None and info.data.get("policy") != "grid":
            raise problem("lengths are those of a grid; wanted policy: grid with them, or no lengths.")
        return value

    @model_validator(mode="after")
    def _grid_has_lengths(self) -> "SearchEntry":
        if self.policy == "grid" and self.lengths is None:
            raise problem("policy: grid asks for given lengths; wanted lengths: [64, 128, ..] beside it.")
        return self


class BudgetEntry(Entry, frozen=True):
    """What a run may spend."""

    minutes: Annotated[float, Field(gt=0)] | None = None
    """Time after which searches stay open; null: no limit."""


class EnginesEntry(Entry, frozen=True):
    """What computes, and with what; changes no result but for the last bits of batched arithmetic."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where the models compute."""
    count: AutoCount = "auto"
    """Engines at a time."""
    gpus: Annotated[Annotated[float, Field(ge=0)] | Literal["auto"], wanted("a number of at least 0, or auto")] = "auto"
    """GPUs of one engine; a part of one is allowed."""
    cpus: AutoCount = "auto"
    """CPU cores of one engine."""
    tokens_per_step: AutoCount = "auto"
    """Texts are let into a step while their lengths, taken as 24 at least, sum to no more than this; a batch never has
    more tokens."""
    batch_cost_tokens: AutoCount = "auto"
    """What a batch costs beside its tokens, in tokens; auto measures it when an engine begins, and keeps it with every
    probe."""
    probes_per_trial: AutoCount = "auto"
    """Probes in one Tune trial."""
    deterministic: bool = False
    """Fixed shapes, so that no result depends on its neighbours in the batch."""
    snapshot_seconds: Annotated[float, Field(gt=0)] = 60.0
    """Probes in flight are saved so often: what a lost engine or driver may cost of them."""

    @model_validator(mode="before")
    @classmethod
    def _drop_former(cls, value: Any, info: ValidationInfo) -> Any:
        """Runs that earlier commits began hold `stall_seconds`; in a user's file, read with places, it is unknown."""
        if isinstance(value, Mapping) and not info.context:
            return {key: held for key, held in value.items() if key != "stall_seconds"}
        return value


def _each_revision(value: Any) -> Any:
    """An entry with `revisions` stands for as many entries with a `revision`."""
    if not isinstance(value, list):
        return value
    entries: list[Any] = []
    for i, entry in enumerate(value):
        revisions = entry.get("revisions") if isinstance(entry, dict) else None
        if revisions is None:
            entries.append(entry)
            continue
        if entry.get("revision") is not None:
            raise problem(f"entry {i} has both revision and revisions; remove one.")
        if not isinstance(revisions, list) or not revisions or not all(isinstance(name, str) for name in revisions):
            raise problem(f"entry {i}: revisions should be a list of texts, such as [step1000, step10000].")
        entries += [{**entry, "revisions": None, "revision": revision} for revision in revisions]
    return tuple(entries)


def _read_model(value: Any, info: ValidationInfo) -> Model:
    if isinstance(value, Model):
        return value
    if not isinstance(value, str | dict):
        raise PydanticCustomError("wanted", "{wanted}", {"wanted": "the name of a model, or a mapping with its name"})
    entry = ModelEntry.model_validate({"name": value} if isinstance(value, str) else value)
    try:
        name = info.context["find_model"](entry.name) if info.context else entry.name
    except PydanticCustomError as error:
        raise _at("name", error, entry.name) from None
    return Model(**{**entry.model_dump(exclude={"revisions"}), "name": name})


def _read_text_entry(value: Any, info: ValidationInfo) -> TextEntry:
    if isinstance(value, TextEntry):
        return value
    if not isinstance(value, dict):
        raise PydanticCustomError("wanted", "{wanted}", {"wanted": "a mapping such as {source: files, path: texts/}"})
    name = value.get("source")
    if not isinstance(name, str) or name not in TEXT_SOURCES:
        message = "no source is named" if name is None else f"{name!r} is not a text source"
        raise _at("source", problem(f"{message}. {suggest(name, TEXT_SOURCES)}"), name)
    return TEXT_SOURCES[name].model_validate(value, context=info.context)


def _at(key: str, error: PydanticCustomError, found: Any) -> ValidationError:
    """The error of one key of a mapping that is checked by hand."""
    return ValidationError.from_exception_data("entry", [InitErrorDetails(type=error, loc=(key,), input=found)])


class Sweep(Entry, frozen=True):
    """What the user asks for: models x texts x k x seeds, and how."""

    name: Name
    """Begins the name of the run directory."""
    task: Annotated[str, _name_known(lambda: TASKS, "task")] = "cramming"
    """What is measured."""
    models: Annotated[
        tuple[Annotated[Model, PlainValidator(_read_model), PlainSerializer(asdict)], ...],
        BeforeValidator(_each_revision),
        AfterValidator(_distinct),
    ]
    """Hub ids or local folders, or mappings with a name and more: revision, revisions, dtype and others."""
    texts: Annotated[
        tuple[Annotated[SerializeAsAny[TextEntry], PlainValidator(_read_text_entry)], ...],
        BeforeValidator(_list_to_tuple),
        AfterValidator(_distinct),
    ]
    """Where the texts come from; each entry names its source."""
    num_vectors: Annotated[tuple[Count, ...], BeforeValidator(_list_of_counts), AfterValidator(_distinct)] = (1,)
    """Numbers of vectors in a memory."""
    prefix: Annotated[Literal["bos"] | None, wanted("bos or null")] = None
    """What stands before the memory."""
    special_tokens: bool = False
    """Whether the special tokens that a tokenizer puts before a text are its first tokens, and count, as published."""
    seeds: Annotated[tuple[Seed, ...], BeforeValidator(_list_to_tuple), AfterValidator(_distinct)] = (0,)
    """Each seed makes every search once more, from other random vectors."""
    criterion: Annotated[
        Literal["exact"] | TeacherForced, wanted("exact, or {teacher_forced: S} with S above 0 and at most 1")
    ] = "exact"
    """What a probe must reach."""
    decode_from: DecodeFrom = "memory"
    """Whether the first token must come out of the memory, or is given."""
    search: SearchEntry = SearchEntry()
    """How a search goes about its question."""
    recipe: Mapping[str, Any] = Field(default_factory=dict, validate_default=True)
    """Name of a recipe, or the fields to change in the default one; every field filled in once it is read."""
    budget: BudgetEntry = BudgetEntry()
    """What a run may spend."""
    engines: EnginesEntry = EnginesEntry()
    """What computes, and with what."""
    storage: Annotated[str, Field(min_length=1), AfterValidator(_without_credentials)] = "runs/"
    """Folder or fsspec URL in which run directories are made."""

    @field_validator("recipe", mode="plain")
    @classmethod
    def _fill_in(cls, value: Any, info: ValidationInfo) -> Mapping[str, Any]:
        if not isinstance(value, str | Mapping):
            raise PydanticCustomError("wanted", "{wanted}", {"wanted": "the name of a recipe, or a mapping of fields"})
        if "task" not in info.data:  # refused already; whose recipe this is, nobody knows
            return {}
        try:
            return dict(TASKS[info.data["task"]].recipe(value))
        except TaskError as error:
            # Where the task checks with pydantic, its errors know the field each is about.
            if isinstance(error.__cause__, ValidationError):
                raise error.__cause__ from None
            raise problem(str(error)) from None

    @field_validator("decode_from")
    @classmethod
    def _fits_criterion(cls, value: DecodeFrom, info: ValidationInfo) -> DecodeFrom:
        if value != "memory" and info.data.get("criterion") == "exact":
            # A first token that is given is never trained: no memory could be certified by itself.
            raise problem(
                f"found {value!r}, which cannot be exact; wanted memory, or criterion: {{teacher_forced: S}} with it."
            )
        return value

    def question(self) -> Question:
        """What every search asks; part of its identity."""
        return Question(
            criterion=None if self.criterion == "exact" else self.criterion.teacher_forced,
            decode_from=self.decode_from,
            prefix=self.prefix,
            growth=self.search.growth or self._search_defaults.growth,
            recipe=self.recipe,
        )

    def search_settings(self) -> SearchSettings:
        """How searches go about it."""
        defaults = self._search_defaults
        return SearchSettings(
            policy="bisect" if self.search.policy == "bisect" else "grow",
            retries=self.search.retries,
            first_length=defaults.first_length,
            cold_share=defaults.cold_share,
        )

    @property
    def _search_defaults(self) -> SearchDefaults:
        return TASKS[self.task].search_defaults(self.recipe)

    def engine_settings(self) -> EngineSettings:
        """How engines compute."""
        cpus, tokens, cost = self.engines.cpus, self.engines.tokens_per_step, self.engines.batch_cost_tokens
        return EngineSettings(
            device=self.engines.device,
            cpus=None if cpus == "auto" else cpus,
            tokens_per_step=None if tokens == "auto" else tokens,
            batch_cost_tokens=None if cost == "auto" else cost,
            deterministic=self.engines.deterministic,
        )


def without_places(sweep: Sweep) -> dict[str, Any]:
    """The sweep with nothing but the last names of its files and folders: what they hold is known by its hashes.

    A sweep that was sent to a cluster finds them elsewhere each time.
    """
    document = sweep.model_dump(mode="json")
    for entry in (*document["models"], *document["texts"]):
        for key, value in entry.items():
            if isinstance(value, str) and Path(value).is_absolute():
                entry[key] = Path(value).name
    return document
