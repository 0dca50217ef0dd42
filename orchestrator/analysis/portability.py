"""Decodes the stored memories of a run under other settings: another precision, attention, device or batch, no cache.

Knows nothing of Ray, of torch, or of how memories came to be.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, get_args

import pyarrow as pa

from orchestrator.analysis.memories import Provers, stored_memories
from orchestrator.errors import BadInput, suggest
from orchestrator.progress import tracked
from orchestrator.runs.directory import Run
from orchestrator.store.parquet import DamagedFileError, read_measured, write_table
from orchestrator.store.schema import PORTABILITY, PORTABILITY_FILE
from tasks.contract import Prover
from tasks.values import Attention, DecodeSettings, Dtype
from tasks.wording import counted

DEVICES = ("auto", "cpu", "cuda", "mps")
CHOICES: Mapping[str, tuple[str, ...]] = {
    "dtype": get_args(Dtype),
    "attention": get_args(Attention),
    "device": DEVICES,
    "cache": ("on", "off"),
}
"""Key of a setting -> its values. The key `batch` takes a whole number."""
KEYS = ("dtype", "attention", "device", "batch", "cache")
"""The keys, in the order in which a setting names them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One way to decode memories."""

    name: str
    """Its changes in a fixed order, such as `dtype=bfloat16,batch=8`."""
    device: str = "auto"
    """auto, cpu, cuda or mps."""
    batch: int = 1
    """Memories decoded together."""
    decoding: DecodeSettings = field(default_factory=DecodeSettings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Portable:
    """How many memories still give their text back under a setting."""

    setting: str
    num_memories: int
    num_exact: int
    """Memories that give every token back."""
    mean_share: float
    """Mean share of a memory's tokens that come back before the first error."""
    largest_failing: float | None
    """Largest margin, by its certificate, of a memory that does not; None if all of them do."""
    num_above: int
    """Memories whose certificate has a larger margin than that: all of them give their text back."""

    def in_words(self) -> str:
        """One line."""
        line = f"{self.setting}: {self.num_exact} of {counted(self.num_memories, 'memory')} exact"
        if self.largest_failing is None:
            return line
        above = f"all {self.num_above} with a margin above {self.largest_failing:.2g} are"
        return f"{line} ({above}); on average {self.mean_share:.0%} of the tokens come back before the first error"


def parse_settings(texts: Iterable[str], *, device: str = "auto") -> list[Setting]:
    """The settings that `--as` names, each once.

    Args:
        texts: Changes such as `dtype=bfloat16,batch=8`.
        device: Device of settings that name none.

    Raises:
        BadInput: with every key and value that is not known.
    """
    problems: list[str] = []
    settings = [_parse(text, device, problems) for text in texts]
    if problems:
        raise BadInput(*dict.fromkeys(problems))
    return list({setting.name: setting for setting in settings}.values())


def _parse(text: str, device: str, problems: list[str]) -> Setting:
    given: dict[str, str] = {} if device == "auto" else {"device": device}
    seen: set[str] = set()
    for part in text.split(","):
        key, _, value = (word.strip() for word in part.partition("="))
        if problem := _problem_of(key, value, seen):
            problems.append(f"--as {text}: {problem}")
        seen.add(key)
        given[key] = value
    if problems:
        return Setting(name=text)
    batch = int(given.get("batch", 1))
    if "batch" in given:
        given["batch"] = str(batch)
    return Setting(
        name=",".join(f"{key}={given[key]}" for key in KEYS if key in given),
        device=given.get("device", "auto"),
        batch=batch,
        decoding=DecodeSettings(
            dtype=next((name for name in get_args(Dtype) if name == given.get("dtype")), None),
            attention=next((name for name in get_args(Attention) if name == given.get("attention")), None),
            cache=given.get("cache") != "off",
        ),
    )


def _problem_of(key: str, value: str, seen: set[str]) -> str:
    """What is wrong with `key=value`; empty if nothing is."""
    if key not in KEYS:
        return f"{key!r} is no setting; {suggest(key, KEYS)}"
    if key in seen:
        return f"{key} stands there twice. Wanted one value; repeat --as for another setting."
    if key == "batch":
        is_number = value.isascii() and value.isdigit() and int(value) > 0
        return "" if is_number else f"batch: {value!r} is not a number of memories. Wanted 1 or more."
    return "" if value in CHOICES[key] else f"{key}: {value!r} is not known; {suggest(value, CHOICES[key])}"


