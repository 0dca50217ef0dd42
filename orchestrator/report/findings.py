"""What a run found, in sentences: the headline, and remarks on what a reader may not expect.

Pure functions from Arrow tables to plain text. Knows nothing of HTML.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from orchestrator.report.tables import (
    CENSORED,
    UNFINISHED,
    GroupSummary,
    Spread,
    capacity_by_group,
    short_names,
    text_hashes,
)
from orchestrator.store.probe_columns import is_certified
from tasks.wording import counted

CONTEXT = ["context", "repeats_context"]
FEW_GROUPS = 3
"""Most groups that the headline names one by one; of more it names only the smallest and the largest."""
THIN_MARGIN = 1e-3
"""Logit margins below this may flip on other hardware: float32 kernels differ by up to about a tenth of it."""
EXAMPLES = 3
"""Most searches that a remark names, and most remarks of engines that are quoted."""
REASONS = {
    "at_text_end": "with their text",
    "at_max_length": "at the sweep's max_length",
    "at_model_limit": "at the model's longest input",
}


def headline(searches: pa.Table, samples: pa.Table | None = None) -> list[str]:
    """At most three parts: what was asked, what was found, how certain it is.

    Args:
        searches: Rows of SEARCHES.
        samples: Rows of SAMPLES, which tell apart texts of the same name; without them, names are counted.
    """
    if searches.num_rows == 0:
        return ["This run has no searches yet."]
    groups = capacity_by_group(searches)
    finished = [group for group in groups if group.tokens is not None]
    asked = _asked(searches, samples)
    if not finished:
        return [asked, "No search has finished, so there is no capacity to report."]
    return [asked, _came_out(finished, groups), _how_sure(searches)]


def _asked(searches: pa.Table, samples: pa.Table | None) -> str:
    vectors = sorted(set(searches["num_vectors"].to_pylist()))
    models = list(short_names(searches["model"].to_pylist()).values())
    # Not sample_id: each tokenizer makes another sample of the same text.
    hashes = text_hashes(samples) if samples is not None else {}
    rows = searches.select(["model", "sample_id", "source"]).to_pylist()
    texts = len({hashes.get((row["model"], row["sample_id"]), row["source"]) for row in rows})
    tasks = sorted(set(searches["task"].to_pylist()) - {None})
    memory = (
        f"{vectors[0]} trainable vector{'s' if vectors[0] > 1 else ''}"
        if len(vectors) == 1
        else (f"{_listed([str(number) for number in vectors])} trainable vectors")
    )
    named = _listed(models) if len(models) <= FEW_GROUPS else counted(len(models), "model")
    tasks_named = f" Task{'s' if len(tasks) > 1 else ''}: {_listed(tasks)}." if tasks else ""
    after = _context(searches)
    sharing = _sharing(searches)
    of_texts = f"{counted(texts, 'sample')}{sharing}" if sharing else counted(texts, "text")
    return f"How many tokens of {of_texts} fit into {memory} of {named}{after}?{tasks_named}"


def _sharing(searches: pa.Table) -> str:
    """Of how many texts a sample is, in words; empty for one, and where runs differ."""
    kinds = {number or 1 for number in searches["num_texts"].to_pylist()}
    return f" of {counted(kinds.pop(), 'text')} that share a vector" if len(kinds) == 1 and 1 not in kinds else ""


def _context(searches: pa.Table) -> str:
    """What the model sees before the memory, in words; empty for nothing, and where runs differ."""
    kinds = {(row["context"] or 0, row["repeats_context"]) for row in searches.select(CONTEXT).to_pylist()}
    if len(kinds) > 1 or not (kind := kinds.pop())[0]:
        return ""
    tokens, repeats = kind
    what = "the text itself" if repeats else "the text before"
    return f", after {counted(tokens, 'visible token')} of {what}"


def _came_out(finished: Sequence[GroupSummary], groups: Sequence[GroupSummary]) -> str:
    if len(finished) <= FEW_GROUPS:
        parts = [_part(group, groups) for group in finished]
        return f"On average {_listed(parts)}."
    ordered = sorted(finished, key=lambda group: _tokens(group).mean)
    return (
        f"On average between {_part(ordered[0], groups)} and {_part(ordered[-1], groups)}, "
        f"over {len(finished)} groups of model, source and number of vectors."
    )


def _part(group: GroupSummary, groups: Sequence[GroupSummary]) -> str:
    spread = _tokens(group)
    between = f" (95 % interval {spread.interval[0]:.1f} to {spread.interval[1]:.1f})" if spread.interval else ""
    least = "at least " if group.num_censored else ""
    bits = f", {group.bits.mean:.0f} bits" if group.bits else ""
    bits += f" or {group.bits_per_dimension.mean:.2f} bits per dimension" if group.bits_per_dimension else ""
    bits += "," if bits else ""
    return f"{least}{spread.mean:.1f} tokens{between}{bits} with {group_name(group, groups)}"


def _tokens(group: GroupSummary) -> Spread:
    assert group.tokens is not None, "only groups with finished searches have a part in the headline"
    return group.tokens


def group_name(group: GroupSummary, groups: Sequence[GroupSummary], between: str = ", ") -> str:
    """The group's model, with its source and its k where these differ among `groups`."""
    parts = [short_names(other.model for other in groups)[group.model]]
    if len({other.source for other in groups}) > 1:
        parts.append(group.source)
    if len({other.num_vectors for other in groups}) > 1:
        parts.append(f"k = {group.num_vectors}")
    return between.join(parts)


