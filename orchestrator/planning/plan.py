"""From a sweep to the searches it asks for.

Reads texts, tokenizers and model configurations; writes nothing. Knows nothing of Ray or of what was found so far.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa

from orchestrator.errors import BadInput
from orchestrator.progress import tracked
from orchestrator.search.ledger import Search
from orchestrator.search.policy import Status
from orchestrator.spec.sweep import RandomLengths, Sweep
from orchestrator.store.probe_columns import SearchColumns, criterion_name
from orchestrator.store.schema import SAMPLES, SEARCHES
from orchestrator.store.searches import theoretical_tokens
from tasks.contract import Reader, Task, TextCodec
from tasks.registry import TASKS
from tasks.texts import texts_of
from tasks.values import Encoding, Model, ModelFacts, Question, TaskError, Text

RECURRENT_NOTE = (
    "a recurrent model, for which there is no fused kernel here: on a CPU a step takes 7 to 22 times as long as that "
    "of a Llama of its size."
)
REMOTE_CODE_NOTE = "trust_remote_code: code that comes with this model may run here, with all your rights."
PICKLE_NOTE = (
    "allow_pickle: without safetensors its weights are read as pickles, which are made to run code; torch refuses what "
    "is no tensor, and nothing else stands between."
)
CHARACTERS_PER_TOKEN = 16
"""Of a long text so many characters for each token are cut to tokens first, and twice as many while that is short."""
WINDOW = 8
"""Tokens before one that are decoded with it to see how many characters it adds: some join with their neighbours."""
CUT_MARGIN = 4096
"""Characters beyond the last token kept: a token near the end of what was read may be another one in the whole text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedModel:
    """A model of the sweep, ready to be measured."""

    name: str
    """What rows and tables call it: the hub id, or the folder's name."""
    model: Model
    facts: ModelFacts
    recipe: Mapping[str, Any]
    """That of the sweep, with what was found of this model filled in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One text, cut to tokens by one tokenizer."""

    sample_id: str
    model: str
    """Name of the model whose tokenizer cut it."""
    source: str
    other_sources: tuple[str, ...] = ()
    """Where the same tokens were met again."""
    text_sha256: str
    text: str
    """The text up to the last token kept."""
    tokens: tuple[int, ...]
    token_ends: tuple[int, ...]
    """Where each token ends, in characters of `text`."""
    cut: bool
    """Whether the text continues after the last token kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything a run sets out to do."""

    sweep: Sweep
    task: Task
    question: Question
    models: tuple[PlannedModel, ...]
    samples: dict[tuple[str, str], Sample] = field(repr=False)
    """By model name and sample_id."""
    searches: tuple[Search, ...] = field(repr=False)
    text_commits: dict[str, str] = field(default_factory=dict)
    """Place in the sweep, such as texts.0 -> the commit of what was read there, where it is known."""
    notes: tuple[str, ...] = ()
    """What a user should know before it starts."""

    def model(self, name: str) -> PlannedModel:
        """The model that rows call `name`."""
        return next(model for model in self.models if model.name == name)

    def question_of(self, name: str) -> Question:
        """What searches of this model ask, with its own recipe."""
        return replace(self.question, recipe=self.model(name).recipe)

    def columns(self, search: Search) -> SearchColumns:
        """The columns that all rows of this search share."""
        sample = self.samples[search.model, search.sample_id]
        return SearchColumns(
            model=search.model,
            model_revision=self.model(search.model).facts.revision,
            sample_id=search.sample_id,
            text_sha256=sample.text_sha256,
            source=sample.source,
            seed=search.seed,
            recipe=json.dumps(dict(self.model(search.model).recipe), sort_keys=True),
        )

    def searches_table(self) -> pa.Table:
        """All searches in the columns of SEARCHES, nothing known of them yet."""
        rows = [
            {
                "search_id": search.search_id,
                "task": self.sweep.task,
                "model": search.model,
                "model_revision": self.model(search.model).facts.revision,
                "sample_id": search.sample_id,
                "source": self.samples[search.model, search.sample_id].source,
                "num_vectors": search.num_vectors,
                "seed": search.seed,
                "criterion": criterion_name(self.question),
                "decode_from": self.question.decode_from,
                "limit": search.limit,
                "limit_status": search.limit_status,
                "grid": search.grid,
                "status": "open",
                "theoretical_tokens": theoretical_tokens(
                    self.model(search.model).facts, num_vectors=search.num_vectors
                ),
            }
            for search in self.searches
        ]
        return pa.Table.from_pylist(rows, schema=SEARCHES)

    def samples_table(self) -> pa.Table:
        """All samples in the columns of SAMPLES."""
        return pa.Table.from_pylist([asdict(sample) for sample in self.samples.values()], schema=SAMPLES)


