"""What a run was and cost, for the head of its page: date, wall time, hardware, engine hours, steps.

Pure functions from Arrow tables and provenance to plain text. Knows nothing of HTML.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa

from orchestrator.report.pace import duration
from tasks.wording import counted

MOST_LISTED = 3
"""Most hosts, devices or versions that are named one by one."""


def facts(probes: pa.Table, provenance: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(what, value) of the facts that are known, in the order of the page.

    Args:
        probes: Rows of PROBES, of one run or of several.
        provenance: That of a run, or of several by the name of their folder.
    """
    sessions = list(_sessions(provenance))
    totals = (sum(filter(None, probes[name].to_pylist())) for name in ("seconds", "steps", "trained_tokens"))
    seconds, steps, tokens = totals
    # A share of an engine's time is measured for each probe, so the sum over probes is the time of engines.
    cost = (
        f"{_hours(seconds)}; {counted(steps, 'optimizer step')}; {counted(tokens, 'trained token')}" if seconds else ""
    )
    found = {
        "Date": _dates(sessions),
        "Wall time": _wall_time(sessions, probes),
        "Hardware": _hardware(sessions, probes),
        "Cost": cost,
        "Made with": _versions(sessions),
    }
    return [(what, value) for what, value in found.items() if value]


def _sessions(provenance: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for name, value in provenance.items():
        if name == "sessions" and isinstance(value, list):
            yield from value
        elif isinstance(value, Mapping) and "sessions" in value:
            yield from _sessions(value)


def _dates(sessions: Sequence[Mapping[str, Any]]) -> str:
    times = sorted(session[name] for session in sessions for name in ("started_at", "ended_at") if session.get(name))
    if not times:
        return ""
    first, last = datetime.fromisoformat(times[0]), datetime.fromisoformat(times[-1])
    until = f"{last:%H:%M}" if first.date() == last.date() else f"{last:%Y-%m-%d %H:%M}"
    return f"{first:%Y-%m-%d %H:%M} to {until} {first.tzname() or ''}".strip()


def _wall_time(sessions: Sequence[Mapping[str, Any]], probes: pa.Table) -> str:
    """Time of all sessions together; of a session that has no end, the time to its last probe."""
    last: dict[str, datetime] = {}
    rows = [row for row in probes.select(["session_id", "finished_at"]).to_pylist() if row["finished_at"] is not None]
    for row in sorted(rows, key=lambda row: row["finished_at"]):
        last[row["session_id"]] = row["finished_at"]
    total = timedelta()
    for session in sessions:
        began, ended = datetime.fromisoformat(session["started_at"]), session.get("ended_at")
        end = datetime.fromisoformat(ended) if ended else last.get(session["session_id"], began)
        total += max(timedelta(), end - began)
    if not sessions:
        return ""
    in_sessions = f" in {counted(len(sessions), 'session')}" if len(sessions) > 1 else ""
    return duration(total.total_seconds()) + in_sessions


def _hardware(sessions: Sequence[Mapping[str, Any]], probes: pa.Table) -> str:
    machines = dict.fromkeys(
        ", ".join(
            part
            for part in (
                session.get("processor") or session.get("machine"),
                counted(session["cores"], "core") if session.get("cores") else None,
            )
            if part
        )
        for session in sessions
    )
    devices = sorted(set(probes["device"].to_pylist()) - {None})
    parts = [_listed(list(filter(None, machines))), f"computed on {_listed(devices)}" if devices else ""]
    return "; ".join(filter(None, parts))


def _versions(sessions: Sequence[Mapping[str, Any]]) -> str:
    made = dict.fromkeys(
        f"capsweep {session['versions'].get('capsweep', '')}"
        + (f" at {session['git_commit'][:10]}" if session.get("git_commit") else "")
        for session in sessions
        if session.get("versions")
    )
    return _listed(list(made))


def _hours(seconds: float) -> str:
    """Time of engines, in hours where that is not nearly nothing."""
    return f"{seconds / 3600:,.2f} engine hours" if seconds >= 36 else f"{seconds:,.1f} engine seconds"


def _listed(words: Sequence[str]) -> str:
    more = f" and {len(words) - MOST_LISTED} more" if len(words) > MOST_LISTED else ""
    return ", ".join(words[:MOST_LISTED]) + more