def _how_sure(searches: pa.Table) -> str:
    statuses = Counter(searches["status"].to_pylist())
    unfinished = sum(statuses[status] for status in UNFINISHED)
    every = "The" if searches.num_rows == 1 else f"All {searches.num_rows}"
    done = every if not unfinished else f"{searches.num_rows - unfinished} of {searches.num_rows}"
    criteria = sorted(set(searches["criterion"].to_pylist()))
    if all(map(is_certified, criteria)):
        proof = (
            "every capacity is the length of a text that came back token by token when its stored memory was decoded"
        )
        if set(searches["decode_from"].to_pylist()) != {"memory"}:
            proof += " together with the first token"
        if criteria != ["exact"]:
            proof += f", as far as the criterion ({_listed(criteria)}) was met"
    else:
        proof = f"a length counts where the criterion ({_listed(criteria)}) was met; no certificate is claimed"
    return f"{done} {'search' if searches.num_rows == 1 else 'searches'} finished; {proof}."


def worth_knowing(probes: pa.Table, searches: pa.Table) -> list[str]:
    """Remarks on what a reader may not expect; empty if there are none."""
    columns = ["search_id", "source", "status", "capacity_tokens", "margin", "criterion", "exact_in_float32"]
    asked = searches.select(columns).to_pylist()
    tried = probes.select(["search_id", "outcome", "reason", "failed_length"]).to_pylist()
    remarks = [
        _failed(tried, asked),
        _open(asked),
        _nothing_proven(asked),
        _not_monotone(tried, asked),
        *_censored(asked),
        _thin_margins(asked),
        _lost_in_float32(asked),
        _machine_failures(tried, asked),
        *_out_of_the_ordinary(tried),
    ]
    return [remark for remark in remarks if remark]


Rows = Sequence[dict[str, Any]]


def _failed(probes: Rows, searches: Rows) -> str | None:
    failed = [row for row in searches if row["status"] == "failed"]
    if not failed:
        return None
    ids = {row["search_id"] for row in failed}
    reasons = Counter(
        row["reason"] for row in probes if row["outcome"] == "failed" and row["search_id"] in ids and row["reason"]
    )
    because = f" Most often: {reasons.most_common(1)[0][0]}." if reasons else ""
    return (
        f"{counted(len(failed), 'search')} failed because of the machine, which says nothing about the "
        f"model ({_examples(failed)}); means leave them out.{because}"
    )