def make_plan(
    sweep: Sweep,
    *,
    allow_fewer: bool = False,
    drawn: Mapping[tuple[str, str], Text] | None = None,
    held: Sweep | None = None,
    measure: bool = True,
) -> Plan:
    """Read models and texts and lay out all searches.

    Args:
        sweep: What the user asks for.
        allow_fewer: Continue when a text source has fewer texts than asked for.
        drawn: Texts of the run by model and source: what a model drew for it once, another machine may draw otherwise.
        held: The sweep of the run, if there is one: what was measured of its models is not measured again.
        measure: Whether to measure on models what their recipe leaves to them, for which their weights are loaded.

    Raises:
        BadInput: with every problem found in models and texts.
    """
    task, question = TASKS[sweep.task], sweep.question()
    problems: list[str] = []
    notes: list[str] = []
    texts = _read_texts(sweep, problems, notes, allow_fewer=allow_fewer)
    commits = {} if problems else _commits(sweep, notes)
    sweep = _with_dtypes(sweep if held is None else with_held_models(sweep, held), task, problems, notes)
    models = _read_models(sweep, task, problems)
    if measure and not problems:
        models = _with_recipes(models, task, problems, notes)
        sweep = sweep.model_copy(update={"models": tuple(model.model for model, _ in models)})
    own = {
        model.name: _texts_of_reader(sweep, model, codec, problems, drawn or {})
        for model, codec in (models if not problems else [])
    }
    if problems:
        raise BadInput(*problems)
    for model, _ in models:
        notes += [f"{model.name}: {REMOTE_CODE_NOTE}"] * model.model.trust_remote_code
        notes += [f"{model.name}: {PICKLE_NOTE}"] * model.model.allow_pickle
        notes += [f"{model.name}: {RECURRENT_NOTE}"] * model.facts.is_recurrent
    samples: dict[tuple[str, str], Sample] = {}
    searches: list[Search] = []
    for model, codec in models:
        longest = {k: _longest(sweep, task, model, question, k, problems) for k in sweep.num_vectors}
        # As for one vector, whatever k is asked for: a sample keeps its name when a sweep gains another k.
        cut_at = _longest(sweep, task, model, question, 1, problems=[])
        mine = [text for entry, found in zip(texts, own[model.name], strict=True) for text in entry or found]
        for sample in _cut(mine, model.name, codec, cut_at, notes, special=sweep.special_tokens):
            samples[model.name, sample.sample_id] = sample
            if max(sample.tokens) >= model.facts.vocabulary:
                problems.append(
                    f"{model.name}: its tokenizer gives token {max(sample.tokens)} for {sample.source}, its vocabulary "
                    f"has {model.facts.vocabulary}. Wanted the tokenizer of this very model."
                )
            for num_vectors, limit in longest.items():
                for seed in sweep.seeds:
                    search = _search(sweep, task, question, model, sample, num_vectors, seed, limit)
                    if search.grid == ():
                        notes.append(
                            f"{sample.source}: {search.limit} tokens, shorter than every length of the grid; left out."
                        )
                    else:
                        searches.append(search)
    if problems:  # each number of vectors may have found the same one
        raise BadInput(*dict.fromkeys(problems))
    if not searches:
        raise BadInput("texts: every text is empty or too short once cut to tokens; wanted one that is not.", *notes)
    return Plan(
        sweep=sweep,
        task=task,
        question=question,
        models=tuple(model for model, _ in models),
        samples=samples,
        searches=tuple(searches),
        text_commits=commits,
        notes=tuple(dict.fromkeys(notes)),
    )


