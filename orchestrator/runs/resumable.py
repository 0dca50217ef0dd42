"""Checks that a run directory is new, or holds the sweep of a plan with unchanged inputs.

Reads the run, writes nothing.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from typing import Any, TypeVar

from orchestrator.errors import BadInput
from orchestrator.planning.plan import Plan
from orchestrator.runs.directory import EXTENDING_FILE, RUN_NAMES, Run, own_samples
from orchestrator.runs.record import PROVENANCE_FILE, SWEEP_FILE, is_run, read_provenance, read_sweep
from orchestrator.spec.sweep import without_places
from orchestrator.store.files import Files
from orchestrator.store.hub_files import is_on_hub
from orchestrator.store.parquet import DamagedFileError, read_probes, row_files
from tasks.facts import ModelFacts
from tasks.registry import TASKS
from tasks.values import TaskError
from tasks.wording import counted

Read = TypeVar("Read")

COMMIT_LENGTH = 40
"""Characters of a commit of the hub; the revision of a local model is a shorter hash."""


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
        searches = counted(unknown, "search in its rows belongs", "searches in its rows belong")
        raise BadInput(
            f"{files.url}: {SWEEP_FILE if sweep is None else PROVENANCE_FILE} cannot be read, and {searches} to "
            "another sweep, model or text. Restore the file, or begin a new run."
        )
    # Parsed, not compared as text: a field that was added since then has its default.
    if sweep is not None and without_places(sweep) != without_places(plan.sweep):
        raise BadInput(
            f"{files.url}: already holds another sweep ({SWEEP_FILE} in it differs from yours). "
            "Choose another --run-dir, or resume that one with `capsweep resume`."
        )
    known = {} if provenance is None else provenance["models"]
    problems = _changed_models(files, known, {model.name: model.facts for model in plan.models})
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


def check_models(run: Run, names: Iterable[str]) -> None:
    """Raise BadInput unless these models, as rows name them, are those that the run measured; loads no weights."""
    problems: list[str] = []
    now: dict[str, ModelFacts] = {}
    names = list(dict.fromkeys(names))
    if is_on_hub(run.files.url):
        refuse_code(run.files.url, [asdict(run.model(name)) for name in names])
    for name in names:
        try:
            now[name] = TASKS[run.sweep.task].facts(run.model(name))
        except TaskError as error:
            problems.append(f"{run.files.url}: model {name} cannot be loaded: {error}{_where(run, name)}")
    if problems := [*problems, *_changed_models(run.files, run.provenance["models"], now)]:
        raise BadInput(*problems)


def _where(run: Run, name: str) -> str:
    """Where to call a verb for a model that was a local folder when the run was pushed; else empty."""
    place = run.model(name).name
    if not run.is_published or not place.startswith("./"):
        return ""
    return f" It was a local folder where it was measured: call this from the folder in which {place} lies."


def refuse_code(url: str, models: Iterable[Any]) -> None:
    """Raise BadInput if a model of a run of strangers, as values, executes code of its own when it is loaded."""
    if found := with_code(models):
        raise BadInput(
            f"{url}: to decode its memories would execute code that comes with {', '.join(found)} "
            f"(trust_remote_code or allow_pickle). Read that code, then `capsweep pull {url} --to DIR --trust-code`, "
            "and work on DIR."
        )


def with_code(models: Iterable[Any]) -> list[str]:
    """Names of those models, as values, that execute code of their own when they are loaded."""
    return sorted(
        {
            str(model.get("name"))
            for model in models
            if isinstance(model, Mapping) and (model.get("trust_remote_code") or model.get("allow_pickle"))
        }
    )


def _changed_models(files: Files, known: Mapping[str, Any], now: Mapping[str, ModelFacts]) -> list[str]:
    """One message for each model, by name, whose fingerprint is not the one in the run's provenance."""
    then = {name: known[name]["facts"] for name in now if name in known}
    return [
        f"{files.url}: model {name} has changed since the run began: {_difference(then[name], facts)}. "
        "Restore it, or begin a new run."
        for name, facts in now.items()
        if name in then and then[name]["fingerprint"] != facts.fingerprint
    ]


def _difference(then: Mapping[str, Any], now: ModelFacts) -> str:
    """In what the facts of a model differ from those of the run."""
    if len(now.revision) == COMMIT_LENGTH and then["revision"] != now.revision:
        return f"commit {then['revision']} then, {now.revision} now"
    return f"fingerprint {then['fingerprint'][:16]} then, {now.fingerprint[:16]} now"


def _changed_texts(plan: Plan, files: Files) -> list[str]:
    """One message for each text that differs from the run's."""
    try:
        rows = own_samples(files).to_pylist()
    except DamagedFileError:
        return []  # the table is rewritten; rows of other texts belong to other searches
    stored = _ids_by_name((row["model"], row["source"], row["sample_id"]) for row in rows)
    now = _ids_by_name((model, sample.source, sample.sample_id) for (model, _), sample in plan.samples.items())
    # During an unfinished extension, the table may or may not have its texts.
    compared = stored.keys() & now.keys() if files.exists(EXTENDING_FILE) else stored.keys() | now.keys()
    changed = {key[1]: key for key in compared if stored.get(key) != now.get(key)}
    return [
        f"{files.url}: text {source} has changed since the run began: hash {stored.get(key, 'none')} then, "
        f"{now.get(key, 'none')} now. Restore it, or begin a new run."
        for source, key in sorted(changed.items())
    ]


def _ids_by_name(samples: Iterable[tuple[str, str, str]]) -> dict[tuple[str, str], str]:
    """(model, source) -> id of the text; of several texts of one name, all ids."""
    found: dict[tuple[str, str], list[str]] = {}
    for model, source, sample_id in samples:
        found.setdefault((model, source), []).append(sample_id)
    return {name: ", ".join(sorted(ids)) for name, ids in found.items()}
