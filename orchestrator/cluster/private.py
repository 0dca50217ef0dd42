"""The token and the folder of a Ray: no other user of this machine may read or change them. Does not import Ray.

Whoever has the token runs code as the user whose Ray it is. Ray writes the token with the modes of the umask, which are
644 for most users, and makes its folders writable for everybody.
"""

import os
import secrets
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path

from orchestrator.errors import BadInput
from tasks.homes import expanded

OTHERS_READ, OTHERS_WRITE, OTHERS_ENTER = 0o044, 0o022, 0o011
"""Mode bits of the group and of everybody else."""


def keep_token_private(*, make: bool, environment: Mapping[str, str] = os.environ) -> None:
    """Make the token's file readable for this user only, and make a token if there is none.

    Does nothing where no token is used, or where it comes from RAY_AUTH_TOKEN, which only this user can read.

    Args:
        make: Whether to make a missing token, as a Ray that is started here needs one.
        environment: Variables that say where the token is.

    Raises:
        BadInput: when others may have read the token, or it is another user's.
        OSError: when a token cannot be made.
    """
    if environment.get("RAY_AUTH_MODE", "token").lower() != "token" or environment.get("RAY_AUTH_TOKEN"):
        return
    elsewhere = environment.get("RAY_AUTH_TOKEN_PATH")
    path = Path(elsewhere) if elsewhere else expanded(Path("~/.ray/auth_token"))
    if not elsewhere and not path.is_absolute():
        raise OSError("this user has no home, and HOME is not set")
    if path.exists():
        _narrow(path, whole_folder=not elsewhere)
    elif make and not elsewhere:
        _make(path)
        _narrow(path, whole_folder=True)


def _make(path: Path) -> None:
    """Write a token, whole and private from the first moment; if another process is quicker, its token stays."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # A temporary file of this module has mode 600 under any umask.
    with tempfile.NamedTemporaryFile("w", encoding="ascii", dir=path.parent, prefix=".auth_token-") as file:
        file.write(secrets.token_hex(32))  # as long as Ray's own
        file.flush()
        os.fsync(file.fileno())
        try:
            os.link(file.name, path)
        except FileExistsError:
            return


def _narrow(path: Path, *, whole_folder: bool) -> None:
    """Take the token's file from all other users, and its folder if that is Ray's own."""
    held = path.stat()
    if held.st_uid not in (os.geteuid(), 0):
        raise BadInput(
            f"{path}: Ray's token belongs to the user with the number {held.st_uid}, who could run code as you. "
            "Wanted a token of your own: set RAY_AUTH_TOKEN or HOME, or use --inline, which needs no Ray."
        )
    if may_have_been_read(path):
        raise BadInput(
            f"{path}: other users can read or replace Ray's token (mode {stat.S_IMODE(held.st_mode):o}, in a folder of "
            f"mode {stat.S_IMODE(path.parent.stat().st_mode):o}), and whoever has it runs code as you. Wanted mode 600 "
            f"in a folder of mode 700. If nobody else uses this machine: chmod 700 {path.parent}; chmod 600 {path}. "
            "Otherwise remove the file: the next run makes another token, and clusters that had this one need that one."
        )
    try:
        if held.st_mode & (OTHERS_READ | OTHERS_WRITE):
            path.chmod(0o600)
        if whole_folder and path.parent.stat().st_mode & 0o077:
            path.parent.chmod(0o700)
    except OSError as error:
        raise BadInput(
            f"{path}: Ray's token has mode {stat.S_IMODE(held.st_mode):o}, and cannot be taken from other users "
            f"({error.strerror}). Wanted mode 600 in a folder of mode 700: set RAY_AUTH_TOKEN instead."
        ) from error


def may_have_been_read(path: Path) -> bool:
    """Whether the modes of a file and of all folders above it let another user read or replace it.

    Where it is a link, or below one, others may also come to it by the place that the link leads to.
    """
    return any(map(_is_open, {path.absolute(), path.resolve()}))


def _is_open(path: Path) -> bool:
    file, folder = path.stat().st_mode, path.parent.stat()
    reached = all(above.stat().st_mode & OTHERS_ENTER for above in path.parents)
    # In a folder with the sticky bit, such as /tmp, only owners replace files.
    replaced = folder.st_mode & OTHERS_WRITE and not folder.st_mode & stat.S_ISVTX
    return bool(reached and (file & (OTHERS_READ | OTHERS_WRITE) or replaced))


def private_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """The folder for the Rays that this user starts here, which nobody else can enter.

    It lies in RAY_TMPDIR, by default in TMPDIR or /tmp: the path of a socket in it may have 107 characters.

    Raises:
        BadInput: when somebody else has made a folder or a link by that name.
        OSError: when it cannot be made.
    """
    above = environment.get("RAY_TMPDIR") or environment.get("TMPDIR") or "/tmp"
    folder = expanded(Path(above)).absolute() / f"capsweep-{os.geteuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise BadInput(f"{folder}: is not your folder, but Ray's files would lie in it. Set RAY_TMPDIR to another one.")
    folder.chmod(0o700)
    return folder
