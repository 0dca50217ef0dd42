"""What `capsweep measure` wrote is shown only while the memories that it measured are the best ones."""

import pyarrow as pa
import pytest

from orchestrator.report.writing import report_tables
from orchestrator.runs.directory import open_run
from orchestrator.store.parquet import BITS_FILE, LINES_FILE, write_table
from orchestrator.store.schema import BITS, LINES


@pytest.mark.parametrize(("file", "damage"), [(BITS_FILE, b""), (LINES_FILE, b"garbage"), (None, b"")])
def test_what_no_longer_holds_is_left_out_with_a_note(toy_sweep, finished, file, damage):
    run = open_run(str(finished(toy_sweep)))
    searches, probes = run.searches().to_pylist(), run.probes()["probe_id"].to_pylist()
    bits = [{"search_id": row["search_id"], "tokens": row["capacity_tokens"]} for row in searches]
    bits[0]["tokens"] += 1
    lines = [{"from_probe_id": probes[0], "to_probe_id": other} for other in (probes[1], "of another run")]
    write_table(run.files, BITS_FILE, pa.Table.from_pylist(bits, schema=BITS))
    write_table(run.files, LINES_FILE, pa.Table.from_pylist(lines, schema=LINES))
    if file is not None:
        run.files.write(file, damage)
    tables = report_tables(run)
    assert tables.bits["search_id"].to_pylist() == [row["search_id"] for row in bits[1:] if file != BITS_FILE]
    assert tables.lines.num_rows == (0 if file == LINES_FILE else 1)
    assert any("older than the results" in note for note in run.notes)
    assert file is None or any(f"{file}: damaged" in note for note in run.notes)
