"""Summaries of the rows of a run: by group, by search, and of steps.

Pure functions from Arrow tables (orchestrator/store/schema.py) to values. Knows nothing of figures, HTML or files.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev
from typing import Any

import pyarrow as pa

from orchestrator.errors import literal
from orchestrator.report.intervals import bootstrap_mean
from orchestrator.store.passages import given_back
from orchestrator.store.probe_columns import is_certified

Group = tuple[str, str, int]
"""(model, kind of source, num_vectors)."""
CENSORED = frozenset({"at_text_end", "at_max_length", "at_model_limit"})
"""Statuses of searches that ran out of text or room: their capacity is a lower bound."""
UNFINISHED = frozenset({"open", "failed"})
"""Statuses of searches whose capacity is not known; means leave them out."""
GAINS = ("token_gain", "information_gain_nats", "information_gain_bits", "utilization")
RETURN_SIGN = "↵"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """The distribution of the values of one group."""

    mean: float
    median: float
    sd: float | None
    """Standard deviation over searches (n - 1); None for a single one."""
    interval: tuple[float, float] | None
    """95 % bootstrap interval of the mean over texts; None for a single text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSummary:
    """The searches of one model, kind of source and number of vectors."""

    model: str
    source: str
    """Kind of the source: the part of the searches' `source` before ':'."""
    num_vectors: int
    num_searches: int
    """Finished searches; the fields below are taken over them, except `num_open` and `num_failed`."""
    num_texts: int
    """Different samples among them."""
    tokens: Spread | None
    """Capacity in tokens; None if no search finished."""
    bits: Spread | None
    """Capacity in bits under the model; None if no search finished."""
    bits_per_dimension: Spread | None
    """Capacity in bits over the values of a memory, k d; None if no search finished."""
    token_gain: Spread | None
    information_gain_nats: Spread | None
    information_gain_bits: Spread | None
    utilization: Spread | None
    """Token gain over theoretical capacity. None, like the gains, if no search has it."""
    num_censored: int
    """Finished searches that ended with the text, at max_length or at the model's limit."""
    num_open: int
    num_failed: int
    num_in_float32: int
    """Finished exact searches whose memory transformers decoded in float32."""
    num_exact_in_float32: int
    """Searches among them whose memory gave its whole capacity back in float32."""
    mean_steps: float | None
    """Mean optimizer steps of a finished search."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRow:
    """One search, as reports show it."""

    search_id: str
    model: str
    source: str
    num_vectors: int
    seed: int
    capacity_tokens: int | None
    """None before the first verdict."""
    capacity_bits: float | None
    bits_per_dimension: float | None
    """Capacity in bits over the values of the memory, k d."""
    status: str
    smallest_failed: int | None
    """Shortest length above the capacity that was given up on, in tokens."""
    margin: float | None
    """Smallest difference between the two largest logits over the text."""
    probes: int
    steps: int
    """Optimizer steps, summed over its probes."""
    text: str
    """What the memory gives back; empty if nothing is proven or the sample is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepsSplit:
    """Optimizer steps of one search."""

    search_id: str
    before: int
    """Up to the step at which its longest length was proven."""
    after: int
    """From there to its end: the cost of showing that no more fits."""


def source_kind(source: str) -> str:
    """The registered name of a text source: `files` of `files:texts/01-story.txt`."""
    return source.partition(":")[0]


def short_names(models: Iterable[str]) -> dict[str, str]:
    """Each model's name without organisation or folder, where that is still unambiguous."""
    full = sorted(set(models))
    tails = {name: name.rstrip("/").rsplit("/", 1)[-1] for name in full}
    seen = list(tails.values())
    return {name: tail if seen.count(tail) == 1 else name for name, tail in tails.items()}


def text_hashes(samples: pa.Table) -> dict[tuple[str, str], str]:
    """(model, sample_id) -> hash of the text, which is the same whatever the tokenizer."""
    columns = ["model", "sample_id", "text_sha256"]
    rows = samples.select(columns).to_pylist()
    return {(row["model"], row["sample_id"]): row["text_sha256"] for row in rows if row["text_sha256"] is not None}


def capacity_by_group(searches: pa.Table) -> list[GroupSummary]:
    """One summary per (model, kind of source, num_vectors), in that order."""
    groups: dict[tuple[str, str, int], list[dict[str, Any]]] = defaultdict(list)
    for row in searches.to_pylist():
        groups[row["model"], source_kind(row["source"]), row["num_vectors"]].append(row)
    return [_summary(key, groups[key]) for key in sorted(groups)]


