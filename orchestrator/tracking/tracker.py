"""What a tracker must do: the protocol that the classes of trackers.py follow, and what they share."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

PROGRESS = "searches_done"
"""Name of the axis that all curves are drawn over: how many finished searches were sent, this one included."""


class Tracker(Protocol):
    """One run of a tracker. Every method may raise whatever its library raises."""

    def begin(self, settings: Mapping[str, Any], *, run_id: str | None, name: str, folder: str, config: Any) -> str:
        """Begin a run, or continue `run_id`; returns its id.

        Args:
            settings: The fields of the sweep file.
            run_id: What an earlier call returned for this run of capsweep; None if there was none.
            name: Name of the run.
            folder: Where files may be kept.
            config: What the run does, as JSON.
        """
        ...

    def url(self) -> str | None:
        """Where the run can be looked at; None if there is no such place yet."""
        ...

    def log(self, progress: int, values: Mapping[str, float], labels: Mapping[str, Any]) -> None:
        """One point: `values` are numbers to draw, `labels` say what they belong to."""
        ...

    def flush(self) -> None:
        """Hand over every point; what has returned is not lost when this process is killed."""
        ...

    def conclude(self, summary: Mapping[str, float], page: str, report: str | None) -> None:
        """The summary as numbers and as Markdown, and the path of the report, if there is one."""
        ...

    def end(self, *, complete: bool) -> None:
        """End the run; `complete`: whether every search was answered."""
        ...


def flat(config: Any, key: str = "") -> dict[str, str]:
    """A nested mapping as one of texts, with keys such as `search.policy`."""
    if isinstance(config, Mapping) and config:
        parts: Sequence[tuple[str, Any]] = [(str(name), part) for name, part in config.items()]
        return {at: text for name, part in parts for at, text in flat(part, f"{key}.{name}" if key else name).items()}
    return {plain_name(key): str(config)}


def plain_name(name: str) -> str:
    """The name in the letters that MLflow, the strictest of them, allows."""
    return re.sub(r"[^\w\-. :/]", "-", name)
