"""Whether a Ray can start on this machine: tries in milliseconds what Ray would take up to a minute to fail at.

Does not import Ray.
"""

import os
import resource
import socket
from pathlib import Path

from orchestrator.cluster.private import keep_token_private, private_folder
from orchestrator.errors import BadInput

FEWEST_HANDLES = 512
"""Open files that a process may have. With 64, Ray's processes end without a word; with 128, no run fits into them."""
FEWEST_BYTES = 20_000_000
"""Several times what Ray writes below its folder in a short run, which is 3 MB, mostly logs."""
SOCKET_BELOW = f"ray/session_2026-01-01_00-00-00_000000_{os.getpid()}/sockets/plasma_store"
"""A path as long as the longest of Ray's sockets below its folder."""


def cannot_start(why: str) -> BadInput:
    """The error for a machine on which no Ray starts."""
    return BadInput(
        f"Ray cannot start on this machine: {' '.join(why.split())}. Set RAY_TMPDIR to a folder with a short path and "
        "with space, or use --inline, which needs no Ray."
    )


def prepare_to_start() -> Path:
    """Make the token and the folder of a Ray that is about to start; returns the folder.

    Raises:
        BadInput: when others could reach this Ray, or it could not start.
    """
    try:
        keep_token_private(make=True)
    except OSError as error:
        raise cannot_start(f"its token cannot be written ({error}); RAY_AUTH_TOKEN may hold one") from error
    _raise_handles()
    try:
        folder = private_folder()
        _try_socket(folder)
        _try_space(folder)
    except OSError as error:
        raise cannot_start(str(error)) from error
    return folder / "ray"


def _raise_handles() -> None:
    """Raise the number of open files to what the system allows, as Ray does for itself."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = hard if hard != resource.RLIM_INFINITY else max(soft, FEWEST_HANDLES)
    if most < FEWEST_HANDLES:
        raise cannot_start(
            f"a process may open {most} files here (`ulimit -Hn`), and a run on Ray needs {FEWEST_HANDLES}"
        )
    if soft < FEWEST_HANDLES:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _try_socket(folder: Path) -> None:
    path = folder / f"{os.getpid()}-".ljust(len(SOCKET_BELOW), "x")
    with socket.socket(socket.AF_UNIX) as trial:
        try:
            trial.bind(str(path))
        except OSError as error:
            raise OSError(f"no socket can be made at {folder / SOCKET_BELOW} ({error.strerror or error})") from error
    path.unlink()


def _try_space(folder: Path) -> None:
    path = folder / f"{os.getpid()}-space"
    try:
        with path.open("wb") as file:
            # Written, not asked for: a quota or a reserve may end before the disk does. It never reaches the disk.
            file.write(bytes(FEWEST_BYTES))
    except OSError as error:
        wanted = f"{FEWEST_BYTES / 1e6:.0f} MB"
        raise OSError(f"{folder} does not take the {wanted} that Ray needs ({error.strerror or error})") from error
    finally:
        path.unlink(missing_ok=True)
