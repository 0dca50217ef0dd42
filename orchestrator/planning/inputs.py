"""What has been read for a plan, and what reading had to say.

Values only: orchestrator/planning/planner.py has them read, orchestrator/planning/searches.py makes searches of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from orchestrator.planning.plan import PlannedModel
from orchestrator.spec.sweep import Sweep
from tasks.contract import TextCodec
from tasks.values import Text

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found(Generic[Value]):
    """What a step of planning found, and what a user has to hear about it."""

    value: Value
    """Not for use by the next step where there are problems."""
    problems: tuple[str, ...] = ()
    """One line each: what stands in the way of a plan, and what to do."""
    notes: tuple[str, ...] = ()
    """What a user should know before the run starts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadModel:
    """A model of the sweep, and what it will be asked about."""

    planned: PlannedModel
    codec: TextCodec
    """Its tokenizer."""
    texts: tuple[Text, ...] = ()
    """All texts of the sweep in its order, those that depend on this model among them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Everything that a plan is made of."""

    sweep: Sweep
    """With what was decided about its models filled in."""
    models: Sequence[ReadModel]
    text_commits: Mapping[str, str]
    """Place in the sweep, such as texts.0 -> the commit of what was read there, where it is known."""
    notes: tuple[str, ...] = ()
    """What reading had to say."""


def problems_of(steps: Sequence[Found[Any]]) -> tuple[str, ...]:
    """Every problem, in the order of the steps."""
    return tuple(line for step in steps for line in step.problems)


def notes_of(steps: Sequence[Found[Any]]) -> tuple[str, ...]:
    """Every note, in the order of the steps."""
    return tuple(line for step in steps for line in step.notes)