def _read_texts(sweep: Sweep, problems: list[str], notes: list[str], *, allow_fewer: bool) -> list[list[Text]]:
    """The texts of each entry; none yet of those that depend on the model."""
    texts: list[list[Text]] = []
    for number, source in enumerate(sweep.texts):
        found: list[Text] = []
        try:
            if not source.needs_reader:
                found = texts_of(source)
        except TaskError as error:
            problems.append(f"texts.{number}: {error}")
            continue
        texts.append(found)
        if source.needs_reader:
            continue
        if source.samples is not None and len(found) < source.samples:
            found_fewer = f"texts.{number}: {source.samples} samples were asked for, the source has {len(found)}."
            if not found or not allow_fewer:
                problems.append(f"{found_fewer} Ask for fewer, or continue with those by --allow-fewer.")
            else:
                notes.append(f"{found_fewer} Continuing with {len(found)}.")
    return texts


def _commits(sweep: Sweep, notes: list[str]) -> dict[str, str]:
    """The commit of each entry that has one; a note for each whose texts may change."""
    found: dict[str, str] = {}
    for number, source in enumerate(sweep.texts):
        place, commit = f"texts.{number}", source.commit()
        if commit is not None:
            found[place] = commit
        if source.may_change():
            pin = commit or "<commit>, one of the history on its page; which it is now could not be found out"
            notes.append(f"{place}: revision: null takes whatever the hub has now; pin it with revision: {pin}")
    return found


def _texts_of_reader(
    sweep: Sweep, model: PlannedModel, codec: TextCodec, problems: list[str], drawn: Mapping[tuple[str, str], Text]
) -> list[list[Text]]:
    """The texts of each entry that depend on the model; none of the others."""
    reader = Reader(model=model.model, facts=model.facts, codec=codec)
    texts: list[list[Text]] = []
    for number, source in enumerate(sweep.texts):
        try:
            found = texts_of(source, reader) if source.needs_reader else []
        except TaskError as error:
            problems.append(f"texts.{number}: {model.name}: {error}")
            continue
        texts.append([_as_drawn(text, drawn.get((model.name, text.source))) for text in found])
    return texts


def _as_drawn(text: Text, before: Text | None) -> Text:
    """The text as the run has it, unless this one is the same and only longer."""
    if before is None or text.tokens is None or text.tokens[: len(before.tokens or ())] == before.tokens:
        return text
    return before


def _read_models(sweep: Sweep, task: Task, problems: list[str]) -> list[tuple[PlannedModel, TextCodec]]:
    found: list[tuple[PlannedModel, TextCodec]] = []
    for number, model in enumerate(sweep.models):
        try:
            facts, codec = task.facts(model), task.codec(model)
        except TaskError as error:
            problems.append(f"models.{number}: {error}")
            continue
        if same := [other.name for other, _ in found if other.facts.fingerprint == facts.fingerprint]:
            problems.append(f"models.{number}: {model.name} has the same weights and dtype as {same[0]}; remove one.")
            continue
        name = _model_name(model) + (f"-{model.quantization}" if model.quantization else "")
        if model.revision and sum(other.name == model.name for other in sweep.models) > 1:
            name = f"{name}@{model.revision}"
        if any(other.name == name for other, _ in found):
            # The same name twice: another revision, dtype or folder. The fingerprint tells them apart.
            name = f"{name}@{facts.fingerprint[:8]}"
        found.append((PlannedModel(name=name, model=model, facts=facts, recipe=sweep.recipe), codec))
    return found


