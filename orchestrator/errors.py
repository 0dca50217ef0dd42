"""Messages for a user whose input cannot be used.

Knows nothing of sweeps, files or runs.
"""

import re
import shlex
from collections.abc import Iterable
from difflib import get_close_matches

CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Control characters that a terminal acts on, and marks that change the text direction; not tabs and line breaks."""

LINE_BREAK = re.compile("[\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
"""Whatever `str.splitlines` takes for the end of a line."""


def literal(text: str) -> str:
    """The text, safe to print: texts and names come from anywhere, and must not control the terminal."""
    return CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def on_one_line(text: str) -> str:
    r"""The text with each line break as Python writes it, such as `\n`; a name that holds one would tear a message."""
    return LINE_BREAK.sub(lambda found: repr(found[0])[1:-1], text)


def is_utf8(name: str) -> bool:
    """Whether a name is text: folders may have others, which tables and YAML do not hold."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def typed(place: str) -> str:
    """A folder, URL or file as a user types it into a shell: in quotes, if it has spaces or other signs in it."""
    return shlex.quote(place)


class BadInput(Exception):  # noqa: N818 - the name reads as `bad input`
    """An error that the user can fix; the command exits with code 2 and has written nothing."""

    def __init__(self, *problems: str) -> None:
        self.problems: tuple[str, ...] = tuple(map(on_one_line, problems))
        """One line each: where, what was found, what is allowed, what to do."""
        super().__init__(*self.problems)

    def __str__(self) -> str:
        return "\n".join(self.problems)


class SessionFaultError(RuntimeError):
    """A machine failure that ends the session; what is on disk is kept, and the run can be resumed."""


def suggest(word: object, known: Iterable[str]) -> str:
    """The known words, and the one closest to `word`: `known: a, b, c. Did you mean 'a'?`."""
    names = list(known)
    return f"known: {', '.join(names)}.{did_you_mean(word, names)}"


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """The known word closest to `word`, as ` Did you mean 'a'?`; empty if none is close."""
    names = list(known)
    near = get_close_matches(str(word).lower(), [name.lower() for name in names], n=1)
    meant = [name for name in names if name.lower() in near][:1]
    return "".join(f" Did you mean {name!r}?" for name in meant)