def _summary(key: tuple[str, str, int], rows: Sequence[dict[str, Any]]) -> GroupSummary:
    finished = [row for row in rows if row["status"] not in UNFINISHED]
    model, source, num_vectors = key
    in_float32 = [row for row in finished if is_certified(row["criterion"]) and row["exact_in_float32"] is not None]
    return GroupSummary(
        model=model,
        source=source,
        num_vectors=num_vectors,
        num_searches=len(finished),
        num_texts=len({row["sample_id"] for row in finished}),
        tokens=_spread(finished, "capacity_tokens"),
        bits=_spread(finished, "capacity_bits"),
        bits_per_dimension=_spread(finished, "bits_per_dimension"),
        **{name: _spread(finished, name) for name in GAINS},
        num_censored=sum(row["status"] in CENSORED for row in finished),
        num_open=sum(row["status"] == "open" for row in rows),
        num_failed=sum(row["status"] == "failed" for row in rows),
        num_in_float32=len(in_float32),
        num_exact_in_float32=sum(row["exact_in_float32"] >= row["capacity_tokens"] for row in in_float32),
        mean_steps=fmean(row["steps"] or 0 for row in finished) if finished else None,
    )


def _spread(rows: Sequence[dict[str, Any]], column: str) -> Spread | None:
    known = [row for row in rows if row[column] is not None]
    if not known:
        return None
    values = [float(row[column]) for row in known]
    return Spread(
        mean=fmean(values),
        median=median(values),
        sd=stdev(values) if len(values) > 1 else None,
        interval=bootstrap_mean(values, [row["sample_id"] for row in known]),
    )


def search_rows(searches: pa.Table, samples: pa.Table) -> list[SearchRow]:
    """The searches, sorted by model, k, source and seed, each with the text that its memory gives back."""
    texts = {
        (row["sample_id"], row["model"]): (row["text"], row["token_ends"], row["num_texts"] or 1)
        for row in samples.select(["sample_id", "model", "text", "token_ends", "num_texts"]).to_pylist()
    }
    rows = [
        SearchRow(
            search_id=row["search_id"],
            model=row["model"],
            source=row["source"],
            num_vectors=row["num_vectors"],
            seed=row["seed"],
            capacity_tokens=row["capacity_tokens"],
            capacity_bits=row["capacity_bits"],
            bits_per_dimension=row["bits_per_dimension"],
            status=row["status"],
            smallest_failed=row["smallest_failed"],
            margin=row["margin"],
            probes=row["probes"] or 0,
            steps=row["steps"] or 0,
            text=given_back(
                *texts.get((row["sample_id"], row["model"]), ("", [], 1)), num_tokens=row["capacity_tokens"] or 0
            ),
        )
        for row in searches.to_pylist()
    ]
    return sorted(rows, key=lambda row: (row.model, row.num_vectors, _natural(row.source), row.seed))


def _natural(name: str) -> list[str | int]:
    """Sort key that puts `#2` before `#10`."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def beginning(text: str, width: int = 80) -> str:
    """The first `width` characters of a text on one line, with signs for line breaks."""
    line = text.replace("\r\n", "\n").replace("\r", "\n").replace("\n", RETURN_SIGN).replace("\t", " ")
    line = literal(line[: width + 1])
    return line if len(line) <= width else line[: width - 1] + "…"


def steps_around_last_gain(probes: pa.Table) -> list[StepsSplit]:
    """Optimizer steps of each search before and after its proven length last rose."""
    columns = ["search_id", "number", "outcome", "proven_length", "steps", "steps_to_proof"]
    by_search: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in probes.select(columns).to_pylist():
        if row["outcome"] != "failed":
            by_search[row["search_id"]].append(row)
    splits: list[StepsSplit] = []
    for search_id, rows in by_search.items():
        proven = before = total = 0
        for row in sorted(rows, key=lambda row: row["number"]):
            if (row["proven_length"] or 0) > proven:
                proven = row["proven_length"]
                before = total + (row["steps_to_proof"] or 0)
            total += row["steps"] or 0
        splits.append(StepsSplit(search_id=search_id, before=before, after=max(0, total - before)))
    return splits
