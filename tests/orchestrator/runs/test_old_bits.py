"""What `capsweep measure` wrote is shown only while the memories that it measured are the best ones."""

import pyarrow as pa
import pytest

from orchestrator.report.writing import report_tables
from orchestrator.runs.directory import open_run
from orchestrator.store.parquet import write_table
from orchestrator.store.schema import BITS_FILE, LINES_FILE, MEASURED, NOISE_FILE, PORTABILITY_FILE, QUANTIZED_FILE


@pytest.mark.parametrize("file", [*MEASURED, None])
def test_what_no_longer_holds_is_left_out_with_a_note(toy_sweep, finished, file):
    run = open_run(str(finished(toy_sweep)))
    searches, probes = run.searches().to_pylist(), run.probes()["probe_id"].to_pylist()
    rows = [{"search_id": row["search_id"], "tokens": row["capacity_tokens"]} for row in searches]
    rows[0]["tokens"] += 1
    claims = {row["probe_id"]: row["exact_prefix"] for row in run.probes(("probe_id", "exact_prefix")).to_pylist()}
    decoded = [{"probe_id": name, "tokens": claims[name] + wrong} for wrong, name in enumerate(probes[:2])]
    lines = [{"from_probe_id": probes[0], "to_probe_id": other} for other in (probes[1], "of another run")]
    for name, schema in MEASURED.items():
        found = {LINES_FILE: lines, PORTABILITY_FILE: decoded}.get(name, rows)
        write_table(run.files, name, pa.Table.from_pylist(found, schema=schema))
    if file is not None:
        run.files.write(file, b"" if file == BITS_FILE else b"garbage")
    tables = report_tables(run)
    shown = {BITS_FILE: tables.bits, QUANTIZED_FILE: tables.quantized, NOISE_FILE: tables.noise}
    for name, table in shown.items():
        assert table["search_id"].to_pylist() == [row["search_id"] for row in searches[1:] if file != name]
    assert tables.lines.num_rows == (0 if file == LINES_FILE else 1)
    assert tables.portability.num_rows == (0 if file == PORTABILITY_FILE else 1)
    (note,) = [note for note in run.notes if "older than the results" in note]
    assert [name for name in MEASURED if name in note] == [name for name in MEASURED if name != file]
    assert ("`capsweep measure --noise`" in note) == (file != NOISE_FILE)
    assert file is None or any(f"{file}: damaged" in note for note in run.notes)
