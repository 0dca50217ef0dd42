"""The text of the first tokens of a sample, from a row of SAMPLES.

Pure. Knows nothing of tokenizers.
"""

from collections.abc import Sequence

from tasks.turns import TEXT_BREAK, apart


def pieces(text: str, token_ends: Sequence[int], num_texts: int) -> list[str]:
    """The characters that each token adds, in the order of the tokens.

    Args:
        text: The text of a sample; of several texts, one directly after the other.
        token_ends: Where each token ends in it.
        num_texts: Texts whose tokens take turns.
    """
    ends = apart(token_ends, num_texts)
    firsts = [0, *(own[-1] if own else 0 for own in ends[:-1])]
    begins = [*firsts, *token_ends]
    return [text[begins[i] : end] for i, end in enumerate(token_ends)]


def given_back(text: str, token_ends: Sequence[int], num_texts: int, *, num_tokens: int) -> str:
    """The text of the first `num_tokens` tokens; several texts with an empty line between them. Arguments as above."""
    shown = pieces(text, token_ends, num_texts)[:num_tokens]
    return TEXT_BREAK.join("".join(part) for part in apart(shown, num_texts) if part)
