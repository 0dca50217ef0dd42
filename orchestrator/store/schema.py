"""The columns of every table of a run.

More columns may follow, none may vanish: papers and notebooks read these names. Each field carries a sentence that
`capsweep` and the report show.
"""

import pyarrow as pa

SCHEMA_VERSION = 4
"""Written into every file. What an earlier one did not have is null; a later one is refused.

2: the curve of a probe, `steps_by_length` and `trained_tokens_by_length`.
3: `certified_steps`, `certified_trained_tokens`, `certified_lengths` and `exact_in_float32`.
4: `tokens_per_step` and `batch_cost_tokens`."""

PROBES = pa.schema(
    [
        ("run_id", pa.string()),
        ("session_id", pa.string()),
        ("search_id", pa.string()),
        ("probe_id", pa.string()),
        ("number", pa.int32()),
        ("attempt", pa.int32()),
        ("task", pa.string()),
        ("criterion", pa.string()),
        ("decode_from", pa.string()),
        ("prefix", pa.string()),
        ("model", pa.string()),
        ("model_revision", pa.string()),
        ("sample_id", pa.string()),
        ("text_sha256", pa.string()),
        ("source", pa.string()),
        ("num_vectors", pa.int32()),
        ("seed", pa.int64()),
        ("start", pa.string()),
        ("length", pa.int32()),
        ("outcome", pa.string()),
        ("reason", pa.string()),
        ("proven_length", pa.int32()),
        ("exact_prefix", pa.int32()),
        ("failed_length", pa.int32()),
        ("measured_length", pa.int32()),
        ("steps", pa.int32()),
        ("steps_to_proof", pa.int32()),
        ("trained_tokens", pa.int64()),
        ("seconds", pa.float64()),
        ("token_accuracy", pa.float64()),
        ("token_accuracy_without_memory", pa.float64()),
        ("first_error", pa.int32()),
        ("margin", pa.float64()),
        ("nats_without_memory", pa.float64()),
        ("nats_with_memory", pa.float64()),
        ("proven_nats_without_memory", pa.float64()),
        ("proven_nats_with_memory", pa.float64()),
        ("proven_token_gain", pa.int32()),
        ("correct_by_token", pa.binary()),
        ("correct_by_token_without_memory", pa.binary()),
        ("nats_by_token", pa.list_(pa.float32())),
        ("nats_by_token_without_memory", pa.list_(pa.float32())),
        ("margin_by_token", pa.list_(pa.float32())),
        ("steps_by_length", pa.list_(pa.int32())),
        ("trained_tokens_by_length", pa.list_(pa.int64())),
        ("certified_steps", pa.list_(pa.int32())),
        ("certified_trained_tokens", pa.list_(pa.int64())),
        ("certified_lengths", pa.list_(pa.int32())),
        ("exact_in_float32", pa.int32()),
        ("memory", pa.binary()),
        ("memory_dtype", pa.string()),
        ("memory_shape", pa.list_(pa.int32())),
        ("recipe", pa.string()),
        ("device", pa.string()),
        ("tokens_per_step", pa.int64()),
        ("batch_cost_tokens", pa.int64()),
        ("started_at", pa.timestamp("us", tz="UTC")),
        ("finished_at", pa.timestamp("us", tz="UTC")),
        ("schema_version", pa.int32()),
    ]
)
"""One row per probe outcome. `length` was asked; accuracies and nats are taken over `measured_length` tokens, and so
are `correct_by_token` and `correct_by_token_without_memory`: one bit a token, the first in the lowest bit of the first
byte. `nats_by_token` and `nats_by_token_without_memory` go to `proven_length`, `margin_by_token` to `exact_prefix`.
`steps_by_length` and `trained_tokens_by_length` are the curve of the probe: what it had taken when each length, from 1,
was first reached teacher forced. `certified_lengths` are the tokens that the best memory after `certified_steps` gives
back when it is decoded, `exact_prefix` those of the last one, and `exact_in_float32` what that one gives back to the
model as transformers has it, in float32. `tokens_per_step` and `batch_cost_tokens` are those of its engine: by the
clock where `engines` gives none."""

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
