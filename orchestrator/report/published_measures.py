"""A run held against published figures: the papers' measures, by the papers' conventions, each a named option.

Pure functions from Arrow tables to values. Knows nothing of figures, HTML or run directories.
"""

import csv
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from statistics import fmean, stdev
from typing import Any, Literal

import pyarrow as pa

from orchestrator.report.tables import UNFINISHED, Group, source_kind

Paper = Literal["published", "progressive", "one_step"]

COLUMNS = [
    *("model", "source", "num_vectors", "outcome", "criterion", "decode_from", "measured_length", "token_accuracy"),
    *("token_accuracy_without_memory", "nats_without_memory", "nats_with_memory"),
]

FOOTNOTES: dict[Paper, tuple[str, ...]] = {
    "published": (
        "The paper prints information gains as bits; its numbers are nats (Llama-3.1-8B at 1568 tokens: 2.337136 nats "
        "a token x 1568 = 3664.6, as printed), and nats are compared here.",
        "The published code neither trains nor scores t_1. Where the tokenizer puts a BOS first that is the BOS; "
        "elsewhere it is a token of the text that is given, not recovered.",
        "The published code saves the memory after the step that follows the measurement: what is stored is not what "
        "passed. Here the memory that was measured is stored.",
    ),
    "progressive": (
        "Exact horizons: every token correct under teacher forcing, t_1 included. Here they are certified by decoding "
        "besides.",
        "The paper's rate differs by model (.1 or .5, absolute); here it is that of the sweep's recipe. low_dim and "
        "activation_alignment are methods of the paper that are not repeated here.",
        "Information gains are taken as printed, in bits: 4,391 for 1,437.6 tokens of Llama-3.1-8B are 3.05 bits a "
        "token, of which the first paper's text costs that model 2.34 nats = 3.37 bits.",
    ),
    "one_step": ("The longest text over restarts at an accuracy of at least .99; here every token is correct.",),
}
"""Where the papers' code departs from their text, or from this project."""
COUNTED: dict[Paper, str] = {
    "published": "task: cramming under criterion: {teacher_forced: ..}",
    "progressive": "task: cramming, criterion: exact, decode_from: memory, num_vectors: [1], texts named pg19",
    "one_step": "task: one_step, criterion: exact or {teacher_forced: 0.99}",
}
"""What a run must have asked to stand beside a paper's figures, in the words of a sweep file."""
PROGRESSIVE_SOURCE = "pg19"
"""The texts of "Progressive Cramming", by the name that a sweep gives them."""
ONE_STEP_CRITERIA = ("exact", "teacher_forced>=0.99")
"""What the paper on one step counts, an accuracy of at least .99, and what this project asks instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conventions:
    """What a measure of a group means; the defaults are those of the published table."""

    capacity_threshold: float = 0.99
    """Decoding capacity is the longest length whose accuracy reaches this."""
    capacity_over: Literal["mean", "longest_draw"] | None = None
    """mean: the accuracy is the mean over texts at that length; longest_draw: a single text that reaches it will do (as
    published for random words, whose lengths are drawn); None: longest_draw for a source called `random`."""
    gains_where: Literal["beyond_capacity", "all"] = "beyond_capacity"
    """beyond_capacity: gains are averaged only over probes with an accuracy of at most the threshold, whose memory was
    full; all: over every probe."""
    scored_to_length: bool = True
    """Sums over the L - 1 tokens that are scored where t_1 is given are scaled to L: published means were multiplied
    by the length."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupMeasures:
    """The published measures of one model, source and number of vectors."""

    model: str
    source: str
    num_vectors: int
    num_probes: int
    decoding_capacity: int | None
    """Tokens; None if no length reaches the threshold."""
    token_gain: tuple[float, float | None] | None
    """Mean and standard deviation, in tokens; None if no probe counts."""
    information_gain_nats: tuple[float, float | None] | None
    """The same in nats."""


def published_measures(probes: pa.Table, conventions: Conventions) -> list[GroupMeasures]:
    """The measures of every group of probes that asked for given lengths, by the conventions.

    Source: "Cramming 1568 Tokens into a Single Vector and Back Again" (ACL 2025), section 3 and table 1.
    """
    # A search for the longest exact length asks other lengths of every text: nothing there is a mean over texts.
    asked = (row for row in probes.select(["task", *COLUMNS]).to_pylist() if _is_published(row))
    groups = _scored_groups(asked, conventions)
    return [_measures(key, groups[key], conventions) for key in sorted(groups)]


def _is_published(row: Mapping[str, Any]) -> bool:
    return row["task"] == "cramming" and row["criterion"] != "exact"


def decoding_capacities(
    probes: pa.Table, searches: pa.Table, conventions: Conventions | None = None
) -> dict[Group, int | None]:
    """Decoding capacity of every group whose searches asked for a grid of lengths, whatever their criterion.

    Args:
        probes: Rows of PROBES.
        searches: Rows of SEARCHES, whose column `grid` marks those that asked for one.
        conventions: What reaches a length; None takes the paper's.
    """
    conventions = conventions or Conventions()
    grids = {row["search_id"] for row in searches.select(["search_id", "grid"]).to_pylist() if row["grid"] is not None}
    asked = (row for row in probes.select(["search_id", *COLUMNS]).to_pylist() if row["search_id"] in grids)
    groups = _scored_groups(asked, conventions)
    return {key: _decoding_capacity(key[1], groups[key], conventions) for key in sorted(groups)}


