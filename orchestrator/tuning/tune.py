"""Tune a sweep's recipe, from its plan to the page. Defines the order of the steps; other modules carry them out."""

import hashlib
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from orchestrator.cluster.environment import carried
from orchestrator.errors import BadInput, literal
from orchestrator.execution.faults import can_go_on
from orchestrator.execution.recipe_worker import InlineWorkers, Workers
from orchestrator.execution.stop import Stop, stop_on_signals
from orchestrator.launch import Exit, check_place, printer
from orchestrator.planning.plan import Plan
from orchestrator.planning.planner import make_plan, with_held
from orchestrator.runs.directory import DAMAGED_FOLDER
from orchestrator.runs.healing import clear_lock, set_aside, set_aside_misplaced
from orchestrator.runs.record import is_run
from orchestrator.spec.sweep import Sweep
from orchestrator.spec.sweep_file import dump
from orchestrator.spec.yaml_file import CONSTRUCTOR_ERRORS, parse_yaml
from orchestrator.store.claims import LOCK_FILE, SESSION_FOLDER
from orchestrator.store.files import Files, open_files
from orchestrator.store.held import HeldFiles
from orchestrator.store.lock import STOP_FILE, RunLock
from orchestrator.store.parquet import write_table
from orchestrator.tuning.journal import JOURNAL_FILE, OPTUNAS_LOCK, mend_journal
from orchestrator.tuning.results import TuningResult, evidence_line, recipe_yaml, result_of, trial_rows, trials_table
from orchestrator.tuning.study import INPUTS, RecipeStudy
from orchestrator.tuning.texts import TextSplit, split_texts
from orchestrator.tuning.tuner import BUDGET, ModelTuner, tune_model
from tasks.wording import counted

TUNE_FILE = "tune.yaml"
TRIALS_FILE = "tune.parquet"
PAGE_FILE = "report/tune.html"
LONGEST_NAME = 200
"""Most bytes of a model's name that a file's name holds."""
NO_BETTER = "none of the recipes tried is better than the sweep's own"
TUNE_FILES = (TUNE_FILE, TRIALS_FILE, JOURNAL_FILE, PAGE_FILE)
TUNE_FOLDERS = ("report", DAMAGED_FOLDER)
TUNE_NAMES = frozenset([*TUNE_FILES, OPTUNAS_LOCK, *TUNE_FOLDERS, LOCK_FILE, STOP_FILE, SESSION_FOLDER])


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneRequest:
    """What the user asks for."""

    sweep: Sweep
    report: Sweep | None
    """A sweep whose texts are reported on; None splits those of `sweep`."""
    trials: int
    """Recipes in total, including those of earlier sessions."""
    budget: int | None
    """Trained tokens of each length search; None: what the sweep's own recipe spends."""
    allow_fewer: bool = False
    environment: tuple[str, ...] = ()
    """Names of variables that workers get on other machines."""


def new_tune_folder(sweep: Sweep) -> str:
    """STORAGE/NAME-tune-DATE-TIME."""
    return f"{sweep.storage.rstrip('/')}/{sweep.name}-tune-{datetime.now():%Y%m%d-%H%M%S}"


def tune(
    request: TuneRequest, url: str, *, inline: bool, address: str | None, take_over: bool, console: Console
) -> Exit:
    """Tune the recipe for each model of the sweep in the folder `url`, or resume its tuning.

    Raises:
        BadInput: when the sweep cannot be tuned or the folder cannot be used; nothing has been written.
    """
    check_place(address, inline=inline)
    variables = carried(request.environment)
    files = _open(url)
    request, split = _plan(request, _held(files))
    _check_asked(request, files)
    stop = Stop()
    with _locked(files, stop, take_over=take_over) as files, stop_on_signals(stop, printer(console)):
        for note in _heal(files):
            console.print(f"note: {literal(note)}", style="yellow", markup=False, highlight=False)
        if not files.exists(TUNE_FILE):
            files.write(TUNE_FILE, _asked(request).encode())
        tuners = [_tuner(request, split, model.name, files, console) for model in split.plan.models]
        for note in split.plan.notes:
            console.print(f"note: {literal(note)}", style="yellow", markup=False, highlight=False)
        where = _workers(
            split.plan,
            inline=inline,
            address=address,
            variables=variables,
            stop=stop,
            on_message=printer(console),
        )
        with where as workers, can_go_on(f"the same command with --run-dir {files.url} continues"):
            for tuner in tuners:
                tuner.on_message(
                    f"{tuner.model}: {len(tuner.study.results)} of {counted(request.trials, 'trial')}, "
                    f"{counted(len(tuner.split.choosing), 'length search')} to choose on, "
                    f"{len(tuner.split.reporting)} to report on"
                )
                if not tune_model(tuner, workers, trials=request.trials):
                    break
        found = [one for tuner in tuners if (one := result_of(tuner)) is not None]
        _write(files, tuners, found, request.sweep.name)
    return _conclude(files, found, stop, console)