def _open(searches: Rows) -> str | None:
    waiting = sum(row["status"] == "open" for row in searches)
    if not waiting:
        return None
    return (
        f"{counted(waiting, 'search is', 'searches are')} open: a length proven so far is a lower bound, and means "
        "leave it out. Searches that reach far take longer, so means are biased low until all have finished; "
        "“capsweep resume” continues the open ones."
    )


def _nothing_proven(searches: Rows) -> str | None:
    empty = [row for row in searches if row["status"] == "measured" and not row["capacity_tokens"]]
    if not empty:
        return None
    return f"{counted(len(empty), 'search')} proved no length at all ({_examples(empty)})."


def _not_monotone(probes: Rows, searches: Rows) -> str | None:
    by_id = {row["search_id"]: row for row in searches}
    widest: dict[str, tuple[int, int]] = {}
    for row in probes:
        failed, search = row["failed_length"], by_id.get(row["search_id"])
        proven = (search["capacity_tokens"] or 0) if search else 0
        if row["outcome"] != "failed" and failed is not None and failed <= proven:
            widest[row["search_id"]] = min((failed, proven), widest.get(row["search_id"], (failed, proven)))
    if not widest:
        return None
    search_id, (failed, proven) = max(widest.items(), key=lambda item: item[1][1] - item[1][0])
    return (
        f"Success is not monotone in length: in {len(widest)} of {counted(len(searches), 'search')} "
        "one start gave up on a length that another start proved or passed. "
        f"The widest gap: {counted(failed, 'token')} given up, {proven} proven ({by_id[search_id]['source']}). "
        "A capacity is the length that was reached, not a limit of the model."
    )


def _censored(searches: Rows) -> list[str]:
    statuses = Counter(row["status"] for row in searches)
    return [
        f"{counted(statuses[status], 'search')} ended {REASONS[status]}, "
        "not because the memory was full: the means of their groups are lower bounds (marked ≥)."
        for status in sorted(CENSORED)
        if statuses[status]
    ]


def _thin_margins(searches: Rows) -> str | None:
    thin = sum(row["margin"] is not None and row["margin"] < THIN_MARGIN for row in searches)
    if not thin:
        return None
    return (
        f"In {counted(thin, 'search')} the two largest logits differ by less than {THIN_MARGIN:g} somewhere "
        "in the text: other hardware may decode these memories differently."
    )


def _lost_in_float32(searches: Rows) -> str | None:
    lost = [
        row
        for row in searches
        if is_certified(row["criterion"]) and row["exact_in_float32"] is not None and row["capacity_tokens"]
        if row["exact_in_float32"] < row["capacity_tokens"]
    ]
    if not lost:
        return None
    kept = min(row["exact_in_float32"] / row["capacity_tokens"] for row in lost)
    return (
        f"In {counted(len(lost), 'search')} ({_examples(lost)}) the memory gives back less when "
        f"transformers decodes it in float32, at worst {100 * kept:.0f} % of its tokens: it was optimized in "
        "another precision, in which it is exact."
    )


def _machine_failures(probes: Rows, searches: Rows) -> str | None:
    given_up = {row["search_id"] for row in searches if row["status"] == "failed"}
    repeated = sum(row["outcome"] == "failed" and row["search_id"] not in given_up for row in probes)
    if not repeated:
        return None
    return (
        f"{counted(repeated, 'probe')} failed because of the machine and had to be repeated; "
        "no length counts as failed because of that."
    )


def _out_of_the_ordinary(probes: Rows) -> list[str]:
    """What engines remarked about probes with a verdict, the most frequent remarks first."""
    remarks = Counter(row["reason"] for row in probes if row["outcome"] != "failed" and row["reason"])
    return [f"{counted(count, 'probe')}: {remark}." for remark, count in remarks.most_common(EXAMPLES)]


def _examples(searches: Rows) -> str:
    named = sorted({row["source"] for row in searches})
    return _listed(named[:EXAMPLES] + ([f"{len(named) - EXAMPLES} more"] if len(named) > EXAMPLES else []))


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
