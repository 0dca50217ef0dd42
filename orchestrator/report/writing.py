"""The report of one run or of several: reads their tables, writes the page, images and tables.

Knows nothing of Ray or of how a page looks.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv

from orchestrator.errors import BadInput
from orchestrator.report.export import Exported, exported_tables, latex, markdown
from orchestrator.report.figures.canvas import ReportTables
from orchestrator.report.law import MODELS
from orchestrator.report.page import render_page
from orchestrator.runs.directory import LIGHT_COLUMNS, REPORT_FILE, Run
from orchestrator.spec.sweep_file import dump
from orchestrator.store.local_files import LocalFiles
from orchestrator.store.parquet import DamagedFileError, read_measured
from orchestrator.store.probe_columns import PROBES
from orchestrator.store.schema import (
    BITS_FILE,
    LINES_FILE,
    NOISE_FILE,
    PORTABILITY_FILE,
    QUANTIZED_FILE,
    WRITTEN_BY,
)

MOST_BYTES = 512_000_000
"""Most bytes that a report reads of a run's memories, and of its numbers by token or length; it leaves out what is
larger."""
BITS_COLUMNS = ("correct_by_token", "correct_by_token_without_memory")
NUMBER_COLUMNS = (
    *("nats_by_token", "nats_by_token_without_memory", "margin_by_token"),
    *("steps_by_length", "trained_tokens_by_length"),
)
BYTES_OF_NUMBERS = 24
"""Bytes of these columns for each token."""


def report_tables(run: Run, searches: pa.Table | None = None) -> ReportTables:
    """All tables of a run that a report shows; pass `searches` if they are derived already."""
    light = run.probes([*LIGHT_COLUMNS, *BITS_COLUMNS])
    searches = run.searches() if searches is None else searches
    shapes, proven = light["memory_shape"].to_pylist(), light["proven_length"].to_pylist()
    wanted: list[str] = []
    if sum(4 * shape[0] * shape[1] for shape in shapes if shape) <= MOST_BYTES:
        wanted.append("memory")
    if sum(BYTES_OF_NUMBERS * length for length in proven if length) <= MOST_BYTES:
        wanted += NUMBER_COLUMNS
    measured = _measured(run, searches, light)
    probes = run.probes([*light.column_names, *wanted]) if wanted else light
    for name in PROBES.names:
        if name not in probes.column_names:
            probes = probes.append_column(PROBES.field(name), pa.nulls(len(probes), PROBES.field(name).type))
    return ReportTables(
        probes=probes.select(PROBES.names),
        searches=searches,
        samples=run.samples(),
        bits=measured[BITS_FILE],
        lines=measured[LINES_FILE],
        quantized=measured[QUANTIZED_FILE],
        noise=measured[NOISE_FILE],
        portability=measured[PORTABILITY_FILE],
        models=_models_table(run),
    )


def _models_table(run: Run) -> pa.Table:
    """The rows of MODELS, from what the run recorded of its models."""
    rows = [
        {"model": name, "base": known["model"]["name"], "revision": known["model"].get("revision"), **known["facts"]}
        for name, known in run.provenance["models"].items()
    ]
    return pa.Table.from_pylist([{column: row.get(column) for column in MODELS.names} for row in rows], schema=MODELS)


def _measured(run: Run, searches: pa.Table, probes: pa.Table) -> dict[str, pa.Table]:
    """What other verbs wrote after the run, as far as the memories that they measured are still those of the run."""
    damaged: list[DamagedFileError] = []
    tables = read_measured(run.files, damaged=damaged)
    run.notes.extend(map(str, damaged))
    capacities = dict(zip(searches["search_id"].to_pylist(), searches["capacity_tokens"].to_pylist(), strict=True))
    claims = dict(zip(probes["probe_id"].to_pylist(), probes["exact_prefix"].to_pylist(), strict=True))
    older: list[str] = []
    for name, table in tables.items():
        if name == LINES_FILE:
            ends = zip(table["from_probe_id"].to_pylist(), table["to_probe_id"].to_pylist(), strict=True)
            holds = [claims.keys() >= set(pair) for pair in ends]
        else:
            key, known = ("probe_id", claims) if name == PORTABILITY_FILE else ("search_id", capacities)
            measured = zip(table[key].to_pylist(), table["tokens"].to_pylist(), strict=True)
            holds = [known.get(of) == tokens for of, tokens in measured]
        if not all(holds):
            older.append(name)
        tables[name] = table.filter(pa.array(holds, pa.bool_()))
    if older:
        verbs = " and ".join(f"`{verb}`" for verb in dict.fromkeys(WRITTEN_BY[name] for name in older))
        run.notes.append(
            f"{run.files.url}: {' and '.join(older)} older than the results: what no longer holds is left out. "
            f"To write what is missing: {verbs}."
        )
    return tables


def together(runs: Sequence[tuple[str, ReportTables]]) -> ReportTables:
    """The tables of several runs as if of one.

    A model that several runs of the same task measured gets the run's name. If the runs have several tasks, every model
    also gets its task. Two runs of one sweep have the same ids of searches and probes: later runs have theirs numbered.

    Args:
        runs: Name and tables of each.
    """
    ids = _Numbered()
    parts: list[ReportTables] = []
    for called, (_, tables) in zip(_called(runs), runs, strict=True):
        ids.begin(tables)
        renamed = {f.name: _renamed(getattr(tables, f.name), called, ids) for f in fields(ReportTables)}
        parts.append(ReportTables(**renamed))
    return ReportTables(
        **{f.name: pa.concat_tables([getattr(part, f.name) for part in parts]) for f in fields(ReportTables)}
    )


def _called(runs: Sequence[tuple[str, ReportTables]]) -> list[dict[str, str]]:
    """For each run, the names of its models in the joint tables."""
    names = [name for name, _ in runs]
    tasks = [" and ".join(sorted(set(tables.searches["task"].to_pylist()) - {None})) for _, tables in runs]
    models = [set(tables.searches["model"].to_pylist()) for _, tables in runs]
    called: list[dict[str, str]] = []
    for number, (name, mine) in enumerate(zip(names, models, strict=True)):
        # Two folders may have the same name.
        label = name if names.count(name) == 1 else f"{name} #{number + 1}"
        found: dict[str, str] = {}
        for model in mine:
            rivals = [other for other in range(len(runs)) if other != number and model in models[other]]
            parts = [label] if any(tasks[other] == tasks[number] for other in rivals) else []
            parts += [tasks[number]] if len(set(tasks)) > 1 and tasks[number] else []
            found[model] = f"{model} ({', '.join(parts)})" if parts else model
        called.append(found)
    return called


class _Numbered:
    """Ids of searches and probes, numbered where an earlier run has the same id: `ab12`, `ab12#2`."""

    def __init__(self) -> None:
        self._seen: Counter[str] = Counter()

    def begin(self, tables: ReportTables) -> None:
        """Begin the next run."""
        named = (tables.searches["search_id"], tables.probes["search_id"], tables.probes["probe_id"])
        self._seen.update({name for column in named for name in column.to_pylist() if name is not None})

    def of(self, name: str | None) -> str | None:
        """The id in the joint tables for the id `name` of this run; `cold` is not an id and stays."""
        times = self._seen[name] if name is not None else 0
        return f"{name}#{times}" if times > 1 else name


ID_COLUMNS = ("search_id", "probe_id", "start", "from_probe_id", "to_probe_id")


def _renamed(table: pa.Table, called: dict[str, str], ids: _Numbered) -> pa.Table:
    for name in table.column_names:
        if name == "model" or name in ID_COLUMNS:
            values = table[name].to_pylist()
            new = [called.get(value, value) for value in values] if name == "model" else [ids.of(v) for v in values]
            place = table.column_names.index(name)
            table = table.set_column(place, table.schema.field(place), pa.array(new, pa.string()))
    return table


def write_report(run: Run, searches: pa.Table | None = None) -> str:
    """Write the page of a run; returns its path or URL."""
    run.files.write(REPORT_FILE, page_of([run], report_tables(run, searches)).encode())
    return f"{run.files.url}/{REPORT_FILE}"


def _shown(provenance: dict[str, Any]) -> dict[str, Any]:
    """What a page shows of it: the sweep stands on the page by itself."""
    return {name: value for name, value in provenance.items() if name != "sweep"}


def names_of(runs: Sequence[Run]) -> list[str]:
    """What each run is called beside the others: by its sweep, or by its folder if another has a sweep of that name."""
    sweeps = [run.sweep.name for run in runs]
    return [
        name if sweeps.count(name) == 1 else " ".join(folder.split())
        for name, folder in zip(sweeps, _folders(runs), strict=True)
    ]


def _folders(runs: Sequence[Run]) -> list[str]:
    return [run.files.url.rstrip("/").rpartition("/")[2] for run in runs]


def all_tables(runs: Sequence[Run]) -> ReportTables:
    """The tables of these runs, joined."""
    read = [(name, report_tables(run)) for name, run in zip(names_of(runs), runs, strict=True)]
    return read[0][1] if len(read) == 1 else together(read)


def page_of(runs: Sequence[Run], tables: ReportTables) -> str:
    """The page of a run, or one page of several, from their tables."""
    if len(runs) == 1:
        return render_page(tables, sweep_yaml=dump(runs[0].sweep), provenance=_shown(runs[0].provenance))
    yaml = "\n---\n".join(dump(run.sweep) for run in runs)
    folders = _folders(runs)
    provenance: dict[str, Any] = {
        folder if folders.count(folder) == 1 else f"{folder} #{number}": _shown(run.provenance)
        for number, (folder, run) in enumerate(zip(folders, runs, strict=True), start=1)
    }
    named = f"name: {' and '.join(names_of(runs))}\n---\n{yaml}"
    return render_page(tables, sweep_yaml=named, provenance=provenance)


def write_page(runs: Sequence[Run], tables: ReportTables, to: Path) -> None:
    """Write one page of several runs."""
    write_file(to, page_of(runs, tables).encode())


def write_tables(tables: ReportTables, folder: Path) -> list[Path]:
    """Write the tables for a paper, each as CSV, Markdown and LaTeX."""
    written: list[Path] = []
    for name, table in exported_tables(tables).items():
        for suffix, content in (("csv", _csv(table)), ("md", markdown(table)), ("tex", latex(table))):
            path = folder / f"{name}.{suffix}"
            write_file(path, content.encode())
            written.append(path)
    return written


FORMULA_MARKS = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")
"""A spreadsheet reads a cell that begins with one of these as a formula; the last four are the wide = + - @ of Chinese
and Japanese keyboards."""


def _csv(table: Exported) -> str:
    sink = pa.BufferOutputStream()
    columns = {name: [_no_formula(row[i]) for row in table.rows] for i, name in enumerate(table.columns)}
    pyarrow.csv.write_csv(pa.table(columns), sink)
    return sink.getvalue().to_pybytes().decode()


def _no_formula(cell: Any) -> Any:
    """The cell, with an apostrophe before text that would be a formula; numbers stay numbers."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA_MARKS) else cell


def write_file(path: Path, content: bytes) -> None:
    """Write a file that a user asked for; raises BadInput when its place takes none."""
    try:
        LocalFiles(path.parent).write(path.name, content)
    except OSError as error:
        raise BadInput(f"{path}: cannot be written ({error.strerror}). Choose another place.") from error