def _plan(request: TuneRequest, held: TuneRequest | None) -> tuple[TuneRequest, TextSplit]:
    """The request with the commits of its models and data, and its length searches; BadInput if it cannot be tuned.

    `held` is what the folder's tuning was asked, with the commits that it keeps.
    """
    sweep = request.sweep
    if sweep.search.policy == "grid":
        raise BadInput("search.policy: grid probes given lengths, but tune runs length searches: wanted policy: grow.")
    if len(sweep.num_vectors) > 1:
        raise BadInput(
            f"num_vectors: {list(sweep.num_vectors)}; a recipe is tuned for one number of vectors at a time: "
            f"wanted one of them, such as [{sweep.num_vectors[0]}]."
        )
    if held is not None:
        sweep = with_held(sweep, held.sweep)
    plan = make_plan(sweep, allow_fewer=request.allow_fewer)
    if not plan.task.tunable(sweep.recipe):
        raise BadInput(f"task: {sweep.task}: no field of its recipe can be tuned.")
    report, others = request.report, None
    if report is not None:
        if held is not None and held.report is not None:
            report = with_held(report, held.report)
        others = make_plan(plan.sweep.model_copy(update={"texts": report.texts}), allow_fewer=request.allow_fewer)
        report = report.model_copy(update={"texts": others.sweep.texts})
    # Radii and dtypes are found anew by each session.
    pins = zip(sweep.models, plan.sweep.models, strict=True)
    models = tuple(replace(asked, commit=here.commit, code_commit=here.code_commit) for asked, here in pins)
    sweep = sweep.model_copy(update={"models": models, "texts": plan.sweep.texts})
    return replace(request, sweep=sweep, report=report), split_texts(plan, others)


def _open(url: str) -> Files:
    if "://" in url.removeprefix("file://"):
        raise BadInput(
            f"{url}: the trials are kept in a journal that grows line by line, which object stores do not support. "
            "Wanted a folder on this machine or on a shared file system: give --run-dir."
        )
    files = open_files(url)
    if is_run(files):
        raise BadInput(f"{url}: holds a run. Wanted a folder that is new, empty or made by `capsweep tune`.")
    if not files.exists(TUNE_FILE):
        names = [name for name in files.names("", suffix="") if not _is_ours(name)]
        if names:
            raise BadInput(
                f"{url}: holds {', '.join(names[:3])}, which `capsweep tune` did not make. Choose another --run-dir."
            )
    return files


def _held(files: Files) -> TuneRequest | None:
    """What the tuning in a folder was asked; None if there is none, or that cannot be read."""
    if not files.exists(TUNE_FILE):
        return None
    content = files.read(TUNE_FILE)
    if not content.endswith(b"\n"):
        return None  # it was cut, and a part of YAML may be YAML, too
    try:
        document = parse_yaml(content.decode())[0]
        sweep, texts = Sweep.model_validate(document["sweep"]), document["report"]
        report = None if texts is None else Sweep.model_validate({**document["sweep"], "texts": texts})
        return TuneRequest(sweep=sweep, report=report, trials=0, budget=document["budget"])
    except CONSTRUCTOR_ERRORS:
        return None


def _check_asked(request: TuneRequest, files: Files) -> None:
    """Raise BadInput if the folder holds a tuning that was asked something else."""
    held = _held(files)
    # One that cannot be read is written again: the journal has the ids of the searches, which hold all but the budget.
    if held is not None and yaml.safe_load(_asked(held)) != yaml.safe_load(_asked(request)):
        raise BadInput(
            f"{files.url}: already holds another tuning ({TUNE_FILE} in it has another sweep, --report or --budget). "
            "Choose another --run-dir."
        )


def _heal(files: HeldFiles) -> list[str]:
    """Set aside what is damaged; returns a note about each."""
    recipes = [name for name in files.names("", suffix=".yaml") if name.startswith("recipe")]
    notes = list(set_aside_misplaced(files, names=(*TUNE_FILES, *recipes), folders=TUNE_FOLDERS).values())
    if files.exists(TUNE_FILE) and _held(files) is None:
        notes.append(f"{TUNE_FILE} was damaged: it is in {set_aside(files, TUNE_FILE)} now, and was written again.")
    return [*notes, *mend_journal(files)]


