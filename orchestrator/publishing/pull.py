"""Fetches a run from the hub into a run directory.

The sweep and the provenance come last, so that a folder is a run only once it has everything; what is there already is
not fetched again.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import HfApi, hf_hub_download, snapshot_download

from orchestrator.errors import BadInput
from orchestrator.runs.directory import PROVENANCE_FILE, SWEEP_FILE, Run, open_run
from orchestrator.runs.resumable import refuse_code
from orchestrator.spec.yaml_file import CONSTRUCTOR_ERRORS
from orchestrator.store.hub_files import HubPlace
from orchestrator.store.parquet import row_files
from tasks.hub import why_refused

LAST = (SWEEP_FILE, PROVENANCE_FILE)
CACHE = ".cache/huggingface"
"""Where huggingface_hub notes in a folder what it fetched."""


def pull(place: HubPlace, folder: Path, *, trust_code: bool = False) -> Run:
    """Fetch a run into a new folder, or bring one that was pulled before up to date; returns it.

    Raises:
        BadInput: when the hub refuses, the data set is no run, the folder holds something else, or a model of the run
            would execute code and `trust_code` is False.
    """
    try:
        info = HfApi().dataset_info(place.name, revision=place.revision)
        names = {each.rfilename for each in info.siblings or ()}
        if missing := [name for name in LAST if name not in names]:
            raise BadInput(f"{place.url}: not a run of capsweep (no {missing[0]} in it). Check the name.")
        told = {name: _told(place, name, info.sha) for name in LAST}
        if not trust_code:
            refuse_code(place.url, _models_of(told))
        _check_folder(folder, place, told)
        for chosen in ({"ignore_patterns": [*LAST, ".gitattributes"]}, {"allow_patterns": list(LAST)}):
            snapshot_download(place.name, repo_type="dataset", revision=info.sha, local_dir=folder, **chosen)
    except (BadInput, MemoryError):
        raise
    except Exception as error:  # what an HTTP library raises below huggingface_hub depends on its version
        why = why_refused(error, "data set")
        if why is None:
            raise
        raise BadInput(f"{place.url}: {why}") from error
    run = open_run(str(folder))
    # Files of rows that a later push replaced: their rows are in the new ones.
    run.files.remove(*(name for name in row_files(run.files) if name not in names))
    return run


def _told(place: HubPlace, name: str, commit: str | None) -> Any:
    """What the run's sweep or provenance says, as values."""
    path = hf_hub_download(place.name, name, repo_type="dataset", revision=commit)
    try:
        content = Path(path).read_text()
        return json.loads(content) if name == PROVENANCE_FILE else yaml.safe_load(content)
    except CONSTRUCTOR_ERRORS as error:
        raise BadInput(f"{place.url}: {name} in it cannot be read ({' '.join(str(error).split())[:120]}).") from error


def _models_of(told: Mapping[str, Any]) -> list[Any]:
    """The models that the run's sweep and provenance describe."""
    sweep, provenance = told[SWEEP_FILE], told[PROVENANCE_FILE]
    return [*sweep["models"], *(known["model"] for known in provenance["models"].values())]


def _check_folder(folder: Path, place: HubPlace, told: Mapping[str, Any]) -> None:
    """Raise BadInput unless the folder is new, empty, or an earlier pull of this run that nothing was added to."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (folder / CACHE).is_dir():
        raise BadInput(f"{folder}: is not empty, and nothing was pulled into it before. Choose another --to.")
    if not (folder / PROVENANCE_FILE).is_file():
        return  # a pull that was interrupted
    here, there = (
        [session["session_id"] for session in each.get("sessions", [])]
        for each in (json.loads((folder / PROVENANCE_FILE).read_bytes()), told[PROVENANCE_FILE])
    )
    if not set(here) <= set(there) or not here:
        raise BadInput(
            f"{folder}: holds another run than {place.url}, or sessions that were run here since. Choose another --to."
        )
