"""Reads and writes sweeps, from files or as mappings: looks paths up, and reports each problem in one line.

Knows nothing of which values a sweep allows; orchestrator/spec/sweep.py and the modules of its entries define that.
"""

import glob
import json
import os
import reprlib
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from orchestrator.errors import BadInput, is_utf8, suggest
from orchestrator.spec.fields import problem
from orchestrator.spec.in_code import as_in_a_file
from orchestrator.spec.models import ModelEntry
from orchestrator.spec.overrides import read_overrides, with_overrides
from orchestrator.spec.sweep import Sweep
from orchestrator.spec.tracking import TrackingEntry
from orchestrator.spec.yaml_file import read_mapping
from tasks.homes import LONGEST_NAME, expanded, names_gguf
from tasks.registry import TASKS, TEXT_SOURCES
from tasks.texts.patterns import match

SweepSource: TypeAlias = str | os.PathLike[str] | Mapping[str, Any] | Sweep
"""What gives a sweep: the path of its file, a mapping as a file would have it, or the sweep itself."""
IN_CODE = "sweep"
"""Stands in messages where a file would be named."""
LOCAL_MARKS = (".", "/", "~")
"""A model's name that begins with one of these is local; so is one with more slashes than the one of a hub id, unless
it ends in the name of a GGUF file."""
CONTROL_CATEGORIES = ("Cc", "Zl", "Zp")
"""Unicode's names of control characters and of line and paragraph separators."""
PLAIN_NAMES = {
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "tuple_type": "a list",
    "model_type": "a mapping",
    "string_too_short": "text that is not empty",
    "invalid_key": "a key that is text",
}
"""Pydantic's names of common problems, in the words of a YAML file."""


def load_sweep(path: Path, overrides: Sequence[str] = ()) -> Sweep:
    """The sweep of this file, with its defaults filled in.

    Relative files and folders (`path` and `words` of texts, local model folders) are looked up beside the sweep file
    first, then in the current directory; the sweep has them as absolute paths.

    Args:
        path: The file.
        overrides: Fields to set in it (orchestrator/spec/overrides.py).

    Raises:
        BadInput: with every problem of the file and of the overrides, each of which names the one it comes from.
    """
    document, repeated = read_mapping(path)
    problems = [f"{path}: {line}" for line in repeated]
    return _checked(document, problems, overrides, where=str(path), folder=path.parent)


def sweep_of(asked: SweepSource, overrides: Sequence[str] = ()) -> Sweep:
    """The sweep of a file, of a mapping as a file would have it, or of a `Sweep`, with its defaults filled in.

    Relative files and folders of a mapping or a `Sweep` are looked up in the current directory.

    Raises:
        BadInput: with every problem.
    """
    if isinstance(asked, str) and "\n" in asked:
        raise BadInput(
            f"{IN_CODE}: found text of several lines. Wanted the path of a sweep file, or a mapping, which "
            "yaml.safe_load makes of YAML."
        )
    if isinstance(asked, str | os.PathLike):
        return load_sweep(expanded(Path(asked)), overrides)
    if isinstance(asked, Sweep):
        # Only what was set: an extension adds nothing for a field that was left out.
        given: Any = asked.model_dump(mode="json", include=asked.model_fields_set)
    else:
        given = asked
    if not isinstance(given, Mapping):
        raise BadInput(f"{IN_CODE}: found a {type(given).__name__}. Wanted a mapping with name, models and texts.")
    problems: list[str] = []
    try:
        # By JSON, what is below a type of YAML, such as a member of an Enum, becomes that type.
        document = json.loads(json.dumps(as_in_a_file(given, problems)))
    except RecursionError:
        raise BadInput(f"{IN_CODE}: it holds itself. Wanted what a sweep file could hold.") from None
    if problems:
        raise BadInput(*(f"{IN_CODE}: {line}" for line in problems))
    return _checked(document, [], overrides, where=IN_CODE, folder=Path())


