"""The columns of the tables of a run beside the probes, which lie in probe_columns.py.

Columns may follow, none may vanish: papers and notebooks read these names.
"""

import pyarrow as pa

SCHEMA_VERSION = 4
"""Written into every file. What an earlier one did not have is null; a later one is refused.

2: the curve of a probe, `steps_by_length` and `trained_tokens_by_length`.
3: `certified_steps`, `certified_trained_tokens`, `certified_lengths` and `exact_in_float32`.
4: `tokens_per_step` and `batch_cost_tokens`."""

SEARCHES = pa.schema(
    [
        ("search_id", pa.string()),
        ("task", pa.string()),
        ("model", pa.string()),
        ("model_revision", pa.string()),
        ("sample_id", pa.string()),
        ("source", pa.string()),
        ("num_vectors", pa.int32()),
        ("seed", pa.int64()),
        ("criterion", pa.string()),
        ("decode_from", pa.string()),
        ("limit", pa.int32()),
        ("limit_status", pa.string()),
        ("grid", pa.list_(pa.int32())),
        ("capacity_tokens", pa.int32()),
        ("status", pa.string()),
        ("smallest_failed", pa.int32()),
        ("capacity_nats", pa.float64()),
        ("capacity_bits", pa.float64()),
        ("token_gain", pa.float64()),
        ("information_gain_nats", pa.float64()),
        ("information_gain_bits", pa.float64()),
        ("theoretical_tokens", pa.float64()),
        ("utilization", pa.float64()),
        ("margin", pa.float64()),
        ("exact_in_float32", pa.int32()),
        ("probes", pa.int32()),
        ("steps", pa.int64()),
        ("trained_tokens", pa.int64()),
        ("seconds", pa.float64()),
        ("probe_id", pa.string()),
        ("token_accuracy", pa.float64()),
        ("token_accuracy_without_memory", pa.float64()),
        ("first_error", pa.int32()),
        ("restarts", pa.int32()),
    ]
)
"""One row per search, derived from PROBES. `limit` is the longest length it may ask for and `limit_status` what it
means to reach it; `grid` are the lengths asked for where they are fixed; `probe_id` holds the memory that gives
`capacity_tokens` back; `exact_in_float32`, accuracies and first error are that probe's, over its `measured_length`;
`restarts` are the probes after the first."""

SAMPLES = pa.schema(
    [
        ("sample_id", pa.string()),
        ("model", pa.string()),
        ("source", pa.string()),
        ("other_sources", pa.list_(pa.string())),
        ("text_sha256", pa.string()),
        ("text", pa.string()),
        ("tokens", pa.list_(pa.int32())),
        ("token_ends", pa.list_(pa.int32())),
    ]
)
"""One row per sample: the text up to the longest length searched, its token ids, and where each token ends in it."""

BITS = pa.schema(
    [
        ("search_id", pa.string()),
        ("tokens", pa.int32()),
        ("text_bytes", pa.int32()),
        ("model_bits", pa.float64()),
        ("removed_bits", pa.float64()),
        ("zlib_bytes", pa.int32()),
        ("bz2_bytes", pa.int32()),
        ("lzma_bytes", pa.int32()),
        ("zstd_bytes", pa.int32()),
        ("arithmetic_bytes", pa.int32()),
        *(
            column
            for precision in ("float32", "bfloat16", "float16", "int8")
            for column in (
                (f"{precision}_bytes", pa.int32()),
                (f"{precision}_exact_prefix", pa.int32()),
                (f"{precision}_accuracy", pa.float64()),
                (f"{precision}_lossless", pa.bool_()),
            )
        ),
    ]
)
"""The bits ledger, one row per search with a capacity: its text under the model, under compressors that were really run
both ways, and its memory at four precisions, each decoded again: `_exact_prefix` is how many tokens still come back,
`_accuracy` the share that is correct teacher forced, `_lossless` whether the run's criterion is still met."""

LINES = pa.schema(
    [
        ("model", pa.string()),
        ("sample_id", pa.string()),
        ("source", pa.string()),
        ("num_vectors", pa.int32()),
        ("from_probe_id", pa.string()),
        ("to_probe_id", pa.string()),
        ("tokens", pa.int32()),
        ("share", pa.float64()),
        ("accuracy", pa.float64()),
    ]
)
"""Along the straight line between two memories of one text: `share` of the way, and `accuracy` there, teacher forced,
over the `tokens` of which both meet the run's criterion: that both give back, where it is exact."""
