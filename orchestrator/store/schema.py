"""The columns of a run's tables, except those of the probes table (probe_columns.py).

Columns may be added but never removed: papers and notebooks read these names.
"""

from collections.abc import Mapping

import pyarrow as pa

BITS_FILE = "bits.parquet"
LINES_FILE = "lines.parquet"
QUANTIZED_FILE = "quantized.parquet"
NOISE_FILE = "noise.parquet"
PORTABILITY_FILE = "portability.parquet"

SCHEMA_VERSION = 7
"""Version of the columns, written into every file. Columns that an earlier version did not have are null; a later
version is refused.

2: the curve of a probe, `steps_by_length` and `trained_tokens_by_length`.
3: `certified_steps`, `certified_trained_tokens`, `certified_lengths` and `exact_in_float32`.
4: `tokens_per_step` and `batch_cost_tokens`.
5: `first_change` of samples.
6: `bits_per_dimension` of searches; `context` and `repeats_context` of probes and searches; `context` and
`context_text` of samples.
7: `num_texts` of probes, searches and samples."""

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
        ("context", pa.int32()),
        ("repeats_context", pa.bool_()),
        ("num_texts", pa.int32()),
        ("limit", pa.int32()),
        ("limit_status", pa.string()),
        ("grid", pa.list_(pa.int32())),
        ("capacity_tokens", pa.int32()),
        ("status", pa.string()),
        ("smallest_failed", pa.int32()),
        ("capacity_nats", pa.float64()),
        ("capacity_bits", pa.float64()),
        ("bits_per_dimension", pa.float64()),
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
"""One row per search, derived from PROBES. `limit` is the longest length that the search may ask for, and
`limit_status` its status if it reaches that length. `context` counts the visible tokens before a memory, and
`repeats_context` says whether they are the text itself. `num_texts` counts the texts of a sample, as `capacity_tokens`
does their tokens together; null: one. `grid` has the lengths of a grid. `probe_id` names the probe whose memory gives
`capacity_tokens` back; `bits_per_dimension` is `capacity_bits` over the number of values in that memory.
`exact_in_float32`, accuracies and first error are those of that probe, over its `measured_length`. `restarts` counts
the probes after the first."""

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
        ("num_texts", pa.int32()),
        ("context", pa.list_(pa.int32())),
        ("context_text", pa.string()),
        ("first_change", pa.string()),
    ]
)
"""One row per sample: the text up to the longest length searched, its token ids, and where each token ends in it.
Where `num_texts` is above 1, the tokens of so many texts take turns, and the text has one directly after the other.
`context` has the token ids that stand before its memories, and `context_text` what they stand for; `text_sha256` is the
hash of the whole text, context included.
`first_change` states where the token ids first stand for another text than the one that was read, because the tokenizer
drops or replaces characters; null if they give it back, and in tables of earlier versions."""

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
"""The bits ledger, one row per search with a capacity: the size of its text under the model and under compressors that
were run both ways, and its memory at four precisions, each decoded again. `_exact_prefix` is how many tokens still come
back, `_accuracy` the share correct under teacher forcing, `_lossless` whether the run's criterion is still met."""

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
"""Points between two memories of one text, `share` of the way along great circles, and the teacher-forced `accuracy`
there over the first `tokens` tokens, for which both memories meet the run's criterion."""

QUANTIZED = pa.schema(
    [
        ("search_id", pa.string()),
        ("tokens", pa.int32()),
        ("format", pa.string()),
        ("bits", pa.int32()),
        ("block", pa.int32()),
        ("bytes", pa.int32()),
        ("turn_degrees", pa.float64()),
        ("exact_prefix", pa.int32()),
        ("lossless", pa.bool_()),
    ]
)
"""The memory of each row of BITS as whole numbers of `bits` bits, one row per format, decoded again. `block` values
share a scale; null: all of a vector. `turn_degrees` is the largest angle by which the format turns a vector. The rest
is as in BITS."""

NOISE = pa.schema(
    [
        ("search_id", pa.string()),
        ("tokens", pa.int32()),
        ("width", pa.int32()),
        ("draw", pa.int32()),
        ("angle_degrees", pa.float64()),
        ("bound_bits", pa.float64()),
    ]
)
"""How far a memory that gives its `tokens` tokens can be turned, one row per search and random direction, the `draw`:
the largest angle at which they still come out, 0 if there is none, and the bits that memories this robust can hold at
most, null for an angle of 0. `width` is that of a vector."""

PORTABILITY = pa.schema(
    [
        ("probe_id", pa.string()),
        ("model", pa.string()),
        ("setting", pa.string()),
        ("tokens", pa.int32()),
        ("exact_prefix", pa.int32()),
        ("margin", pa.float64()),
    ]
)
"""One row per stored memory and setting of `capsweep verify --as`. `tokens` is what the certificate claims,
`exact_prefix` what the memory gives back under the setting, and `margin` the smallest difference of the two largest
logits there, over `exact_prefix`; null if that is 0."""

WRITTEN_BY: Mapping[str, str] = {
    BITS_FILE: "capsweep measure",
    LINES_FILE: "capsweep measure",
    QUANTIZED_FILE: "capsweep measure",
    NOISE_FILE: "capsweep measure --noise",
    PORTABILITY_FILE: "capsweep verify --as",
}
"""The tables that are written after a run, by file, and the verb that writes each."""
MEASURED: Mapping[str, pa.Schema] = {
    BITS_FILE: BITS,
    LINES_FILE: LINES,
    QUANTIZED_FILE: QUANTIZED,
    NOISE_FILE: NOISE,
    PORTABILITY_FILE: PORTABILITY,
}
"""Their columns."""
