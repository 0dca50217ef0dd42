"""The card of a data set that holds a run: what it is, its capacities, the main figure, and how to verify it.

Writes to the folder of the copy. Knows nothing of the hub beyond the fields of a card.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from orchestrator.errors import BadInput
from orchestrator.publishing.public_copy import MEMORIES_FILE
from orchestrator.report.export import markdown, paper_table
from orchestrator.report.figures.all_figures import FIGURES
from orchestrator.report.figures.canvas import ReportTables
from orchestrator.report.images import draw
from orchestrator.report.writing import report_tables
from orchestrator.runs.directory import Run
from orchestrator.runs.resumable import with_code
from orchestrator.store.hub_files import HubPlace
from orchestrator.store.parquet import PROBE_FOLDER, SAMPLES_FILE, SEARCHES_FILE
from orchestrator.store.probe_columns import criterion_name, is_certified
from orchestrator.store.schema import WRITTEN_BY
from tasks.homes import names_gguf
from tasks.wording import counted

CARD_FILE = "README.md"
PICTURE_FILE = "capacity.png"
PICTURE_INCHES = 6.0
"""Width of the picture, which has 300 dots an inch: wide enough for the text column of the hub's page."""
CERTIFIED = "Every length was decoded greedily from its stored memory."
CLAIMED = "Lengths are claimed, not decoded: each token was predicted from the right tokens before it."
COLUMNS = {
    "k": "vectors in a memory",
    "texts": "how many were searched",
    "tokens": "the longest beginning of a text that meets the criterion with its memory",
    "bits": "cross-entropy of these tokens without the memory",
    "bits/dimension": "these bits for each number in the memory",
    "token gain": "tokens that are correct with the memory, less those that are correct without it",
}
"""What a column of the table of capacities holds, where its name does not say it."""


def write_card(copy: Run, folder: Path, place: HubPlace) -> list[str]:
    """Write the card of a copy, and its picture if images can be made here; returns notes for the user."""
    tables = report_tables(copy)
    notes: list[str] = []
    try:
        picture = _write_picture(tables, folder)
    except BadInput as error:
        picture = []
        notes.append(f"the card has no picture: {error}")
    card = [_head(copy), *_beginning(copy), *picture, *_capacities(tables), *_contents(copy, place), *_verifying(copy)]
    copy.files.write(CARD_FILE, "\n".join(card).replace("hf://PLACE", place.url).encode())
    return notes


def _head(copy: Run) -> str:
    """The fields that the hub reads; its viewer shows the first table."""
    tables = {"searches": SEARCHES_FILE, "probes": f"{PROBE_FOLDER}/*.parquet", "samples": SAMPLES_FILE}
    configs: list[dict[str, Any]] = [
        {"config_name": name, "data_files": files, **({"default": True} if name == "searches" else {})}
        for name, files in tables.items()
    ]
    fields = {"pretty_name": f"capsweep: {copy.sweep.name}", "tags": ["capsweep"], "configs": configs}
    return f"---\n{yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)}---\n"


def _beginning(copy: Run) -> list[str]:
    searches = copy.searches()
    statuses = searches["status"].to_pylist()
    criterion = criterion_name(copy.sweep.question())
    open_ones = f", {statuses.count('open')} of them not finished" if "open" in statuses else ""
    return [
        f"# {copy.sweep.name}",
        "",
        "How many tokens of a text fit into a few trainable input vectors of a frozen language model, so that it gives "
        f"every one of them back? This is a run of capsweep: {counted(len(searches), 'search', 'searches')}"
        f"{open_ones}, task `{copy.sweep.task}`, criterion `{criterion}`. "
        f"{CERTIFIED if is_certified(criterion) else CLAIMED}",
        "",
    ]


def _write_picture(tables: ReportTables, folder: Path) -> list[str]:
    """Write the first figure that has data; returns its lines in the card."""
    drawn = next((figure for make in FIGURES if (figure := make(tables)) is not None), None)
    if drawn is None:
        return []
    path = folder / PICTURE_FILE
    draw([drawn], [path], PICTURE_INCHES)
    return [f"![{drawn.title}]({path.name})", "", f"{drawn.title}. {drawn.caption}", ""]


