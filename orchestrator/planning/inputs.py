"""The inputs of a plan, with the problems and notes that reading them gave.

Values only: orchestrator/planning/planner.py collects them, orchestrator/planning/searches.py makes searches of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from orchestrator.planning.plan import PlannedModel, Sample
from orchestrator.spec.sweep import Sweep
from tasks.contract import TextCodec
from tasks.texts import TextEntry
from tasks.values import Text

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found(Generic[Value]):
    """What a step of planning found, and what to tell the user about it."""

    value: Value
    """The result; incomplete if there are problems, so the next step must not use it then."""
    problems: tuple[str, ...] = ()
    """One line each: what prevents a plan, and what to do."""
    notes: tuple[str, ...] = ()
    """What a user should know before the run starts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadModel:
    """A model of the sweep, with its tokenizer and texts."""

    planned: PlannedModel
    codec: TextCodec
    """Its tokenizer."""
    texts: tuple[Text, ...] = ()
    """All texts of the sweep in its order, including those that depend on this model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadEntry:
    """An entry of the sweep's texts, pinned to the commit that its data are at, with its texts."""

    entry: TextEntry
    texts: tuple[Text, ...] = ()
    """Its texts; none if they depend on the model that reads them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Everything that a plan is made of."""

    sweep: Sweep
    """The sweep, with what planning decided about its models filled in."""
    models: Sequence[ReadModel]
    text_commits: Mapping[str, str]
    """Place in the sweep, such as texts.0 -> the commit of the data read there, for data that have one."""
    notes: tuple[str, ...] = ()
    """Notes from reading."""
    held: Mapping[str, Sequence[Sample]] = field(default_factory=dict)
    """Model, as rows name it -> the samples that the run holds for it."""


def problems_of(steps: Sequence[Found[Any]]) -> tuple[str, ...]:
    """Every problem, in the order of the steps."""
    return tuple(line for step in steps for line in step.problems)


def notes_of(steps: Sequence[Found[Any]]) -> tuple[str, ...]:
    """Every note, in the order of the steps."""
    return tuple(line for step in steps for line in step.notes)
