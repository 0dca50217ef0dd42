"""What is sent to a cluster with a job: this code, the sweep, and the files that the sweep names.

Fills a folder. Knows nothing of Ray.
"""

import contextlib
import os
import re
import shutil
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import Requirement

from orchestrator.errors import BadInput
from orchestrator.redact import refuse_credentials
from orchestrator.spec.sweep import Sweep
from orchestrator.spec.tracking import DISTRIBUTIONS, wanted_trackers
from tasks.plugins import IncludedFile, included_files
from tasks.texts.patterns import match

SWEEP_NAME = "sweep.yaml"
VERSIONS_NAME = "versions.txt"
VARIABLES_OPTION = "--variables"
"""Option of the driver: the key under which the head holds environment variables for it."""
INPUTS = "inputs"
PLUGINS = "plugins"
PACKAGES = ("orchestrator", "tasks")
MOST_BYTES = 400_000_000
"""Ray accepts jobs of up to 512 MiB; larger weights belong where all nodes can read them."""


def job_name_of(url: str) -> str:
    """The name of a run at `url`, as part of a job's id."""
    # Ray's client puts the id into addresses as it is, where what follows a `#` or a `?` would be lost.
    return re.sub(r"[^\w.-]", "-", Path(url).name, flags=re.ASCII)


def check_run_url(url: str) -> None:
    """Raise BadInput unless a run at `url` outlives the job, whose folder on the cluster is removed with it."""
    refuse_credentials(url)
    if _is_relative(url):
        raise BadInput(
            f"--run-dir {url}: a relative folder would lie in the job's own files on the cluster, and be removed with "
            "them. Give a URL such as s3://bucket/runs/NAME or an absolute folder on the head, or set the sweep's "
            "`storage` to such a place."
        )


def check_reused_url(url: str) -> None:
    """Raise BadInput unless `url` names the same runs on the cluster as here."""
    refuse_credentials(url)
    if _is_relative(url):
        raise BadInput(
            f"--reuse {url}: the job looks for runs on the cluster, where a relative folder is another one. Give a URL "
            "such as s3://bucket/runs or an absolute folder on the head."
        )


def _is_relative(url: str) -> bool:
    return "://" not in url and not os.path.isabs(url) and not url.startswith("~")  # `~`: the home on the head


def stage(sweep: Sweep, folder: Path) -> None:
    """Fill `folder` with everything that a job needs to run `sweep` in it.

    Raises:
        BadInput: when the files exceed MOST_BYTES.
    """
    for package in PACKAGES:
        spec = find_spec(package)
        assert spec is not None, "this very code"
        assert spec.submodule_search_locations, "a package"
        source = next(iter(spec.submodule_search_locations))
        shutil.copytree(source, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    document: dict[str, Any] = sweep.model_dump(mode="json")
    for number, model in enumerate(document["models"]):
        # Keep the name of the parent folder, by which tables name a model such as `pythia/model`.
        model["name"] = _send(model["name"], folder, f"model-{number}/{Path(model['name']).parent.name}")
    for number, entry in enumerate(document["texts"]):
        for key, value in entry.items():
            if isinstance(value, str):
                entry[key] = _send(value, folder, f"texts-{number}")
    if (size := sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())) > MOST_BYTES:
        raise BadInput(
            f"the sweep's models and texts are {size / 1e6:,.0f} MB; a job can carry up to {MOST_BYTES / 1e6:,.0f} MB. "
            "Name models of the hub, or put them where all nodes see them and submit from a node that sees them, too."
        )
    for place, file in _included():
        (folder / place).parent.mkdir(parents=True)
        (folder / place).write_text(file.source, encoding="utf-8")
    # UTF-8 whatever the locale is: the cluster may have another one.
    sweep_text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    (folder / SWEEP_NAME).write_text(sweep_text, encoding="utf-8")
    versions_text = "".join(f"{name}=={number}\n" for name, number in versions().items())
    (folder / VERSIONS_NAME).write_text(versions_text, encoding="utf-8")


def include_options() -> list[str]:
    """Options with which a job includes the files that were included here."""
    return [word for place, _ in _included() for word in ("--include", place)]


def _included() -> list[tuple[str, IncludedFile]]:
    """The files that were included here, each with its place in the job."""
    return [(f"{PLUGINS}/{number}/{file.name}", file) for number, file in enumerate(included_files())]


def _send(value: str, folder: Path, place: str) -> str:
    """Copy the file, folder or pattern that `value` names, if any; returns its name within the job."""
    if not os.path.isabs(value):
        return value  # not a path: all paths of a loaded sweep are absolute
    # A pattern is copied from below the last folder that exists, an existing path as a whole.
    path, target = Path(value), folder / INPUTS / place
    root, found = (path.parent, [path]) if path.exists() else match(path)
    for each in found:
        goal = target / each.relative_to(root)
        goal.parent.mkdir(parents=True, exist_ok=True)
        if each.is_dir():
            shutil.copytree(each, goal, dirs_exist_ok=True)
        else:
            shutil.copy2(each, goal)
    return Path(INPUTS, place, path.relative_to(root)).as_posix()


def versions_of_job(sweep: Sweep) -> dict[str, str]:
    """Name -> version installed here, of what a job of this sweep needs, its trackers included."""
    found = versions()
    for name in wanted_trackers(sweep.tracking):
        with contextlib.suppress(PackageNotFoundError):
            found[DISTRIBUTIONS[name]] = version(DISTRIBUTIONS[name])
    return found


def versions(distribution: str = "capsweep") -> dict[str, str]:
    """Name -> version installed here, of all direct and indirect dependencies of a distribution."""
    found: dict[str, str] = {}
    left = [distribution]
    while left:
        for line in requires(left.pop()) or []:
            requirement = Requirement(line)
            name = requirement.name.lower().replace("_", "-")
            if name in found or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
                continue
            try:
                # The package index has no versions with a local part, such as +cpu.
                found[name] = version(name).partition("+")[0]
            except PackageNotFoundError:
                continue
            left.append(name)
    return dict(sorted(found.items()))
