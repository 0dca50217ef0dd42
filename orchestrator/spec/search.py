"""What a sweep asks of its searches: the criterion, and how a search goes about its question.

Knows nothing of how it is done; orchestrator/search/ does it.
"""

import random
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from orchestrator.spec.fields import (
    Count,
    Entry,
    distinct,
    list_to_tuple,
    problem,
    wanted,
)


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
    one length each, doubling up to the first that fails, then halving; grid: ask for each of `lengths` once, cold, as
    published."""
    lengths: Annotated[
        Annotated[tuple[Count, ...], BeforeValidator(list_to_tuple), AfterValidator(distinct)] | RandomLengths | None,
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
