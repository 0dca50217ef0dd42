"""Writes the reference of a sweep file's fields, for readers and for editors, from the models that check them.

`python -m orchestrator.spec.reference`, or `make docs`, rewrites `sweeps/sweep.schema.json` and the part of
`docs/sweep.md` between its two marks. Knows nothing of what the fields mean: descriptions, defaults and allowed values
come from the models.
"""

import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from orchestrator.spec.sweep import Sweep

ROOT = Path(__file__).parents[2]
"""The checkout; an installed package has no docs/ and sweeps/."""
SCHEMA = Path("sweeps/sweep.schema.json")
PAGE = Path("docs/sweep.md")
BEGIN, END = "<!-- The fields: written by `make docs`, from the models. -->", "<!-- The end of the fields. -->"
WIDTH = 120
"""Columns of a line of Markdown, as in all pages here."""
SMALL_INT = 2**31
"""An upper bound of this size only guards the types of columns, and is not worth a mention."""

Node = Mapping[str, Any]
"""A JSON Schema, or a part of one."""


def schema() -> dict[str, Any]:
    """The JSON Schema of a sweep file."""
    found = Sweep.model_json_schema()
    for definition in found["$defs"].values():
        # The field has a default in its class, so that code can make a source; a sweep file must name it.
        if "source" in definition["properties"]:
            definition["required"] = ["source", *definition.get("required", [])]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **_plain(found)}


def schema_text() -> str:
    """The text of the schema's file."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


def page_text(page: str) -> str:
    """The page with a new part between its marks.

    Raises:
        ValueError: when the page does not have each mark once, in order.
    """
    parts = re.split(f"{re.escape(BEGIN)}|{re.escape(END)}", page)
    if len(parts) != 3 or not page.index(BEGIN) < page.index(END):
        raise ValueError(f"{PAGE}: wanted {BEGIN!r} once and {END!r} once after it; put them back.")
    return f"{parts[0]}{BEGIN}\n\n{fields_text(schema())}\n{END}{parts[2]}"


def fields_text(whole: Node) -> str:
    """All fields as Markdown: a heading for each mapping, a list item for each of its fields."""
    sources = [_resolved(whole, node) for node in whole["properties"]["texts"]["items"]["anyOf"]]
    shared = {
        name: field
        for name, field in sources[0]["properties"].items()
        if all(source["properties"].get(name) == field for source in sources)
    }
    sections = [_section("The whole file", whole)]
    sections += [_section(f"`{path}`", node) for path, node in _mappings(whole)]
    of_every_source = {"properties": shared, "description": "Fields of every entry."}
    sections.append(_section("`texts`, whatever the source", of_every_source))
    for source in sources:
        name = source["properties"]["source"]["const"]
        own = {key: field for key, field in source["properties"].items() if key not in {*shared, "source"}}
        sections.append(_section(f"`texts` with `source: {name}`", {**source, "properties": own}))
    return "\n".join(sections)


def _mappings(whole: Node) -> Iterator[tuple[str, Node]]:
    """Path and schema of each mapping within the file, except text entries and recipes."""
    open_fields = [(name, field) for name, field in whole["properties"].items() if name not in ("texts", "recipe")]
    while open_fields:
        path, field = open_fields.pop(0)
        nodes = (field, *field.get("anyOf", ()), *field.get("items", {}).get("anyOf", ()))
        mappings = [_resolved(whole, node) for node in nodes if "$ref" in node]
        for mapping in mappings:
            # Where a field has several mappings, the first key tells them apart.
            yield path if len(mappings) == 1 else f"{path}: {{{next(iter(mapping['properties']))}: ..}}", mapping
            open_fields[:0] = [(f"{path}.{name}", below) for name, below in mapping["properties"].items()]


def _section(heading: str, mapping: Node) -> str:
    points = [_point(name, field, name in mapping.get("required", ())) for name, field in mapping["properties"].items()]
    return "\n".join([f"### {heading}", "", *textwrap.wrap(mapping["description"], WIDTH), "", *points, ""])


def _point(name: str, field: Node, required: bool) -> str:
    """One field: its name, allowed values, default and description."""
    words = [_values(field)]
    if required:
        words.append("required")
    elif "default" in field:
        words.append(f"default `{_yaml(field['default'])}`")
    # Pydantic omits the description of a field that equals that of its mapping.
    text = f"- `{name}` ({'; '.join(words)}): {field.get('description', 'Its fields are below.')}"
    return textwrap.fill(text, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def _values(node: Node) -> str:
    """The allowed values, in words."""
    if "anyOf" in node:
        return " or ".join(dict.fromkeys(_values(part) for part in node["anyOf"]))
    if "const" in node:
        return f"`{_yaml(node['const'])}`"
    if "enum" in node:
        return ", ".join(f"`{_yaml(value)}`" for value in node["enum"])
    if "$ref" in node:
        return "mapping"
    match node["type"]:
        case "array":
            return f"list of ({_values(node['items'])})"
        case "null":
            return "`null`"
        case "boolean":
            return "`true`, `false`"
        case "string":
            return f"text matching `{node['pattern']}`" if "pattern" in node else "text"
        case kind:
            return " ".join([{"integer": "whole number", "number": "number"}[kind], *_bounds(node)])


def _bounds(node: Node) -> Iterator[str]:
    names = {
        "minimum": "of at least",
        "exclusiveMinimum": "above",
        "maximum": "of at most",
        "exclusiveMaximum": "below",
    }
    limits = [f"{name} {node[key]:,}" for key, name in names.items() if node.get(key, SMALL_INT) != SMALL_INT]
    yield from [" and ".join(limits)] * bool(limits)


def _yaml(value: Any) -> str:
    """The value as a sweep file has it."""
    return value if isinstance(value, str) else json.dumps(value)


def _resolved(whole: Node, node: Node) -> Node:
    return whole["$defs"][node["$ref"].rpartition("/")[2]]


def _plain(node: Any) -> Any:
    """A schema without what it repeats (titles made of names, defaults of mappings), each description on one line."""
    if isinstance(node, list):
        return [_plain(item) for item in node]
    if not isinstance(node, dict):
        return node
    kept = {key: _plain(value) for key, value in node.items() if not (key == "title" and isinstance(value, str))}
    if "$ref" in kept:
        kept.pop("default", None)
    if isinstance(description := kept.get("description"), str):
        kept["description"] = " ".join(description.split())
    return kept


def main() -> None:
    """Write both files and print their names."""
    for path, text in ((SCHEMA, schema_text()), (PAGE, page_text((ROOT / PAGE).read_text(encoding="utf-8")))):
        (ROOT / path).write_text(text, encoding="utf-8")
        print(path)


if __name__ == "__main__":
    main()
