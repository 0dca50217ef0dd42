"""Checks a cluster file offline, as `ray up` would read it and beyond, and reports what it will launch.

The checks themselves are pure (cluster_checks, cluster_versions); here they get what they need: Ray's own code,
botocore's list of EC2, constraints.txt, the disk.
"""

import contextlib
import copy
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import ray.autoscaler
from ray.autoscaler._private.util import prepare_config, validate_config
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from orchestrator.cluster.cluster_checks import NodeType, mapping, node_problems, node_types
from orchestrator.cluster.cluster_versions import read_constraints, version_problems
from orchestrator.cluster.ec2 import Ec2, read_ec2
from orchestrator.errors import BadInput, literal, suggest
from orchestrator.spec.yaml_file import read_mapping

CONSTRAINTS = "constraints.txt"
TOKEN = ".ray/auth_token"
TYPES = {"object": "a mapping", "array": "a list", "string": "text", "integer": "a whole number", "number": "a number"}
"""JSON schema's names of types, in the words of a YAML file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterFile:
    """A cluster file in which no problem was found."""

    nodes: Sequence[NodeType]
    """What `ray up` and its autoscaler may launch."""
    notes: Sequence[str]
    """What a user should know, though it is not wrong."""


def check_cluster_file(path: Path) -> ClusterFile:
    """Read and check a file for `ray up`.

    Raises:
        BadInput: with every problem of the file.
    """
    document, problems = read_mapping(path)
    ec2, constraints = read_ec2(), _constraints(path)
    problems += _schema_problems(document)
    problems += _provider_problems(document)
    problems += node_problems(document, ec2)
    problems += version_problems(document, constraints or {})
    problems += _mount_problems(document)
    if "idle_timeout_minutes" not in document:
        problems.append("idle_timeout_minutes: missing. State after how many idle minutes a worker is given back.")
    prepared: dict[str, Any] = {}
    if not problems:
        prepared, problems = _as_ray_reads(document)
    if problems:
        raise BadInput(*dict.fromkeys(f"{path}: {line}" for line in problems))
    nodes = node_types(prepared)
    return ClusterFile(nodes=nodes, notes=[*_notes(prepared, nodes, ec2, constraints)])


def show_cluster_file(path: Path, console: Console) -> None:
    """Check the file, and print its node types and notes.

    Raises:
        BadInput: with every problem of the file.
    """
    checked = check_cluster_file(path)
    table = Table(Column("node type", no_wrap=True), "instance", "market", "CPU", "GPU", "min", "max")
    for node in checked.nodes:
        name = f"{node.name} (head)" if node.is_head and len(checked.nodes) > 1 else node.name
        cells = (name, node.instance, node.market, node.cpus, node.gpus, str(node.min_workers), str(node.max_workers))
        table.add_row(*(Text(literal(cell)) for cell in cells))
    console.print(table)
    for note in checked.notes:
        console.print(f"note: {literal(note)}", markup=False, highlight=False)


def _schema_problems(document: Mapping[Any, Any]) -> Iterator[str]:
    """All that Ray's schema refuses; its own validation ends at the first."""
    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
    given = dict(document)
    if mapping(given.get("provider")).get("type") == "local":
        given.pop("min_workers", None)  # Ray moves it before it validates
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
                yield f"{where}: found {error.instance!r}; it should be {_type_name(error.validator_value)}."
            case _:
                yield f"{where}: {error.message}."


def _type_name(types: Any) -> str:
    return " or ".join(TYPES.get(name, name) for name in ([types] if isinstance(types, str) else types))


def _provider_problems(document: Mapping[str, Any]) -> Iterator[str]:
    """What Ray ends the process for, instead of reporting it."""
    provider = mapping(document.get("provider"))
    if provider.get("type") != "local":
        return
    if "coordinator_address" not in provider:
        yield from (f"provider.{key}: missing." for key in ("head_ip", "worker_ips") if key not in provider)
    if "available_node_types" in document:
        yield "available_node_types: machines of your own have no types; remove it, Ray finds what each one has."


def _mount_problems(document: Mapping[str, Any]) -> Iterator[str]:
    """Sources of file_mounts that are not there; Ray looks from where it is called."""
    for target, source in mapping(document.get("file_mounts")).items():
        if isinstance(source, str) and not Path(source).expanduser().exists():
            hint = " Make it with `ray get-auth-token`, option --generate." if source.endswith(TOKEN) else ""
            yield f"file_mounts.{target}: {source!r} does not exist, seen from {Path.cwd()}.{hint}"


def _as_ray_reads(document: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The file with what Ray adds to it, and what Ray itself objects to in it."""
    output = io.StringIO()
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            prepared = prepare_config(copy.deepcopy(document))
            validate_config(prepared)
    except Exception as error:  # Ray raises what it likes, click's exceptions among them
        why = str(error).strip() or output.getvalue().strip() or type(error).__name__
        return {}, [f"Ray refuses it: {' '.join(why.split())}"]
    return prepared, []


def _constraints(path: Path) -> dict[str, str] | None:
    """Those of the project that the file lies in, else of where the command runs."""
    for folder in (*path.resolve().parents, Path.cwd()):
        if (folder / CONSTRAINTS).is_file():
            return read_constraints((folder / CONSTRAINTS).read_text())
    return None


def _notes(
    prepared: Mapping[str, Any], nodes: Sequence[NodeType], ec2: Ec2 | None, constraints: Mapping[str, str] | None
) -> Iterator[str]:
    on_aws = prepared["provider"]["type"] == "aws"
    if on_aws:
        head = next(node for node in nodes if node.is_head)
        idle = sum(node.min_workers for node in nodes)
        yield f"idle, it costs the head ({head.instance}) and {idle} workers; busy, at most {prepared['max_workers']}."
    if on_aws and ec2 is None:
        yield f'botocore is not installed: names of EC2 were not checked. pip install -c {CONSTRAINTS} -e ".[aws]"'
    if constraints is None:
        yield f"no {CONSTRAINTS} beside the file or here: versions were not compared."
    started = " ".join([*prepared.get("setup_commands", ()), *prepared.get("head_start_ray_commands", ())])
    if "RAY_AUTH_MODE=token" not in started:
        yield "no command sets RAY_AUTH_MODE=token: whoever reaches the head's ports runs code on the cluster."
    if "dashboard-host=0.0.0.0" in started:
        yield "the dashboard listens on every address of the head; 127.0.0.1 and `ray dashboard` reach it too."
