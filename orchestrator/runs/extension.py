"""Extends a run by models, texts, k or seeds: the union of its sweep and that of another file.

Searches keep their identity, so finished searches stay finished. Writes nothing; orchestrator/runs/session.py does.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.errors import BadInput
from orchestrator.planning.plan import Plan
from orchestrator.planning.planner import make_plan, with_held
from orchestrator.runs.directory import EXTENDING_FILE, Run, drawn_texts, open_run, samples_of
from orchestrator.runs.resumable import check_same_run
from orchestrator.spec.sweep import Sweep
from orchestrator.spec.sweep_file import SweepSource, place_of, sweep_of
from orchestrator.store.parquet import read_searches
from tasks.texts import TextEntry
from tasks.wording import counted

DECIDING = ("task", "prefix", "context", "share", "special_tokens", "criterion", "decode_from", "search", "recipe")
"""Fields that decide results and cannot be extended: a run holds one value of each."""
GROWING = ("models", "texts", "num_vectors", "seeds")
"""Fields that an extension adds to."""
WHERE_GIVEN = ("num_vectors", "seeds")
"""Those of GROWING that have a default: an addition that leaves one out adds nothing to it."""
FROM_ADDITION = ("budget", "engines", "tracking")
"""Fields that the addition may change: they decide no result."""
MOST_PROBLEMS = 5
"""Most changed searches that are named; there may be thousands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Extension:
    """What a session adds to the run it opens."""

    held: Plan
    """Plan of the run before the extension."""
    added: Mapping[str, Sequence[Any]]
    """Field of the sweep -> its new entries; fields without any are left out."""


def plan_extension(
    url: str, asked: SweepSource, *, overrides: Sequence[str] = (), allow_fewer: bool = False
) -> tuple[Plan, Extension]:
    """The plan of the run at `url`, extended by the sweep `asked`, in which `overrides` set some fields.

    Raises:
        BadInput: when there is no such run, or the sweep would change one of its results.
    """
    run, drawn, samples = open_run(url), drawn_texts(url), samples_of(url)
    held, where = run.sweep, place_of(asked)
    addition = with_held(sweep_of(asked, overrides), held)
    if differing := differences(held, addition):
        raise BadInput(
            f"{where}: {'; '.join(differing)}. What decides results must be as in {url}: change it, or begin a new run."
        )
    # As for `resume`: the number of samples was settled when the run began.
    held_plan = make_plan(held, allow_fewer=True, drawn=drawn, samples=samples)
    check_same_run(held_plan, run.files)
    sweep = union(held, addition)
    plan = make_plan(sweep, allow_fewer=allow_fewer, drawn=drawn, samples=samples)
    changed = list(changed_searches(held_plan, plan)) or list(_unknown_searches(run, plan))
    if changed:
        raise BadInput(*(f"{where}: {message}" for message in dict.fromkeys(changed[:MOST_PROBLEMS])))
    added = additions(held, sweep)
    counts = ", ".join(f"{len(entries)} of {name}" for name, entries in added.items()) or "nothing: it stays as it was"
    notes = (*plan.notes, f"added to the run: {counts}.")
    return replace(plan, notes=notes, overrides=tuple(overrides)), Extension(held=held_plan, added=added)


def differences(held: Sweep, addition: Sweep) -> list[str]:
    """One phrase for each field of DECIDING that differs; if the task differs, for the task alone."""
    found: list[str] = []
    for name in DECIDING if held.task == addition.task else ("task",):
        before, now = held.model_dump(mode="json")[name], addition.model_dump(mode="json")[name]
        if isinstance(before, dict) and isinstance(now, dict):
            keys = dict.fromkeys([*before, *now])
            pairs = [(f"{name}.{key}", before.get(key), now.get(key)) for key in keys]
        else:
            pairs = [(name, before, now)]
        # As JSON, which is YAML, too: null and true, not None and True.
        found += [
            f"{where} is {json.dumps(new)} here, {json.dumps(old)} in the run"
            for where, old, new in pairs
            if old != new
        ]
    return found


def union(held: Sweep, addition: Sweep) -> Sweep:
    """The union of both sweeps: name and storage are the run's; the addition may set FROM_ADDITION.

    Numbers of vectors and seeds are added only if the addition sets them: its defaults add none.
    """
    given = addition.model_fields_set
    grown: dict[str, Any] = {
        "models": _with_new(held.models, addition.models),
        "texts": _texts_of_both(held.texts, addition.texts),
        **{name: _with_new(getattr(held, name), getattr(addition, name)) for name in WHERE_GIVEN if name in given},
        **{name: getattr(addition, name) for name in FROM_ADDITION if name in given},
    }
    return held.model_copy(update=grown)


def _with_new(held: tuple[Any, ...], more: tuple[Any, ...]) -> tuple[Any, ...]:
    return (*held, *(entry for entry in more if entry not in held))


def _texts_of_both(held: Sequence[TextEntry], more: Sequence[TextEntry]) -> tuple[TextEntry, ...]:
    """All entries; of those that differ only in `samples`, the one with most samples, in the place of the first."""
    entries = list(held)
    for entry in more:
        same = [i for i, other in enumerate(entries) if _whole(other) == _whole(entry)]
        if not same:
            entries.append(entry)
        elif _num_samples(entry) > _num_samples(entries[same[0]]):
            entries[same[0]] = entry
    return tuple(entries)


def _whole(entry: TextEntry) -> TextEntry:
    return entry.model_copy(update={"samples": None})


def _num_samples(entry: TextEntry) -> float:
    return float("inf") if entry.samples is None else entry.samples


def additions(held: Sweep, extended: Sweep) -> dict[str, list[Any]]:
    """Field -> entries of the extended sweep that the run did not have, in the form of a sweep file."""
    added: dict[str, list[Any]] = {}
    for name in GROWING:
        written = extended.model_dump(mode="json")[name]
        before = getattr(held, name)
        if new := [written[i] for i, entry in enumerate(getattr(extended, name)) if entry not in before]:
            added[name] = new
    return added


def changed_searches(held: Plan, extended: Plan) -> Iterator[str]:
    """One message for each search of the run that the extended plan would change."""
    kept = {search.search_id: search for search in extended.searches}
    for search in held.searches:
        source = held.columns(search).source
        now = kept.get(search.search_id)
        if now is None:
            yield (
                f"texts: {source} would be another text for {search.model} than in the run. Give the new texts an "
                "entry of their own, with a name."
            )
        elif now.model != search.model:
            # Rows hold the names of models, and a second revision of a model renames the first.
            yield f"models: {search.model} of the run would be called {now.model}. Begin a new run for both."
        elif (called := extended.columns(now).source) != source:
            yield f"texts: {source} of the run would be called {called}, which holds the same tokens. Remove {called}."


def _unknown_searches(run: Run, plan: Plan) -> Iterator[str]:
    """A message if the run's table has searches that the plan lacks, although sweep and texts are the same."""
    known = {search.search_id for search in plan.searches}
    unknown = set(read_searches(run.files)["search_id"].to_pylist()) - known
    # An extension that was interrupted may have left searches that no sweep asks for.
    if unknown and not run.files.exists(EXTENDING_FILE):
        yield (
            f"{run.files.url}: {counted(len(unknown), 'search has', 'searches have')} another identity in this version "
            "of capsweep, and would not stay finished. Extend the run with the version that began it, or begin a new "
            "one."
        )