def _scored_groups(rows: Iterable[Mapping[str, Any]], conventions: Conventions) -> dict[Group, list[dict[str, float]]]:
    groups: dict[Group, list[dict[str, float]]] = defaultdict(list)
    for row in rows:
        if row["outcome"] != "failed":
            groups[row["model"], source_kind(row["source"]), row["num_vectors"]].append(_scored(row, conventions))
    return groups


def _scored(row: Mapping[str, Any], conventions: Conventions) -> dict[str, float]:
    """One probe over the tokens that are scored."""
    length = row["measured_length"]
    given = int(row["decode_from"] == "memory+first_token")
    scored = max(1, length - given)
    correct, correct_without_memory = (
        length * row[name] - given for name in ("token_accuracy", "token_accuracy_without_memory")
    )
    scale = length / scored if conventions.scored_to_length else 1.0
    return {
        "length": length,
        "accuracy": correct / scored,
        "token_gain": (correct - correct_without_memory) * scale,
        "information_gain": (row["nats_without_memory"] - row["nats_with_memory"]) * scale,
    }


def _decoding_capacity(source: str, rows: Sequence[Mapping[str, float]], conventions: Conventions) -> int | None:
    over = conventions.capacity_over or ("longest_draw" if source == "random" else "mean")
    by_length: dict[int, list[float]] = defaultdict(list)
    for row in rows:
        by_length[int(row["length"])].append(row["accuracy"])
    reached = [
        length
        for length, accuracies in by_length.items()
        # Sums of shares of tokens: 99 of 100 correct is .99, however the last bit is rounded.
        if (fmean(accuracies) if over == "mean" else max(accuracies)) >= conventions.capacity_threshold - 1e-9
    ]
    return max(reached, default=None)


def _measures(key: Group, rows: Sequence[Mapping[str, float]], conventions: Conventions) -> GroupMeasures:
    model, source, num_vectors = key
    counted = [
        row
        for row in rows
        if conventions.gains_where == "all" or row["accuracy"] <= conventions.capacity_threshold + 1e-9
    ]
    return GroupMeasures(
        model=model,
        source=source,
        num_vectors=num_vectors,
        num_probes=len(rows),
        decoding_capacity=_decoding_capacity(source, rows, conventions),
        token_gain=_mean_and_sd([row["token_gain"] for row in counted]),
        information_gain_nats=_mean_and_sd([row["information_gain"] for row in counted]),
    )


def _mean_and_sd(values: Sequence[float]) -> tuple[float, float | None] | None:
    return (fmean(values), stdev(values) if len(values) > 1 else None) if values else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One measure of one group, measured and published."""

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
        """Measured less published, in published standard deviations; None where one of them is not known."""
        if self.measured is None or not self.published_sd:
            return None
        return (self.measured - self.published) / self.published_sd


def compare(
    probes: pa.Table,
    searches: pa.Table,
    paper: Paper,
    *,
    conventions: Conventions | None = None,
    called: Mapping[str, str] | None = None,
) -> list[Compared]:
    """Each published measure of the models, sources and k of a run beside the run's.

    Args:
        probes: Rows of PROBES.
        searches: Rows of SEARCHES.
        paper: Whose figures.
        conventions: For `published`; None takes the paper's.
        called: The run's name of a model -> the paper's, where it is neither the hub id nor the paper's name.
    """
    called = called or {}
    if paper == "published":
        groups = published_measures(probes, conventions or Conventions())
        return [line for group in groups for line in _beside_published(group, called)]
    return _beside_capacities(searches, paper, called)


def published_rows(name: str) -> list[dict[str, str]]:
    """The rows of a file of published figures, as text."""
    file = resources.files("orchestrator.report").joinpath("published", name)
    return list(csv.DictReader(file.read_text(encoding="utf-8").splitlines()))


def _beside_published(group: GroupMeasures, called: Mapping[str, str]) -> list[Compared]:
    table = [{**row, "num_vectors": "1"} for row in published_rows("cramming_table1.csv")]
    ids = {row["hf_id"]: row["model"] for row in table}
    by_vectors = [{**row, "source": "pg19"} for row in published_rows("cramming_by_vectors.csv")]
    table += [row for row in by_vectors if row["num_vectors"] != "1"]
    name = called.get(group.model, ids.get(group.model, group.model))
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


def _beside_capacities(searches: pa.Table, paper: Paper, called: Mapping[str, str]) -> list[Compared]:
    ids = {row["hf_id"]: row["model"] for row in published_rows("cramming_table1.csv")}
    groups: dict[tuple[str, str, int], list[Mapping[str, Any]]] = defaultdict(list)
    for row in searches.to_pylist():
        if row["status"] not in UNFINISHED and row["capacity_tokens"] is not None and _asks_what(paper, row):
            name = called.get(row["model"], ids.get(row["model"], str(row["model"]).rpartition("/")[2]))
            groups[name, source_kind(row["source"]), row["num_vectors"]].append(row)
    beside = _beside_horizons if paper == "progressive" else _beside_one_step
    return [line for key in sorted(groups) for line in beside(*key, groups[key])]


def _asks_what(paper: Paper, search: Mapping[str, Any]) -> bool:
    """Whether a search asks what the paper asked: anything else is no number to put beside the paper's."""
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
            found = _mean_and_sd([float(search[column]) for search in rows])
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
    for row in published_rows("one_step_lengths.csv"):
        if row["source"] == source and row.get(model):
            yield Compared(
                model=model,
                source=source,
                num_vectors=num_vectors,
                measure=f"longest text, second vector {row['second_vector']}",
                unit="tokens",
                measured=max(float(search["capacity_tokens"]) for search in rows),
                measured_sd=None,
                published=float(row[model]),
                published_sd=None,
            )
