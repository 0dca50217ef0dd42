"""Pushes the public copy of a run to the hub, as one commit of one data set.

huggingface_hub uploads large files before that commit and not twice, and leaves out of it what has not changed. So a
push that was interrupted is continued by pushing again, and a second push of the same run makes no commit.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from tempfile import TemporaryDirectory

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token, hf_hub_download
from huggingface_hub.errors import RepositoryNotFoundError

from orchestrator.errors import BadInput
from orchestrator.publishing.card import PICTURE_FILE, write_card
from orchestrator.publishing.public_copy import MEMORIES_FILE, write_copy
from orchestrator.publishing.refusal import refused_in_one_line
from orchestrator.runs.directory import TABLE_FILES, Run
from orchestrator.runs.record import PROVENANCE_FILE
from orchestrator.store.hub_files import HubPlace
from orchestrator.store.parquet import PROBE_FOLDER
from tasks.hub import WITH_A_TOKEN, quietly, why_not_written
from tasks.wording import counted

OWN_FILES = (*TABLE_FILES, f"{PROBE_FOLDER}/*.parquet", PICTURE_FILE, MEMORIES_FILE)
"""What a push removes if this one does not have it; other files in the data set are somebody's own, and stay."""
MADE_BY_HUB = ".gitattributes"
Say = Callable[[str], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a push is asked for."""

    place: HubPlace
    private: bool = False
    """Whether a new data set is only shown to its owner."""
    without_texts: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Head:
    """What the data set holds before the push."""

    commit: str
    files: tuple[str, ...]
    private: bool
    sessions: frozenset[str]
    """Sessions of the run that it holds; none if it is empty."""


def push(run: Run, request: Request, say: Say) -> None:
    """Push a run, saying what will be public before, and what was done after.

    Raises:
        BadInput: when nobody is logged in, the hub refuses, or the data set holds something else.
    """
    place = request.place
    if place.revision is not None:
        raise BadInput(f"{place.url}: a push goes to the default branch. Leave out @{place.revision}.")
    if get_token() is None:
        raise BadInput(f"{place.url}: not logged in to the hub. {WITH_A_TOKEN[0].upper()}{WITH_A_TOKEN[1:]}.")
    api = HfApi()
    with TemporaryDirectory(prefix="capsweep-push-") as made, refused_in_one_line(place, why_not_written), quietly():
        folder = Path(made)
        head = _head(api, place)
        _check_head(head, run, request)
        copy = write_copy(run, folder, without_texts=request.without_texts or run.is_without_texts)
        say(_what_is_public(copy, place, private=head.private if head else request.private))
        for note in write_card(copy, folder, place):
            say(f"note: {note}")
        if head and copy.is_without_texts and MEMORIES_FILE in head.files:
            say(f"note: earlier commits of {place.url} hold the texts. Only to delete that data set takes them back.")
        if head is None:
            # Without a preference, an organization decides whether its data sets are private.
            api.create_repo(place.name, repo_type="dataset", private=request.private or None)
            head = _head(api, place)
        _commit(api, place, folder, head, f"capsweep: {copy.sweep.name}", say)


def _head(api: HfApi, place: HubPlace) -> _Head | None:
    """The data set as it is now; None if there is none that this token may read."""
    try:
        info = api.dataset_info(place.name)
    except RepositoryNotFoundError:
        return None
    files = tuple(sorted(each.rfilename for each in info.siblings or () if each.rfilename != MADE_BY_HUB))
    assert info.sha is not None, "the hub names the commit of a branch"
    sessions: frozenset[str] = frozenset()
    if PROVENANCE_FILE in files:
        path = hf_hub_download(place.name, PROVENANCE_FILE, repo_type="dataset", revision=info.sha)
        sessions = _sessions_in(Path(path).read_bytes())
    return _Head(commit=info.sha, files=files, private=bool(info.private), sessions=sessions)


def _sessions_in(provenance: bytes) -> frozenset[str]:
    """Ids of the sessions that a provenance names; none if it is that of something else."""
    try:
        return frozenset(session["session_id"] for session in json.loads(provenance)["sessions"])
    except (ValueError, TypeError, KeyError):
        return frozenset()


def _check_head(head: _Head | None, run: Run, request: Request) -> None:
    """Raise BadInput if the data set holds something else than an earlier push of this run."""
    if head is None:
        return
    url = request.place.url
    if head.files:
        _check_files(head, run, url)
    if request.private and not head.private:
        raise BadInput(
            f"{url}: is public already, and --private only decides about a new data set. Make it private on its page, "
            "or leave out --private."
        )


def _check_files(head: _Head, run: Run, url: str) -> None:
    mine = {session["session_id"] for session in run.provenance["sessions"]}
    if not head.sessions:
        raise BadInput(
            f"{url}: holds something else than a run ({', '.join(head.files[:3])}). Choose another name; nothing there "
            "was changed."
        )
    if not head.sessions & mine:
        raise BadInput(f"{url}: holds another run of capsweep. Choose another name; nothing there was changed.")
    if newer := sorted(head.sessions - mine):
        raise BadInput(
            f"{url}: holds a later state of this run, with {counted(len(newer), 'session')} that {run.files.url} does "
            "not have. Push the directory that has them, or choose another name; nothing there was changed."
        )


def _what_is_public(copy: Run, place: HubPlace, *, private: bool) -> str:
    who = "only its owner may read" if private else "everybody may read"
    searches = counted(copy.searches().num_rows, "search", "searches")
    if copy.is_without_texts:
        return f"{place.url}: {who} the sweep, {searches} and their curves; no texts and no memories"
    texts = counted(copy.samples().num_rows, "text")
    others = "" if private else " (--without-texts leaves out texts and memories, --private shows it to its owner only)"
    return f"{place.url}: {who} the sweep, {searches}, {texts}, and the memories, which give the texts back{others}"


def _commit(api: HfApi, place: HubPlace, folder: Path, head: _Head | None, message: str, say: Say) -> None:
    made = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    before = head.files if head else ()
    stale = [name for name in before if name not in made and any(fnmatch(name, own) for own in OWN_FILES)]
    commit = api.create_commit(
        place.name,
        [
            *(CommitOperationAdd(path_in_repo=name, path_or_fileobj=path) for name, path in made.items()),
            *(CommitOperationDelete(path_in_repo=name, is_folder=False) for name in stale),
        ],
        commit_message=message,
        repo_type="dataset",
        parent_commit=head.commit if head else None,
    )
    if head and commit.oid == head.commit:
        say(f"{place.url} has all of it already: no new commit")
        return
    size = sum(path.stat().st_size for path in made.values())
    say(f"{counted(len(made), 'file')} ({size / 1e6:,.1f} MB) in one commit: {commit.commit_url}")
