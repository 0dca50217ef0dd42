"""Opens text files of this machine: plain or compressed, in UTF-8, and never more of them than fits into RAM.

Knows nothing of what the texts in them are.
"""

import bz2
import codecs
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from tasks.pointers import is_pointer, pull
from tasks.values import TaskError

LONGEST_TEXT = 2**28
"""Most bytes of one text or line, unpacked: more than a hundred books."""
MOST_BYTES = 2**30
"""Most bytes of all texts of a file, unpacked: they are held in RAM."""
LEAST_BYTES = 128
"""Bytes that a line or a row counts at least: a Python object takes as many."""
HEAD_BYTES = 2**16
"""Bytes at the beginning of a file by which its encoding is told."""
FEW_BYTES = 16
"""Of fewer, an odd number may be text with NUL, and not what is left of UTF-16."""
WIDE_WORD = re.compile(rb"(?:[ -~]\0){8}|(?:\0[ -~]){8}|(?:[ -~]\0{3}){4}|(?:\0{3}[ -~]){4}")
"""A few Latin letters in UTF-16 or UTF-32."""
CONTROL_BYTES = bytes(range(32))
"""High bytes in UTF-16 of the letters of most alphabets. No text in UTF-8 has them, NUL among them, at every other
place."""


class _Streams(io.RawIOBase):
    """What one compressed stream after another holds.

    BZ2File and LZMAFile end without a word at what is no stream, such as text that was appended to a packed file.
    """

    def __init__(self, file: BinaryIO, begin: Callable[[], bz2.BZ2Decompressor | lzma.LZMADecompressor]) -> None:
        self._file, self._begin = file, begin
        self._stream = begin()

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Fill the buffer as far as it can be at once; 0 at the end.

        Raises:
            EOFError: when the last stream is cut off.
            OSError, lzma.LZMAError: when what comes is no stream.
        """
        while True:
            packed = b""
            if self._stream.eof:
                if not (packed := self._after_stream()):
                    return 0
                self._stream = self._begin()
            elif self._stream.needs_input and not (packed := self._file.read(HEAD_BYTES)):
                raise EOFError("the last stream is cut off")
            if data := self._stream.decompress(packed, len(buffer)):
                buffer[: len(data)] = data
                return len(data)

    def _after_stream(self) -> bytes:
        """Bytes after the stream, without zeros: xz pads files with them, tapes do."""
        packed = self._stream.unused_data.lstrip(b"\0")
        while not packed and (more := self._file.read(HEAD_BYTES)):
            packed = more.lstrip(b"\0")
        return packed


def _open_zstd(file: BinaryIO) -> Any:
    # Imported here because the import takes a moment, and few files need it.
    import pyarrow

    return pyarrow.CompressedInputStream(file, "zstd")


COMPRESSIONS: dict[str, Callable[[BinaryIO], Any]] = {
    ".gz": lambda file: gzip.GzipFile(fileobj=file),
    ".bz2": lambda file: _Streams(file, bz2.BZ2Decompressor),
    ".xz": lambda file: _Streams(file, lzma.LZMADecompressor),
    ".zst": _open_zstd,
}
"""Suffix of a compressed file -> what opens it."""


def lines_of(path: Path) -> Iterator[str]:
    """The lines of a file, with their ends and without a byte order mark.

    Raises:
        TaskError: when it is not UTF-8, is damaged, or is larger than RAM should hold.
        OSError: when it cannot be read.
    """
    place = counted = 0
    with _opened(path) as file:
        while line := file.readline(LONGEST_TEXT + 1):
            counted += max(len(line), LEAST_BYTES)
            if len(line) > LONGEST_TEXT:
                raise too_long(str(path), "a line")
            if counted > MOST_BYTES:
                raise too_many(path)
            yield _decoded(line, path, place)
            place += len(line)


def text_of(path: Path) -> str:
    """The whole text of a file, without a byte order mark; raises as `lines_of` does."""
    with _opened(path) as file:
        data = file.read(LONGEST_TEXT + 1)
    if len(data) > LONGEST_TEXT:
        raise too_long(str(path), "a text")
    return _decoded(data, path, 0)


def too_long(where: str, what: str) -> TaskError:
    """The error of a text that is longer than LONGEST_TEXT."""
    return TaskError(f"{where}: {what} of more than {LONGEST_TEXT >> 20:,} MiB. Wanted shorter texts; cut it.")


def too_many(path: Path) -> TaskError:
    """The error of a file with more texts than MOST_BYTES."""
    return TaskError(
        f"{path}: more than {MOST_BYTES >> 20:,} MiB of texts are asked for, and all are held in RAM. "
        "Ask for fewer: samples."
    )


def check_file(path: Path) -> None:
    """Raise TaskError if `path` is no file that can be read to its end, or only points to one that was not fetched."""
    if path.exists() and not path.is_file():
        raise TaskError(f"{path}: a folder, pipe or device. Wanted a file.")
    if is_pointer(path):
        raise TaskError(pull(path))


@contextmanager
def _opened(path: Path) -> Iterator[io.BufferedReader]:
    """The bytes of a file, unpacked."""
    check_file(path)
    unpack = COMPRESSIONS.get(path.suffix.lower())
    with path.open("rb") as raw:
        file = raw if unpack is None else io.BufferedReader(unpack(raw), HEAD_BYTES)
        try:
            _check_encoding(file.peek(HEAD_BYTES)[:HEAD_BYTES], path)
            yield file
        except (EOFError, zlib.error, lzma.LZMAError, OSError) as error:
            if unpack is None or (isinstance(error, OSError) and error.errno is not None):
                raise
            raise TaskError(f"{path}: not a whole {path.suffix} file ({error}). Copy or download it again.") from error


def _check_encoding(head: bytes, path: Path) -> None:
    """Raise TaskError for UTF-16 and UTF-32 without a byte order mark: what is not Latin in them may pass as UTF-8."""
    for high in (head[0::2], head[1::2]) if len(head) % 2 == 0 or len(head) >= FEW_BYTES else ():
        if b"\0" in high and 10 * len(high.translate(None, CONTROL_BYTES)) < len(high):
            raise _utf_16(path)


def _utf_16(path: Path) -> TaskError:
    return TaskError(f"{path}: not UTF-8 but UTF-16 or UTF-32. Save the file as UTF-8, for instance with iconv.")


def _decoded(data: bytes, path: Path, offset: int) -> str:
    """The text of UTF-8 bytes that begin at `offset` of the file, without a byte order mark at its start."""
    if offset == 0 and data.startswith(codecs.BOM_UTF8):
        data, offset = data[len(codecs.BOM_UTF8) :], len(codecs.BOM_UTF8)
    if b"\0" in data and WIDE_WORD.search(data):  # added to what is in UTF-8, as PowerShell's `>>` does
        raise _utf_16(path)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        place = offset + error.start
        found = f"byte {place} is 0x{data[error.start]:02x}"
        raise TaskError(f"{path}: not UTF-8: {found}. Save the file as UTF-8, for instance with iconv.") from error
