"""The sets of published figures that a run can stand beside: what each counts, and where it departs.

Values only, so that `--help` can name them at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Paper = Literal["published", "progressive", "one_step"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedSet:
    """One paper's figures."""

    counted: str
    """What a run must have asked to stand beside them, in the words of a sweep file."""
    footnotes: tuple[str, ...]
    """Where the paper's code departs from its text, or from this project."""


PUBLISHED_SETS: Mapping[Paper, PublishedSet] = {
    "published": PublishedSet(
        counted="task: cramming under criterion: {teacher_forced: ..}",
        footnotes=(
            "The paper prints information gains as bits; its numbers are nats (Llama-3.1-8B at 1568 tokens: 2.337136 "
            "nats a token x 1568 = 3664.6, as printed), and nats are compared here.",
            "The published code neither trains nor scores t_1. Where the tokenizer puts a BOS first that is the BOS; "
            "elsewhere it is a token of the text that is given, not recovered.",
            "The published code saves the memory after the step that follows the measurement: what is stored is not "
            "what passed. Here the memory that was measured is stored.",
        ),
    ),
    "progressive": PublishedSet(
        counted="task: cramming, criterion: exact, decode_from: memory, num_vectors: [1], texts named pg19",
        footnotes=(
            "Exact horizons: every token correct under teacher forcing, t_1 included. Here they are certified by "
            "decoding besides.",
            "The paper's rate differs by model (0.1 or 0.5, absolute); here it is that of the sweep's recipe. low_dim "
            "and activation_alignment are methods of the paper that are not repeated here.",
            "Information gains are taken as printed, in bits: 4,391 for 1,437.6 tokens of Llama-3.1-8B are 3.05 bits a "
            "token, of which the first paper's text costs that model 2.34 nats = 3.37 bits.",
        ),
    ),
    "one_step": PublishedSet(
        counted="task: one_step, criterion: exact or {teacher_forced: 0.99}",
        footnotes=("The longest text over restarts at an accuracy of at least 0.99; here every token is correct.",),
    ),
}
