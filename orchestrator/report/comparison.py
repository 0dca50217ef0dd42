"""Compares a run with published figures: for its models, sources and k, each printed number and the run's own.

Pure functions from Arrow tables to values. Knows nothing of figures, HTML or run directories.
"""

import csv
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import pyarrow as pa

from orchestrator.report.papers import Paper
from orchestrator.report.published_measures import GroupMeasures, mean_and_sd, published_measures
from orchestrator.report.tables import UNFINISHED, source_kind

PROGRESSIVE_SOURCE = "pg19"
"""The name under which a sweep has the texts of "Progressive Cramming"."""
ONE_STEP_CRITERIA = ("exact", "teacher_forced>=0.99")
"""Criteria compared with the one-step paper: it counts an accuracy of at least 0.99, this project asks for `exact`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One measure of one group: the run's value and the published one."""

    model: str
    source: str
    num_vectors: int
    measure: str
    unit: str
    measured: float | None
    measured_sd: float | None
    published: float
    published_sd: float | None

    @property
    def difference_in_sd(self) -> float | None:
        """Measured minus published, in published standard deviations; None without a measured value or a deviation."""
        if self.measured is None or not self.published_sd:
            return None
        return (self.measured - self.published) / self.published_sd


def compare(probes: pa.Table, searches: pa.Table, paper: Paper) -> list[Compared]:
    """Every published measure of the run's models, sources and k, with the run's own value.

    A model is matched by its hub id, or by a folder name that equals the paper's name for it.

    Args:
        probes: Rows of PROBES.
        searches: Rows of SEARCHES.
        paper: The set of published figures; its paper's conventions define the run's values.
    """
    if paper == "published":
        return [line for group in published_measures(probes) for line in _beside_published(group)]
    return _beside_capacities(searches, paper)


def published_rows(name: str) -> list[dict[str, str]]:
    """The rows of a file of published figures, as text."""
    file = resources.files("orchestrator.report").joinpath("published", name)
    return list(csv.DictReader(file.read_text(encoding="utf-8").splitlines()))


def _paper_names() -> dict[str, str]:
    """Hub id of a model -> what the papers call it."""
    return {row["hf_id"]: row["model"] for row in published_rows("cramming_table1.csv")}


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedSteps:
    """What a paper reports of one model and method: tokens reached, and the optimizer steps that they took."""

    model: str
    """The run's name of the model."""
    name: str
    """The paper's name of the model."""
    method: str
    steps: float
    """Mean over the paper's texts, like `tokens`."""
    tokens: float
    """Exact teacher forced."""
    note: str


def published_steps(searches: pa.Table) -> list[PublishedSteps]:
    """The published points of tokens against optimizer steps for the models of a run that asks what the paper asks.

    Source: "Progressive Cramming" (ICML 2026), tables and trajectories.
    """
    names = _paper_names()
    asked: set[str] = {row["model"] for row in searches.to_pylist() if _asks_what("progressive", row)}
    found = {model: names.get(model, model.rpartition("/")[2]) for model in sorted(asked)}
    return [
        PublishedSteps(
            model=model,
            name=name,
            method=row["method"],
            steps=float(row["steps_mean"]),
            tokens=float(row["exact_tokens_mean"]),
            note=f"{row['texts']} texts" + (f", {row['note']}" if row["note"] else ""),
        )
        for model, name in found.items()
        for row in published_rows("progressive_steps.csv")
        if row["model"] == name
    ]


