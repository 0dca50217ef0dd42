"""A sweep that is given in Python, as a file would have it: text, numbers, lists and mappings.

Knows nothing of which fields and values a sweep allows.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any


def as_in_a_file(value: Any, problems: list[str], place: tuple[str, ...] = ()) -> Any:
    """The value with paths as text, and with tuples, ranges and arrays as lists.

    Adds a line to `problems` for each part that no file could hold.

    Raises:
        RecursionError: when it holds itself.
    """
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {str(key): as_in_a_file(part, problems, (*place, str(key))) for key, part in value.items()}
    if callable(plain := getattr(value, "tolist", None)):  # numbers and arrays of numpy, pandas, torch
        return as_in_a_file(plain(), problems, place)
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [as_in_a_file(part, problems, (*place, str(number))) for number, part in enumerate(value)]
    where = "".join(f"{part}." for part in place)[:-1]
    problems.append(
        f"{where}: found a {type(value).__name__}. Wanted text, numbers, lists and mappings, as in a sweep file."
    )
    return None
