"""Reads a YAML file that must be one mapping, and reports what is wrong with it.

Knows nothing of what the mapping means.
"""

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
LONGEST_NUMBER_BITS = 1024
"""The largest float has as many."""


class _Loader(yaml.SafeLoader):
    """A safe loader that also refuses scalars that no message, table or page could hold."""

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """Refuse numbers beyond a float: Python does not convert numbers of more than 4300 digits to text."""
        number = super().construct_yaml_int(node)
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
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise BadInput(f"{path}: there is no such file. Check the path.") from None
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}). Wanted a YAML file.") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: not UTF-8 at byte {error.start}. Wanted a YAML file in UTF-8.") from error
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        document = None if node is None else loader.construct_document(node)
        repeated = [] if node is None else list(_repeated_keys(node, "", set()))
    except CONSTRUCTOR_ERRORS as error:
        raise BadInput(f"{path}: not YAML: {_place(error)}") from error
    if document is None:
        raise BadInput(f"{path}: the file is empty. Wanted a mapping with name, models and texts.")
    if not isinstance(document, dict):
        raise BadInput(f"{path}: found a {type(document).__name__}. Wanted a mapping with name, models and texts.")
    return document, repeated


def _place(error: Exception) -> str:
    """Line, column and problem, in one line; PyYAML's own text spreads them over several."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}."
    return " ".join(f"{type(error).__name__}: {error}".split())


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
