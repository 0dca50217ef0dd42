"""Which texts a recipe is chosen on, and which it is reported on; the two never overlap.

Knows nothing of recipes or trials.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from orchestrator.errors import BadInput
from orchestrator.planning.plan import Plan
from orchestrator.search.ledger import Search

FEWEST = 2
"""Fewest texts on each side: an interval needs two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextSplit:
    """A plan, with its length searches split into those for choosing and those for reporting."""

    plan: Plan
    choosing: tuple[Search, ...]
    reporting: tuple[Search, ...]

    def of(self, model: str) -> "TextSplit":
        """The length searches of one model."""
        mine = [tuple(s for s in side if s.model == model) for side in (self.choosing, self.reporting)]
        return replace(self, choosing=mine[0], reporting=mine[1])

    def samples(self, searches: Sequence[Search]) -> list[str]:
        """The sample_id of each length search, by which intervals cluster their observations."""
        return [search.sample_id for search in searches]


def is_for_reporting(text_sha256: str) -> bool:
    """Whether a text is for reporting where one sweep is split; depends on the text alone, not on the sweep."""
    return hashlib.sha256(f"tune {text_sha256}".encode()).digest()[0] % 2 == 1


def split_texts(plan: Plan, reporting: Plan | None) -> TextSplit:
    """Split the length searches into those for choosing and those for reporting.

    Args:
        plan: Plan of the sweep whose recipe is tuned.
        reporting: Plan of the same sweep with other texts: then all of `plan` is for choosing, and texts that both
            have are not reported on. None splits `plan`.

    Raises:
        BadInput: when a side has too few texts.
    """
    if reporting is None:
        sides = [is_for_reporting(_text(plan, search)) for search in plan.searches]
        choosing = [search for search, reported in zip(plan.searches, sides, strict=True) if not reported]
        others = [search for search, reported in zip(plan.searches, sides, strict=True) if reported]
        found = TextSplit(plan=plan, choosing=tuple(choosing), reporting=tuple(others))
    else:
        chosen = {_text(plan, search) for search in plan.searches} | {search.sample_id for search in plan.searches}
        others = [s for s in reporting.searches if not {_text(reporting, s), s.sample_id} & chosen]
        both = replace(
            plan,
            samples={**reporting.samples, **plan.samples},
            searches=(*plan.searches, *others),
        )
        found = TextSplit(plan=both, choosing=plan.searches, reporting=tuple(others))
    for model in plan.models:
        _check(found.of(model.name), model.name)
    return found


def _text(plan: Plan, search: Search) -> str:
    return plan.samples[search.model, search.sample_id].text_sha256


def _check(split: TextSplit, model: str) -> None:
    counts = len(set(split.samples(split.choosing))), len(set(split.samples(split.reporting)))
    if min(counts) < FEWEST:
        raise BadInput(
            f"texts: {model}: {counts[0]} to choose a recipe on and {counts[1]} to report it on; wanted at "
            f"least {FEWEST} of each, and 16 to see a difference. Give more texts, or others to report on (--report)."
        )
