"""Checks a cluster file offline, as `ray up` would read it, and reports what a sweep may use of the cluster.

Ray's own code decides what is valid, but stops at the first problem and knows nothing of this project. This module
adds all problems at once, suggestions for misspelt keys, and versions that differ from those installed here.
"""

import contextlib
import copy
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import metadata, version
from pathlib import Path
from typing import Any

from packaging.specifiers import SpecifierSet
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from orchestrator.cluster.machines import machine_notes, machine_problems
from orchestrator.cluster.private import may_have_been_read
from orchestrator.errors import BadInput, literal, suggest
from orchestrator.spec.yaml_file import read_mapping
from tasks.homes import expanded
from tasks.wording import counted

TYPES = {"object": "a mapping", "array": "a list", "string": "text", "integer": "a whole number", "number": "a number"}
"""JSON schema's names of types, in the words of a YAML file."""
RAY = re.compile(r"rayproject/ray(?:-\w+)?(?::(?P<image>[\w.]+)|(?![\w/-]))|\bray(?:\[[^\]]*\])?==(?P<pip>[\w.]+)")
"""An image of Ray, with or without a version, and Ray as a requirement of pip."""
ZONES = {"aws": r"{region}(-\w+-\d+)?[a-z]", "gcp": r"{region}-[a-z]"}
"""Provider -> the zones of a region: `us-west-2a` and the local zone `us-west-2-lax-1a`; `us-west1-b`."""
OTHER_TOOLS = {
    "apiVersion": "Kubernetes, where `kubectl apply --dry-run=server -f` checks",
    "resources": "SkyPilot, where `sky jobs launch` checks",
}
"""A field that no sweep has -> the tool that reads a file with it."""
EXAMPLE = re.compile(r"YOUR-[A-Z]+|\byour-project\b|\b192\.0\.2\.\d+\b")
"""What the shipped files have in place of names of a user; no machine has an address that begins with 192.0.2."""
PYTHON = re.compile(r"(?:\bpython|rayproject/ray\S*-py)(?P<major>\d)\.?(?P<minor>\d+)\b")
"""`python3.12` in a command, and `py312` in an image of Ray."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeType:
    """One line of the table that `capsweep check` prints."""

    name: str
    instance: str
    cpus: float | None
    """CPUs of one node; None if Ray detects them on the node."""
    gpus: float | None
    """GPUs of one node; None as above."""
    min_workers: int
    max_workers: int
    is_head: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterFile:
    """A cluster file in which no problem was found."""

    nodes: Sequence[NodeType]
    """Node types that `ray up` and its autoscaler may launch."""
    max_workers: int
    """Most workers of all types together, at a time."""
    notes: Sequence[str] = ()
    """What may be a mistake."""

    @property
    def most_gpus(self) -> float | None:
        """Most GPUs that the workers may have together; None if Ray detects them on the nodes."""
        workers = [node.gpus for node in self.nodes for _ in range(node.max_workers)]
        known = [gpus for gpus in workers if gpus is not None]
        return sum(sorted(known)[-self.max_workers :]) if len(known) == len(workers) and self.max_workers else None


def is_cluster_file(document: Mapping[Any, Any]) -> bool:
    """Whether the document is a file for `ray up` rather than a sweep."""
    return "provider" in document or "cluster_name" in document


def refuse_other_tools(path: Path, document: Mapping[Any, Any]) -> None:
    """Raise BadInput for a file that another tool reads, whose fields would all be unknown here."""
    for key, tool in OTHER_TOOLS.items():
        if key in document:
            raise BadInput(
                f"{path}: has the field {key}, as a file for {tool} it. Wanted a sweep, or a cluster file for `ray up`."
            )


def check_cluster_file(path: Path) -> ClusterFile:
    """Read and check a file for `ray up`.

    Raises:
        BadInput: with every problem of the file.
    """
    document, problems = read_mapping(path)
    problems += [*_schema_problems(document), *_zone_problems(document)]
    problems += [*machine_problems(document), *_example_problems(document)]
    problems += [*_version_problems(document), *_mount_problems(document)]
    prepared: dict[str, Any] = {}
    if not problems:
        prepared, problems = _as_ray_reads(document)
    if problems:
        raise BadInput(*dict.fromkeys(f"{path}: {line}" for line in problems))
    found = None if prepared["provider"]["type"] == "local" else 0
    nodes = [
        NodeType(
            name=name,
            instance=str(node["node_config"].get("InstanceType") or node["node_config"].get("machineType", "-")),
            cpus=node["resources"].get("CPU"),
            gpus=node["resources"].get("GPU", found),
            min_workers=node.get("min_workers", 0),
            max_workers=node.get("max_workers", 0),
            is_head=name == prepared["head_node_type"],
        )
        for name, node in prepared["available_node_types"].items()
    ]
    return ClusterFile(nodes=nodes, max_workers=prepared["max_workers"], notes=tuple(machine_notes(document)))


def show_cluster_file(path: Path, console: Console) -> None:
    """Check the file, and print its node types and the workers and GPUs that a sweep may use.

    Raises:
        BadInput: with every problem of the file.
    """
    checked = check_cluster_file(path)
    table = Table(Column("node type", no_wrap=True), "instance", "CPU", "GPU", "min", "max")
    for node in checked.nodes:
        name = f"{node.name} (head)" if node.is_head and len(checked.nodes) > 1 else node.name
        counts = (_count(node.cpus), _count(node.gpus), str(node.min_workers), str(node.max_workers))
        table.add_row(*(Text(literal(cell)) for cell in (name, node.instance, *counts)))
    console.print(table)
    gpus = (
        "the GPUs that they have"
        if checked.most_gpus is None
        else f"{_count(checked.most_gpus)} GPU{'' if checked.most_gpus == 1 else 's'}"
    )
    console.print(
        f"a sweep may use at most {counted(checked.max_workers, 'worker')} at a time, with {gpus}", highlight=False
    )
    for note in checked.notes:
        console.print(f"note: {literal(note)}", markup=False, highlight=False, soft_wrap=True)


def _count(number: float | None) -> str:
    return "as found" if number is None else f"{number:g}"


def _schema_problems(document: Mapping[Any, Any]) -> Iterator[str]:
    """Everything that Ray's schema refuses; Ray's own validation stops at the first."""
    import jsonschema
    import ray.autoscaler

    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
    given = dict(document)
    if _mapping(given.get("provider")).get("type") == "local":
        given.pop("min_workers", None)  # Ray moves it elsewhere before it validates
    for error in jsonschema.Draft7Validator(schema).iter_errors(given):
        place = [str(part) for part in error.absolute_path]
        where = ".".join(place)
        rules: Any = error.schema
        match error.validator:
            case "additionalProperties":
                known = rules["properties"] if "properties" in rules else rules["patternProperties"]
                for key in error.instance if isinstance(error.instance, Mapping) else ():
                    if key not in known:
                        yield f"{'.'.join([*place, str(key)])}: unknown key. {suggest(key, known)}"
            case "required":
                for key in error.validator_value if isinstance(error.instance, Mapping) else ():
                    if key not in error.instance:
                        yield f"{'.'.join([*place, key])}: missing."
            case "type":
                kinds = [error.validator_value] if isinstance(error.validator_value, str) else error.validator_value
                wanted = " or ".join(TYPES.get(kind, kind) for kind in kinds)
                yield f"{where}: found {error.instance!r}; it should be {wanted}."
            case _:
                yield f"{where}: {error.message}."


def _zone_problems(document: Mapping[Any, Any]) -> Iterator[str]:
    """Zones that lie in another region: `ray up` would launch nothing there, after it has made a role and a key."""
    provider = _mapping(document.get("provider"))
    zones, region = provider.get("availability_zone"), provider.get("region")
    pattern = ZONES.get(str(provider.get("type")))
    if pattern is None or not isinstance(zones, str) or not isinstance(region, str):
        return
    wanted = re.compile(pattern.format(region=re.escape(region)))
    if elsewhere := [zone for zone in map(str.strip, zones.split(",")) if not wanted.fullmatch(zone)]:
        yield (
            f"provider.availability_zone: {', '.join(elsewhere)} {'are' if elsewhere[1:] else 'is'} not in the region "
            f"{region}. Wanted zones of one region; change region or availability_zone."
        )


def _example_problems(document: Any) -> Iterator[str]:
    """Names and addresses of the shipped files that nobody has."""
    for where, text in _texts(document):
        if found := EXAMPLE.search(text):
            yield f"{where}: {found[0]!r} stands for a name or address of yours. Put yours in its place."


def _version_problems(document: Any) -> Iterator[str]:
    """Versions of Ray and Python that differ from those here: the cluster would refuse the driver or not install."""
    ray, pythons = version("ray"), metadata("capsweep")["Requires-Python"]
    for where, text in _texts(document):
        for found in RAY.finditer(text):
            if (theirs := found["image"] or found["pip"] or "latest") != ray:
                yield f"{where}: {found[0]!r} is Ray {theirs}; wanted {ray}, the version here. Name that version."
        for found in PYTHON.finditer(text):
            python = f"{found['major']}.{found['minor']}"
            if python not in SpecifierSet(pythons):
                yield f"{where}: {found[0]!r} is Python {python}; wanted {pythons}. Choose another."


def _texts(value: Any, *place: str) -> Iterator[tuple[str, str]]:
    """Every string below a place of the file, with its path: images and commands may be under many keys."""
    if isinstance(value, str):
        yield ".".join(place), value
    parts = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield from _texts(part, *place, str(key))


def _mount_problems(document: Mapping[str, Any]) -> Iterator[str]:
    """Sources of file_mounts that do not exist, and a token that others may have read.

    Ray reads relative paths from the current folder.
    """
    for target, source in _mapping(document.get("file_mounts")).items():
        if not isinstance(source, str):
            continue
        is_token, path = source.endswith("auth_token"), expanded(Path(source))
        if not path.exists():
            hint = " Set `umask 077`. Make it with `ray get-auth-token --generate`." if is_token else ""
            yield f"file_mounts.{target}: {source!r} does not exist, seen from {Path.cwd()}.{hint}"
        elif is_token and may_have_been_read(path):
            yield (
                f"file_mounts.{target}: other users can read or replace {source!r}, and every node would get its mode. "
                f"Wanted mode 600 in a folder of mode 700: chmod 700 {path.parent}; chmod 600 {path}."
            )


def _as_ray_reads(document: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The file as Ray completes it, and the problem that Ray itself finds."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    output = io.StringIO()
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            prepared = prepare_config(copy.deepcopy(document))
            validate_config(prepared)
    except Exception as error:  # Ray raises exceptions of any kind, including click's
        why = str(error).strip() or output.getvalue().strip() or type(error).__name__
        return {}, [f"Ray refuses it: {' '.join(why.split())}"]
    return prepared, []


def _mapping(value: Any) -> Mapping[str, Any]:
    """The value if it is a mapping, else an empty one: Ray's schema reports the wrong type."""
    return value if isinstance(value, Mapping) else {}
