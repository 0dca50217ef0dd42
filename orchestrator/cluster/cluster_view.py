"""What a cluster has and may get: its nodes, and what the autoscaler may add."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import ray
import yaml
from ray._private.state import available_resources_per_node

from orchestrator.cluster.placement import Node
from orchestrator.cluster.sizing import GPU_GIGABYTES, UNKNOWN_GPU_GIGABYTES

AUTOSCALER_FILE = Path("~/ray_bootstrap_config.yaml")
"""Where `ray up` leaves the cluster file on the head."""
ACCELERATOR = "accelerator_type:"


def node_of(resources: Mapping[str, float], *, present: bool = True) -> Node:
    """A node by its resources, as Ray counts them."""
    gpus = resources.get("GPU", 0.0)
    kinds = [name.removeprefix(ACCELERATOR) for name in resources if name.startswith(ACCELERATOR)]
    sizes = [GPU_GIGABYTES.get(kind, UNKNOWN_GPU_GIGABYTES) for kind in kinds] or [UNKNOWN_GPU_GIGABYTES]
    return Node(
        cpus=resources.get("CPU", 0.0), gpus=gpus, gpu_gigabytes=float(min(sizes)) if gpus else 0.0, present=present
    )


def cluster_nodes() -> list[Node]:
    """The nodes that are there, and after them those that the autoscaler may add."""
    present = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    path = AUTOSCALER_FILE.expanduser()
    config = _read(path, path.stat().st_mtime_ns) if path.exists() else {}
    return [*map(node_of, present), *addable(config, num_workers=len(present) - 1)]


@lru_cache(maxsize=1)
def _read(path: Path, changed_at: int) -> Mapping[str, Any]:
    """A cluster file; the pool asks every second, and `ray up` may write it anew at any time."""
    return yaml.safe_load(path.read_text()) or {}


def addable(config: Mapping[str, Any], *, num_workers: int) -> list[Node]:
    """Nodes that a cluster file lets the autoscaler add to the workers there are.

    Which of its types those are is not known: they are taken to be of the first ones, so that nodes of every type are
    left to be asked for as long as there may be more at all.
    """
    types = config.get("available_node_types", {})
    head = config.get("head_node_type")
    most = int(config.get("max_workers", 0)) - num_workers
    nodes = [
        node_of(kind.get("resources", {}), present=False)
        for name, kind in types.items()
        if name != head
        for _ in range(min(int(kind.get("max_workers", 0)), max(0, most)))
    ]
    # Spot and on-demand types stand for each other: no more in all than may come.
    return nodes[: max(0, most)]


def free_nodes() -> list[Node]:
    """The nodes that are there with what nobody has reserved of them."""
    return [node_of(free) for free in available_resources_per_node().values()]
