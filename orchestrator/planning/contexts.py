"""Splits samples into the tokens that stand visibly before a memory, and the text that is asked for.

Pure. Knows nothing of models or searches.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from orchestrator.planning.identity import sample_id_of
from orchestrator.planning.inputs import Found
from orchestrator.planning.plan import Sample
from tasks.wording import counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Which tokens of a text are its context, and which are asked for."""

    context: int
    """Tokens of the context: the first ones of the text."""
    repeats: bool
    """Whether the text that is asked for begins with the context; otherwise it follows the context."""
    longest: int | None
    """Most tokens that are asked for; None if only the text limits them."""

    @property
    def tokens_of_both(self) -> int | None:
        """Tokens of a text that are needed; None: all."""
        if self.repeats:
            return self.context
        return None if self.longest is None else self.context + self.longest

    def texts(self, whole: Sequence[Sample], tokenizer: str) -> Found[list[Sample]]:
        """The samples with their contexts; those that are too short for one are left out with a note.

        Args:
            whole: Samples of `tokens_of_both` tokens.
            tokenizer: Fingerprint of the tokenizer.
        """
        if not self.context:
            return Found(value=list(whole))
        needed = self.context if self.repeats else self.context + 1
        notes = [
            f"{sample.source}: {counted(len(sample.tokens), 'token')}; with this context, wanted at least {needed}; "
            "left out."
            for sample in whole
            if len(sample.tokens) < needed
        ]
        long = [sample for sample in whole if len(sample.tokens) >= needed]
        return Found(value=[self._split(sample, tokenizer) for sample in long], notes=tuple(notes))

    def _split(self, sample: Sample, tokenizer: str) -> Sample:
        context, ends = sample.tokens[: self.context], sample.token_ends
        end = ends[self.context - 1]
        if self.repeats:
            tokens, token_ends = sample.tokens[: self.longest], ends[: self.longest]
            text, cut = sample.text[: token_ends[-1]], len(tokens) < self.context
        else:
            tokens, token_ends = sample.tokens[self.context :], tuple(place - end for place in ends[self.context :])
            text, cut = sample.text[end:], sample.cut
        return replace(
            sample,
            sample_id=sample_id_of(tokenizer, tokens, context),
            tokens=tokens,
            token_ends=token_ends,
            text=text,
            cut=cut,
            context=context,
            context_text=sample.text[:end],
        )
