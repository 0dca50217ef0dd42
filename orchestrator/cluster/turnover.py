"""Which engines leave and which models get new ones, so that a pool comes nearer to what placement.py allots.

Pure: values in, values out. Knows nothing of Ray, of engines as such or of the ledger.
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
    """Whether it leaves already."""


def leaving(held: Sequence[HeldEngine], wanted: Mapping[str, int]) -> list[bool]:
    """Of each engine, whether it gets no more probes: those beyond what is wanted of its model.

    Those that leave already go first, then those with fewest probes in flight.

    Args:
        held: Engines there are.
        wanted: Model -> its engines; a model that is not in it wants none.
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

    No more than there will be places: what is asked of Ray beyond that would look like a need for more nodes. An engine
    that leaves keeps its place until it has no probes left.

    Args:
        held: Engines there are, those that leave among them.
        wanted: Model -> its engines.
    """
    have = Counter(engine.model for engine in held if not engine.leaves)
    lacks = [model for model, number in wanted.items() for _ in range(number - have[model])]
    return lacks[: max(0, sum(wanted.values()) - len(held))]
