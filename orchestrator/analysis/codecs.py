"""The tokenizer that a run's tokens are decoded by.

Knows nothing of memories.
"""

from collections.abc import Sequence

from orchestrator.errors import BadInput
from orchestrator.planning.identity import sample_id_of
from orchestrator.runs.directory import Run
from tasks.contract import TextCodec
from tasks.registry import TASKS
from tasks.turns import TEXT_BREAK, apart

SHOWN = 20
"""Characters of a text in a message."""
SPREAD = 8
"""Characters at the end of a text that tokens beyond its last one may change."""


def codec_of(run: Run, name: str) -> TextCodec:
    """The tokenizer of a model, as rows call it, for texts that its tokens are decoded to.

    The files of some tokenizers are no part of a model's fingerprint, such as a `vocab.json`.

    Raises:
        BadInput: when it is another one, by which the tokens of the run stand for other texts.
    """
    codec = TASKS[run.sweep.task].codec(run.model(name))
    for row in run.samples().to_pylist():
        tokens, context = tuple(row["tokens"]), tuple(row["context"] or ())
        if row["model"] != name or row["first_change"] is not None:
            continue
        if sample_id_of(codec.fingerprint, tokens, context) == row["sample_id"]:
            break  # the very same
        # The beginning of the text, where there is nothing before that some decoders join it with.
        num_texts = row["num_texts"] or 1
        own = row["text"][: apart(row["token_ends"], num_texts)[0][-1]]
        text, given = (row["context_text"] if context else own), codec.decode(context or apart(tokens, num_texts)[0])
        length = max(1, len(text) - SPREAD)
        if given[:length] != text[:length]:
            raise BadInput(
                f"{run.files.url}: the tokenizer of {name} has changed since the run began: the tokens of "
                f"{row['source']} were {text[:SHOWN]!r} then, and are {given[:SHOWN]!r} now. Restore it."
            )
    return codec


def text_of(codec: TextCodec, tokens: Sequence[int], num_texts: int) -> str:
    """The text that tokens stand for; of several texts that take turns, each by itself."""
    return TEXT_BREAK.join(codec.decode(part) for part in apart(tokens, num_texts) if part)
