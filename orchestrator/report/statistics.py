"""What a group of searches shows beyond its mean: survival, starts, pairs of models on the same texts.

Pure functions from Arrow tables to values. Knows nothing of figures, HTML or files.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from statistics import fmean
from typing import Any

import pyarrow as pa

from orchestrator.report.intervals import bootstrap_mean, share_over_clusters
from orchestrator.report.tables import UNFINISHED, Group, source_kind, text_hashes


@dataclass(frozen=True, slots=True, kw_only=True)
class Survival:
    """Survival of the capacities of a group, in which some texts may have ended before their memory was full."""

    curve: tuple[tuple[int, float], ...]
    """(length in tokens, share of searches that reach it), where the share changes; the first is (0, 1)."""
    median: int | None
    """Longest length that at least half of the searches reach; None if the curve never falls below half."""
    restricted_mean: float
    """Mean capacity up to the longest length seen: a lower bound where the last search was censored."""


def kaplan_meier(capacities: Iterable[tuple[int, bool]]) -> Survival:
    """Survival of lengths; a censored search counts up to the length that it proved.

    Args:
        capacities: (capacity in tokens, whether it was measured and not censored) of each search, at least one.

    Source: Kaplan and Meier, Journal of the American Statistical Association 53 (1958), 457-481.
    """
    # Takes half a second to import.
    from scipy.stats import CensoredData, ecdf

    ended = list(capacities)
    # A search that was measured reaches its capacity and fails at the next token; one that was censored might have
    # reached further, so it is not at risk there.
    failed_at = sorted(capacity + 1 for capacity, measured in ended if measured)
    curve = [(0, 1.0)]
    if failed_at:
        left_at = [capacity for capacity, measured in ended if not measured]
        reached = ecdf(CensoredData(uncensored=failed_at, right=left_at)).sf
        curve += [(length, float(reached.evaluate(length))) for length in sorted(set(failed_at))]
    below = next((length for length, reached in curve if reached < 0.5), None)
    longest = max(capacity for capacity, _ in ended)
    # Each length from 1 on that is reached adds one token.
    steps = [*curve, (longest + 1, curve[-1][1])]
    mean = sum(reached * (max(1, later) - max(1, at)) for (at, reached), (later, _) in pairwise(steps))
    return Survival(curve=tuple(curve), median=None if below is None else below - 1, restricted_mean=mean)


def survival_by_group(searches: pa.Table) -> dict[Group, Survival]:
    """The survival of every group with a finished search."""
    found: dict[Group, list[tuple[int, bool]]] = defaultdict(list)
    for row in searches.to_pylist():
        if row["status"] not in UNFINISHED:
            key = (row["model"], source_kind(row["source"]), row["num_vectors"])
            found[key].append((row["capacity_tokens"] or 0, row["status"] == "measured"))
    return {key: kaplan_meier(found[key]) for key in sorted(found)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Starts:
    """How often a start reaches the length it was asked for."""

    share: float
    """Mean over texts of the share of a text's starts."""
    interval: tuple[float, float] | None
    """95 % interval over texts; None for a single text with starts of both kinds."""
    num_starts: int


def starts_by_group(probes: pa.Table) -> dict[Group, Starts]:
    """Share of starts, cold and warm, that succeed; failures of the machine do not count as starts."""
    lossless: dict[Group, list[tuple[str, float]]] = defaultdict(list)
    for row in probes.select(["model", "source", "num_vectors", "outcome", "sample_id"]).to_pylist():
        if row["outcome"] != "failed":
            key = (row["model"], source_kind(row["source"]), row["num_vectors"])
            lossless[key].append((str(row["sample_id"]), float(row["outcome"] == "lossless")))
    found: dict[Group, Starts] = {}
    for key, starts in sorted(lossless.items()):
        share, interval = share_over_clusters(starts)
        found[key] = Starts(share=share, interval=interval, num_starts=len(starts))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two models on the same texts."""

    first: str
    second: str
    num_vectors: str
    """k of both, or of the first and the second where they differ."""
    num_texts: int
    difference: float
    """Mean over texts of the first model's capacity minus the second's, each in tokens of its own tokenizer."""
    interval: tuple[float, float] | None
    """95 % bootstrap interval over texts."""
    difference_bits: float | None
    """The same in bits under each model."""
    first_larger: float
    """Share of texts of which the first model holds more tokens; ties count half."""


def paired(searches: pa.Table, samples: pa.Table) -> list[Pair]:
    """Every pair of models on the texts that both were measured on, at equal k where one of them has both k.

    Texts are matched by hash: another run, or a model that draws its own texts, may use the same name for another text.
    """
    hashes = text_hashes(samples)
    by_text: dict[tuple[str, int], dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for row in searches.to_pylist():
        text = hashes.get((row["model"], row["sample_id"]))
        if text is not None and row["status"] not in UNFINISHED and row["capacity_tokens"] is not None:
            by_text[row["model"], row["num_vectors"]][text].append(row)
    pairs: list[Pair] = []
    for (first, k), (second, other_k) in combinations(sorted(by_text), 2):
        both_have_k = (first, other_k) in by_text or (second, k) in by_text
        if first == second or (k != other_k and both_have_k):
            continue
        texts = sorted(by_text[first, k].keys() & by_text[second, other_k].keys())
        if texts:
            mine, theirs = by_text[first, k], by_text[second, other_k]
            vectors = str(k) if k == other_k else f"{k}, {other_k}"
            pairs.append(_pair(first, second, vectors, [(mine[text], theirs[text]) for text in texts]))
    return pairs


def _pair(
    first: str, second: str, vectors: str, texts: Sequence[tuple[list[dict[str, Any]], list[dict[str, Any]]]]
) -> Pair:
    def mean(rows: list[dict[str, Any]], column: str) -> float:
        return fmean(float(row[column] or 0) for row in rows)

    differences = [mean(a, "capacity_tokens") - mean(b, "capacity_tokens") for a, b in texts]
    return Pair(
        first=first,
        second=second,
        num_vectors=vectors,
        num_texts=len(texts),
        difference=fmean(differences),
        interval=bootstrap_mean(differences, [str(number) for number in range(len(differences))]),
        difference_bits=fmean(mean(a, "capacity_bits") - mean(b, "capacity_bits") for a, b in texts),
        first_larger=fmean(1.0 if d > 0 else 0.5 if d == 0 else 0.0 for d in differences),
    )
