"""Lays out a plan from its inputs: samples, searches, and the longest length of each search.

Pure: values in, values out. Knows nothing of Ray, torch or files.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.errors import BadInput
from orchestrator.planning.contexts import Split
from orchestrator.planning.groups import grouped, held_groups
from orchestrator.planning.held import with_held
from orchestrator.planning.identity import identity_of, search_id_of
from orchestrator.planning.inputs import Found, Inputs, ReadModel, notes_of, problems_of
from orchestrator.planning.plan import Plan, PlannedModel, Sample
from orchestrator.planning.samples import cut_to_samples
from orchestrator.search.ledger import Search
from orchestrator.search.policy import Status
from orchestrator.spec.search import RandomLengths, SearchEntry
from orchestrator.spec.sweep import Sweep
from tasks.registry import TASKS
from tasks.values import TaskError
from tasks.wording import counted


@dataclass(frozen=True, slots=True, kw_only=True)
class _Laid:
    """The part of a plan that belongs to one model."""

    samples: Sequence[Sample]
    searches: Sequence[Search]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What all searches of one model have in common."""

    model: str
    """Name of the model."""
    identity: Mapping[str, Any]
    search: SearchEntry


def lay_out(inputs: Inputs) -> Plan:
    """The plan: a search for every model, text, number of vectors and seed.

    Raises:
        BadInput: with every problem of texts that do not fit their model, or when there is no search.
    """
    sweep = inputs.sweep
    parts = [_lay_out_model(sweep, model, inputs.held.get(model.planned.name, ())) for model in inputs.models]
    if problems := problems_of(parts):  # several numbers of vectors may report the same problem
        raise BadInput(*dict.fromkeys(problems))
    notes = (*inputs.notes, *notes_of(parts))
    searches = tuple(search for part in parts for search in part.value.searches)
    if not searches:
        raise BadInput(
            "texts: cut to tokens, every text is empty or too short; wanted at least one that is not.", *notes
        )
    return Plan(
        sweep=sweep,
        task=TASKS[sweep.task],
        question=sweep.question(),
        models=tuple(model.planned for model in inputs.models),
        samples={(sample.model, sample.sample_id): sample for part in parts for sample in part.value.samples},
        searches=searches,
        text_commits=dict(inputs.text_commits),
        notes=tuple(dict.fromkeys(notes)),
    )


def _lay_out_model(sweep: Sweep, model: ReadModel, held: Sequence[Sample]) -> Found[_Laid]:
    planned = model.planned
    longest = {num_vectors: longest_length(sweep, planned, num_vectors) for num_vectors in sweep.num_vectors}
    # Cut as for one vector, whatever k is asked for: a sample_id must not change when a sweep gains another k.
    cut_at = longest_length(sweep, planned, 1).value
    question, tokenizer = sweep.question(), model.codec.fingerprint
    if question.num_texts > 1:  # such a task takes one k only
        cut_at = min((found.value for found in longest.values() if found.value is not None), default=None)
    longest_text = None if cut_at is None else math.ceil(cut_at / question.num_texts)
    split = Split(context=question.context, repeats=question.repeats_context, longest=longest_text)
    read = cut_to_samples(model.texts, planned.name, model.codec, split.tokens_of_both, special=sweep.special_tokens)
    texts = split.texts(read.value, tokenizer)
    groups = grouped(texts.value, question.num_texts, tokenizer=tokenizer, longest=cut_at)
    if held and question.num_texts > 1:
        samples = held_groups(groups.value, held, tokenizer=tokenizer)
    else:
        samples = with_held(groups.value, held, tokenizer=tokenizer, longest=cut_at)
    asked = _Asked(model=planned.name, identity=identity_of(sweep, planned), search=sweep.search)
    searches: list[Search] = []
    too_short: list[str] = []
    for sample in samples.value:
        for num_vectors, limit in longest.items():
            for seed in sweep.seeds:
                search = _search(asked, sample, num_vectors=num_vectors, seed=seed, longest=limit.value)
                if search.grid == ():
                    too_short.append(
                        f"{sample.source}: {counted(search.limit, 'token')}, "
                        "shorter than every length of the grid; left out."
                    )
                else:
                    searches.append(search)
    return Found(
        value=_Laid(samples=samples.value, searches=searches),
        problems=(*problems_of([*longest.values()]), *_beyond_vocabulary(planned, samples.value)),
        notes=(*read.notes, *texts.notes, *groups.notes, *samples.notes, *too_short),
    )


def _beyond_vocabulary(model: PlannedModel, samples: Sequence[Sample]) -> list[str]:
    """A problem for each sample with a token that is not in the model's vocabulary."""
    return [
        f"{model.name}: its tokenizer gives token {max(sample.tokens)} for {sample.source}, but its vocabulary "
        f"has {model.facts.vocabulary}. Wanted the tokenizer of this model."
        for sample in samples
        if max(sample.tokens) >= model.facts.vocabulary
    ]


def longest_length(sweep: Sweep, model: PlannedModel, num_vectors: int) -> Found[int | None]:
    """Longest length that a search of this model may ask for, in tokens; None if only the text limits it."""
    try:
        fits = TASKS[sweep.task].longest_text(model.facts, num_vectors=num_vectors, question=sweep.question())
    except TaskError as error:
        return Found(value=None, problems=(f"{model.name}: {error}",))
    if fits is not None and fits < 1:
        vectors = counted(num_vectors, "vector leaves", "vectors leave")
        no_room = f"num_vectors: {vectors} no room in the context of {model.name}."
        return Found(value=None, problems=(no_room,))
    wanted = sweep.search.max_length
    problems: tuple[str, ...] = ()
    if wanted is not None and fits is not None and wanted > fits:
        problems = (
            f"search.max_length: {counted(wanted, 'token does', 'tokens do')} not fit into the context of "
            f"{model.name}, which holds {fits} "
            f"beside num_vectors: {num_vectors}. Ask for at most {fits}, or null for as many as fit.",
        )
    return Found(value=min((limit for limit in (fits, wanted) if limit is not None), default=None), problems=problems)


def _search(asked: _Asked, sample: Sample, *, num_vectors: int, seed: int, longest: int | None) -> Search:
    """The search of one sample, identified by the hash of everything that decides its result."""
    limit = len(sample.tokens) if longest is None else min(longest, len(sample.tokens))
    limit_status: Status = "at_text_end"
    if sample.cut or limit < len(sample.tokens):
        limit_status = "at_max_length" if limit == asked.search.max_length else "at_model_limit"
    search_id = search_id_of(
        asked.identity, sample_id=sample.sample_id, num_vectors=num_vectors, seed=seed, limit=limit
    )
    lengths = asked.search.lengths
    grid = lengths.draw(search_id) if isinstance(lengths, RandomLengths) else lengths
    if grid is not None:
        grid = tuple(length for length in grid if length <= limit)
        if grid and max(grid) < limit:
            limit, limit_status = max(grid), "at_max_length"
    return Search(
        search_id=search_id,
        model=asked.model,
        sample_id=sample.sample_id,
        num_vectors=num_vectors,
        seed=seed,
        limit=limit,
        limit_status=limit_status,
        grid=grid,
    )
