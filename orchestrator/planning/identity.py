"""What decides the identity of a sample and of a search.

Pure. Knows nothing of Ray, torch or files.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.planning.plan import PlannedModel
from orchestrator.spec.search import RandomLengths
from orchestrator.spec.sweep import Sweep
from tasks.registry import TASKS


def sample_id_of(tokenizer: str, tokens: Sequence[int], context: Sequence[int] = ()) -> str:
    """An id that is equal for equal tokens of equal tokenizers.

    Args:
        tokenizer: Fingerprint of the tokenizer.
        tokens: The tokens that a search may use, and no others.
        context: The tokens that stand before its memories.
    """
    return _hash(tokenizer, json.dumps(tokens), *([json.dumps(context)] if context else []))


def identity_of(sweep: Sweep, model: PlannedModel) -> Mapping[str, Any]:
    """What all searches of this model have in common that decides their results.

    The keys belong to the identity, not to the code: a field can be renamed without changing any search_id.
    """
    question = sweep.question()
    return {
        "model": model.facts.fingerprint,
        "task": sweep.task,
        "criterion": {"margin": question.least_margin} if question.least_margin else question.criterion,
        "decode_from": question.decode_from,
        "prefix": question.prefix,
        "policy": sweep.search.policy,
        "growth": question.growth,
        "retries": sweep.search.retries,
        "lengths": _lengths_identity(sweep.search.lengths),
        "recipe": dict(TASKS[sweep.task].recipe_identity(model.recipe)),
        # Earlier versions had no such field, and their searches keep their ids.
        **({"share": {"second": question.num_texts}} if question.num_texts > 1 else {}),
    }


def search_id_of(identity: Mapping[str, Any], *, sample_id: str, num_vectors: int, seed: int, limit: int) -> str:
    """An id that is equal for searches whose results must be equal.

    Args:
        identity: The result of `identity_of`.
        sample_id: Id of the text.
        num_vectors: Vectors in a memory.
        seed: Seed of the search.
        limit: Longest length that the search may ask for, in tokens.
    """
    own = {"sample": sample_id, "num_vectors": num_vectors, "seed": seed, "limit": limit}
    return _hash(json.dumps({**identity, **own}, sort_keys=True))


def _lengths_identity(lengths: Sequence[int] | RandomLengths | None) -> Any:
    """The part of a grid that decides results, as JSON."""
    if isinstance(lengths, RandomLengths):
        return {"draws": lengths.draws, "shortest": lengths.shortest, "longest": lengths.longest}
    return None if lengths is None else list(lengths)


def _hash(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
