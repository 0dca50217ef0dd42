"""Fields of a sweep file set on the command line, in OmegaConf's dot list: `num_vectors=[1,2] models.0.dtype=bfloat16`.

Changes the document that was read; knows nothing of which fields and values a sweep allows, except that some entries
may be given by a name alone.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.redact import redact
from orchestrator.spec.yaml_file import CONSTRUCTOR_ERRORS, parse_yaml
from tasks.registry import TASKS, whole_recipe
from tasks.values import TaskError
from tasks.wording import counted

EXAMPLES = "num_vectors=[1,2] or models.0.dtype=bfloat16"
LONGEST_SHOWN = 80
"""Most characters of a word in a message."""
Place = tuple[str, ...]
"""Keys and numbers of entries from the whole file down to a value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """One word of the command line."""

    word: str
    """As it was given."""
    place: Place
    value: Any

    @property
    def shown(self) -> str:
        """The word on one line."""
        return _shown(self.word)

    def touches(self, place: Sequence[object]) -> bool:
        """Whether a value at this place is one that the override sets, holds or is within."""
        return bool(place) and all(mine == str(other) for mine, other in zip(self.place, place, strict=False))


class _WrongOverrideError(Exception):
    """A line about an override that cannot be read, or has no place in the file."""


def read_overrides(words: Sequence[str]) -> tuple[list[Override], list[str]]:
    """The overrides that can be read, and a line for each word that cannot."""
    overrides: list[Override] = []
    problems: list[str] = []
    for word in words:
        try:
            overrides.append(_read(word))
        except _WrongOverrideError as error:
            problems.append(f"{_shown(word)}: {error}")
    return overrides, problems


def _read(word: str) -> Override:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    key, equals, value = word.partition("=")
    if not equals or not key.strip():
        raise _WrongOverrideError(f"not an override. Wanted KEY=VALUE, such as {EXAMPLES}.")
    try:
        # Refuses what no file may hold; its value is not used: OmegaConf reads 1e-3 as a number, and YAML as text.
        parse_yaml(value)
        node: Any = OmegaConf.to_container(OmegaConf.from_dotlist([word]))
        place = tuple(_keys(OmegaConf.to_container(OmegaConf.from_dotlist([f"{key}=0"]))))
        for part in place:
            node = node[part]  # one mapping for each key of the place
    except (*CONSTRUCTOR_ERRORS, OmegaConfBaseException) as error:
        raise _WrongOverrideError(
            f"cannot be read: {_in_one_line(error)}. Wanted KEY=VALUE, such as {EXAMPLES}."
        ) from error
    return Override(word=word, place=place, value=node)


def _shown(word: str) -> str:
    """A word as a message begins with it: on one line, not beyond it, without secrets."""
    word = redact(word)  # before it is cut: half of a password is not seen as one
    line = word if word.isprintable() else repr(word)
    return line if len(line) <= LONGEST_SHOWN else f"{line[: LONGEST_SHOWN - 3]}..."


def _keys(node: Any) -> list[str]:
    """The keys of mappings with one entry each, from the outermost to the innermost."""
    keys: list[str] = []
    while isinstance(node, dict):
        ((key, node),) = node.items()
        keys.append(key)
    return keys


def _in_one_line(error: Exception) -> str:
    mark = getattr(error, "problem", None)
    return " ".join(str(mark or error).split()).rstrip(".")


def with_overrides(document: Mapping[str, Any], overrides: Sequence[Override]) -> tuple[dict[str, Any], list[str]]:
    """The document with the overrides in it, later ones last, and a line for each that has no place there.

    As OmegaConf does, a mapping is merged into the one that stands there, and a list replaces the one there. An entry
    that the file gives by its name alone, as a model or a recipe may be, becomes the mapping that it stands for.
    """
    changed: Any = dict(document)
    problems: list[str] = []
    for override in overrides:
        try:
            changed = _changed(changed, override.place, override.value, (), changed)
        except _WrongOverrideError as error:
            problems.append(f"{override.shown}: {error}")
    return changed, problems


def _changed(node: Any, left: Place, value: Any, place: Place, document: Mapping[str, Any]) -> Any:
    """A copy of `node`, which stands at `place`, with `value` at what is left of the way."""
    if not left:
        if isinstance(node, dict) and isinstance(value, dict):
            for key, part in value.items():
                node = _changed(node, (key,), part, place, document)
            return node
        return value
    key, below = left[0], left[1:]
    if isinstance(node, list):
        if not (key.isascii() and key.isdigit() and int(key) < len(node)):
            where = ".".join(place)
            raise _WrongOverrideError(
                f"{where}.{key}: no such entry. The file has {counted(len(node), 'entry', 'entries')} there, and the "
                f"first is {where}.0; to add one, give the whole list: {where}=[..]."
            )
        number = int(key)
        return [*node[:number], _changed(node[number], below, value, (*place, key), document), *node[number + 1 :]]
    node = {} if node is None else _fields_of(node, place, document)
    return {**node, key: _changed(node.get(key), below, value, (*place, key), document)}


def _fields_of(node: Any, place: Place, document: Mapping[str, Any]) -> Mapping[str, Any]:
    """The mapping at this place, or the one that its name stands for."""
    if isinstance(node, dict):
        return node
    if isinstance(node, str) and len(place) == 2 and place[0] == "models":
        return {"name": node}
    if isinstance(node, str) and place == ("recipe",) and (task := str(document.get("task", "cramming"))) in TASKS:
        try:
            return whole_recipe(task, node)
        except TaskError as error:
            raise _WrongOverrideError(f"recipe: {error}") from None
    where = ".".join(place)
    raise _WrongOverrideError(
        f"{where} is {json.dumps(node, default=str)} in the file, without fields. Give it as a whole."
    )
