"""How many engines of each model a cluster has room for, and what each of them takes.

Models are served in the sweep's order. Each first gets the engines that its open searches fill, so that early models
take the whole cluster while they can fill it; the next ones get what is left, above all near the end of the early ones.
Places that no model fills are then given out again, so that no device idles while searches are open.

Pure: numbers in, numbers out. Knows nothing of Ray, model files or probes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from orchestrator.errors import BadInput
from orchestrator.spec.engines import EnginesEntry
from tasks.wording import counted

SPARE_CPUS = 0.5
"""CPUs of a node left to trials when engines take the rest. A trial only waits, but its share of these bounds how many
run, so that further trials wait for a free process instead of starting one."""
SMALLEST_SHARE = 0.05
"""Fewest CPUs that an engine reserves; with less, the machine is too crowded to be of use."""
SEARCHES_PER_PROCESSOR = 16
"""Searches that fill an engine on a processor: with fewer slots, most of a step is overhead."""
SEARCHES_PER_GPU = 64
"""Searches that fill an engine on a GPU: a step of 64 slots of 30 tokens is 2,000 tokens. Estimated. On an H100, 64
slots of SmolLM2 take as long as 24, so they do not fill it (docs/scale.md)."""
FEWEST_SEARCHES = 8
"""Fewest searches per engine where places would stay empty otherwise: the quickstart's 24 searches on two cores take
134 s with an engine on each core, 189 s with one engine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A machine of the cluster, or one that the autoscaler may add."""

    cpus: float
    gpus: float = 0.0
    gpu_gigabytes: float = 0.0
    """Device memory of each of its GPUs, in GB; 0 without a GPU."""
    present: bool = True
    """False for a node that the autoscaler may add."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineNeed:
    """What one engine takes of a node."""

    cpus: float
    gpus: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineDemand:
    """A model with open searches, and the engines it can use."""

    model: str
    need: EngineNeed
    fills: int
    """Engines that its open searches fill."""
    most: int
    """Engines over which its searches can be spread if there is spare room; at least `fills`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelNeeds:
    """What is known about a model before its engines are placed."""

    model: str
    num_open: int
    """Searches that are not done."""
    num_begun: int
    """Searches not done when the session began: engines made for them stay until their place is needed."""
    gpus: float
    """GPUs, or the fraction of one, that an engine takes if there are GPUs; from the device memory it needs."""
    is_small: bool
    """Whether more than one processor does not speed it up."""


def uses_gpus(engines: EnginesEntry, nodes: Sequence[Node]) -> bool:
    """Whether engines of this sweep go to GPUs on these nodes."""
    if engines.device == "cpu" or engines.gpus == 0:
        return False
    return engines.gpus != "auto" or any(node.gpus for node in nodes)


def engine_demand(engines: EnginesEntry, demand: ModelNeeds, nodes: Sequence[Node]) -> EngineDemand:
    """What a model asks of a cluster.

    Args:
        engines: Settings of the sweep; this function decides those that are `auto`.
        demand: The model.
        nodes: The cluster, and the nodes that may be added to it.

    Raises:
        BadInput: when no node can hold one engine.
    """
    if uses_gpus(engines, nodes):
        gpus = demand.gpus if engines.gpus == "auto" else float(engines.gpus)
        fills, most = SEARCHES_PER_GPU, FEWEST_SEARCHES
        per_node = [int(node.gpus / gpus + 1e-9) for node in nodes]
        cpus_wanted = 1.0 if engines.cpus == "auto" else float(engines.cpus)
    else:
        gpus, fills, most = 0.0, SEARCHES_PER_PROCESSOR, FEWEST_SEARCHES
        largest = max((node.cpus for node in nodes), default=0.0)
        whole = min((node.cpus for node in nodes if node.cpus >= largest / 2), default=0.0)
        cpus_wanted = float(engines.cpus) if engines.cpus != "auto" else 1.0 if demand.is_small else whole
        per_node = [int(node.cpus // cpus_wanted) if cpus_wanted else 0 for node in nodes]
    count = None if engines.count == "auto" else engines.count
    if count is not None and not gpus:
        cpus = _largest_share(count, [node.cpus - SPARE_CPUS for node in nodes])
        cpus = cpus if engines.cpus == "auto" else min(cpus_wanted, cpus)
    else:
        shares = [(node.cpus - SPARE_CPUS) / n for node, n in zip(nodes, per_node, strict=True) if n]
        cpus = min([cpus_wanted, *(share for share in shares if share > 0)])
    places = sum(per_node)
    if gpus and places < (count or 1):
        raise BadInput(
            f"engines: asked for {counted(count or 1, 'engine')} of {gpus:g} GPU{'' if gpus == 1 else 's'} each; the "
            f"cluster has {sum(node.gpus for node in nodes):g} GPUs. Ask for fewer, or set engines.gpus and "
            "engines.count to auto."
        )
    if cpus < SMALLEST_SHARE or (not gpus and not places and count is None):
        raise BadInput(
            f"engines.count: asked for {counted(count or 1, 'engine')}; so many do not fit side by side on "
            f"{counted(len(nodes), 'node')} of at most "
            f"{max((node.cpus for node in nodes), default=0):g} CPUs. Ask for fewer."
        )
    filled = max(1, count or demand.num_open // fills)
    spread = max(filled, count or min(demand.num_begun // most, demand.num_open))
    return EngineDemand(model=demand.model, need=EngineNeed(cpus=cpus, gpus=gpus), fills=filled, most=spread)


def _largest_share(count: int, room: Sequence[float]) -> float:
    """The most processors that each of `count` engines can get, given the processors of each node."""
    shares = sorted((here / engines for here in room if here > 0 for engines in range(1, count + 1)), reverse=True)
    # The tolerance lets thirds of a node fit three times.
    return next((share for share in shares if sum(int(here / share + 1e-9) for here in room) >= count), 0.0)


def allot(demands: Sequence[EngineDemand], nodes: Sequence[Node], *, most: int | None = None) -> dict[str, int]:
    """How many engines each model gets.

    Args:
        demands: Demands of the models, in the order in which they are served.
        nodes: The cluster, and nodes that may be added to it, which only get engines that searches fill.
        most: Most engines in total; None: as many as there is room for.

    Returns:
        Model -> its engines; models without an engine are left out.
    """
    room = [replace(node, cpus=node.cpus - SPARE_CPUS) for node in nodes]
    counts: dict[str, int] = {}
    for spread in (False, True):
        for asked in demands:
            wanted = asked.most if spread else asked.fills
            while counts.get(asked.model, 0) < wanted and (most is None or sum(counts.values()) < most):
                place = _first_place(asked.need, room, only_present=spread)
                if place is None:
                    break
                node = room[place]
                room[place] = replace(node, cpus=node.cpus - asked.need.cpus, gpus=node.gpus - asked.need.gpus)
                counts[asked.model] = counts.get(asked.model, 0) + 1
    return counts


def _first_place(need: EngineNeed, room: Sequence[Node], *, only_present: bool) -> int | None:
    """Index of the first node with room, present nodes before those that may be added; None if there is none."""
    fitting = [
        i
        for i, node in enumerate(room)
        if node.cpus + 1e-6 >= need.cpus and node.gpus + 1e-6 >= need.gpus and (node.present or not only_present)
    ]
    return min(fitting, key=lambda i: not room[i].present, default=None)
