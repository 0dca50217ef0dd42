"""Names of tasks, text sources and recipes that come from elsewhere: installed distributions, and files by themselves.

A distribution names what it offers in an entry-point group (`capsweep.tasks`, `capsweep.text_sources`,
`capsweep.recipes`). A file offers what it has in `TASKS`, `TEXT_SOURCES` and `RECIPES`, mappings of the same kind, once
`include` was called. What a distribution offers is imported when its name is first used, so that a plug-in that is
broken stops only the sweeps that use it. No plug-in replaces a built-in name.

Knows nothing of what the names stand for.
"""

import hashlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar

from tasks.homes import expanded
from tasks.values import TaskError

Offered = TypeVar("Offered")

TABLES = ("TASKS", "TEXT_SOURCES", "RECIPES")
"""What a file may have, as the registries are called."""
HASH_LENGTH = 12
"""Characters of a file's hash that messages and the provenance show."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IncludedFile:
    """A file whose tasks, text sources and recipes are known in this process."""

    name: str
    """Name of the file, without its folder."""
    source: str
    """The Python in it."""

    @property
    def sha256(self) -> str:
        """Hash of the source."""
        return hashlib.sha256(self.source.encode()).hexdigest()

    @property
    def origin(self) -> str:
        """What messages and the provenance call it."""
        return f"{self.name}, sha256 {self.sha256[:HASH_LENGTH]}"


_included: dict[str, tuple[IncludedFile, ModuleType]] = {}
"""Where a file was read, or its hash if that was elsewhere -> the file and what running it made."""


def include(place: str | os.PathLike[str]) -> None:
    """Run a Python file, or all in a folder, and make known the tasks, text sources and recipes in it.

    A file that has changed since is run again. It runs with all rights of this process, as whatever is installed does.

    Raises:
        TaskError: when there is no such file, one fails, or offers nothing.
    """
    path = expanded(Path(place))
    files = sorted(path.glob("*.py")) if path.is_dir() else [path]
    if not files:
        raise TaskError(f"--include {path}: holds no Python file. Wanted a file, or a folder with some.")
    for file in files:
        _include(file)


def _include(path: Path) -> None:
    if path.exists() and not path.is_file():  # to open a pipe would wait for its writer
        raise TaskError(f"--include {path}: a folder, pipe or device. Wanted a Python file.")
    try:
        source = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise TaskError(f"--include {path}: cannot be read ({why}). Wanted a Python file.") from error
    include_file(IncludedFile(name=path.name, source=source), place=str(path.resolve()))


def include_file(file: IncludedFile, *, place: str | None = None) -> None:
    """The same for a file that was read elsewhere, as engines on other machines do.

    Args:
        file: The file.
        place: Where it was read; what was included from there before is forgotten.
    """
    if file in included_files():
        return
    # Named for its content: in every process, what was pickled finds its class.
    module = ModuleType(f"capsweep_include_{file.sha256[:HASH_LENGTH]}")
    module.__file__ = place or file.name
    sys.modules[module.__name__] = module
    try:
        exec(compile(file.source, module.__file__, "exec"), module.__dict__)
    except (Exception, SystemExit) as error:
        del sys.modules[module.__name__]
        raise TaskError(
            f"--include {module.__file__}: fails when it is run{_line_of(error, module.__file__)} "
            f"({_in_one_line(error)}). Mend it; `python {module.__file__}` shows more."
        ) from error
    offered = {name: getattr(module, name) for name in TABLES if hasattr(module, name)}
    if not offered or not all(isinstance(table, Mapping) for table in offered.values()):
        found = ", ".join(f"{name}, a {type(table).__name__}" for name, table in offered.items()) or "none of them"
        raise TaskError(
            f"--include {module.__file__}: found {found}. Wanted at least one of {', '.join(TABLES)}, each a mapping "
            "from a name to what a sweep may use by it."
        )
    _included[place or file.sha256] = file, module


def included_files() -> tuple[IncludedFile, ...]:
    """All files that were included in this process, in order."""
    return tuple(file for file, _ in _included.values())


def forget_included() -> None:
    """Take back every `include` of this process."""
    _included.clear()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Offer:
    """What one plug-in offers by a name."""

    origin: str
    load: Callable[[], Any]


class Registry(Mapping[str, Offered], Generic[Offered]):
    """Name -> what a sweep file means by it: built in, or of a plug-in.

    Looking a name up raises TaskError when a plug-in that offers it cannot be loaded or is not of the kind, or when it
    is offered twice.
    """

    def __init__(
        self, kind: str, table: str, built_in: Mapping[str, Offered], check: Callable[[str, Any], Offered]
    ) -> None:
        """Nothing is looked for yet.

        Args:
            kind: What a name stands for, as messages say it.
            table: Its name in a file, and in small letters that of its entry-point group.
            built_in: Names that no plug-in may have.
            check: Gives what a plug-in offers by a name, made usable; raises TaskError with what it found and wanted.
        """
        assert table in TABLES, "the tables are the registries"
        self.kind = kind
        self.built_in = built_in
        self._table = table
        self._check = check
        self._loaded: dict[tuple[str, str], Offered] = {}

    def __getitem__(self, name: str) -> Offered:
        offers = self._offers_of(name)
        if name in self.built_in and not offers:
            return self.built_in[name]
        if not offers:
            raise KeyError(name)
        if name in self.built_in or len(offers) > 1:
            others = " and ".join(["capsweep itself"] * (name in self.built_in) + [offer.origin for offer in offers])
            raise TaskError(
                f"{self.kind} {name!r}: offered by {others}. Wanted one of them; remove or rename the other."
            )
        (offer,) = offers
        key = name, offer.origin
        if key not in self._loaded:
            self._loaded[key] = self._load(name, offer)
        return self._loaded[key]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and (name in self.built_in or bool(self._offers_of(name)))

    def __iter__(self) -> Iterator[str]:
        installed = [point.name for point in _installed(self._table, tuple(sys.path))]
        files = [name for _, module in _included.values() for name in getattr(module, self._table, ())]
        return iter(dict.fromkeys([*self.built_in, *installed, *files]))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def origin(self, name: str) -> str | None:
        """Which plug-in offers a name; None for a built-in one."""
        offers = self._offers_of(name)
        return offers[0].origin if offers else None

    def _offers_of(self, name: str) -> list[_Offer]:
        offers = [
            _Offer(origin=_origin_of(point), load=point.load)
            for point in _installed(self._table, tuple(sys.path))
            if point.name == name
        ]
        for file, module in _included.values():
            table = getattr(module, self._table, {})
            if name in table:
                offers.append(_Offer(origin=file.origin, load=lambda found=table[name]: found))
        return offers

    def _load(self, name: str, offer: _Offer) -> Offered:
        try:
            return self._check(name, offer.load())
        except TaskError as error:
            raise TaskError(f"{self.kind} {name!r}: of {offer.origin}: {error}") from error
        except (Exception, SystemExit) as error:
            raise TaskError(
                f"{self.kind} {name!r}: {offer.origin} offers it, and cannot be loaded ({_in_one_line(error)}). "
                "Mend or remove that plug-in."
            ) from error


@cache
def _installed(table: str, path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """The entry points of a table's group; read once for each `sys.path`, because it takes a look at every package."""
    return tuple(entry_points(group=f"capsweep.{table.lower()}"))


def _origin_of(point: EntryPoint) -> str:
    return f"{point.value} of {point.dist.name} {point.dist.version}" if point.dist else point.value


def _in_one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _line_of(error: BaseException, place: str) -> str:
    """Where in the file it failed, as ` in line 3`; empty if that is not known."""
    lines: list[int] = []
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == place:
            lines.append(trace.tb_lineno)
        trace = trace.tb_next
    return f" in line {lines[-1]}" if lines else ""
