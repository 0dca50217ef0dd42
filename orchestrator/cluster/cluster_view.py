"""The nodes of a cluster, and those that its autoscaler may add."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import ray
import yaml
from ray._private.state import available_resources_per_node

from orchestrator.cluster.placement import Node
from orchestrator.cluster.sizing import GPU_GIGABYTES, UNKNOWN_GPU_GIGABYTES
from tasks.homes import expanded

AUTOSCALER_FILE = Path("~/ray_bootstrap_config.yaml")
"""Where `ray up` leaves the cluster file on the head."""
ACCELERATOR = "accelerator_type:"


def node_of(resources: Mapping[str, float], *, present: bool = True) -> Node:
    """The node with these resources, as Ray counts them."""
    gpus = resources.get("GPU", 0.0)
    kinds = [name.removeprefix(ACCELERATOR) for name in resources if name.startswith(ACCELERATOR)]
    sizes = [GPU_GIGABYTES.get(kind, UNKNOWN_GPU_GIGABYTES) for kind in kinds] or [UNKNOWN_GPU_GIGABYTES]
    return Node(
        cpus=resources.get("CPU", 0.0), gpus=gpus, gpu_gigabytes=float(min(sizes)) if gpus else 0.0, present=present
    )


def cluster_nodes() -> list[Node]:
    """The nodes that are present, followed by those that the autoscaler may add."""
    present = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    path = expanded(AUTOSCALER_FILE)
    config = _read(path, path.stat().st_mtime_ns) if path.exists() else {}
    return [*map(node_of, present), *addable(config, num_workers=len(present) - 1)]


@lru_cache(maxsize=1)
def _read(path: Path, changed_at: int) -> Mapping[str, Any]:
    """A cluster file, read again only when it has changed: the pool asks every second, and `ray up` may rewrite it."""
    return yaml.safe_load(path.read_text(encoding="utf-8")) or {}


def addable(config: Mapping[str, Any], *, num_workers: int) -> list[Node]:
    """Nodes that a cluster file lets the autoscaler add to the present workers.

    The types of the present workers are not known, so none is deducted from its type: every type offers its
    `max_workers`, and the first nodes are taken, as many as the cluster may still add.
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
    # Types may replace each other, such as spot and on-demand: no more in total than the cluster may add.
    return nodes[: max(0, most)]


def free_nodes() -> list[Node]:
    """The present nodes, with the resources that nobody has reserved."""
    return [node_of(free) for free in available_resources_per_node().values()]
