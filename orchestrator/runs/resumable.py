"""Checks that a run directory is new, or holds the sweep of a plan with unchanged inputs.

Reads the run, writes nothing.
"""

from collections.abc import Callable
from typing import TypeVar

from orchestrator.errors import BadInput
from orchestrator.planning.plan import Plan
from orchestrator.runs.directory import (
    EXTENDING_FILE,
    PROVENANCE_FILE,
    RUN_NAMES,
    SWEEP_FILE,
    is_run,
    read_provenance,
    read_sweep,
)
from orchestrator.spec.sweep import without_places
from orchestrator.store.files import Files
from orchestrator.store.parquet import DamagedFileError, read_probes, read_samples, row_files

Read = TypeVar("Read")


def check_same_run(plan: Plan, files: Files) -> None:
    """Raise BadInput unless `files` is empty or holds the plan's sweep with unchanged inputs.

    Where the run's sweep or provenance cannot be read, its rows decide: the id of a search holds all that decides it.
    """
    if not is_run(files):
        if row_files(files) and _unknown_searches(plan, files):
            raise BadInput(
                f"{files.url}: holds rows but no {SWEEP_FILE}, and they belong to another sweep. Choose another "
                "folder, or give the sweep that this run was begun with."
            )
        if foreign := [name for name in files.names("", suffix="") if name not in RUN_NAMES]:
            raise BadInput(
                f"{files.url}: holds {', '.join(foreign[:3])}, which is not part of a run. Wanted a folder that is "
                "new, empty or a run; choose another --run-dir."
            )
        return
    sweep, provenance = _unless_damaged(read_sweep, files), _unless_damaged(read_provenance, files)
    if (sweep is None or provenance is None) and (unknown := _unknown_searches(plan, files)):
        raise BadInput(
            f"{files.url}: {SWEEP_FILE if sweep is None else PROVENANCE_FILE} cannot be read, and {unknown} searches "
            "in its rows belong to another sweep, model or text. Restore the file, or begin a new run."
        )
    # Parsed, not compared as text: a field that was added since then has its default.
    if sweep is not None and without_places(sweep) != without_places(plan.sweep):
        raise BadInput(
            f"{files.url}: already holds another sweep ({SWEEP_FILE} in it differs from yours). "
            "Choose another --run-dir, or resume that one with `capsweep resume`."
        )
    known = {} if provenance is None else provenance["models"]
    problems = [
        f"{files.url}: model {model.name} has changed since the run began: fingerprint "
        f"{known[model.name]['facts']['fingerprint'][:16]} then, {model.facts.fingerprint[:16]} now. "
        "Restore it, or begin a new run."
        for model in plan.models
        if model.name in known and known[model.name]["facts"]["fingerprint"] != model.facts.fingerprint
    ]
    # Texts only if no model has changed: a changed model may cut its texts differently.
    if problems := problems or _changed_texts(plan, files):
        raise BadInput(*problems)


def _unless_damaged(read: Callable[[Files], Read], files: Files) -> Read | None:
    try:
        return read(files)
    except DamagedFileError:
        return None


def _unknown_searches(plan: Plan, files: Files) -> int:
    """How many searches have rows here that can be read, and are not in the plan."""
    measured = read_probes(files, ("search_id",), damaged=[])["search_id"].to_pylist()
    return len(set(measured) - {search.search_id for search in plan.searches})


def _changed_texts(plan: Plan, files: Files) -> list[str]:
    """One message for each text that differs from the run's."""
    try:
        stored = {(row["model"], row["source"]): row["sample_id"] for row in read_samples(files).to_pylist()}
    except DamagedFileError:
        return []  # the table is rewritten; rows of other texts belong to other searches
    now = {(model, sample.source): sample.sample_id for (model, _), sample in plan.samples.items()}
    # During an unfinished extension, the table may or may not have its texts.
    compared = stored.keys() & now.keys() if files.exists(EXTENDING_FILE) else stored.keys() | now.keys()
    changed = {key[1]: key for key in compared if stored.get(key) != now.get(key)}
    return [
        f"{files.url}: text {source} has changed since the run began: hash {stored.get(key, 'none')} then, "
        f"{now.get(key, 'none')} now. Restore it, or begin a new run."
        for source, key in sorted(changed.items())
    ]
