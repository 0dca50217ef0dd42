"""The searches of a plan: how long each may get, and what decides its answer.

Pure. Knows nothing of Ray, torch or files.
"""

import json

from orchestrator.planning.identity import hash_of, lengths_identity
from orchestrator.planning.plan import PlannedModel, Sample
from orchestrator.search.ledger import Search
from orchestrator.search.policy import Status
from orchestrator.spec.sweep import RandomLengths, Sweep
from tasks.contract import Task
from tasks.values import Question, TaskError


def longest_length(
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


def search_of(
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
        "lengths": lengths_identity(lengths),
        "recipe": dict(task.recipe_identity(model.recipe)),
    }
    search_id = hash_of(json.dumps(decides, sort_keys=True))
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
