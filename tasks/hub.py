"""The Hugging Face hub: the commit that a name means now, and what the errors of the hub mean.

Knows nothing of what is in a model or a data set.
"""

import errno
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from huggingface_hub import HfApi, constants, get_hf_file_metadata, get_token, hf_hub_url
from huggingface_hub.errors import (
    CachedRepoTreeNotFoundError,
    DisabledRepoError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

# The class of whichever HTTP library huggingface_hub uses.
from huggingface_hub.errors import HTTPError as NetworkError  # pyright: ignore[reportPrivateImportUsage]
from huggingface_hub.utils import (
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
    logging,
)

from tasks.values import TaskError

Kind = Literal["model", "data set"]
REPOSITORY_TYPES: dict[Kind, str] = {"model": "model", "data set": "dataset"}
"""Our word -> the hub's."""
NOT_CACHED = (LocalEntryNotFoundError, CachedRepoTreeNotFoundError)
NO_ROOM_STATUS = (402, 413, 507)
NO_ROOM_WORDS = re.compile("storage|quota|limit reached", re.IGNORECASE)
"""Words of the hub's own messages under status 403, such as `Private repository storage limit reached`."""
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
WITH_A_TOKEN = "set HF_TOKEN or run `hf auth login`"


def commit_of(name: str, revision: str | None, kind: Kind) -> str:
    """The commit that a revision names now; the one in the cache if the hub does not answer.

    Args:
        name: Hub id.
        revision: Branch, tag or commit; None is the default branch.
        kind: What the id names.

    Raises:
        TaskError: when the hub refuses, or does not answer and the cache has none.
    """
    try:
        return HfApi().resolve_revision(name, repo_type=REPOSITORY_TYPES[kind], revision=revision).resolved
    except Exception as error:  # what an HTTP library raises below huggingface_hub depends on its version
        where = f"{name}@{revision}" if revision else name
        why = why_refused(error, kind) or f"its commit could not be found out ({' '.join(str(error).split())[:200]})."
        raise TaskError(f"{where}: {why}") from error


def refusal_of(name: str, commit: str | None, kind: Kind) -> Exception | None:
    """The hub's error for this token at this commit; None if it lets files be read.

    For libraries that pass on a message of their own in place of the hub's error.
    """
    url = hf_hub_url(name, "README.md", repo_type=REPOSITORY_TYPES[kind], revision=commit)
    try:
        get_hf_file_metadata(url)
    except RemoteEntryNotFoundError:
        return None
    except Exception as error:
        return error
    return None


@contextmanager
def quietly() -> Iterator[None]:
    """Within it huggingface_hub shows its bars on a terminal only, and logs errors only."""
    verbosity, had_bars = logging.get_verbosity(), not are_progress_bars_disabled()
    logging.set_verbosity_error()
    if not sys.stderr.isatty():
        disable_progress_bars()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if had_bars:
            enable_progress_bars()


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, and the errors that led to it."""
    seen: list[BaseException] = []
    left: BaseException | None = error
    while left is not None and left not in seen:
        seen.append(left)
        yield left
        left = left.__cause__ or left.__context__


def why_refused(error: BaseException, kind: Kind) -> str | None:
    """What an error of the hub means, by its class, and what to do about it; None if it is not the hub's.

    transformers and datasets raise errors of their own, caused by those of the hub.
    """
    met = list(_chain(error))

    def has(*classes: type[BaseException]) -> bool:
        return any(isinstance(each, classes) for each in met)

    if has(GatedRepoError):
        refused = "the token that is set here has no access" if get_token() else f"then {WITH_A_TOKEN}"
        return f"the hub refuses it: this {kind} is gated. Accept its terms on its page; {refused}."
    if has(RepositoryNotFoundError):
        return (
            f"the hub has no {kind} of this name, or it is private. Check the name; for a private {kind}, "
            f"{WITH_A_TOKEN}{', with a token that may read it' if get_token() else ''}."
        )
    if has(RevisionNotFoundError):
        return f"the hub has no such revision of this {kind}. Its page lists the branches, tags and commits."
    if has(DisabledRepoError):
        return f"the hub has disabled this {kind}."
    if has(HFValidationError):
        return (
            "no such folder, and not a hub id (those read 'owner/name', or 'name' for some old ones). Correct the name."
        )
    for each in met:
        if isinstance(each, HfHubHTTPError):
            return _of_status(each.response.status_code, kind)
        if isinstance(each, OSError) and each.errno in NO_ROOM:
            return (
                f"the cache of the hub ({constants.HF_HUB_CACHE}) takes no more ({each.strerror}). Make room there, or "
                "set HF_HOME to another disk."
            )
    if has(OfflineModeIsEnabled) or (has(*NOT_CACHED) and constants.is_offline_mode()):
        how = " (`hf download NAME --repo-type dataset`)" if kind == "data set" else ""
        return (
            f"HF_HUB_OFFLINE is set and the {kind} is not in the local cache. Fetch it once with the network on{how}."
        )
    if has(NetworkError, ConnectionError, *NOT_CACHED):
        return (
            f"the hub ({constants.ENDPOINT}) cannot be reached, and the {kind} is not in the local cache. Check the "
            "network and HF_ENDPOINT, or use local files."
        )
    return None


def _of_status(status: int, kind: Kind) -> str:
    """What an answer of the hub means that has no class of its own."""
    if status == 401:
        return "the hub does not accept the token that is set here (HF_TOKEN or `hf auth login`). Replace or unset it."
    if status == 403:
        return f"the token that is set here may not read this {kind}. Give it the permission, or {WITH_A_TOKEN} anew."
    if status == 429:
        return "the hub answers 429, too many requests. Wait some minutes; with HF_TOKEN set, the hub allows more."
    if status >= 500:
        return f"the hub has a fault of its own (it answers {status}). Try again later."
    return f"the hub refuses the request (it answers {status}). Check the name and the revision."


def why_not_written(error: BaseException, kind: Kind) -> str | None:
    """What an error of the hub means that a write met, and what to do about it; None if it is not the hub's."""
    answers = [each for each in _chain(error) if isinstance(each, HfHubHTTPError)]
    if not answers:
        # Of the batch of large files, huggingface_hub passes on the hub's words alone.
        refused = str(error) if isinstance(error, ValueError) and "LFS batch API" in str(error) else None
        return _no_room(refused) if refused else why_refused(error, kind)
    status, told = answers[0].response.status_code, answers[0].server_message or ""
    if status in NO_ROOM_STATUS or (status == 403 and NO_ROOM_WORDS.search(told)):
        return _no_room(f"{status}: {told}")
    if status == 403:
        return (
            f"the token that is set here may not write there (the hub answers 403{': ' if told else ''}{told}). Take a "
            "token with the permission to write, or a name of an owner that you may write to."
        )
    if status == 409:
        return f"there is a {kind} of this name, which the token that is set here may not read. Choose another name."
    if status == 412:
        return f"somebody else wrote to this {kind} in the meantime. Try again: what was uploaded is not sent twice."
    return why_refused(error, kind)


def _no_room(told: str) -> str:
    return (
        f"the hub has no room for it ({' '.join(told.split())[:200]}). Make room in the account that owns it, or "
        "take another owner."
    )
