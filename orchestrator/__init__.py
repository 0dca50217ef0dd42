"""Plans, schedules and records sweeps. `orchestrator.read(run)` gives a run's tables to a notebook."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.runs.directory import RunTables, read

__all__ = ["RunTables", "read"]


def __getattr__(name: str) -> Any:
    # pyarrow and duckdb are imported on first use, so that `capsweep --help` does not wait for them.
    if name in __all__:
        from orchestrator.runs import directory

        return getattr(directory, name)
    raise AttributeError(f"module 'orchestrator' has no attribute {name!r}")
