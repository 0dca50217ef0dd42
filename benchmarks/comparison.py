"""What the two sides found, held against each other: totals, speed-up, intervals, a table in Markdown.

Pure. Knows nothing of models, runs or files.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from orchestrator.report.intervals import RESAMPLES, bootstrap_mean

Side = Literal["published", "capsweep", "capsweep on Ray"]
SIDES: tuple[Side, ...] = ("published", "capsweep", "capsweep on Ray")


@dataclass(frozen=True, slots=True, kw_only=True)
class TextResult:
    """One text, measured once by one side."""

    side: Side
    run: int
    """Which run of this side, from 0; run r of the published side lies between runs r and r + 1 of capsweep."""
    source: str
    """Name of the text."""
    sample_id: str
    seconds: float
    """Time of the optimization alone (published); share of the whole run's wall time (capsweep)."""
    slot_steps: int
    """Optimizer steps."""
    trained_tokens: int
    """Sum over the steps of the tokens asked for, t_1 included."""
    capacity_tokens: int
    """Longest length claimed to be lossless: teacher forced with t_1 given (published), certified exact (capsweep)."""
    capacity_bits: float
    """Bits of the text up to there under the model without memory, log2 V for t_1."""
    capacity_exact: int
    """Longest of these lengths that came out of its memory alone, decoded greedily one text at a time."""
    probes: int
    """Lengths tried (published), probes (capsweep)."""
    claims: int
    """Memories claimed to give their text back."""
    claims_exact: int
    """Those of them from which the text came out, decoded greedily from the memory alone."""
    claims_exact_given_first: int | None
    """The same from memory and t_1; None for capsweep, which claims no such thing."""
    measured_at: str
    """When it ended, UTC: a resumed published run has results of several sessions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedUp:
    """Seconds of the published side over those of another side, on the same texts."""

    ratio: float
    """Of the sums over all texts and runs."""
    interval: tuple[float, float] | None
    """95 % bootstrap over texts; None with fewer than two texts."""
    per_repetition: tuple[float, ...]
    """Each published run over the mean of the runs right before and after it."""
    pairs: int
    """Texts times repetitions."""


def of_side(results: Sequence[TextResult], side: Side) -> list[TextResult]:
    """The results of one side."""
    return [result for result in results if result.side == side]


def mean_per_text(results: Sequence[TextResult], value: Callable[[TextResult], float]) -> dict[str, float]:
    """Source -> mean over the runs."""
    values: dict[str, list[float]] = defaultdict(list)
    for result in results:
        values[result.source].append(value(result))
    return {source: float(np.mean(found)) for source, found in values.items()}


def speed_up(results: Sequence[TextResult], side: Side) -> SpeedUp:
    """How much faster `side` is than the published recipe."""
    published, ours = of_side(results, "published"), of_side(results, side)
    slow, fast = (mean_per_text(part, lambda result: result.seconds) for part in (published, ours))
    slow_T, fast_T = (np.array([part[source] for source in slow]) for part in (slow, fast))
    interval = None
    if len(slow_T) > 1:
        draws = np.random.default_rng(0).integers(len(slow_T), size=(RESAMPLES, len(slow_T)))
        low, high = np.quantile(slow_T[draws].sum(1) / fast_T[draws].sum(1), [0.025, 0.975])
        interval = float(low), float(high)

    def seconds(part: Sequence[TextResult], run: int) -> float:
        return sum(result.seconds for result in part if result.run == run)

    runs = sorted({result.run for result in published})
    return SpeedUp(
        ratio=float(slow_T.sum() / fast_T.sum()),
        interval=interval,
        per_repetition=tuple(
            2 * seconds(published, run) / (seconds(ours, run) + seconds(ours, run + 1)) for run in runs
        ),
        pairs=len(published),
    )


def final_line(results: Sequence[TextResult], side: Side) -> str:
    """The main results in one line."""
    found = speed_up(results, side)
    claimed, ours = of_side(results, "published"), of_side(results, side)
    claims, exact, given_first = _claims(claimed)
    repetitions = ", ".join(f"{ratio:.1f}" for ratio in found.per_repetition)
    return (
        f"{side}: speed-up {found.ratio:.1f}x{_interval(found.interval)} ({found.pairs} pairs; each repetition "
        f"{repetitions}), capacity {_mean(ours, lambda r: r.capacity_exact)} exact vs "
        f"{_mean(claimed, lambda r: r.capacity_tokens)} published-claimed tokens ({exact} of {claims} published "
        f"successes certified from memory alone, {given_first} from memory + t_1)"
    )


def markdown(results: Sequence[TextResult], facts: Mapping[str, str]) -> str:
    """The whole comparison: what was measured where, totals, then one line a text."""
    sides: list[Side] = [side for side in SIDES if of_side(results, side)]
    lines = [f"- {name}: {fact}" for name, fact in facts.items()]
    lines += [
        "",
        "Means over texts, with 95 % bootstrap intervals over texts. Claims: memories claimed to give their text back;",
        "then those that did, decoded greedily from the memory alone, and from memory and t_1.",
        "",
        "| side | seconds a text | optimizer steps a text | trained tokens a text | tokens | of them exact | bits "
        "| claims / memory alone / memory + t_1 | speed-up |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for side in sides:
        part = of_side(results, side)
        claims, exact, given_first = _claims(part)
        found = speed_up(results, side)
        ratio = "" if side == "published" else f"{found.ratio:.1f}{_interval(found.interval)}"
        lines.append(
            f"| {side} | {_mean(part, lambda r: r.seconds, 2)} | {_mean(part, lambda r: r.slot_steps, 0)} "
            f"| {_mean(part, lambda r: r.trained_tokens, 0)} | {_mean(part, lambda r: r.capacity_tokens)} "
            f"| {_mean(part, lambda r: r.capacity_exact)} | {_mean(part, lambda r: r.capacity_bits)} "
            f"| {claims} / {exact} / {given_first} | {ratio} |"
        )
    return "\n".join([*lines, "", *_table_of_texts(results, sides), ""])


def _table_of_texts(results: Sequence[TextResult], sides: Sequence[Side]) -> list[str]:
    columns = [f"{side}: seconds, optimizer steps, tokens (exact), bits" for side in sides]
    lines = [f"| text | {' | '.join(columns)} | speed-up |", f"|---|{'---|' * len(columns)}---|"]
    for source in dict.fromkeys(result.source for result in results):
        cells: list[str] = []
        seconds: list[float] = []
        for side in sides:
            runs = [result for result in of_side(results, side) if result.source == source]
            seconds.append(_average(runs, lambda r: r.seconds))
            cells.append(
                f"{seconds[-1]:.2f}, {_average(runs, lambda r: r.slot_steps):.0f}, "
                f"{_average(runs, lambda r: r.capacity_tokens):.1f} "
                f"({_average(runs, lambda r: r.capacity_exact):.1f}), {_average(runs, lambda r: r.capacity_bits):.1f}"
            )
        ratios = ", ".join(
            f"{seconds[sides.index('published')] / own:.1f}"
            for side, own in zip(sides, seconds, strict=True)
            if side != "published"
        )
        lines.append(f"| {source} | {' | '.join(cells)} | {ratios} |")
    return lines


def _average(results: Sequence[TextResult], value: Callable[[TextResult], float]) -> float:
    return float(np.mean([value(result) for result in results]))


def _mean(results: Sequence[TextResult], value: Callable[[TextResult], float], digits: int = 1) -> str:
    interval = bootstrap_mean([value(result) for result in results], [result.source for result in results])
    return f"{_average(results, value):.{digits}f}{_interval(interval, digits)}"


def _interval(interval: tuple[float, float] | None, digits: int = 1) -> str:
    return "" if interval is None else f" [{interval[0]:.{digits}f}, {interval[1]:.{digits}f}]"


def _claims(results: Sequence[TextResult]) -> tuple[int, int, str]:
    """Claims, those exact from the memory alone, and those from memory and t_1 (a dash where nobody claims it)."""
    given_first = [result.claims_exact_given_first for result in results]
    known = [count for count in given_first if count is not None]
    return (
        sum(result.claims for result in results),
        sum(result.claims_exact for result in results),
        str(sum(known)) if known else "-",
    )
