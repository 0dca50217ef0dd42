"""A bar for whatever takes long outside of a run, whose progress has a view of its own.

Knows nothing of what it counts.
"""

from collections.abc import Iterable, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import track

Item = TypeVar("Item")


def tracked(items: Sequence[Item], what: str) -> Iterable[Item]:
    """The items one by one, with a bar on stderr that goes when it is full; no bar where stderr is no terminal."""
    console = Console(stderr=True)
    return track(items, what, console=console, transient=True, disable=not console.is_terminal)
