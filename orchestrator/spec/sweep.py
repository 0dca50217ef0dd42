"""The sweep: what a user asks for, checked and with its defaults filled in.

Defines the fields of the file; the modules beside it define those of its entries, and orchestrator/spec/sweep_file.py
reads files and words the messages. Knows nothing of files, runs or how a model is loaded.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)
from pydantic_core import PydanticCustomError

from orchestrator.search.policy import SearchSettings
from orchestrator.spec.engines import EnginesEntry
from orchestrator.spec.fields import (
    Count,
    Entry,
    Name,
    Seed,
    distinct,
    list_of_counts,
    list_to_tuple,
    name_known,
    problem,
    wanted,
    without_credentials,
)
from orchestrator.spec.models import ModelOfSweep, each_revision
from orchestrator.spec.search import LeastMargin, RepeatedContext, SearchEntry, SharedVectors, TeacherForced
from orchestrator.spec.texts import TextsOfSweep
from orchestrator.spec.tracking import TrackingEntry
from tasks.facts import SearchDefaults
from tasks.recipe import AdamWRecipe, SphereRecipe
from tasks.registry import TASKS, TEXT_SOURCES, whole_recipe
from tasks.toy import ToyRecipe
from tasks.values import DecodeFrom, EngineSettings, Question, TaskError

RecipeEntry: TypeAlias = Literal["default", "published", "random"] | SphereRecipe | AdamWRecipe | ToyRecipe
"""What a sweep file may have as recipe, for the schema; the task decides whether a recipe fits it."""


class BudgetEntry(Entry, frozen=True):
    """Limits of a run."""

    minutes: Annotated[float, Field(gt=0)] | None = None
    """Time after which a run ends with exit code 3 and leaves searches open; `capsweep resume` continues them. null: no
    limit."""


class Sweep(Entry, frozen=True):
    """What the user asks for: models x texts x k x seeds, and how."""

    name: Name
    """Beginning of the run directory's name."""
    task: Annotated[str, name_known(TASKS), WithJsonSchema({"enum": list(TASKS.built_in)})] = "cramming"
    """What is measured. cramming: k vectors before the text; prefix: k key-value pairs in every layer before it;
    one_step: two vectors [e, m, m, ..] and one forward pass; toy: known answers, no model."""
    models: Annotated[tuple[ModelOfSweep, ...], BeforeValidator(each_revision), AfterValidator(distinct)]
    """Hub ids, local folders, GGUF files, or mappings with a name and other fields."""
    texts: Annotated[tuple[TextsOfSweep, ...], BeforeValidator(list_to_tuple), AfterValidator(distinct)]
    """Sources of the texts; each entry names its source."""
    num_vectors: Annotated[tuple[Count, ...], BeforeValidator(list_of_counts), AfterValidator(distinct)] = (1,)
    """Numbers of vectors in a memory (k); each makes its own searches."""
    prefix: Annotated[Literal["bos"] | None, wanted("bos or null")] = None
    """Token before the memory: bos, the model's BOS, or null, none."""
    context: Annotated[
        Annotated[int, Field(ge=0, lt=2**31)] | RepeatedContext,
        wanted("a whole number of at least 0, or {repeat: N} with N of at least 1"),
    ] = 0
    """Visible tokens before the memory: so many from the beginning of each text, and the tokens after them are crammed;
    or {repeat: N}, the beginning of the text that is asked for. Shorter texts are left out."""
    share: SharedVectors | None = None
    """Groups of texts with a vector in common, as published for one step: {second: 16} makes a sample of each 16 texts,
    whose memory has an e for each of them and one m: num_vectors: [17]. Its length counts the tokens of all, which take
    turns. null: a sample is one text."""
    special_tokens: bool = False
    """Whether the special tokens that a tokenizer puts before a text, such as a BOS, are its first tokens and count, as
    published."""
    seeds: Annotated[tuple[Seed, ...], BeforeValidator(list_to_tuple), AfterValidator(distinct)] = (0,)
    """Seeds of the random starts; each seed repeats every search from other random vectors."""
    criterion: Annotated[
        Literal["exact"] | LeastMargin | TeacherForced,
        wanted("exact, {margin: M} with M above 0, or {teacher_forced: S} with S above 0 and at most 1"),
    ] = "exact"
    """What makes a length lossless. exact: every token comes out of the memory alone; margin: each of them with a logit
    that exceeds every other one by so much. Under teacher_forced no certificate is claimed."""
    decode_from: DecodeFrom = "memory"
    """Whether the first token must come out of the memory, or is given and then neither trained nor scored."""
    search: SearchEntry = SearchEntry()
    """Which lengths a search asks for, and how often it starts again."""
    recipe: Mapping[str, Any] = Field(default_factory=dict, validate_default=True)
    """Name of a recipe, or fields to change in `default`. `random` is a control: memories stay as they were drawn. The
    fields are in tasks/recipe.py; once a sweep is read, every one has a value."""
    budget: BudgetEntry = BudgetEntry()
    """Limits of a run."""
    engines: EnginesEntry = EnginesEntry()
    """Devices, engines and batches of a run. They change results only in the last bits of batched arithmetic."""
    storage: Annotated[str, Field(min_length=1), AfterValidator(without_credentials)] = "runs/"
    """Folder or fsspec URL in which run directories are made."""
    tracking: TrackingEntry = TrackingEntry()
    """Trackers that a run is mirrored to."""

    @field_validator("recipe", mode="plain", json_schema_input_type=RecipeEntry)
    @classmethod
    def _fill_in(cls, value: Any, info: ValidationInfo) -> Mapping[str, Any]:
        if not isinstance(value, str | Mapping):
            raise PydanticCustomError("wanted", "{wanted}", {"wanted": "the name of a recipe, or a mapping of fields"})
        if "task" not in info.data:  # the task was refused, so the fields of its recipe are unknown
            return {}
        try:
            return dict(whole_recipe(info.data["task"], value))
        except TaskError as error:
            # A task that checks with pydantic gives an error for each field.
            if isinstance(error.__cause__, ValidationError):
                raise error.__cause__ from None
            raise problem(str(error)) from None

    @field_validator("share")
    @classmethod
    def _can_be_shared(cls, value: SharedVectors | None, info: ValidationInfo) -> SharedVectors | None:
        if value is None or "task" not in info.data:
            return value
        name = info.data["task"]
        if not getattr(TASKS[name], "shares_vectors", False):
            raise problem(f"task: {name} has no vector that texts could share; wanted null, or task: one_step.")
        if info.data.get("context"):
            raise problem("texts that share a vector have no context; wanted context: 0, or share: null.")
        return value

    @field_validator("decode_from")
    @classmethod
    def _fits_criterion(cls, value: DecodeFrom, info: ValidationInfo) -> DecodeFrom:
        criterion = info.data.get("criterion")
        if value != "memory" and criterion is not None and not isinstance(criterion, TeacherForced):
            # A given first token is not trained, so no memory alone could be certified.
            raise problem(
                f"found {value!r}, which cannot be exact; wanted memory, or criterion: {{teacher_forced: S}} with it."
            )
        return value

    def question(self) -> Question:
        """The question of every search; part of its identity."""
        return Question(
            criterion=self.criterion.teacher_forced if isinstance(self.criterion, TeacherForced) else None,
            least_margin=self.criterion.margin if isinstance(self.criterion, LeastMargin) else 0.0,
            decode_from=self.decode_from,
            prefix=self.prefix,
            context=self.context.repeat if isinstance(self.context, RepeatedContext) else self.context,
            repeats_context=isinstance(self.context, RepeatedContext),
            num_texts=1 if self.share is None else self.share.second,
            growth=self.search.growth or self._search_defaults.growth,
            recipe=self.recipe,
        )

    def search_settings(self) -> SearchSettings:
        """Settings of the search policy."""
        defaults = self._search_defaults
        return SearchSettings(
            # `policy: grid` gives each search its lengths (`Search.grid`), which go before any policy.
            policy="bisect" if self.search.policy == "bisect" else "grow",
            retries=self.search.retries,
            first_length=defaults.first_length,
            cold_share=defaults.cold_share,
        )

    @property
    def _search_defaults(self) -> SearchDefaults:
        return TASKS[self.task].search_defaults(self.recipe)

    def engine_settings(self) -> EngineSettings:
        """Settings of the engines."""
        cpus, tokens, cost = self.engines.cpus, self.engines.tokens_per_step, self.engines.batch_cost_tokens
        return EngineSettings(
            device=self.engines.device,
            cpus=None if cpus == "auto" else cpus,
            tokens_per_step=None if tokens == "auto" else tokens,
            batch_cost_tokens=None if cost == "auto" else cost,
            deterministic=self.engines.deterministic,
        )


def unknown_names(document: Any) -> list[str]:
    """The tasks and text sources that a sweep names and nothing here offers, as `task lines`."""
    if not isinstance(document, Mapping):
        return []
    texts = document.get("texts")
    entries = [entry for entry in texts if isinstance(entry, Mapping)] if isinstance(texts, list) else []
    named = [(TASKS, document.get("task")), *((TEXT_SOURCES, entry.get("source")) for entry in entries)]
    unknown = [f"{registry.kind} {name}" for registry, name in named if isinstance(name, str) and name not in registry]
    return list(dict.fromkeys(unknown))


def without_places(sweep: Sweep) -> dict[str, Any]:
    """The sweep as JSON, without commits and trackers, and with absolute paths cut to their last name.

    Hashes identify the contents. A sweep that is sent to a cluster has its files in another folder each time, and any
    session may mirror its run to other trackers.
    """
    document = sweep.model_dump(mode="json", exclude={"tracking"})
    for entry in (*document["models"], *document["texts"]):
        entry.pop("commit", None)
        entry.pop("code_commit", None)
        for key, value in entry.items():
            if isinstance(value, str) and Path(value).is_absolute():
                entry[key] = Path(value).name
    return document
