"""The sets of published figures that a run can be compared with: what each counts, and how it differs.

Values only, so that `--help` lists them without a slow import.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Paper = Literal["published", "progressive", "one_step"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedSet:
    """One paper's figures."""

    counted: str
    """What a run must ask to be comparable, in the words of a sweep file."""
    footnotes: tuple[str, ...]
    """Where the paper's code differs from its text, or from this project."""


PUBLISHED_SETS: Mapping[Paper, PublishedSet] = {
    "published": PublishedSet(
        counted="task: cramming under criterion: {teacher_forced: ..}",
        footnotes=(
            "The paper prints information gains as bits; its numbers are nats (Llama-3.1-8B at 1568 tokens: 2.337136 "
            "nats a token x 1568 = 3664.6, as printed). This table compares nats.",
            "The published code neither trains nor scores t_1. Where the tokenizer puts a BOS first, t_1 is the BOS; "
            "elsewhere t_1 is a token of the text that is given, not recovered.",
            "The published code saves the memory one step after the measurement, so the stored memory is not the one "
            "that passed. capsweep stores the memory that was measured.",
        ),
    ),
    "progressive": PublishedSet(
        counted="task: cramming, criterion: exact, decode_from: memory, num_vectors: [1], texts named pg19",
        footnotes=(
            "Exact horizon: the length to which every token is correct under teacher forcing, t_1 included. capsweep "
            "also certifies it by decoding.",
            "The paper's learning rate differs by model (0.1 or 0.5, absolute); a run uses that of its recipe. low_dim "
            "and activation_alignment are methods of the paper that are not reproduced here.",
            "Information gains are compared as printed, in bits: 4,391 for 1,437.6 tokens of Llama-3.1-8B are 3.05 "
            "bits a token; a token of the first paper's text costs that model 2.34 nats = 3.37 bits.",
        ),
    ),
    "one_step": PublishedSet(
        counted="task: one_step, criterion: exact or {teacher_forced: 0.99}",
        footnotes=(
            "The paper reports the longest text over restarts at an accuracy of at least 0.99; under criterion: exact "
            "every token is correct.",
        ),
    ),
}
