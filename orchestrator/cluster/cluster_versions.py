"""Whether the versions that a cluster file names are those of constraints.txt.

Pure: takes the parsed file and the constraints. A cluster whose Ray differs from the driver's refuses it, and one whose
torch differs gives results that are not to be compared.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator.cluster.cluster_checks import mapping

OLDEST_PYTHON = (3, 11)
"""requires-python of pyproject.toml."""
COMMANDS = (
    "initialization_commands",
    "setup_commands",
    "head_setup_commands",
    "worker_setup_commands",
    "head_start_ray_commands",
    "worker_start_ray_commands",
)
IMAGES = ("image", "head_image", "worker_image")
RAY_IMAGE = re.compile(r"rayproject/ray(?:-\w+)?(?::(?P<tag>\S+))?$")
IMAGE_PYTHON = re.compile(r"-py(\d)(\d+)")
NAMED_PYTHON = re.compile(r"\bpython(\d)\.(\d+)\b")
PIP_INSTALL = re.compile(r"\bpip3?\s+install\b([^;&|]*)")
PINNED = re.compile(r"([A-Za-z0-9][\w.-]*)(?:\[[^\]]*\])?==([\w.!+-]+)")
CONSTRAINED = re.compile(r"(?:^|\s)(?:-c|--constraint)[\s=]")
INSTALLERS = {"pip", "setuptools", "uv", "wheel"}
"""What installs the rest, and may be of any version."""


def read_constraints(text: str) -> dict[str, str]:
    """Package -> version; names as pip compares them."""
    return {_canonical(name): version for name, version in PINNED.findall(re.sub(r"#.*", "", text))}


def version_problems(document: Mapping[str, Any], constraints: Mapping[str, str]) -> Iterator[str]:
    """Versions of images and commands that are not those of the constraints, a line each."""
    for where, image in _images(document):
        yield from _image_problems(where, image, constraints)
    for where, command in _commands(document):
        yield from _command_problems(where, command, constraints)


def _image_problems(where: str, image: str, constraints: Mapping[str, str]) -> Iterator[str]:
    found = RAY_IMAGE.match(image)
    if found is None:
        return
    tag = found["tag"] or "latest"
    version, wanted = re.split(r"[-.]py|-", tag)[0], constraints.get("ray")
    if wanted is not None and version != wanted:
        meant = f"rayproject/ray:{wanted}-py311-gpu"
        yield f"{where}: {image!r} has ray {version}, constraints.txt has {wanted}. Did you mean {meant!r}?"
    python = IMAGE_PYTHON.search(tag)
    if python is not None:
        yield from _python_problems(where, image, python)


def _command_problems(where: str, command: str, constraints: Mapping[str, str]) -> Iterator[str]:
    for python in NAMED_PYTHON.finditer(command):
        yield from _python_problems(where, python[0], python)
    for install in PIP_INSTALL.finditer(command):
        for name, version in PINNED.findall(install[1]):
            wanted = constraints.get(_canonical(name))
            if wanted is not None and version != wanted:
                yield f"{where}: installs {name} {version}, constraints.txt has {wanted}. Leave the version to it."
        if not CONSTRAINED.search(install[1]) and not _installers_only(install[1]):
            yield (
                f"{where}: {install[0].strip()!r} installs whatever is newest. "
                "Add -c constraints.txt, so that every node has the same versions."
            )


def _python_problems(where: str, what: str, python: re.Match[str]) -> Iterator[str]:
    version = (int(python[1]), int(python[2]))
    if version < OLDEST_PYTHON:
        yield f"{where}: {what!r} is Python {version[0]}.{version[1]}; capsweep needs 3.11 or later."


def _installers_only(arguments: str) -> bool:
    return all(word.startswith("-") or _canonical(word) in INSTALLERS for word in arguments.split())


def _images(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for prefix, part in _parts(document):
        docker = mapping(part.get("docker"))
        yield from ((f"{prefix}docker.{key}", docker[key]) for key in IMAGES if isinstance(docker.get(key), str))


def _commands(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for prefix, part in _parts(document):
        for key in COMMANDS:
            commands = part.get(key)
            for i, command in enumerate(commands if isinstance(commands, list) else ()):
                if isinstance(command, str):
                    yield f"{prefix}{key}.{i}", command


def _parts(document: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The whole file, and each node type, which may have images and commands of its own."""
    yield "", document
    for name, node in mapping(document.get("available_node_types")).items():
        yield f"available_node_types.{name}.", mapping(node)


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
