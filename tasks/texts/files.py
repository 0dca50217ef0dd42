"""The text source `files`: texts from .txt, .jsonl, .parquet and .csv files of this machine."""

import codecs
import csv
import glob
import json
import os
import re
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from tasks.contract import Reader
from tasks.texts import LocalPath, Samples, TextEntry
from tasks.values import TaskError, Text

FIELD = "text"
"""Field or column that holds the text."""
LONGEST_CSV_FIELD = 2**31 - 1
"""The csv module's own limit is 128 kB, which is less than a book."""
HALF_PAIR = re.compile("[\ud800-\udfff]")

Rows = Iterator[tuple[int | None, Any]]
"""Number of the line or row, from 1 (None: the file is one text), and its value of FIELD."""


class FilesSource(TextEntry, frozen=True):
    """Texts from a file, the files of a folder, or the files that match a pattern, sorted by name."""

    source: Literal["files"] = "files"
    path: LocalPath
    """A file, a folder (without its subfolders), or a pattern such as `texts/*.txt`."""
    samples: Samples | None = None
    """How many texts to take, from the first; null takes all."""

    def read(self, reader: Reader | None = None) -> list[Text]:
        """The first `samples` texts.

        Raises:
            TaskError: when there is no usable file or text, or a needed file cannot be read.
        """
        try:
            texts = list(islice(self._texts(), self.samples))
        except OSError as error:
            raise TaskError(f"{error.filename or self.path}: cannot be read ({error.strerror or error}).") from error
        if not texts:
            raise TaskError(f"{self.path}: no text in it; wanted at least one row with a field {FIELD!r}.")
        return texts

    def _texts(self) -> Iterator[Text]:
        root, files = self._files()
        for file in files:
            for number, found in READERS[file.suffix.lower()](file):
                where = "" if number is None else f"#{number}"
                # Not every system has file names in UTF-8; tables need it.
                name = os.fsencode(file.relative_to(root).as_posix()).decode(errors="backslashreplace")
                source = f"files:{name}{where}"
                yield Text(text=_checked(found, f"{file}{where}"), source=source)

    def _files(self) -> tuple[Path, list[Path]]:
        """The folder that names are relative to, and the usable files, sorted."""
        path = Path(self.path).expanduser()
        if path.is_file():
            root, files = path.parent, [path]
        elif path.is_dir():
            root, files = path, [file for file in path.iterdir() if file.is_file() and not file.name.startswith(".")]
        elif glob.has_magic(self.path):
            fixed = path.parts[: _first_magic(path)]
            root, files = Path(*fixed), [Path(file) for file in glob.glob(str(path), recursive=True)]
        else:
            raise TaskError(f"{self.path}: there is no such file or folder. Check the path.")
        usable = sorted(
            (file for file in files if file.suffix.lower() in READERS and file.is_file()), key=Path.as_posix
        )
        if not usable:
            names = ", ".join(sorted(file.name for file in files)[:5]) or "nothing"
            raise TaskError(f"{self.path}: no usable file; found {names}; wanted {', '.join(READERS)}.")
        return root, usable


def _first_magic(path: Path) -> int:
    return next(i for i, part in enumerate(path.parts) if glob.has_magic(part))


def _checked(found: Any, where: str) -> str:
    if not isinstance(found, str):
        raise TaskError(f"{where}: {FIELD!r} is {type(found).__name__}; wanted text. Mend or remove this row.")
    if not found.strip():
        raise TaskError(f"{where}: the text is empty. Mend or remove it.")
    if HALF_PAIR.search(found):
        raise TaskError(f"{where}: the text holds half of a surrogate pair, which is no character. Mend or remove it.")
    return found


def _no_field(where: str, what: str, known: list[str]) -> TaskError:
    there = ", ".join(map(str, known)) or "none"
    return TaskError(f"{where}: no {what} {FIELD!r}; found: {there}. Name the {what} that holds the text {FIELD!r}.")


def _decoded(data: bytes, path: Path, offset: int) -> str:
    """The text of UTF-8 bytes that begin at `offset` of the file, without a byte order mark at its start."""
    if offset == 0 and data.startswith(codecs.BOM_UTF8):
        data, offset = data[len(codecs.BOM_UTF8) :], len(codecs.BOM_UTF8)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        place = offset + error.start
        found = f"byte {place} is 0x{data[error.start]:02x}"
        raise TaskError(f"{path}: not UTF-8: {found}. Save the file as UTF-8, for instance with iconv.") from error


def _lines(path: Path) -> Iterator[str]:
    offset = 0
    with path.open("rb") as file:
        for line in file:
            yield _decoded(line, path, offset)
            offset += len(line)


def _read_txt(path: Path) -> Rows:
    yield None, _decoded(path.read_bytes(), path, 0)


def _read_jsonl(path: Path) -> Rows:
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise TaskError(f"{path}: line {number} is not JSON ({error}). Wanted one object a line.") from error
        if not isinstance(row, dict):
            raise TaskError(f"{path}: line {number} is not an object. Wanted lines like {{{FIELD!r}: ..}}.")
        if FIELD not in row:
            raise _no_field(f"{path}: line {number}", "field", list(row))
        yield number, row[FIELD]


def _read_csv(path: Path) -> Rows:
    csv.field_size_limit(LONGEST_CSV_FIELD)
    reader = csv.reader(_lines(path), strict=True)
    try:
        header = next(reader, [])
        if FIELD not in header:
            raise _no_field(str(path), "column", header)
        column = header.index(FIELD)
        for number, row in enumerate((row for row in reader if row), 1):
            yield number, row[column] if column < len(row) else None
    except csv.Error as error:
        raise TaskError(f"{path}: line {reader.line_num} is not CSV ({error}).") from error


def _read_parquet(path: Path) -> Rows:
    # Imported here because the import takes a moment, and only Parquet files need it.
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            if FIELD not in file.schema_arrow.names:
                raise _no_field(str(path), "column", file.schema_arrow.names)
            number = 0
            for batch in file.iter_batches(batch_size=1024, columns=[FIELD], use_threads=False):
                for found in batch.column(0).to_pylist():
                    number += 1
                    yield number, found
    except pyarrow.ArrowException as error:
        raise TaskError(f"{path}: not a readable Parquet file ({error}).") from error


READERS: dict[str, Callable[[Path], Rows]] = {
    ".txt": _read_txt,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
    ".csv": _read_csv,
}
"""Suffix of a file -> its reader."""