def _is_ours(name: str) -> bool:
    return name in TUNE_NAMES or name.startswith("recipe")


def _asked(request: TuneRequest) -> str:
    """What decides the results, in the form that is stored beside them."""
    report = None if request.report is None else yaml.safe_load(dump(request.report))["texts"]
    asked: dict[str, Any] = {"sweep": yaml.safe_load(dump(request.sweep)), "report": report, "budget": request.budget}
    return yaml.safe_dump(asked, sort_keys=False, allow_unicode=True)


@contextmanager
def _locked(files: Files, stop: Stop, *, take_over: bool) -> Iterator[HeldFiles]:
    lock = RunLock(files, uuid.uuid4().hex, asked_to_stop=stop.interrupt)
    try:
        clear_lock(files)
        held = lock.take(take_over=take_over)
    except OSError as error:
        raise BadInput(
            f"{files.url}: cannot be written to ({error.strerror or error}). Choose another --run-dir."
        ) from error
    try:
        yield held
    finally:
        lock.release()


def _tuner(request: TuneRequest, split: TextSplit, model: str, files: HeldFiles, console: Console) -> ModelTuner:
    mine, recipe = split.of(model), request.sweep.recipe
    ranges, texts = split.plan.task.tunable(recipe), mine.samples(mine.choosing)
    study = RecipeStudy(Path(files.url), model, recipe=recipe, ranges=ranges, texts=texts, check=files.check)
    inputs = [[search.search_id for search in side] for side in (mine.choosing, mine.reporting)]
    if study.attribute(INPUTS) is None:
        study.note(INPUTS, inputs)
        if request.budget is not None:
            study.note(BUDGET, request.budget)
    elif study.attribute(INPUTS) != inputs:
        raise BadInput(
            f"{files.url}: the texts or the model {model} have changed since this tuning began. "
            "Restore them, or choose another --run-dir."
        )
    return ModelTuner(model=model, recipe=recipe, split=mine, study=study, on_message=printer(console))


@contextmanager
def _workers(
    plan: Plan,
    *,
    inline: bool,
    address: str | None,
    variables: Mapping[str, str],
    stop: Stop,
    on_message: Callable[[str], None],
) -> Iterator[Workers]:
    settings = plan.sweep.engine_settings()
    if inline:
        yield InlineWorkers(plan, settings, stop)
        return
    from orchestrator.cluster.environment import set_variables

    set_variables(address)  # before Ray is imported
    from orchestrator.cluster.recipe_workers import ray_workers

    on_ray = ray_workers(plan, settings, address=address, variables=variables, stop=stop, on_message=on_message)
    with on_ray as workers:
        yield workers


def _write(files: Files, tuners: list[ModelTuner], found: list[TuningResult], name: str) -> None:
    from orchestrator.tuning.page import render_tune_page

    write_table(files, TRIALS_FILE, trials_table([r for tuner in tuners for r in trial_rows(tuner.model, tuner.study)]))
    for one in found:
        files.write(_recipe_file(one, len(tuners)), recipe_yaml(one).encode())
    files.write(PAGE_FILE, render_tune_page(name, tuners, found).encode())


def _recipe_file(found: TuningResult, num_models: int) -> str:
    plain = "".join(letter if letter.isalnum() or letter in "-._" else "_" for letter in found.model)
    if len(plain.encode()) > LONGEST_NAME:  # a file's name has a limit, which a model's name may reach
        plain = f"{plain[: LONGEST_NAME // 8]}-{hashlib.sha256(found.model.encode()).hexdigest()[:16]}"
    return "recipe.yaml" if num_models == 1 else f"recipe-{plain}.yaml"


def _conclude(files: Files, found: list[TuningResult], stop: Stop, console: Console) -> Exit:
    on_message = printer(console)
    for one in found:
        changed = ", ".join(f"{name} {one.recipe[name]}" for name in one.changed)
        on_message(f"{one.model}: {changed or NO_BETTER}")
        on_message(f"  chosen on:   {evidence_line(one.choosing)}")
        on_message(f"  reported on: {evidence_line(one.reporting)} ({one.reporting.verdict})")
    on_message(f"trials: {files.url}/{TRIALS_FILE}, page: {files.url}/{PAGE_FILE}")
    if stop.interrupted:
        on_message(f"interrupted: the same command with --run-dir {files.url} resumes it.")
        return Exit.INTERRUPTED
    return Exit.DONE
