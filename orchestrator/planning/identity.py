"""What decides the identity of a sample and of a search.

Pure. Knows nothing of Ray, torch or files.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

from orchestrator.spec.sweep import RandomLengths


def lengths_identity(lengths: Sequence[int] | RandomLengths | None) -> Any:
    """What of a grid decides results, as JSON."""
    if isinstance(lengths, RandomLengths):
        return {"draws": lengths.draws, "shortest": lengths.shortest, "longest": lengths.longest}
    return None if lengths is None else list(lengths)


def hash_of(*parts: str) -> str:
    """Sixteen digits that stand for all of these."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
