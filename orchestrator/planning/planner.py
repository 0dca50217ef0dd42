"""Reads what a sweep names and lays out its searches.

Writes nothing. Knows nothing of Ray or of what was found so far.
"""

from collections.abc import Mapping

from orchestrator.errors import BadInput
from orchestrator.planning.models import (
    PICKLE_NOTE,
    RECURRENT_NOTE,
    REMOTE_CODE_NOTE,
    read_models,
    with_dtypes,
    with_held_models,
    with_recipes,
)
from orchestrator.planning.plan import Plan, Sample
from orchestrator.planning.samples import cut_to_samples
from orchestrator.planning.searches import longest_length, search_of
from orchestrator.planning.texts import commits_of_texts, read_texts, texts_of_reader
from orchestrator.search.ledger import Search
from orchestrator.spec.sweep import Sweep
from tasks.registry import TASKS
from tasks.values import Text


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
    texts = read_texts(sweep, problems, notes, allow_fewer=allow_fewer)
    commits = {} if problems else commits_of_texts(sweep, notes)
    sweep = with_dtypes(sweep if held is None else with_held_models(sweep, held), task, problems, notes)
    models = read_models(sweep, task, problems)
    if measure and not problems:
        models = with_recipes(models, task, problems, notes)
        sweep = sweep.model_copy(update={"models": tuple(model.model for model, _ in models)})
    own = {
        model.name: texts_of_reader(sweep, model, codec, problems, drawn or {})
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
        longest = {k: longest_length(sweep, task, model, question, k, problems) for k in sweep.num_vectors}
        # As for one vector, whatever k is asked for: a sample keeps its name when a sweep gains another k.
        cut_at = longest_length(sweep, task, model, question, 1, problems=[])
        mine = [text for entry, found in zip(texts, own[model.name], strict=True) for text in entry or found]
        for sample in cut_to_samples(mine, model.name, codec, cut_at, notes, special=sweep.special_tokens):
            samples[model.name, sample.sample_id] = sample
            if max(sample.tokens) >= model.facts.vocabulary:
                problems.append(
                    f"{model.name}: its tokenizer gives token {max(sample.tokens)} for {sample.source}, its vocabulary "
                    f"has {model.facts.vocabulary}. Wanted the tokenizer of this very model."
                )
            for num_vectors, limit in longest.items():
                for seed in sweep.seeds:
                    search = search_of(sweep, task, question, model, sample, num_vectors, seed, limit)
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
