"""Checks the machines of a cluster file offline, by the cloud's own description of one.

Ray passes these fields on unread, and a launch that the cloud refuses is tried again and again. The descriptions come
with the packages that `ray up` needs for a cloud; without its package, nothing is checked.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from orchestrator.errors import did_you_mean, suggest

NAMES_OF_TYPE = {"aws": "InstanceType", "gcp": "machineType"}
"""Provider -> the field that names the type of a machine; Ray stops at a machine without it."""
TEMPLATES = ("LaunchTemplate", "sourceInstanceTemplate")
"""Fields that name what gives a machine its other fields."""
TPU = ("acceleratorType", "acceleratorConfig")
"""Google's machines with one of these come from another interface."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What a cloud takes as the value of a field."""

    is_list: bool = False
    """Whether it takes a list; the other fields are then those of an entry."""
    fields: Callable[[], Mapping[str, "Kind"]] | None = None
    """Of a mapping; None for another value, or a mapping of any keys."""
    values: Sequence[str] = ()
    """The only ones that it takes; empty if there are others."""


def machine_problems(document: Mapping[Any, Any]) -> Iterator[str]:
    """Fields of machines that the cloud does not know, and values that it does not take."""
    cloud, kind = _described(document)
    if kind is None:
        return
    for place, machine in _machines(document):
        if any(name in machine for name in TPU):
            continue
        yield from _unlike(machine, kind, place)
        named = NAMES_OF_TYPE[cloud]
        if named not in machine and not any(name in machine for name in TEMPLATES):
            yield f"{place}.{named}: missing."


def machine_notes(document: Mapping[Any, Any]) -> Iterator[str]:
    """Types of machines that the cloud's package does not know: misspelt, or newer than the package."""
    from importlib.metadata import version

    if _described(document)[0] != "aws" or (described := _run_instances()) is None:
        return
    known: list[str] = described.members["InstanceType"].enum
    for place, machine in _machines(document):
        if (found := machine.get("InstanceType")) is not None and found not in known:
            yield (
                f"{place}.InstanceType: boto3 {version('boto3')} here does not know {found!r}; AWS may."
                f"{did_you_mean(found, known)}"
            )


def _machines(document: Mapping[Any, Any]) -> Iterator[tuple[str, Mapping[Any, Any]]]:
    """Place and fields of each machine; Ray's schema reports what has another form."""
    types = document.get("available_node_types")
    for name, node in types.items() if isinstance(types, Mapping) else ():
        machine = node.get("node_config") if isinstance(node, Mapping) else None
        if isinstance(machine, Mapping):
            yield f"available_node_types.{name}.node_config", machine


def _described(document: Mapping[Any, Any]) -> tuple[str, Kind | None]:
    """The cloud of a file, and what it takes as a machine; None if that is not known here."""
    provider = document.get("provider")
    cloud = str(provider.get("type")) if isinstance(provider, Mapping) else ""
    match cloud:
        case "aws" if (shape := _run_instances()) is not None:
            of_cloud = {name: _of_aws(each) for name, each in shape.members.items()}
            # Most types of a year are newer than an installed boto3: they are notes.
            own = {"InstanceType": Kind(), "SubnetIds": Kind(is_list=True)}
        case "gcp" if (schemas := _google_schemas()) is not None:
            of_cloud = {name: _of_google(each, schemas) for name, each in schemas["Instance"]["properties"].items()}
            own = {"networkConfig": Kind(), "sourceInstanceTemplate": Kind()}
        case _:
            return cloud, None
    return cloud, Kind(fields=lambda: {**of_cloud, **own})  # `own`: what Ray itself reads


@cache
def _run_instances() -> Any:
    """What the call RunInstances takes, by botocore; None without botocore."""
    try:
        from botocore.session import get_session
    except ModuleNotFoundError:
        return None
    return get_session().get_service_model("ec2").operation_model("RunInstances").input_shape


@cache
def _google_schemas() -> Any:
    """The schemas of Compute Engine, by google-api-python-client; None without it."""
    try:
        from googleapiclient import discovery_cache
    except ModuleNotFoundError:
        return None
    return json.loads((Path(discovery_cache.__file__).with_name("documents") / "compute.v1.json").read_text())[
        "schemas"
    ]


def _of_aws(shape: Any) -> Kind:
    match shape.type_name:
        case "list":
            return replace(_of_aws(shape.member), is_list=True)
        case "structure":
            return Kind(fields=lambda: {name: _of_aws(each) for name, each in shape.members.items()})
        case _:
            return Kind(values=getattr(shape, "enum", ()))


def _of_google(field: Mapping[str, Any], schemas: Mapping[str, Any]) -> Kind:
    if "items" in field:
        return replace(_of_google(field["items"], schemas), is_list=True)
    field = schemas[field["$ref"]] if "$ref" in field else field
    if (known := field.get("properties")) is None:
        return Kind(values=field.get("enum", ()))
    return Kind(fields=lambda: {name: _of_google(each, schemas) for name, each in known.items()})


def _unlike(value: Any, kind: Kind, place: str) -> Iterator[str]:
    """A line for each part of the value that is not of its kind."""
    if kind.is_list != isinstance(value, list):
        yield f"{place}: found {value!r}; it should {'' if kind.is_list else 'not '}be a list."
    elif kind.is_list:
        for number, each in enumerate(value):
            yield from _unlike(each, replace(kind, is_list=False), f"{place}.{number}")
    elif kind.fields is not None and not isinstance(value, Mapping):
        yield f"{place}: found {value!r}; it should be a mapping."
    elif kind.fields is not None:
        known = kind.fields()
        for key, part in value.items():
            if key in known:
                yield from _unlike(part, known[key], f"{place}.{key}")
            else:
                yield f"{place}.{key}: unknown key. {suggest(key, known)}"
    elif kind.values and value not in kind.values:
        yield f"{place}: found {value!r}. {suggest(value, kind.values)}"