def place_of(asked: SweepSource) -> str:
    """Where a sweep stands, as messages name it."""
    return os.fspath(asked) if isinstance(asked, str | os.PathLike) else IN_CODE


def _checked(
    document: dict[Any, Any], problems: list[str], overrides: Sequence[str], *, where: str, folder: Path
) -> Sweep:
    """The sweep of a document; raises BadInput with `problems` and all others."""
    wanted, unread = read_overrides(overrides)
    document, misplaced = with_overrides(document, wanted)
    problems = [*unread, *problems, *misplaced]

    def add(place: Sequence[object], line: str) -> None:
        words = [override.shown for override in wanted if override.touches(place)]
        problems.append(f"{words[-1] if words else where}: {line}")

    for place, line in _control_characters(document):
        add(place, line)
    places = Places(folder)
    try:
        sweep = Sweep.model_validate(document, context={"find": places.find, "find_model": places.find_model})
    except ValidationError as error:
        for details in error.errors(include_url=False):
            is_name = details["type"] == "problem" and isinstance(details["input"], str)
            if is_name and _control_character(details["input"]):
                continue  # said above; no name with one in it is found
            add(details["loc"], _explain(details, document))
    else:
        if not problems:
            return sweep
    raise BadInput(*dict.fromkeys(problems))


def _control_characters(document: Mapping[str, Any]) -> list[tuple[Sequence[object], str]]:
    """Place and problem of each text that holds a control character or a line separator.

    No file name or hub id has one, and YAML would not give every such text back as it was written.
    """
    problems: list[tuple[Sequence[object], str]] = []
    seen: set[int] = set()  # by an anchor, a mapping may hold itself

    def walk(value: Any, place: tuple[object, ...]) -> None:
        if isinstance(value, str):
            if found := _control_character(value):
                where = ".".join(map(_shown, place))
                line = f"{where}: found {_short(value)}; text must not hold the character {found!r}."
                problems.append((place, line))
        elif isinstance(value, Mapping | list) and id(value) not in seen:
            seen.add(id(value))
            for key, part in value.items() if isinstance(value, Mapping) else enumerate(value):
                walk(part, (*place, key))

    walk(document, ())
    return problems


def _control_character(text: str) -> str:
    """The first character of the text that is a control character or a line separator; empty if none is."""
    return next((letter for letter in text if unicodedata.category(letter) in CONTROL_CATEGORIES), "")