def _capacities(tables: ReportTables) -> list[str]:
    found = paper_table(tables)
    legend = [f"- {name}: {COLUMNS[name]}" for name in found.columns if name in COLUMNS]
    return ["## Capacities", "", markdown(found), *legend, ""] if found.rows else []


def _contents(copy: Run, place: HubPlace) -> list[str]:
    searches = copy.searches()
    rows = {
        SEARCHES_FILE: f"{counted(len(searches), 'row')}: a search each, with its capacity and how it ended",
        f"{PROBE_FOLDER}/": f"{counted(len(copy.probes()), 'row')}: an optimization each, with its memory and curves",
        SAMPLES_FILE: f"{counted(len(copy.samples()), 'row')}: a text each, with its token ids",
        MEMORIES_FILE: "the best memory of each search, float32, named by search_id",
        "sweep.yaml": "what was asked for, with every default",
        "provenance.json": "models, versions, hardware and times",
    }
    rows |= {name: f"what `{verb}` measured" for name, verb in WRITTEN_BY.items() if copy.files.exists(name)}
    if copy.is_without_texts:
        del rows[MEMORIES_FILE]
        rows[SAMPLES_FILE] = f"{counted(len(copy.samples()), 'row')}: a text each, by its hash"
        rows[f"{PROBE_FOLDER}/"] = f"{counted(len(copy.probes()), 'row')}: an optimization each, with its curves"
    return [
        "## Contents",
        "",
        *(f"- `{name}`: {what}" for name, what in rows.items()),
        "",
        f"`datasets.load_dataset({place.name!r}, 'searches')` reads a table. Models:",
        "",
        *(f"- {line}" for line in _models(copy)),
        "",
    ]


def _models(copy: Run) -> list[str]:
    lines: list[str] = []
    for name, known in copy.provenance["models"].items():
        model, facts = known["model"], known["facts"]
        commit = model.get("commit") or model.get("revision")
        kind = "file" if names_gguf(model["name"]) else "folder"
        what = f"a local {kind}, `{model['name']}`" if model["name"].startswith("./") else f"`{model['name']}`"
        at = f" at `{commit}`" if commit else ""
        precision = model["dtype"] + (f", {model['quantization']}" if model.get("quantization") else "")
        lines.append(f"{name}: {what}{at}, {precision}, fingerprint `{facts['fingerprint'][:16]}`")
    return lines


def _verifying(copy: Run) -> list[str]:
    if copy.is_without_texts:
        return [
            "## No texts and no memories",
            "",
            "Texts and token ids were left out, and so were the memories, because each memory gives its text back. Ids "
            "and hashes are those of the run. Nothing can be decoded from this copy.",
            "",
            "    capsweep report hf://PLACE",
            "",
        ]
    models = [known["model"] for known in copy.provenance["models"].values()]
    # A run whose models execute code is not decoded from the hub.
    code = with_code(models)
    pull = f"    capsweep pull hf://PLACE --to DIR{' --trust-code' if code else ''}"
    verify = f"{pull}\n    capsweep verify DIR" if code else "    capsweep verify hf://PLACE"
    return [
        "## How to verify",
        "",
        verify,
        "",
        "loads the models, compares their fingerprints, and decodes every memory greedily, from nothing else, against "
        f"its text. {' '.join(_wanted(models, code))}".rstrip(),
        "",
        pull,
        "",
        "makes a run directory of it, for `capsweep report`, `decode`, `measure` and `export`.",
        "",
    ]


def _wanted(models: Sequence[Mapping[str, Any]], code: Sequence[str]) -> list[str]:
    """What a reader needs for models of these kinds, a sentence each."""
    local = [f"`{model['name']}`" for model in models if model["name"].startswith("./")]
    extras = {
        "gguf": any(names_gguf(model["name"]) for model in models),
        "quantized": any(model.get("quantization") for model in models),
    }
    needed = [f"`{extra}`" for extra, is_needed in extras.items() if is_needed]
    return [
        *([f"Run it in the folder from which {' and '.join(local)} can be reached."] if local else []),
        *([f"It needs {' and '.join(needed)} of capsweep's extras."] if needed else []),
        *([f"It executes code that comes with {' and '.join(code)}: read that first."] if code else []),
    ]
