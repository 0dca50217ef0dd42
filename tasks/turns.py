"""Several texts as one sequence: their tokens take turns, so that its beginning holds the beginning of each text.

Token i of the sequence belongs to text i % N of N texts, and is token i // N there. Pure; needs no torch.
"""

from collections.abc import Sequence
from typing import TypeVar

Value = TypeVar("Value")

TEXT_BREAK = "\n\n"
"""Stands between several texts that are shown as one."""


def in_turns(parts: Sequence[Sequence[Value]]) -> tuple[Value, ...]:
    """One value of each part after the other; a part that has ended takes no more turns."""
    return tuple(part[i] for i in range(max(map(len, parts))) for part in parts if i < len(part))


def apart(sequence: Sequence[Value], num_texts: int) -> list[Sequence[Value]]:
    """The values of each text: `in_turns` reversed. Texts whose turn has not come are empty."""
    return [sequence[text::num_texts] for text in range(num_texts)]