def with_held_models(sweep: Sweep, held: Sweep) -> Sweep:
    """The sweep with what a run has decided about its models, where it leaves that open: dtypes and radii."""
    dtypes = {replace(model, radius=None, dtype="auto"): model.dtype for model in reversed(held.models)}
    radii = {replace(model, radius=None): model.radius for model in held.models}
    models: list[Model] = []
    for model in sweep.models:
        if model.dtype == "auto":
            model = replace(model, dtype=dtypes.get(replace(model, radius=None), "auto"))
        models.append(model if model.radius is not None else replace(model, radius=radii.get(model)))
    return sweep.model_copy(update={"models": tuple(models)})


def _with_dtypes(sweep: Sweep, task: Task, problems: list[str], notes: list[str]) -> Sweep:
    """The sweep with every `dtype: auto` decided."""
    if all(model.dtype != "auto" for model in sweep.models):
        return sweep
    try:
        dtype = task.dtype_for(sweep.engines.device)
    except TaskError as error:
        problems.append(str(error))
        dtype = "float32"  # for the other problems that its models may have
    notes.append(f"dtype: auto is {dtype}, by what this machine can do; it is kept with the run.")
    models = [replace(model, dtype=dtype) if model.dtype == "auto" else model for model in sweep.models]
    return sweep.model_copy(update={"models": tuple(models)})


def _with_recipes(
    models: Sequence[tuple[PlannedModel, TextCodec]], task: Task, problems: list[str], notes: list[str]
) -> list[tuple[PlannedModel, TextCodec]]:
    """The models with their recipes complete, and what was found kept in their entries."""
    found: list[tuple[PlannedModel, TextCodec]] = []
    for number, (planned, codec) in enumerate(tracked(models, "measuring the radius of the models")):
        try:
            recipe, note = task.recipe_for(planned.model, planned.facts, planned.recipe)
        except TaskError as error:
            problems.append(f"models.{number}: {error}")
            continue
        notes += [f"{planned.name}: {note}"] * bool(note)
        radius = recipe.get("radius", 0.0) if "radius" in planned.recipe else planned.model.radius
        found.append((replace(planned, recipe=recipe, model=replace(planned.model, radius=radius)), codec))
    return found


def _model_name(model: Model) -> str:
    """The hub id, or the folder's name; a folder called `model` goes by the folder it is in."""
    folder = Path(model.name).resolve()
    if not folder.is_dir():
        return model.name
    return folder.parent.name if folder.name == "model" else folder.name


def _longest(
    sweep: Sweep, task: Task, model: PlannedModel, question: Question, num_vectors: int, problems: list[str]
) -> int | None:
    """Longest length a search of this model may ask for; None if only the text bounds it."""
    try:
        fits = task.longest_text(model.facts, num_vectors=num_vectors, question=question)
    except TaskError as error:
        problems.append(f"{model.name}: {error}")
        return None
    wanted = sweep.search.max_length
    if fits is not None and fits < 1:
        problems.append(f"num_vectors: {num_vectors} vectors leave no room in the context of {model.name}.")
        return None
    if wanted is not None and fits is not None and wanted > fits:
        problems.append(
            f"search.max_length: {wanted} tokens do not fit into the context of {model.name}, "
            f"which holds {fits} beside num_vectors: {num_vectors}. Ask for at most {fits}, or null for as many as fit."
        )
    return min((limit for limit in (fits, wanted) if limit is not None), default=None)


def _cut(
    texts: Sequence[Text], model: str, codec: TextCodec, limit: int | None, notes: list[str], *, special: bool
) -> list[Sample]:
    """Each text as tokens, the special ones before it if `special`; the same tokens once."""
    before = codec.special_before if special else ()
    cut: dict[str, Sample] = {}
    for text in texts:
        encoding, whole = _encode(codec, text, limit)
        if not encoding.tokens:
            notes.append(f"{text.source}: no tokens in this text; left out.")
            continue
        whole_tokens, whole_ends = (*before, *encoding.tokens), (*[0] * len(before), *encoding.ends)
        tokens, ends = whole_tokens[:limit], whole_ends[:limit]
        sample_id = _hash(codec.fingerprint, json.dumps(tokens))
        if (same := cut.get(sample_id)) is not None:
            cut[sample_id] = replace(same, other_sources=(*same.other_sources, text.source))
            continue
        cut[sample_id] = Sample(
            sample_id=sample_id,
            model=model,
            source=text.source,
            text_sha256=hashlib.sha256(text.text.encode()).hexdigest(),
            text=text.text[: ends[-1]],
            tokens=tokens,
            token_ends=ends,
            cut=len(tokens) < len(whole_tokens) or not whole,
        )
    for sample in cut.values():
        if others := sample.other_sources:
            named = ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
            notes.append(f"{sample.source}: the same tokens in {named}; searched once.")
    return list(cut.values())


