"""Accuracy along the great circle between two memories of one text.

Knows nothing of runs or files.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from orchestrator.analysis.sphere import on_great_circle
from tasks.contract import Prover

LINE_POINTS = 21
"""Points between two memories, ends included."""


def line_rows(
    search: dict[str, Any], sample: dict[str, Any], held: list[dict[str, Any]], prover: Prover
) -> Iterator[dict[str, Any]]:
    """Rows of LINES, from the memory that proves the longest length to the one that proves the second longest.

    Args:
        search: A row of SEARCHES.
        sample: The row of SAMPLES of its text.
        held: Rows of PROBES of this search that have a memory; at least two.
        prover: Its model.
    """
    first, second = sorted(held, key=lambda row: (-row["proven_length"], row["probe_id"]))[:2]
    tokens = sample["tokens"][: second["proven_length"]]
    start_KD, end_KD = (
        np.frombuffer(row["memory"], dtype="<f4").reshape(row["memory_shape"]) for row in (first, second)
    )
    for share in np.linspace(0, 1, LINE_POINTS).tolist():
        between = on_great_circle(start_KD, end_KD, share).astype("<f4")
        yield {
            **{name: search[name] for name in ("model", "sample_id", "source", "num_vectors")},
            "from_probe_id": first["probe_id"],
            "to_probe_id": second["probe_id"],
            "tokens": len(tokens),
            "share": share,
            "accuracy": prover.accuracy(
                between.tobytes(), num_vectors=search["num_vectors"], tokens=tokens, context=sample["context"] or ()
            ),
        }
