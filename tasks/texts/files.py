"""The text source `files`: texts from .txt, .jsonl (or .ndjson), .parquet and .csv files of this machine."""

import csv
import glob
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from tasks.contract import Reader
from tasks.homes import expanded
from tasks.texts import LocalPath, Samples, TextEntry
from tasks.texts.patterns import match
from tasks.texts.text_files import (
    COMPRESSIONS,
    LEAST_BYTES,
    LONGEST_TEXT,
    MOST_BYTES,
    check_file,
    lines_of,
    text_of,
    too_long,
    too_many,
)
from tasks.values import TaskError, Text

FIELD = "text"
"""Field or column that holds the text."""
LONGEST_CSV_FIELD = 2**31 - 1
"""The csv module's own limit is 128 kB, which is less than a book."""
PARQUET_ROWS = 32
"""Rows that are unpacked together: each may hold a long text, even in a small file."""
NAMED = 5
"""Most files that a message names."""
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

    def notes(self) -> list[str]:
        """Which files of the folder, or of those that match the pattern, `read` does not look into."""
        _, files = self._found()
        unread = [file for file in files if _reader_of(file) is None]
        if not unread:
            return []
        are = "is" if len(unread) == 1 else "are"
        return [
            f"{self.path}: {len(unread)} of {len(files)} files {are} not read: {_named(unread)}. Read are .txt, "
            f".jsonl, .ndjson and .csv, also packed ({', '.join(COMPRESSIONS)}), and .parquet; rename or convert the "
            "others."
        ]

    def _texts(self) -> Iterator[Text]:
        root, files = self._files()
        total = 0
        for file, rows in files:
            for number, found in rows(file):
                where = "" if number is None else f"#{number}"
                # Not every system has file names in UTF-8; tables need it.
                name = os.fsencode(file.relative_to(root).as_posix()).decode(errors="backslashreplace")
                text = _checked(found, f"{file}{where}")
                total += max(len(text), LEAST_BYTES)
                if total > MOST_BYTES:
                    raise too_many(Path(self.path))
                yield Text(text=text, source=f"files:{name}{where}")

    def _files(self) -> tuple[Path, list[tuple[Path, Callable[[Path], Rows]]]]:
        """The folder that names are relative to, and the usable files, sorted, each with its reader."""
        root, files = self._found()
        usable = [(file, reader) for file in files if (reader := _reader_of(file)) is not None]
        if not usable:
            raise TaskError(
                f"{self.path}: no usable file; found {_named(files) or 'nothing'}; wanted {', '.join(READERS)}."
            )
        return root, usable

    def _found(self) -> tuple[Path, list[Path]]:
        """The folder that names are relative to, and everything there that may be meant, sorted."""
        path = expanded(Path(self.path))
        if path.is_file():
            return path.parent, [path]
        if path.is_dir():
            files = [file for file in path.iterdir() if not file.name.startswith(".")]
            return path, sorted(files, key=Path.as_posix)
        if glob.has_magic(self.path):
            root, matches = match(path)
            # Where `**` matches the files of a folder, it matches the folder, too.
            files = [file for file in matches if "**" not in path.parts or not file.is_dir()]
            return root, sorted(files, key=Path.as_posix)
        if path.exists():
            check_file(path)
        raise TaskError(f"{self.path}: there is no such file or folder. Check the path.")


def _named(files: Sequence[Path]) -> str:
    """The first of these files, each with what it is if it is no file."""
    names = [f"{file.name}/" if file.is_dir() else file.name + _oddity(file) for file in files[:NAMED]]
    return ", ".join(names) + (f" and {len(files) - NAMED} more" if len(files) > NAMED else "")


def _oddity(file: Path) -> str:
    if file.is_file():
        return ""
    return " (a pipe or device)" if file.exists() else " (a link to nothing)"


def _reader_of(file: Path) -> "Callable[[Path], Rows] | None":
    """What reads a file of this name; None if nothing does, or it is no file."""
    if not file.is_file():
        return None
    if file.suffix.lower() in COMPRESSIONS:
        # A packed Parquet file would have to be unpacked whole to be read.
        inner = Path(file.stem).suffix.lower()
        return READERS.get(inner) if inner != ".parquet" else None
    return READERS.get(file.suffix.lower())


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


def _read_txt(path: Path) -> Rows:
    yield None, text_of(path)


def _read_jsonl(path: Path) -> Rows:
    for number, line in enumerate(lines_of(path), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=_without_doubles)
        except (ValueError, RecursionError) as error:
            raise TaskError(f"{path}: line {number} is not usable JSON ({error}). Wanted one object a line.") from error
        if not isinstance(row, dict):
            raise TaskError(f"{path}: line {number} is not an object. Wanted lines like {{{FIELD!r}: ..}}.")
        if FIELD not in row:
            raise _no_field(f"{path}: line {number}", "field", list(row))
        yield number, row[FIELD]


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if sum(key == FIELD for key, _ in pairs) > 1:
        raise ValueError(f"it has {FIELD!r} twice")
    return dict(pairs)


def _doubled(where: str, what: str) -> TaskError:
    return TaskError(f"{where}: several {what}s are called {FIELD!r}. Name only the one that holds the text so.")


def _read_csv(path: Path) -> Rows:
    csv.field_size_limit(LONGEST_CSV_FIELD)
    reader = csv.reader(lines_of(path), strict=True)
    try:
        header = next(reader, [])
        if FIELD not in header:
            raise _no_field(str(path), "column", header)
        if header.count(FIELD) > 1:
            raise _doubled(str(path), "column")
        column = header.index(FIELD)
        for number, row in enumerate((row for row in reader if row), 1):
            if any(row[len(header) :]):
                raise TaskError(
                    f"{path}#{number}: found {len(row)} cells, more than the {len(header)} of the header. A text with "
                    "commas needs quotes around it."
                )
            yield number, row[column] if column < len(row) else None
    except csv.Error as error:
        raise TaskError(f"{path}: line {reader.line_num} is not CSV ({error}).") from error


def _read_parquet(path: Path) -> Rows:
    # Imported here because the import takes a moment, and only Parquet files need it.
    import pyarrow
    import pyarrow.parquet

    check_file(path)
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            if (names := file.schema_arrow.names).count(FIELD) != 1:
                raise _doubled(str(path), "column") if FIELD in names else _no_field(str(path), "column", names)
            number = 0
            for batch in file.iter_batches(batch_size=_rows_together(file), columns=[FIELD], use_threads=False):
                for value in batch.column(0):
                    number += 1
                    found = value.as_py()
                    if isinstance(found, str) and len(found) > LONGEST_TEXT:
                        raise too_long(f"{path}#{number}", "a text")
                    yield number, found
    except (pyarrow.ArrowException, ValueError) as error:
        raise TaskError(f"{path}: not a readable Parquet file ({error}).") from error


def _rows_together(file: Any) -> int:
    """How many rows of a pyarrow.parquet.ParquetFile are unpacked together.

    Each may hold the longest value of its group, which the file stores once.
    """
    groups = [file.metadata.row_group(number) for number in range(file.num_row_groups)]
    columns = [group.column(number) for group in groups for number in range(group.num_columns)]
    largest = max((one.total_uncompressed_size for one in columns if one.path_in_schema == FIELD), default=0)
    return max(1, min(PARQUET_ROWS, MOST_BYTES // max(1, largest)))


READERS: dict[str, Callable[[Path], Rows]] = {
    ".txt": _read_txt,
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".parquet": _read_parquet,
    ".csv": _read_csv,
}
"""Suffix of a file -> its reader."""
