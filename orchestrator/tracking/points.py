"""What trackers are told about a run: its configuration, a point for each finished search, and a summary.

Pure: values of JSON from the run's tables. Knows nothing of trackers.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import pyarrow as pa

from orchestrator.planning.plan import Plan
from orchestrator.redact import redact
from orchestrator.report.tables import UNFINISHED, GroupSummary, Spread, capacity_by_group, short_names
from orchestrator.spec.sweep import without_places

MEASURES = (
    *("capacity_tokens", "capacity_bits", "bits_per_dimension", "token_gain", "information_gain_bits"),
    *("utilization", "margin", "probes", "steps", "trained_tokens", "seconds"),
)
"""Columns of a search that are sent as numbers."""
LABELS = ("search_id", "model", "source", "num_vectors", "seed", "status")
"""Columns of a search that tell which one a point is."""
MEANS = ("tokens", "bits", "bits_per_dimension", "token_gain", "information_gain_bits", "utilization")
"""Spreads of a group whose means are in the summary."""
TOTALS = ("probes", "steps", "trained_tokens", "seconds")
"""Columns of searches whose sums are in the summary."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A finished search."""

    values: Mapping[str, float]
    """Measure and group, such as `capacity_tokens/pythia-160m k4`, -> value. A curve has one model and one k."""
    labels: Mapping[str, Any]
    """Which search it is."""

    @property
    def search_id(self) -> str:
        """The search."""
        return self.labels["search_id"]


def points_of(searches: pa.Table, *, without: Collection[str]) -> list[Point]:
    """A point for each finished search of the table of SEARCHES, except the searches `without`.

    A search that the machine failed has none: it may still be measured.
    """
    names = short_names(searches["model"].to_pylist())
    keys = zip(searches["search_id"].to_pylist(), searches["status"].to_pylist(), strict=True)
    is_fresh = [key not in without and status not in UNFINISHED for key, status in keys]
    fresh = searches.filter(pa.array(is_fresh, pa.bool_()))
    return [_point(row, names) for row in fresh.select([*LABELS, *MEASURES]).to_pylist()]


def _point(row: Mapping[str, Any], names: Mapping[str, str]) -> Point:
    group = f"{names[row['model']]} k{row['num_vectors']}"
    return Point(
        values={f"{name}/{group}": float(row[name]) for name in MEASURES if row[name] is not None},
        labels={name: without_secrets(row[name]) for name in LABELS},
    )


def configuration(plan: Plan, *, git_commit: str | None) -> dict[str, Any]:
    """The sweep with every default, without places and secrets, and what ran it."""
    sweep = without_places(plan.sweep)
    del sweep["storage"]
    return without_secrets(
        {
            **sweep,
            "num_searches": len(plan.searches),
            "model_revisions": {model.name: model.facts.revision for model in plan.models},
            "git_commit": git_commit,
            "versions": {name: version(name) for name in ("capsweep", "torch", "transformers", "ray")},
        }
    )


def summary_of(searches: pa.Table) -> dict[str, float]:
    """Numbers for a whole run: searches by status, totals, and the mean of each measure in each group."""
    statuses = Counter(searches["status"].to_pylist())
    groups = capacity_by_group(searches)
    names = short_names(group.model for group in groups)
    return {
        "searches": float(searches.num_rows),
        **{f"searches_{status}": float(count) for status, count in sorted(statuses.items())},
        **{f"total_{name}": float(sum(filter(None, searches[name].to_pylist()))) for name in TOTALS},
        **{
            f"mean_{measure}/{names[group.model]} k{group.num_vectors} {group.source}": spread.mean
            for group in groups
            for measure, spread in _spreads(group).items()
        },
    }


def _spreads(group: GroupSummary) -> dict[str, Spread]:
    known = {name: getattr(group, name) for name in MEANS}
    return {name: spread for name, spread in known.items() if spread is not None}


def summary_page(summary: Mapping[str, float]) -> str:
    """The summary as a table in Markdown, for trackers that keep text."""
    lines: Sequence[str] = [f"| {name} | {value:.6g} |" for name, value in summary.items()]
    return "\n".join(["| | |", "|---|---|", *lines])


def without_secrets(value: Any) -> Any:
    """A value of JSON in which every text is redacted."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {key: without_secrets(part) for key, part in value.items()}
    return [without_secrets(part) for part in value] if isinstance(value, list | tuple) else value
