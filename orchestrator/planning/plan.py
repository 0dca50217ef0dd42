"""The plan of a run: models, samples, searches, and their tables.

Pure values, made by orchestrator/planning/planner.py. Knows nothing of Ray, torch or files.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import pyarrow as pa

from orchestrator.search.ledger import Search
from orchestrator.spec.sweep import Sweep
from orchestrator.store.probe_columns import SearchColumns, criterion_name
from orchestrator.store.schema import SAMPLES, SEARCHES
from orchestrator.store.searches import theoretical_tokens
from tasks.contract import Task
from tasks.facts import ModelFacts, Readings
from tasks.values import Model, Question


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedModel:
    """A model of the sweep, ready to be measured."""

    name: str
    """The model's name in rows and tables: the hub id, or the folder's name."""
    model: Model
    facts: ModelFacts
    recipe: Mapping[str, Any]
    """The recipe of the sweep, with what was measured on this model filled in."""
    readings: Readings | None = None
    """How its ways of being read agree; None if its weights were not loaded for this plan."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One text, cut to tokens by one tokenizer."""

    sample_id: str
    model: str
    """Name of the model whose tokenizer cut it."""
    source: str
    other_sources: tuple[str, ...] = ()
    """Other sources of the same tokens."""
    text_sha256: str
    text: str
    """The text up to the last token kept."""
    tokens: tuple[int, ...]
    token_ends: tuple[int, ...]
    """Where each token ends, in characters of `text`."""
    num_texts: int = 1
    """Texts whose tokens take turns; `text` has one directly after the other, and `other_sources` names all but one."""
    cut: bool
    """Whether the text continues after the last token kept."""
    context: tuple[int, ...] = ()
    """Token ids that stand visibly before a memory of this text."""
    context_text: str = ""
    """What they stand for."""
    first_change: str | None = None
    """Where the tokens first stand for another text than `text`, in words; None if they give it back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that a run will do."""

    sweep: Sweep
    task: Task
    question: Question
    models: tuple[PlannedModel, ...]
    samples: dict[tuple[str, str], Sample] = field(repr=False)
    """By model name and sample_id."""
    searches: tuple[Search, ...] = field(repr=False)
    text_commits: dict[str, str] = field(default_factory=dict)
    """Place in the sweep, such as texts.0 -> the commit of the data read there, for data that have one."""
    notes: tuple[str, ...] = ()
    """What a user should know before the run starts."""
    overrides: tuple[str, ...] = ()
    """What the command line set in the sweep file, which `sweep` holds already; recorded in the provenance."""

    def model(self, name: str) -> PlannedModel:
        """The model that rows call `name`."""
        return next(model for model in self.models if model.name == name)

    def question_of(self, name: str) -> Question:
        """What searches of this model ask, with its own recipe."""
        return replace(self.question, recipe=self.model(name).recipe)

    def columns(self, search: Search) -> SearchColumns:
        """The columns that all rows of this search share."""
        sample = self.samples[search.model, search.sample_id]
        return SearchColumns(
            model=search.model,
            model_revision=self.model(search.model).facts.revision,
            sample_id=search.sample_id,
            text_sha256=sample.text_sha256,
            source=sample.source,
            seed=search.seed,
            recipe=json.dumps(dict(self.model(search.model).recipe), sort_keys=True),
        )

    def searches_table(self) -> pa.Table:
        """All searches in the columns of SEARCHES, without results."""
        rows = [
            {
                "search_id": search.search_id,
                "task": self.sweep.task,
                "model": search.model,
                "model_revision": self.model(search.model).facts.revision,
                "sample_id": search.sample_id,
                "source": self.samples[search.model, search.sample_id].source,
                "num_vectors": search.num_vectors,
                "seed": search.seed,
                "criterion": criterion_name(self.question),
                "decode_from": self.question.decode_from,
                "context": self.question.context,
                "repeats_context": self.question.repeats_context,
                "num_texts": self.question.num_texts,
                "limit": search.limit,
                "limit_status": search.limit_status,
                "grid": search.grid,
                "status": "open",
                "theoretical_tokens": theoretical_tokens(
                    self.model(search.model).facts, num_vectors=search.num_vectors
                ),
            }
            for search in self.searches
        ]
        return pa.Table.from_pylist(rows, schema=SEARCHES)

    def samples_table(self) -> pa.Table:
        """All samples in the columns of SAMPLES."""
        return pa.Table.from_pylist([asdict(sample) for sample in self.samples.values()], schema=SAMPLES)
