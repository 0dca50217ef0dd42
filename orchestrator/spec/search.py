"""The `criterion`, the `context` and the `search` of a sweep file.

Knows nothing of how searches run; that is orchestrator/search/.
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
    """A criterion: enough tokens are correct when each is predicted from the correct tokens before it."""

    teacher_forced: Annotated[float, Field(gt=0, le=1)]
    """Share of the tokens that must be correct."""


class LeastMargin(Entry, frozen=True):
    """A criterion: every token comes out of the memory alone, and each by a margin."""

    margin: Annotated[float, Field(gt=0)]
    """Least difference of the two largest logits at every token."""


class RepeatedContext(Entry, frozen=True):
    """A control: the text is visible before the memory, which stores only the request to repeat it."""

    repeat: Count
    """Tokens at the beginning of each text that are visible, and then asked for again."""


class SharedVectors(Entry, frozen=True):
    """Vectors of a memory that several texts share, under task: one_step."""

    second: Annotated[int, Field(ge=2, lt=2**31)]
    """Texts that share the second vector, m; each has a first one, e, of its own."""


class RandomLengths(Entry, frozen=True):
    """Lengths that each search draws at random for itself, as published for random words."""

    draws: Count
    """How many lengths each search draws; equal ones count once."""
    shortest: Count = 1
    """Shortest length that may be drawn, in tokens."""
    longest: Count
    """Longest length that may be drawn, in tokens."""

    def draw(self, seed: str) -> tuple[int, ...]:
        """At most `draws` lengths, drawn uniformly, ascending, without duplicates; equal seeds give equal lengths."""
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
    """Which lengths a search asks for, and how often it starts again."""

    policy: Literal["grow", "bisect", "grid"] = "grow"
    """grow: find the longest lossless length with probes that grow while they succeed; bisect: find it with probes of
    one length each, doubling up to the first that fails, then halving; grid: ask for each of `lengths` once, from a
    cold start, as published."""
    lengths: Annotated[
        Annotated[tuple[Count, ...], BeforeValidator(list_to_tuple), AfterValidator(distinct)] | RandomLengths | None,
        wanted("a list of lengths in tokens, or {draws: N, shortest: S, longest: L}"),
    ] = None
    """Lengths for policy: grid, in tokens: a list, or {draws, shortest, longest} for lengths that each search draws."""
    max_length: Count | None = None
    """Longest length to ask for, in tokens; null: up to the text's end or the model's context."""
    growth: Annotated[float, Field(gt=1)] | None = None
    """Factor by which a probe grows: one that is lossless at L continues at L times this, and at least at L + 1. null:
    1.1 with optimizer: adamw; with optimizer: sphere, growth adapts and retreats."""
    retries: Annotated[int, Field(ge=0, lt=2**31)] = 2
    """Further starts after the first has stalled, before the search ends."""

    @field_validator("lengths")
    @classmethod
    def _belong_to_a_grid(cls, value: Any, info: ValidationInfo) -> Any:
        if value is not None and info.data.get("policy") != "grid":
            raise problem("only policy: grid has lengths; wanted policy: grid with them, or no lengths.")
        return value

    @model_validator(mode="after")
    def _grid_has_lengths(self) -> "SearchEntry":
        if self.policy == "grid" and self.lengths is None:
            raise problem("policy: grid needs lengths; wanted lengths: [64, 128, ..] with it.")
        return self
