"""The entries of a sweep's `texts`; the sources in tasks/texts/ define their fields."""

from functools import reduce
from operator import or_
from typing import Annotated, Any

from pydantic import PlainValidator, SerializeAsAny, ValidationInfo
from pydantic_core import PydanticCustomError

from orchestrator.spec.fields import problem_at, registered
from tasks.registry import TEXT_SOURCES
from tasks.texts import TextEntry


def _read_text_entry(value: Any, info: ValidationInfo) -> TextEntry:
    """The entry as an instance of its source's class, which defines the fields."""
    if isinstance(value, TextEntry):
        return value
    if not isinstance(value, dict):
        raise PydanticCustomError("wanted", "{wanted}", {"wanted": "a mapping such as {source: files, path: texts/}"})
    name = value.get("source")
    try:
        source = registered(TEXT_SOURCES, name)
    except PydanticCustomError as error:
        raise problem_at("source", error, name) from None
    return source.model_validate(value, context=info.context)


TextsOfSweep = Annotated[
    SerializeAsAny[TextEntry],
    PlainValidator(_read_text_entry, json_schema_input_type=reduce(or_, TEXT_SOURCES.built_in.values())),
]
"""One entry of `texts`; in a schema it is one of the sources."""
