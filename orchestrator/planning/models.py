"""What a plan needs of a sweep's models: facts, tokenizers, dtypes, recipes.

Knows nothing of texts or searches.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from orchestrator.planning.inputs import Found, ReadModel
from orchestrator.planning.plan import PlannedModel
from orchestrator.progress import tracked
from orchestrator.spec.sweep import Sweep
from tasks.contract import Task, TextCodec
from tasks.facts import ModelFacts
from tasks.texts import AT_COMMIT
from tasks.values import Model, TaskError, WrongModelError

RECURRENT_NOTE = (
    "a recurrent model, without a fused kernel here: on a CPU, a step takes 7 to 22 times as long as for a Llama of "
    "the same size."
)
REMOTE_CODE_NOTE = "trust_remote_code: code that comes with this model may run here, with all your rights."
PICKLE_NOTE = (
    "allow_pickle: without safetensors, its weights are read from pickles, which can run code; the only protection is "
    "that torch refuses anything but tensors."
)


def with_dtypes(sweep: Sweep, task: Task) -> Found[Sweep]:
    """The sweep with every `dtype: auto` decided."""
    if all(model.dtype != "auto" for model in sweep.models):
        return Found(value=sweep)
    problems: tuple[str, ...] = ()
    try:
        dtype = task.dtype_for(sweep.engines.device)
    except TaskError as error:
        problems = (str(error),)
        dtype = "float32"  # so that the other problems of the models are found as well
    models = [replace(model, dtype=dtype) if model.dtype == "auto" else model for model in sweep.models]
    return Found(
        value=sweep.model_copy(update={"models": tuple(models)}),
        problems=problems,
        notes=(f"dtype: auto is {dtype} on this machine; the run keeps it.",),
    )


def with_held_models(sweep: Sweep, held: Sweep) -> Sweep:
    """The sweep with the commits, dtypes and radii that a run keeps for its models, where they are left open."""
    models = [_with_held(model, held.models) for model in sweep.models]
    return sweep.model_copy(update={"models": tuple(models)})


def _with_held(model: Model, held: Sequence[Model]) -> Model:
    """The model with what a run keeps for the first of its models that this one may be."""
    for known in held:
        decided = {
            "commit": known.commit if model.commit is None else model.commit,
            "code_commit": known.code_commit if model.code_commit is None else model.code_commit,
            "dtype": known.dtype if model.dtype == "auto" else model.dtype,
        }
        filled = replace(model, **decided)
        if replace(filled, radius=None) == replace(known, radius=None):
            return filled if model.radius is not None else replace(filled, radius=known.radius)
    return model


def read_models(sweep: Sweep, task: Task) -> Found[list[ReadModel]]:
    """The facts of each model, which need no weights, and its tokenizer."""
    found: list[ReadModel] = []
    problems: list[str] = []
    for number, model in enumerate(sweep.models):
        try:
            model = task.pinned(model)
        except TaskError as error:
            problems.append(f"models.{number}: {error}")
            continue
        about, found_facts, found_codec = _read(model, task)
        problems += [f"models.{number}: {line}" for line in about]
        if found_facts is None or found_codec is None:
            continue
        facts, codec = found_facts, found_codec
        problems += [f"models.{number}: {line}" for line in _contradictions(model, facts, codec, sweep)]
        before = [other.planned for other in found]
        if same := [other.name for other in before if other.facts.fingerprint == facts.fingerprint]:
            problems.append(f"models.{number}: {model.name} has the same weights and dtype as {same[0]}; remove one.")
            continue
        name = _model_name(model) + (f"-{model.quantization}" if model.quantization else "")
        if model.revision and sum(other.name == model.name for other in sweep.models) > 1:
            name = f"{name}@{model.revision}"
        if any(other.name == name for other in before):
            # The same name with another revision, dtype or folder: the fingerprint tells them apart.
            name = f"{name}@{facts.fingerprint[:8]}"
        planned = PlannedModel(name=name, model=model, facts=facts, recipe=sweep.recipe)
        found.append(ReadModel(planned=planned, codec=codec))
    return Found(value=found, problems=tuple(problems))


def _read(model: Model, task: Task) -> tuple[list[str], ModelFacts | None, TextCodec | None]:
    """Every problem of a model's files, and what could be read; its tokenizer is left out if there is no model."""
    problems: list[str] = []
    facts, codec = None, None
    try:
        facts = task.facts(model)
    except WrongModelError as error:
        problems += error.args
    except TaskError as error:
        return list(error.args), None, None
    try:
        codec = task.codec(model)
    except TaskError as error:
        problems += error.args
    return problems, facts, codec


def _contradictions(model: Model, facts: ModelFacts, codec: TextCodec, sweep: Sweep) -> list[str]:
    """What the configuration and the tokenizer of a model say differently, as far as a sweep depends on it."""
    problems: list[str] = []
    largest = max(codec.ordinary_tokens)
    if largest >= facts.vocabulary:
        problems.append(
            f"{model.name}: its tokenizer has tokens up to {largest}, but its vocabulary has {facts.vocabulary}. "
            "Wanted the tokenizer of this model."
        )
    asks = ["prefix: bos"] * (sweep.prefix == "bos") + [entry.source for entry in sweep.texts if entry.needs_bos]
    if asks and codec.bos is not None and facts.bos not in (None, codec.bos):
        problems.append(
            f"{model.name}: {asks[0]} has two meanings: the BOS is {facts.bos} in its configuration and {codec.bos} "
            "in its tokenizer. Wanted one; set bos_token_id in config.json, or bos_token in tokenizer_config.json, to "
            "what the model was trained with."
        )
    return problems


def _model_name(model: Model) -> str:
    """The hub id, or the folder's name; a folder called `model` is named after its parent.

    A local GGUF file has its own name, without the ending.
    """
    folder = Path(model.name).resolve()
    if folder.is_file():
        return folder.stem
    if not folder.is_dir():
        return model.name
    return folder.parent.name if folder.name == "model" else folder.name


def with_recipes(models: Sequence[ReadModel], task: Task) -> Found[list[ReadModel]]:
    """The models with complete recipes; what was measured for a recipe is kept in the model's entry."""
    found: list[ReadModel] = []
    problems: list[str] = []
    notes: list[str] = []
    for number, read in enumerate(tracked(models, "measuring the radius of the models")):
        planned = read.planned
        try:
            examined = task.examine(planned.model, planned.facts, planned.recipe)
        except TaskError as error:
            problems += [f"models.{number}: {line}" for line in error.args]
            continue
        recipe, readings = examined.recipe, examined.readings
        notes += [f"{planned.name}: {examined.note}"] * bool(examined.note)
        radius = recipe.get("radius", 0.0) if "radius" in planned.recipe else planned.model.radius
        planned = replace(planned, recipe=recipe, readings=readings, model=replace(planned.model, radius=radius))
        found.append(replace(read, planned=planned))
    return Found(value=found, problems=tuple(problems), notes=tuple(notes))


def notes_on(planned: PlannedModel) -> list[str]:
    """What a user should know about this model before a run."""
    model = planned.model
    at_commit = "" if model.commit is None else AT_COMMIT.format(commit=model.commit)
    notes = {
        at_commit: model.commit != model.revision,
        REMOTE_CODE_NOTE: model.trust_remote_code,
        PICKLE_NOTE: model.allow_pickle,
        RECURRENT_NOTE: planned.facts.is_recurrent,
    }
    of_readings = () if planned.readings is None else planned.readings.notes
    held = [note for note, holds in notes.items() if holds]
    return [f"{planned.name}: {note}" for note in (*held, *planned.facts.notes, *of_readings)]
