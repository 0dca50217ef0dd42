"""Reads what a run says of itself: its sweep and its provenance, either of which may be damaged.

Writes nothing. Knows nothing of Ray or torch.
"""

import contextlib
from collections.abc import Mapping
from typing import Any

from orchestrator.errors import BadInput
from orchestrator.runs.provenance_form import parse_provenance
from orchestrator.spec.sweep import Sweep, unknown_names
from orchestrator.spec.yaml_file import CONSTRUCTOR_ERRORS, parse_yaml
from orchestrator.store.files import Files
from orchestrator.store.parquet import DamagedFileError, read_whole

SWEEP_FILE = "sweep.yaml"
PROVENANCE_FILE = "provenance.json"


def is_run(files: Files) -> bool:
    """Whether a session has begun a run here."""
    return files.exists(SWEEP_FILE) or _copy_of_sweep(files) is not None


def read_sweep(files: Files) -> Sweep:
    """The sweep of a run, with every default written out: from its file, or else from the copy in the provenance.

    Raises:
        DamagedFileError: when neither can be read.
    """
    try:
        return read_sweep_file(files)
    except DamagedFileError as error:
        with contextlib.suppress(*CONSTRUCTOR_ERRORS):
            if (copy := _copy_of_sweep(files)) is not None:
                return _parsed(files, copy)
        remedy = (
            f"Nor can its copy in {PROVENANCE_FILE} be read: restore it, or write it again by `capsweep run` with the "
            f"sweep file of this run and --run-dir {files.url}."
        )
        raise DamagedFileError(files, SWEEP_FILE, error.damage, remedy=remedy) from None


def read_sweep_file(files: Files) -> Sweep:
    """The sweep in the run's SWEEP_FILE.

    Raises:
        DamagedFileError: when it cannot be read.
        BadInput: when it needs a plug-in that is not known here.
    """
    content = read_whole(files, SWEEP_FILE)
    # The first lines alone may be a sweep, too, with defaults for what they lack.
    if (copy := _copy_of_sweep(files)) is not None and is_beginning(content, copy.encode()):
        raise DamagedFileError(files, SWEEP_FILE, "its end is missing")
    try:
        return _parsed(files, content.decode())
    except CONSTRUCTOR_ERRORS as error:
        raise _unreadable(files, SWEEP_FILE, error) from error


def _parsed(files: Files, text: str) -> Sweep:
    """The sweep in this YAML; raises BadInput when the run was made with a plug-in that is not known here."""
    document = parse_yaml(text)[0]
    if unknown := unknown_names(document):
        plugins: Mapping[str, str] = {}
        with contextlib.suppress(DamagedFileError):
            plugins = last_plugins(read_provenance(files))
        # Other names that nobody knows are damage.
        if lacking := [f"{name} ({plugins[name]})" for name in unknown if name in plugins]:
            raise BadInput(
                f"{files.url}: this run was made with a plug-in that is not known here: {', '.join(lacking)}. Install "
                "it, or give its file with --include."
            )
    return Sweep.model_validate(document)


def last_plugins(provenance: Mapping[str, Any]) -> Mapping[str, str]:
    """The plug-ins of the last session, by what they offer, such as `task lines`."""
    return next((each["plugins"] for each in reversed(provenance.get("sessions", ())) if "plugins" in each), {})


def is_beginning(content: bytes, whole: bytes) -> bool:
    """Whether the content is the beginning of `whole` and not all of it, as after a write that was cut short."""
    return whole.startswith(content) and len(content) < len(whole)


def _copy_of_sweep(files: Files) -> str | None:
    """The copy of the sweep in the provenance; None if there is none that can be read."""
    try:
        return read_provenance(files).get("sweep")
    except DamagedFileError:
        return None


def read_provenance(files: Files) -> dict[str, Any]:
    """What a run records about its models and sessions.

    Raises:
        DamagedFileError: when it cannot be read.
    """
    content = read_whole(files, PROVENANCE_FILE)
    try:
        return parse_provenance(content)
    except (ValueError, RecursionError) as error:
        raise _unreadable(files, PROVENANCE_FILE, error) from error


def _unreadable(files: Files, name: str, error: Exception) -> DamagedFileError:
    found = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    return DamagedFileError(files, name, f"it cannot be read as this version writes it: {found}")