def _beside_published(group: GroupMeasures) -> list[Compared]:
    table = [{**row, "num_vectors": "1"} for row in published_rows("cramming_table1.csv")]
    by_vectors = [{**row, "source": "pg19"} for row in published_rows("cramming_by_vectors.csv")]
    table += [row for row in by_vectors if row["num_vectors"] != "1"]
    name = _paper_names().get(group.model, group.model)
    lines: list[Compared] = []
    for row in table:
        if (row["model"], row["source"], row["num_vectors"]) != (name, group.source, str(group.num_vectors)):
            continue
        capacity = None if group.decoding_capacity is None else (float(group.decoding_capacity), None)
        measured_of = (
            ("decoding capacity", "tokens", capacity, "decoding_capacity_tokens"),
            ("token gain", "tokens", group.token_gain, "token_gain_mean"),
            ("information gain", "nats", group.information_gain_nats, "information_gain_nats_mean"),
        )
        for measure, unit, found, stem in measured_of:
            sd = row.get(stem.replace("_mean", "_std")) if stem.endswith("_mean") else None
            if row[stem]:
                lines.append(
                    Compared(
                        model=name,
                        source=group.source,
                        num_vectors=group.num_vectors,
                        measure=measure,
                        unit=unit,
                        measured=found[0] if found else None,
                        measured_sd=found[1] if found else None,
                        published=float(row[stem]),
                        published_sd=float(sd) if sd else None,
                    )
                )
    return lines


def _beside_capacities(searches: pa.Table, paper: Paper) -> list[Compared]:
    names = _paper_names()
    groups: dict[tuple[str, str, int], list[Mapping[str, Any]]] = defaultdict(list)
    for row in searches.to_pylist():
        if row["status"] not in UNFINISHED and row["capacity_tokens"] is not None and _asks_what(paper, row):
            name = names.get(row["model"], str(row["model"]).rpartition("/")[2])
            groups[name, source_kind(row["source"]), row["num_vectors"]].append(row)
    beside = _beside_horizons if paper == "progressive" else _beside_one_step
    return [line for key in sorted(groups) for line in beside(*key, groups[key])]


def _asks_what(paper: Paper, search: Mapping[str, Any]) -> bool:
    """Whether a search asks the paper's question; only then are its numbers comparable."""
    if paper == "progressive":
        asked = (search["task"], search["criterion"], search["decode_from"], search["num_vectors"])
        return asked == ("cramming", "exact", "memory", 1) and source_kind(search["source"]) == PROGRESSIVE_SOURCE
    return search["task"] == "one_step" and search["criterion"] in ONE_STEP_CRITERIA


def _beside_horizons(
    model: str, source: str, num_vectors: int, rows: Sequence[Mapping[str, Any]]
) -> Iterator[Compared]:
    measures = (
        ("exact horizon", "tokens", "capacity_tokens", "exact_tokens"),
        ("information gain", "bits", "information_gain_bits", "information_gain_bits"),
    )
    for row in published_rows("progressive_horizons.csv"):
        for measure, unit, column, stem in measures:
            if row["model"] != model or not row[f"{stem}_mean"]:
                continue
            found = mean_and_sd([float(search[column]) for search in rows])
            assert found is not None, "a group has a search"
            yield Compared(
                model=model,
                source=source,
                num_vectors=num_vectors,
                measure=f"{measure}, {row['method']}",
                unit=unit,
                measured=found[0],
                measured_sd=found[1],
                published=float(row[f"{stem}_mean"]),
                published_sd=float(row[f"{stem}_std"]) if row[f"{stem}_std"] else None,
            )


def _beside_one_step(
    model: str, source: str, num_vectors: int, rows: Sequence[Mapping[str, Any]]
) -> Iterator[Compared]:
    num_texts = rows[0]["num_texts"] or 1  # k - 1 under this task, so all rows of one k have it
    second_vector = "per_text" if num_texts == 1 else "shared"
    for row in published_rows("one_step_lengths.csv"):
        if (row["source"], row["second_vector"]) == (source, second_vector) and row.get(model):
            yield Compared(
                model=model,
                source=source,
                num_vectors=num_vectors,
                measure=f"longest text, second vector {row['second_vector']}",
                unit="tokens",
                # The paper counts the tokens of one text, in a group those that every text reaches.
                measured=max(float(search["capacity_tokens"] // num_texts) for search in rows),
                measured_sd=None,
                published=float(row[model]),
                published_sd=None,
            )
