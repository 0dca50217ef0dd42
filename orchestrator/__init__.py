"""Plans, schedules and records sweeps, and reads runs.

The verbs that plan, run and read are functions here: `run(sweep)` gives a `Run`, whose tables are Arrow tables.
docs/with_other_tools.md has examples.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.analysis.memories import LoadedMemory
    from orchestrator.api.reading import (
        compare,
        decode,
        export,
        fit,
        list_runs,
        load_memory,
        measure,
        read,
        verify,
        verify_under,
    )
    from orchestrator.api.run import Run, open_run
    from orchestrator.api.running import Checked, check, extend, include, resume, run
    from orchestrator.api.tuning import tune
    from orchestrator.errors import BadInput
    from orchestrator.launch import Exit
    from orchestrator.runs.directory import RunTables
    from orchestrator.spec.sweep import Sweep

__all__ = [
    "BadInput",
    "Checked",
    "Exit",
    "LoadedMemory",
    "Run",
    "RunTables",
    "Sweep",
    "check",
    "compare",
    "decode",
    "export",
    "extend",
    "fit",
    "include",
    "list_runs",
    "load_memory",
    "measure",
    "open_run",
    "read",
    "resume",
    "run",
    "tune",
    "verify",
    "verify_under",
]

_PLACES = {
    "orchestrator.analysis.memories": ("LoadedMemory",),
    "orchestrator.api.reading": (
        *("compare", "decode", "export", "fit", "list_runs", "load_memory", "measure", "read"),
        *("verify", "verify_under"),
    ),
    "orchestrator.api.run": ("Run", "open_run"),
    "orchestrator.api.running": ("Checked", "check", "extend", "include", "resume", "run"),
    "orchestrator.api.tuning": ("tune",),
    "orchestrator.errors": ("BadInput",),
    "orchestrator.launch": ("Exit",),
    "orchestrator.runs.directory": ("RunTables",),
    "orchestrator.spec.sweep": ("Sweep",),
}
"""Module -> what it has of `__all__`."""


def __getattr__(name: str) -> Any:
    # pyarrow, ray and the rest are imported on first use, so that `capsweep --help` does not wait for them.
    for module, names in _PLACES.items():
        if name in names:
            from importlib import import_module

            return getattr(import_module(module), name)
    raise AttributeError(f"module 'orchestrator' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
