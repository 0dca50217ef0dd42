"""Runs that share a cluster: each gets its share of the engines, and those that the others leave unused.

A run finds the others by the names of their recorders, and asks each recorder how many engines its run lacks.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import ray
from ray.exceptions import RayError

from orchestrator.cluster.cluster_view import free_nodes
from orchestrator.cluster.placement import EngineDemand, Node, allot

RECORDER_NAME = "recorder"
"""Name of a run's recorder in the namespace of its session."""
LOOK_SECONDS = 5.0
"""How often the other runs are asked."""
MOST_ENGINES = 10_000
"""More engines than any cluster has places for."""


class Neighbours:
    """The other runs on this cluster, and how many engines they leave to this one."""

    def __init__(self) -> None:
        self.num_others = 0
        self.one_lacks = False
        """Whether one of them lacks engines of its share."""
        self._asked: list[Any] = []
        self._looked_at = -LOOK_SECONDS

    def look(self) -> None:
        """Find the other runs, at most once per LOOK_SECONDS; never waits for their answers."""
        if time.monotonic() - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = time.monotonic()
        if self._asked:
            answered, _ = ray.wait(self._asked, num_returns=len(self._asked), timeout=0)
            self.one_lacks = any(_lacking(reply) for reply in answered)
        mine = ray.get_runtime_context().namespace
        named: Any = ray.util.list_named_actors(all_namespaces=True)
        others = [
            actor["namespace"] for actor in named if actor["name"] == RECORDER_NAME and actor["namespace"] != mine
        ]
        self.num_others = len(others)
        self._asked = []
        for namespace in others:
            try:
                self._asked.append(ray.get_actor(RECORDER_NAME, namespace=namespace).lacking.remote())
            except (ValueError, RayError):  # it has just ended
                self.num_others -= 1
        if not others:
            self.one_lacks = False

    def most_engines(
        self, asked: Sequence[EngineDemand], nodes: Sequence[Node], *, held: int
    ) -> tuple[int | None, int]:
        """How many engines this run may have: its share, and what no other run lacks.

        Args:
            asked: What its models ask for.
            nodes: The cluster.
            held: Engines that the run has.

        Returns:
            The most engines it may have (None while it is the only run), and how many engines of its share it can use.
        """
        if not self.num_others or not asked:
            return None, 0
        everything = replace(asked[0], fills=MOST_ENGINES, most=MOST_ENGINES)
        fair = math.ceil(sum(allot([everything], nodes).values()) / (self.num_others + 1))
        wanted = sum(allot(asked, nodes).values())
        if self.one_lacks:
            return min(fair, wanted), min(fair, wanted)
        return min(wanted, max(fair, held + sum(allot(asked, free_nodes()).values()))), min(fair, wanted)


def _lacking(reply: Any) -> bool:
    try:
        return int(ray.get(reply)) > 0
    except RayError:
        return False
