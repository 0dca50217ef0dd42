"""The figure of `capsweep verify --as`, on made-up margins."""

from dataclasses import replace
from typing import Any

import pyarrow as pa

from orchestrator.report.figures.portability import share_that_decodes_elsewhere
from orchestrator.store.schema import PORTABILITY


class TestTheFigure:
    def test_bins_have_equal_numbers_of_memories(self, generated):
        tables = generated(36, 36)
        probes = tables.probes.to_pylist()
        for number, row in enumerate(probes):
            row["margin"] = 10 ** (number / 9 - 4)
        rows = [
            {"probe_id": row["probe_id"], "model": "made-up/small", "setting": setting, "tokens": 10}
            | {"exact_prefix": 10 if row["margin"] > least else 4}
            for row in probes
            for setting, least in (("cache=off", 0.0), ("dtype=bfloat16", 0.01))
        ]
        tables = replace(
            tables,
            probes=pa.Table.from_pylist(probes, schema=tables.probes.schema),
            portability=pa.Table.from_pylist(rows, schema=PORTABILITY),
        )
        drawn = share_that_decodes_elsewhere(tables)
        assert drawn is not None
        traces: Any = drawn.figure.data
        lines = {trace.name: trace for trace in traces if trace.x[0] is not None}
        assert list(lines["cache=off"].y) == [1.0] * 6
        assert list(lines["dtype=bfloat16"].y) == [0.0] * 3 + [0.8333] + [1.0] * 2
        assert "cache=off 36 of 36; dtype=bfloat16 17 of 36" in drawn.caption

    def test_nothing_is_drawn_without_rows(self, generated):
        tables = replace(generated(6, 6), portability=PORTABILITY.empty_table())
        assert share_that_decodes_elsewhere(tables) is None
