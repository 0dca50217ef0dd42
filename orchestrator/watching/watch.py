"""`capsweep watch`: from a run or a folder of runs to the address of its live page."""

import os
import secrets
import sys
from collections.abc import Callable

from orchestrator.errors import BadInput
from orchestrator.redact import refuse_credentials
from orchestrator.runs.record import is_run
from orchestrator.store.files import Files, open_files
from orchestrator.watching.server import ADDRESS, NoSuchViewError, Pages, listen, make_app, serving
from orchestrator.watching.views import ListView, RunsView, View


def watch(url: str, *, port: int, on_message: Callable[[str], None]) -> None:
    """Serve the live page of a run, or of the runs in a folder, until Ctrl-C, which ends the process with 0.

    Args:
        url: Run or folder, or an fsspec URL of one.
        port: Port on loopback; 0 for any that is free.
        on_message: Takes the address, with its token.

    Raises:
        BadInput: when there is nothing at `url`, or the port is taken.
        OSError: when the storage does not answer.
    """
    pages = pages_of(url)
    token = secrets.token_urlsafe(16)
    listening = listen(port)
    on_message(f"http://{ADDRESS}:{listening.getsockname()[1]}/{token}/")
    on_message("Whoever has this address can read the runs; nothing is written. Ctrl-C ends it.")
    try:
        _, thread = serving(make_app(pages, token), listening)
        thread.join()
    except KeyboardInterrupt:
        sys.stdout.flush()
        sys.stderr.flush()
        # At once: a thread may be in the middle of a page, or wait for a store, and has nothing to lose.
        os._exit(0)


def pages_of(url: str) -> Pages:
    """The pages of a run, or of a folder of runs: its list, each run, and several together.

    Raises:
        BadInput: when there is nothing at `url`.
        OSError: when the storage does not answer.
    """
    refuse_credentials(url)
    files = open_files(url)
    if is_run(files):
        return Pages(lambda names: _only(url, names), is_list=False)
    if not files.names("", suffix=""):
        raise BadInput(f"{url}: there is nothing. Give a run's folder or URL, or one that contains runs, as `runs/`.")
    return Pages(lambda names: _below(url, files, names), is_list=True)


def _only(url: str, names: tuple[str, ...]) -> View:
    if names:
        raise NoSuchViewError("This address shows one run: leave out what stands behind the '?'.")
    return RunsView([url])


def _below(url: str, files: Files, names: tuple[str, ...]) -> View:
    if not names:
        return ListView(url)
    # Only what the folder lists: a name may otherwise lead out of it.
    if missing := [name for name in names if name not in files.names("", suffix="")]:
        raise NoSuchViewError(f"{url} has no run of the name {', '.join(missing)}.")
    return RunsView([f"{url.rstrip('/')}/{name}" for name in names])
