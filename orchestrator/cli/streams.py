"""Standard output and error that never fail: what cannot be shown is lost, and the verb and its exit code go on.

A terminal may have an old encoding, a pipe may be closed, the disk under a redirected output may be full, and a
terminal may hang up. Knows nothing of what is written.
"""

import codecs
import errno
import io
import os
import select
import sys
from typing import Any, TextIO

PLAIN = {"≥": ">=", "±": "+-", "…": "~", "↵": "~", "·": "-"}
"""What stands for the signs of tables and messages where the encoding has no such letter."""
VERTICAL = "│┃║"


class _Unfailing(io.FileIO):
    """A descriptor whose writes succeed: after the first error, they go to /dev/null."""

    def write(self, data: Any, /) -> int:
        """All of `data`, or as much as the descriptor took."""
        try:
            while (written := super().write(data)) is None:
                # Another process has set this terminal or pipe to non-blocking.
                select.select([], [self], [])
            return written
        except OSError as error:
            # Duplicated, not closed: the next file that is opened would get the number, and what libraries print.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            if error.errno != errno.EPIPE and self.fileno() == 1:
                print(f"standard output: {os.strerror(error.errno or 0)}; the rest is not shown.", file=sys.stderr)
            return len(data)


def show_what_can_be_shown() -> None:
    """Let standard output and error swallow every error, and write plain letters where the encoding lacks others."""
    _open_closed()
    codecs.register_error("capsweep", _plain)
    sys.stdout, sys.stderr = _unfailing(sys.stdout, 1), _unfailing(sys.stderr, 2)


def _open_closed() -> None:
    """Open what the caller has closed (`>&-`): else the first file that a run writes is its standard output."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _unfailing(stream: "TextIO | None", number: int) -> TextIO:
    raw = _Unfailing(number, "wb", closefd=False)
    given = stream if isinstance(stream, io.TextIOWrapper) else None
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=given.encoding if given else "utf-8",
        errors="capsweep",
        line_buffering=given.line_buffering if given else True,
        write_through=given.write_through if given else False,
    )


def _plain(error: UnicodeError) -> tuple[str, int]:
    """Plain letters for what cannot be encoded."""
    assert isinstance(error, UnicodeEncodeError), "only output is given this handler"
    return "".join(map(_letter, error.object[error.start : error.end])), error.end


def _letter(letter: str) -> str:
    if "\u2500" <= letter <= "\u257f":  # lines of tables and progress bars
        return "|" if letter in VERTICAL else "-"
    return PLAIN.get(letter, "?")
