"""What is sent to a cluster with a job: the code that runs here, the sweep, and the files that it names.

Knows nothing of Ray: it fills a folder.
"""

import glob
import os
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

SWEEP_NAME = "sweep.yaml"
VERSIONS_NAME = "versions.txt"
INPUTS = "inputs"
PACKAGES = ("orchestrator", "tasks")
MOST_BYTES = 400_000_000
"""Ray takes jobs of up to 512 MiB; weights of more lie better where all nodes see them."""


def check_run_url(url: str) -> None:
    """Raise BadInput unless runs at `url` outlive the job: its own folder on the cluster goes with it."""
    refuse_credentials(url)
    if "://" not in url and not os.path.isabs(url):
        raise BadInput(
            f"--run-dir {url}: a relative folder would lie in the job's own files on the cluster, and go with them. "
            "Give a URL such as s3://bucket/runs/NAME, or an absolute folder of the head; `storage` of the sweep may "
            "name the place where runs lie."
        )


def stage(sweep: Sweep, folder: Path) -> None:
    """Fill `folder` with all that a job needs to run `sweep` in it.

    Raises:
        BadInput: when the files are more than can be sent.
    """
    for package in PACKAGES:
        spec = find_spec(package)
        assert spec is not None, "this very code"
        assert spec.submodule_search_locations, "a package"
        source = next(iter(spec.submodule_search_locations))
        shutil.copytree(source, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    document: dict[str, Any] = sweep.model_dump(mode="json")
    for number, model in enumerate(document["models"]):
        # Below the name of the folder it was in: tables call `pythia/model` by that.
        model["name"] = _send(model["name"], folder, f"model-{number}/{Path(model['name']).parent.name}")
    for number, entry in enumerate(document["texts"]):
        for key, value in entry.items():
            if isinstance(value, str):
                entry[key] = _send(value, folder, f"texts-{number}")
    if (size := sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())) > MOST_BYTES:
        raise BadInput(
            f"the sweep's models and texts are {size / 1e6:,.0f} MB; a job takes up to {MOST_BYTES / 1e6:,.0f} MB with "
            "it. Name models of the hub, or put them where all nodes see them and submit from a node that does, too."
        )
    (folder / SWEEP_NAME).write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True))
    (folder / VERSIONS_NAME).write_text("".join(f"{name}=={number}\n" for name, number in versions().items()))


def _send(value: str, folder: Path, place: str) -> str:
    """Copy the file, folder or pattern that `value` names, if it does; returns what names it within the job."""
    if not os.path.isabs(value):
        return value  # no path: a loaded sweep holds all of them as absolute ones
    # A pattern begins below the last folder that is none; a path that exists is copied whole.
    parts = Path(value).parts
    plain = len(parts) - 1 if os.path.exists(value) else next(i for i, part in enumerate(parts) if glob.has_magic(part))
    root, target = Path(*parts[:plain]), folder / INPUTS / place
    for match in [value] if os.path.exists(value) else glob.glob(value, recursive=True):
        goal = target / Path(match).relative_to(root)
        goal.parent.mkdir(parents=True, exist_ok=True)
        if os.path.isdir(match):
            shutil.copytree(match, goal, dirs_exist_ok=True)
        else:
            shutil.copy2(match, goal)
    return Path(INPUTS, place, *parts[plain:]).as_posix()


def versions(distribution: str = "capsweep") -> dict[str, str]:
    """Name -> version of every distribution that this one needs, with those that they need, as installed here."""
    found: dict[str, str] = {}
    left = [distribution]
    while left:
        for line in requires(left.pop()) or []:
            requirement = Requirement(line)
            name = requirement.name.lower().replace("_", "-")
            if name in found or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
                continue
            try:
                # A local part, such as +cpu, is no version of the index.
                found[name] = version(name).partition("+")[0]
            except PackageNotFoundError:
                continue
            left.append(name)
    return dict(sorted(found.items()))