def dump(sweep: Sweep) -> str:
    """The sweep as YAML with every default filled in; `load_sweep` reads an equal sweep from it."""
    return yaml.safe_dump(sweep.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


class Places:
    """The folders in which paths of a sweep file are looked up."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, name: str) -> str:
        """The path of an existing file, folder or pattern.

        Raises:
            PydanticCustomError: when there is none, with the paths tried.
        """
        if any(len(os.fsencode(part)) > LONGEST_NAME for part in Path(name).parts):
            raise problem(f"found {_short(name)}; no part of a path may be longer than {LONGEST_NAME} bytes.")
        here = expanded(Path(name))
        beside = self._folder / here
        if (path := next(filter(_exists, (beside, here)), None)) is None:
            tried = " and ".join(dict.fromkeys([f"{beside}", f"{here}"]))
            raise problem(f"found {name!r}, but there is no such file or folder; tried {tried}.")
        # Absolute, so that a run can be resumed from any directory; rows and tables never hold this path.
        found = Path(os.path.abspath(path)).as_posix()
        if not is_utf8(found):
            raise problem(f"found {name!r}, which is at {found!r}: no name in UTF-8, as files have. Rename the folder.")
        return found

    def find_model(self, name: str) -> str:
        """The path of a local folder or file if there is one, else the name, as a hub id or a file of one."""
        try:
            return self.find(name)
        except ValueError:
            slashes = name.count("/")
            may_be_of_the_hub = slashes > 1 if names_gguf(name) else slashes <= 1
            if len(name) > LONGEST_NAME or name.startswith(LOCAL_MARKS) or not may_be_of_the_hub or name.endswith("/"):
                raise
            if _exists(self._folder / name) or _exists(Path(name)):
                raise
            return name


def _exists(path: Path) -> bool:
    try:
        return path.exists() or (glob.has_magic(str(path)) and bool(match(path)[1]))
    except (OSError, ValueError):  # a name that is too long or has a null character
        return False


def _shown(key: object) -> str:
    """A key on one line: it may hold a line break or a control character."""
    return str(key) if str(key).isprintable() else repr(key)


def _explain(details: ErrorDetails, document: Mapping[str, Any]) -> str:
    """One line: the place, what was found, what is allowed, what may have been meant."""
    place, kind, found = details["loc"], details["type"], details["input"]
    where = ".".join(map(_shown, place)) + ": "
    context = details.get("ctx", {})
    match kind:
        case "problem":
            return where + context["message"]
        case "missing":
            return f"{where}missing. {_known_keys(place[:-1], document).get(str(place[-1]), '')}".rstrip()
        case "extra_forbidden":
            return f"{where}unknown key. {suggest(place[-1], _known_keys(place[:-1], document))}"
        case "literal_error":
            # Pydantic joins the values as 'a', 'b' or 'c'.
            values = context["expected"].replace(" or ", ", ").replace("'", "").split(", ")
            return f"{where}found {_short(found)}. {suggest(found, values)}"
        case "wanted":
            should = context["wanted"]
        case _:
            should = PLAIN_NAMES.get(kind) or details["msg"].removeprefix("Input should be ").lower()
    return f"{where}found {_short(found)}; it should be {should}.{_hint(kind, should, found)}"


def _short(found: Any) -> str:
    if found is None or isinstance(found, bool):
        return "null" if found is None else str(found).lower()
    writer = reprlib.Repr()
    writer.maxstring = writer.maxother = 80
    return writer.repr(found)


def _hint(kind: str, should: str, found: Any) -> str:
    if kind == "tuple_type" and isinstance(found, str | int | float) and str(found).isprintable():
        return f" Did you mean [{found}]?"
    if "number" not in should or not isinstance(found, str):
        return ""
    try:
        number = float(found)
    except ValueError:
        return ""
    # Quoted, or like 1e-3, which YAML reads as text because it has no decimal point.
    return f" It is text in YAML; did you mean {int(number) if number.is_integer() else number}?"


def _known_keys(place: tuple[int | str, ...], document: Mapping[str, Any]) -> dict[str, str]:
    """Key -> description, of the mapping at this place."""
    match place:
        case ("recipe",):
            return dict.fromkeys(TASKS[document.get("task", "cramming")].recipe(_optimizer_of(document)), "")
        case ("texts", int(i)):
            fields = TEXT_SOURCES[document["texts"][i]["source"]].model_fields
        case ("models", int()):
            fields = ModelEntry.model_fields
        case ("tracking", str(name)):
            fields = _mapping_of(TrackingEntry.model_fields[name].annotation).model_fields
        case (str(name),):
            fields = _mapping_of(Sweep.model_fields[name].annotation).model_fields
        case ():
            fields = Sweep.model_fields
        case _:  # within an entry of a text source, which knows its own keys
            fields = {}
    return {name: field.description or "" for name, field in fields.items()}


def _mapping_of(annotation: Any) -> type[BaseModel]:
    """The model of a field that holds a mapping, or null."""
    return next(kind for kind in get_args(annotation) or (annotation,) if kind is not type(None))


def _optimizer_of(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of a recipe that decides which fields it has."""
    recipe = document.get("recipe")
    named = recipe.get("optimizer") if isinstance(recipe, Mapping) else None
    return {} if named is None else {"optimizer": named}
