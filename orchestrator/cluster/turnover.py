"""Which engines leave and which models get new ones, so that a pool approaches what placement.py allots.

Pure: values in, values out. Knows nothing of Ray, engine actors or the ledger.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldEngine:
    """What decides whether an engine stays."""

    model: str
    in_flight: int = 0
    """Probes given to it that have no verdict yet."""
    leaves: bool = False
    """Whether it is already leaving."""


def leaving(held: Sequence[HeldEngine], wanted: Mapping[str, int]) -> list[bool]:
    """For each engine, whether it gets no more probes because its model wants fewer engines.

    Engines that are already leaving go first, then those with the fewest probes in flight.

    Args:
        held: All engines of the pool.
        wanted: Model -> number of engines; a model that is missing wants none.
    """
    left = dict(wanted)
    leaves = [True] * len(held)
    for place in sorted(range(len(held)), key=lambda place: (held[place].leaves, -held[place].in_flight)):
        model = held[place].model
        if left.get(model, 0) > 0:
            left[model] -= 1
            leaves[place] = False
    return leaves


def lacking(held: Sequence[HeldEngine], wanted: Mapping[str, int]) -> list[str]:
    """The model of each engine that should be made now, in the order of `wanted`.

    No more engines than places: Ray would take a request beyond them for a need of more nodes. An engine that is
    leaving keeps its place until it has no probes left.

    Args:
        held: All engines of the pool, including those that are leaving.
        wanted: Model -> number of engines.
    """
    have = Counter(engine.model for engine in held if not engine.leaves)
    lacks = [model for model, number in wanted.items() for _ in range(number - have[model])]
    return lacks[: max(0, sum(wanted.values()) - len(held))]
