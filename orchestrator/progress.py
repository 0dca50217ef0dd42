"""A progress bar for long work outside a run; a run has its own live view.

Knows nothing of what it counts.
"""

from collections.abc import Iterable, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import track

Item = TypeVar("Item")


def tracked(items: Sequence[Item], what: str) -> Iterable[Item]:
    """The items, with a progress bar on stderr that disappears at the end; no bar where stderr is not a terminal."""
    console = Console(stderr=True)
    return track(items, what, console=console, transient=True, disable=not console.is_terminal)
