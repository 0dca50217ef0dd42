"""Records how a run was made: its models, and the versions, hardware and command of each session.

Knows nothing of rows.
"""

import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from orchestrator.planning.plan import Plan, PlannedModel
from orchestrator.redact import redact, redact_command
from orchestrator.runs.directory import PUBLISHED
from orchestrator.runs.record import last_plugins, read_provenance
from orchestrator.spec.sweep import Sweep
from orchestrator.spec.sweep_file import dump
from orchestrator.store.files import Files
from orchestrator.store.parquet import DamagedFileError
from tasks.registry import TASKS, TEXT_SOURCES


def known_provenance(files: Files) -> dict[str, Any]:
    """What the sessions before recorded; nothing if that cannot be read."""
    try:
        return read_provenance(files)
    except DamagedFileError:
        return {}


def with_session(
    plan: Plan,
    known: Mapping[str, Any],
    session_id: str,
    now: datetime,
    *,
    notes: Sequence[str],
    added: Mapping[str, Sequence[Any]] | None,
    reused: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """The run's provenance with a session that begins now.

    Args:
        plan: What the run does.
        known: The provenance before.
        session_id: Id of the session.
        now: When it begins.
        notes: What it found.
        added: What it adds to the run; None unless it extends the run.
        reused: What it took over, one mapping for each run it took from.
    """
    session = {
        "session_id": session_id,
        "started_at": now.isoformat(timespec="seconds"),
        "command": _command(),
        "host": platform.node(),
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "git_commit": _git_commit(),
        "versions": {name: version(name) for name in ("capsweep", "torch", "transformers", "ray", "pyarrow")},
        "notes": list(notes),
        **({"plugins": plugins} if (plugins := plugins_of(plan.sweep)) else {}),
        **({"overrides": [redact(word) for word in plan.overrides]} if plan.overrides else {}),
        **({"reused": [dict(each) for each in reused]} if reused else {}),
        **({} if added is None else {"added": {name: list(entries) for name, entries in added.items()}}),
    }
    return {
        # A copy, in case that the run's own file is damaged.
        "sweep": dump(plan.sweep),
        "models": {model.name: _about(model, known.get("models", {})) for model in plan.models},
        # The first session's entries stay: later sessions read the same texts, or refuse.
        "text_commits": {**plan.text_commits, **known.get("text_commits", {})},
        "notes": list(plan.notes),
        "sessions": [*known.get("sessions", []), session],
        **({PUBLISHED: known[PUBLISHED]} if PUBLISHED in known else {}),
    }


def plugins_of(sweep: Sweep) -> dict[str, str]:
    """What the sweep names that is of a plug-in, such as `task lines` -> the plug-in that offers it."""
    named = [(TASKS, sweep.task), *((TEXT_SOURCES, entry.source) for entry in sweep.texts)]
    return {f"{registry.kind} {name}": origin for registry, name in named if (origin := registry.origin(name))}


def changed_plugins(sweep: Sweep, known: Mapping[str, Any]) -> list[str]:
    """A note for each plug-in of the sweep that is not the one of the last session."""
    before = last_plugins(known)
    return [
        f"{name}: {before[name]} in the session before, {now} in this one. Results may differ."
        for name, now in plugins_of(sweep).items()
        if before.get(name, now) != now
    ]


def _about(model: PlannedModel, known: Mapping[str, Any]) -> dict[str, Any]:
    # Only a plan that loads a model checks how it is read: later sessions keep what the first one found.
    before = known.get(model.name, {}).get("readings")
    readings = before if model.readings is None else asdict(model.readings)
    return {"model": asdict(model.model), "facts": asdict(model.facts), "readings": readings}


def with_end(known: dict[str, Any], session_id: str, now: datetime) -> dict[str, Any]:
    """The run's provenance with the time at which this session ended."""
    ended = {"ended_at": now.isoformat(timespec="seconds")}
    sessions = [{**each, **ended} if each["session_id"] == session_id else each for each in known["sessions"]]
    return {**known, "sessions": sessions}


def _command() -> list[str]:
    """The command with its arguments, or the script or notebook that called a verb as a function."""
    program = Path(sys.argv[0])
    if program.stem == "capsweep" or program.parts[-3:-1] == ("orchestrator", "cli"):
        return redact_command(["capsweep", *sys.argv[1:]])
    return ["python", program.name]


def _processor() -> str | None:
    """What this machine's processor is called; None where the system does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)


def _git_commit() -> str | None:
    """Commit of this code; None outside a checkout."""
    try:
        found = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None
