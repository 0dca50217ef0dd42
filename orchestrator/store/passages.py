"""The text of the first tokens of a sample, from a row of SAMPLES.

Pure. Knows nothing of tokenizers.
"""

from collections.abc import Sequence

from tasks.turns import TEXT_BREAK, apart


def pieces(text: str, token_ends: Sequence[int], num_texts: int, *, num_tokens: int) -> list[str]:
    """The characters that each of the first `num_tokens` tokens adds, in the order of the tokens.

    Args:
        text: The text of a sample; of several texts, one directly after the other.
        token_ends: Where each token ends in it.
        num_texts: Texts whose tokens take turns.
        num_tokens: Tokens that are shown, at most as many as there are.
    """
    begins = [*_begins(token_ends, num_texts), *token_ends[:num_tokens]]
    return [text[begins[i] : end] for i, end in enumerate(token_ends[:num_tokens])]


def given_back(text: str, token_ends: Sequence[int], num_texts: int, *, num_tokens: int) -> str:
    """The text of the first `num_tokens` tokens; several texts with an empty line between them. Arguments as above."""
    shown = zip(_begins(token_ends, num_texts), apart(token_ends[:num_tokens], num_texts), strict=True)
    return TEXT_BREAK.join(text[begin : ends[-1]] for begin, ends in shown if ends)


def _begins(token_ends: Sequence[int], num_texts: int) -> list[int]:
    """Where each text begins: where the one before it ends."""
    return [0, *(ends[-1] if ends else 0 for ends in apart(token_ends, num_texts)[:-1])]
