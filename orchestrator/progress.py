"""Where progress can be shown, and a bar for long work outside a run; a run has its own live view.

Knows nothing of what it counts.
"""

from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from typing import TypeVar

from rich.console import Console
from rich.progress import track

Item = TypeVar("Item")


def tracked(items: Sequence[Item], what: str) -> Iterable[Item]:
    """The items, with a progress bar on stderr that disappears at the end; no bar where it cannot be redrawn."""
    console = Console(stderr=True)
    return track(items, what, console=console, transient=True, disable=not can_redraw(console))


def can_redraw(console: Console) -> bool:
    """Whether it is a terminal with control codes, or a notebook with widgets; a file is neither."""
    if console.is_jupyter:
        return find_spec("ipywidgets") is not None
    return console.is_terminal and not console.is_dumb_terminal
