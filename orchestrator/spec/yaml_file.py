"""Reads a YAML file that must be one mapping, and reports what is wrong with it.

Knows nothing of what the mapping means.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from orchestrator.errors import BadInput

# Errors that PyYAML's constructors raise for scalars such as `2024-13-45`, `!!int ''` or `!!timestamp x`.
CONSTRUCTOR_ERRORS = (
    yaml.YAMLError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    RecursionError,
)
LONGEST_FILE = 2**20
"""Most bytes of a file: PyYAML takes seconds for as many. A sweep has a few thousand; but a run writes an entry of 230
bytes for each of its `revisions`, and must be able to read them."""
MOST_CHARACTERS = LONGEST_FILE
"""Most characters and entries of a document in which every alias is written out; a few lines can ask for 10^12."""
ANOTHER_NUMBER = re.compile(r"[-+]?(0[0-7]+|\d{1,9}(:\d\d?){1,9})")
"""010 is octal in YAML 1.1, and 1:30 is in minutes."""
LONGEST_NUMBER_BITS = 1024
"""The largest float has as many."""


class _Loader(yaml.SafeLoader):
    """A safe loader that also refuses scalars that no message, table or page could hold."""

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """Refuse numbers that mean another one than they show, and those beyond a float.

        Python does not convert numbers of more than 4300 digits to text.
        """
        number = super().construct_yaml_int(node)
        if ANOTHER_NUMBER.fullmatch(node.value):
            raise yaml.constructor.ConstructorError(
                problem=f"found {node.value[:40]}, which YAML reads as {number}; write that, or put it in quotes",
                problem_mark=node.start_mark,
            )
        if number.bit_length() > LONGEST_NUMBER_BITS:
            raise yaml.constructor.ConstructorError(
                problem=f"found a whole number of more than {LONGEST_NUMBER_BITS} bits", problem_mark=node.start_mark
            )
        return number

    def construct_yaml_str(self, node: yaml.ScalarNode) -> str:
        """Refuse half of a surrogate pair, written as an escape: UTF-8 cannot encode it."""
        text = super().construct_yaml_str(node)
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise yaml.constructor.ConstructorError(
                problem="found half of a surrogate pair, which is no character", problem_mark=node.start_mark
            )
        return text


# PyYAML looks constructors up by tag, not by method.
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
_Loader.add_constructor("tag:yaml.org,2002:str", _Loader.construct_yaml_str)


def read_mapping(path: Path) -> tuple[dict[Any, Any], list[str]]:
    """The mapping, and a line for each key that is given twice.

    Raises:
        BadInput: when there is no such file, or it is not YAML or not a mapping.
    """
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise BadInput(f"{path}: a pipe or device. Wanted a YAML file.")
        with path.open("rb") as file:
            text = file.read(LONGEST_FILE + 1).decode("utf-8-sig")
    except FileNotFoundError:
        raise BadInput(f"{path}: there is no such file. Check the path.") from None
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}). Wanted a YAML file.") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: not UTF-8 at byte {error.start}. Wanted a YAML file in UTF-8.") from error
    try:
        document, node = parse_yaml(text)
        repeated = [] if node is None else list(_repeated_keys(node, "", set()))
    except CONSTRUCTOR_ERRORS as error:
        raise BadInput(f"{path}: not YAML: {_place(error)}") from error
    if document is None:
        raise BadInput(f"{path}: the file is empty. Wanted a mapping with name, models and texts.")
    if not isinstance(document, dict):
        raise BadInput(f"{path}: found a {type(document).__name__}. Wanted a mapping with name, models and texts.")
    return document, repeated


def parse_yaml(text: str) -> tuple[Any, yaml.Node | None]:
    """The document, and its nodes.

    Raises:
        yaml.YAMLError: when it is not YAML, or larger than any file of this project.
        Exception: others of CONSTRUCTOR_ERRORS, for a scalar that is not of its type.
    """
    if len(text) > LONGEST_FILE:
        raise yaml.YAMLError(f"more than {LONGEST_FILE >> 10:,} KiB; wanted a shorter file")
    loader = _Loader(text)
    node = loader.get_single_node()
    if node is None:
        return None, None
    if _size(node, {}) > MOST_CHARACTERS:
        raise yaml.YAMLError("its aliases stand for more than any file may hold; write out what is meant")
    return loader.construct_document(node), node


def _size(node: yaml.Node, sizes: dict[int, int]) -> int:
    """Characters and entries of a node in which every alias is written out; an alias within its own anchor has none."""
    if id(node) not in sizes:
        sizes[id(node)] = 0
        parts = node.value if isinstance(node, yaml.SequenceNode) else ()
        if isinstance(node, yaml.MappingNode):
            parts = [part for pair in node.value for part in pair]
        text = node.value if isinstance(node, yaml.ScalarNode) else ""
        sizes[id(node)] = 1 + len(text) + sum(_size(part, sizes) for part in parts)
    return sizes[id(node)]


def _place(error: Exception) -> str:
    """Line, column and problem, in one line; PyYAML's own text spreads them over several."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark, problem = error.problem_mark, str(error.problem)
        if problem.startswith("but ") and error.context:  # the second half of a sentence
            problem = f"{error.context}, {problem}"
        return f"line {mark.line + 1}, column {mark.column + 1}: {problem}."
    named = "" if isinstance(error, yaml.YAMLError) else f"{type(error).__name__}: "
    return " ".join(f"{named}{error}".split())


def _repeated_keys(node: yaml.Node, path: str, seen: set[int]) -> Iterator[str]:
    """A line for each repeated key; PyYAML silently keeps the last of them."""
    if id(node) in seen:  # an alias: its mapping was reported, or contains itself
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for i, item in enumerate(node.value):
            yield from _repeated_keys(item, f"{path}{i}.", seen)
    if isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, value in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if name in lines:
                yield f"{path}{name}: given twice, in line {lines[name]} and in line {line}. Keep one."
            lines.setdefault(name, line)
            yield from _repeated_keys(value, f"{path}{name}.", seen)
