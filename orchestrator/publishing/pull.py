"""Fetches a run from the hub into a run directory.

The sweep and the provenance come last, so that a folder is a run only once it has everything; what is there already is
not fetched again.
"""

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, snapshot_download

from orchestrator.errors import BadInput
from orchestrator.publishing.refusal import refused_in_one_line
from orchestrator.runs.directory import Run, open_run
from orchestrator.runs.record import PROVENANCE_FILE, SWEEP_FILE, read_provenance, read_sweep_file
from orchestrator.runs.resumable import refuse_code
from orchestrator.spec.sweep import Sweep
from orchestrator.store.hub_files import HubPlace
from orchestrator.store.local_files import LocalFiles
from orchestrator.store.parquet import DamagedFileError, row_files
from tasks.hub import quietly, why_refused

LAST = (SWEEP_FILE, PROVENANCE_FILE)
CACHE = ".cache/huggingface"
"""Where huggingface_hub notes in a folder what it fetched."""


def pull(place: HubPlace, folder: Path, *, trust_code: bool = False) -> Run:
    """Fetch a run into a new folder, or bring one that was pulled before up to date; returns it.

    Raises:
        BadInput: when the hub refuses, the data set is no run, the folder holds something else, or a model of the run
            would execute code and `trust_code` is False.
    """
    with refused_in_one_line(place, why_refused), quietly():
        info = HfApi().dataset_info(place.name, revision=place.revision)
        names = {each.rfilename for each in info.siblings or ()}
        if missing := [name for name in LAST if name not in names]:
            raise BadInput(f"{place.url}: not a run of capsweep (no {missing[0]} in it). Check the name.")
        sweep, provenance = _beginning(place, info.sha)
        if not trust_code:
            known = [each["model"] for each in provenance["models"].values()]
            refuse_code(place.url, [*map(asdict, sweep.models), *known])
        _check_folder(folder, place, provenance)
        fetch = partial(snapshot_download, place.name, repo_type="dataset", revision=info.sha, local_dir=folder)
        fetch(ignore_patterns=[*LAST, ".gitattributes"])
        fetch(allow_patterns=[*LAST])
    run = open_run(str(folder))
    # Files of rows that a later push replaced: their rows are in the new ones.
    run.files.remove(*(name for name in row_files(run.files) if name not in names))
    return run


def _beginning(place: HubPlace, commit: str | None) -> tuple[Sweep, dict[str, Any]]:
    """The run's sweep and provenance."""
    folder = snapshot_download(place.name, repo_type="dataset", revision=commit, allow_patterns=[*LAST])
    files = LocalFiles(Path(folder))
    try:
        return read_sweep_file(files), read_provenance(files)
    except DamagedFileError as error:
        raise BadInput(f"{place.url}: {error.name} in it is damaged ({error.damage}). Ask who pushed it.") from error


def _check_folder(folder: Path, place: HubPlace, provenance: Mapping[str, Any]) -> None:
    """Raise BadInput unless the folder is new, empty, or an earlier pull of this run that nothing was added to."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (folder / CACHE).is_dir():
        raise BadInput(f"{folder}: is not empty, and nothing was pulled into it before. Choose another --to.")
    if not (folder / PROVENANCE_FILE).is_file():
        return  # a pull that was interrupted
    here, there = (
        {session["session_id"] for session in each["sessions"]}
        for each in (read_provenance(LocalFiles(folder)), provenance)
    )
    if not here or not here <= there:
        raise BadInput(
            f"{folder}: holds another run than {place.url}, or sessions that were run here since. Choose another --to."
        )
