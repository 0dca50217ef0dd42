"""The sweep: what a user asks for, checked and with its defaults filled in.

States which values are allowed; what its entries hold stands beside it, and orchestrator/spec/sweep_file.py reads the
file and words the messages. Knows nothing of files, runs or how a model is loaded.
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
from orchestrator.spec.search import SearchEntry, TeacherForced
from orchestrator.spec.texts import TextsOfSweep
from tasks.recipe import AdamWRecipe, SphereRecipe
from tasks.registry import TASKS
from tasks.toy import ToyRecipe
from tasks.values import DecodeFrom, EngineSettings, Question, SearchDefaults, TaskError

RecipeEntry: TypeAlias = Literal["default", "published"] | SphereRecipe | AdamWRecipe | ToyRecipe
"""What a sweep file may say of a recipe, for its schema; whether it fits the task, the task decides."""


class BudgetEntry(Entry, frozen=True):
    """What a run may spend."""

    minutes: Annotated[float, Field(gt=0)] | None = None
    """Time after which searches stay open, with exit code 3; `capsweep resume` continues them. null: no limit."""


class Sweep(Entry, frozen=True):
    """What the user asks for: models x texts x k x seeds, and how."""

    name: Name
    """Begins the name of the run directory."""
    task: Annotated[str, name_known(lambda: TASKS, "task"), WithJsonSchema({"enum": list(TASKS)})] = "cramming"
    """What is measured. one_step: two vectors [e, m, m, ..] and one forward pass; toy: known answers, no model."""
    models: Annotated[tuple[ModelOfSweep, ...], BeforeValidator(each_revision), AfterValidator(distinct)]
    """Hub ids or local folders, or mappings with a name and more: revision, revisions, dtype and others."""
    texts: Annotated[tuple[TextsOfSweep, ...], BeforeValidator(list_to_tuple), AfterValidator(distinct)]
    """Where the texts come from; each entry names its source."""
    num_vectors: Annotated[tuple[Count, ...], BeforeValidator(list_of_counts), AfterValidator(distinct)] = (1,)
    """Numbers of vectors in a memory; each makes searches of its own."""
    prefix: Annotated[Literal["bos"] | None, wanted("bos or null")] = None
    """What stands before the memory; bos: the model's BOS."""
    special_tokens: bool = False
    """Whether the special tokens (a BOS) that a tokenizer puts before a text are its first tokens, and count, as
    published."""
    seeds: Annotated[tuple[Seed, ...], BeforeValidator(list_to_tuple), AfterValidator(distinct)] = (0,)
    """Each seed makes every search once more, from other random vectors."""
    criterion: Annotated[
        Literal["exact"] | TeacherForced, wanted("exact, or {teacher_forced: S} with S above 0 and at most 1")
    ] = "exact"
    """What a probe must reach; under teacher_forced no certificate is claimed."""
    decode_from: DecodeFrom = "memory"
    """Whether the first token must come out of the memory, or is given: neither trained nor scored then."""
    search: SearchEntry = SearchEntry()
    """How a search goes about its question."""
    recipe: Mapping[str, Any] = Field(default_factory=dict, validate_default=True)
    """Name of a recipe, or the fields to change in `default`, which is taken where none is given. tasks/recipe.py has
    the fields; each is filled in once the sweep is read."""
    budget: BudgetEntry = BudgetEntry()
    """What a run may spend."""
    engines: EnginesEntry = EnginesEntry()
    """What computes, and with what."""
    storage: Annotated[str, Field(min_length=1), AfterValidator(without_credentials)] = "runs/"
    """Folder or fsspec URL in which run directories are made."""

    @field_validator("recipe", mode="plain", json_schema_input_type=RecipeEntry)
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