def verify_under(run: Run, settings: Sequence[Setting]) -> list[Portable]:
    """Decode every stored memory once more under each setting, and write the outcome to PORTABILITY_FILE.

    What the file has of other settings stays. It is written once all settings are measured.

    Raises:
        BadInput: when a model is not the one that the run measured.
        TaskError: when a model does not compute under a setting here.
    """
    memories = stored_memories(run)
    for row in memories:
        sample = run.sample(row["model"], row["sample_id"])
        row["tokens"], row["context"] = sample["tokens"][: row["exact_prefix"]], sample["context"] or ()
    found: dict[str, list[dict[str, Any]]] = {}
    for setting in settings:
        provers = Provers(run, setting.device, [row["model"] for row in memories], setting.decoding)
        found[setting.name] = list(decode_under(setting, memories, provers.of))
    rows = pa.Table.from_pylist([row for each in found.values() for row in each], schema=PORTABILITY)
    write_table(run.files, PORTABILITY_FILE, pa.concat_tables([_others(run, found, memories), rows]))
    margins = {row["probe_id"]: row["margin"] for row in memories}
    return [portable(name, each, margins) for name, each in found.items()]


def _others(run: Run, measured: Iterable[str], memories: Sequence[Mapping[str, Any]]) -> pa.Table:
    """The rows on disk of settings that were not measured now, as far as they are of these memories."""
    damaged: list[DamagedFileError] = []  # written anew
    table = read_measured(run.files, damaged=damaged)[PORTABILITY_FILE]
    claimed = {row["probe_id"]: row["exact_prefix"] for row in memories}
    new = set(measured)
    keep = [row["setting"] not in new and claimed.get(row["probe_id"]) == row["tokens"] for row in table.to_pylist()]
    return table.filter(pa.array(keep, pa.bool_()))


def decode_under(
    setting: Setting, memories: Sequence[Mapping[str, Any]], prover_of: Callable[[str], Prover]
) -> Iterator[dict[str, Any]]:
    """Rows of PORTABILITY.

    Args:
        setting: How memories are decoded.
        memories: Rows with `probe_id`, `model`, `num_vectors`, `memory`, the `tokens` that it gives back, and perhaps
            the `context` before it.
        prover_of: Gives the prover of a model under this setting.
    """
    for part in tracked(_batches(memories, setting.batch), f"decoding memories, {setting.name}"):
        # Kernels depend on the shape of a batch: the last memory is repeated until the batch is full.
        full = [*part, *[part[-1]] * (setting.batch - len(part))]
        proofs = prover_of(part[0]["model"]).together(
            [row["memory"] for row in full],
            num_vectors=part[0]["num_vectors"],
            texts=[row["tokens"] for row in full],
            contexts=[row.get("context", ()) for row in full],
        )
        for row, proof in zip(part, proofs, strict=False):
            yield {
                "probe_id": row["probe_id"],
                "model": row["model"],
                "setting": setting.name,
                "tokens": len(row["tokens"]),
                "exact_prefix": proof.exact_prefix,
                "margin": proof.margin,
            }


def _batches(memories: Sequence[Mapping[str, Any]], batch: int) -> list[list[Mapping[str, Any]]]:
    """Memories of one model and one shape, of similar lengths."""
    ordered = sorted(memories, key=lambda row: (row["model"], row["num_vectors"], -len(row["tokens"])))
    groups = [list(group) for _, group in groupby(ordered, key=lambda row: (row["model"], row["num_vectors"]))]
    return [group[first : first + batch] for group in groups for first in range(0, len(group), batch)]


def portable(setting: str, rows: Sequence[Mapping[str, Any]], margins: Mapping[str, float | None]) -> Portable:
    """Sum up rows of PORTABILITY of one setting.

    Args:
        setting: Its name.
        rows: Rows of PORTABILITY.
        margins: Smallest logit margin of each probe's certificate, by probe_id.
    """
    by_outcome: dict[bool, list[float]] = defaultdict(list)
    for row in rows:
        by_outcome[row["exact_prefix"] == row["tokens"]].append(margins.get(row["probe_id"]) or 0.0)
    failing = max(by_outcome[False], default=None)
    return Portable(
        setting=setting,
        num_memories=len(rows),
        num_exact=len(by_outcome[True]),
        mean_share=sum(row["exact_prefix"] / row["tokens"] for row in rows) / max(1, len(rows)),
        largest_failing=failing,
        num_above=sum(failing is None or margin > failing for margin in by_outcome[True]),
    )