def _encode(codec: TextCodec, read: Text, limit: int | None) -> tuple[Encoding, bool]:
    """The text as tokens, and whether it is the whole; of a book only the beginning that holds `limit` tokens."""
    text = read.text
    if read.tokens is not None:
        return Encoding(tokens=read.tokens, ends=_ends_of(codec, read)), True
    length = len(text) if limit is None else CHARACTERS_PER_TOKEN * limit + CUT_MARGIN
    while length < len(text):
        encoding = codec.encode(text[:length])
        if limit is not None and len(encoding.tokens) > limit and encoding.ends[limit] <= length - CUT_MARGIN:
            return encoding, False
        length *= 2
    return codec.encode(text), True


def _ends_of(codec: TextCodec, read: Text) -> tuple[int, ...]:
    """Where each of the source's own tokens ends in its text: how much longer the text gets by it."""
    assert read.tokens is not None
    longer: list[int] = []
    for i in range(len(read.tokens)):
        before = read.tokens[max(0, i - WINDOW) : i]
        longer.append(max(0, len(codec.decode((*before, read.tokens[i]))) - len(codec.decode(before))))
    return tuple(min(end, len(read.text)) for end in accumulate(longer))


def _search(
    sweep: Sweep,
    task: Task,
    question: Question,
    model: PlannedModel,
    sample: Sample,
    num_vectors: int,
    seed: int,
    longest: int | None,
) -> Search:
    """One question, and the hash of everything that decides its answer."""
    limit = len(sample.tokens) if longest is None else min(longest, len(sample.tokens))
    limit_status: Status = "at_text_end"
    if sample.cut or limit < len(sample.tokens):
        limit_status = "at_max_length" if limit == sweep.search.max_length else "at_model_limit"
    lengths = sweep.search.lengths
    # The keys are those of identity, not names in the code: a field can be renamed and every search_id stays.
    decides = {
        "model": model.facts.fingerprint,
        "task": sweep.task,
        "sample": sample.sample_id,
        "num_vectors": num_vectors,
        "seed": seed,
        "criterion": question.criterion,
        "decode_from": question.decode_from,
        "prefix": question.prefix,
        "policy": sweep.search.policy,
        "growth": question.growth,
        "retries": sweep.search.retries,
        "limit": limit,
        "lengths": _lengths_identity(lengths),
        "recipe": dict(task.recipe_identity(model.recipe)),
    }
    search_id = _hash(json.dumps(decides, sort_keys=True))
    grid = lengths.draw(search_id) if isinstance(lengths, RandomLengths) else lengths
    if grid is not None:
        grid = tuple(length for length in grid if length <= limit)
        if grid and max(grid) < limit:
            limit, limit_status = max(grid), "at_max_length"
    return Search(
        search_id=search_id,
        model=model.name,
        sample_id=sample.sample_id,
        num_vectors=num_vectors,
        seed=seed,
        limit=limit,
        limit_status=limit_status,
        grid=grid,
    )


def _lengths_identity(lengths: Sequence[int] | RandomLengths | None) -> Any:
    """What of a grid decides results, as JSON."""
    if isinstance(lengths, RandomLengths):
        return {"draws": lengths.draws, "shortest": lengths.shortest, "longest": lengths.longest}
    return None if lengths is None else list(lengths)


def _hash(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
