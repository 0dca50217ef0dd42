"""Messages for a user whose input cannot be used.

Knows nothing of sweeps, files or runs.
"""

import re
from collections.abc import Iterable
from difflib import get_close_matches

CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Characters that a terminal obeys, and those that turn the direction of what follows; not tabs and line breaks."""


def literal(text: str) -> str:
    """The text as a terminal may show it: texts and names come from anywhere, and must not command it."""
    return CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


class BadInput(Exception):  # noqa: N818 - the name reads as `bad input`
    """A user can mend this; the command ends with exit code 2 and has written nothing."""

    def __init__(self, *problems: str) -> None:
        super().__init__(*problems)
        self.problems: tuple[str, ...] = problems
        """One line each: where, what was found, what is allowed, what to do."""

    def __str__(self) -> str:
        return "\n".join(self.problems)


class SessionFaultError(RuntimeError):
    """The machine failed in a way that ends the session: what is on disk stays, and the run can be resumed."""


def suggest(word: object, known: Iterable[str]) -> str:
    """What is known, and which of it is meant most likely: `known: a, b, c. Did you mean 'a'?`."""
    names = list(known)
    return f"known: {', '.join(names)}.{did_you_mean(word, names)}"


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """Which of what is known is meant most likely, as ` Did you mean 'a'?`; nothing if none is near."""
    names = list(known)
    near = get_close_matches(str(word).lower(), [name.lower() for name in names], n=1)
    meant = [name for name in names if name.lower() in near][:1]
    return "".join(f" Did you mean {name!r}?" for name in meant)
