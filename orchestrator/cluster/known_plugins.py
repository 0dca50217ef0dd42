"""Makes plug-ins known on another machine. Does not import Ray."""

import platform
from collections.abc import Sequence

from tasks.plugins import IncludedFile, include_file
from tasks.registry import TASKS
from tasks.values import TaskError


def know(files: Sequence[IncludedFile], *, task: str) -> None:
    """Include the files that the driver included, and be sure that the task is known.

    Raises:
        TaskError: when one of them fails here, or nothing here offers the task.
    """
    for file in files:
        include_file(file)
    if task not in TASKS:
        raise TaskError(
            f"task {task!r}: nothing on {platform.node()} offers it. Install the plug-in on every node, or give its "
            "file with --include, which goes to all of them."
        )
