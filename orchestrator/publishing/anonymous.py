"""What is public of a run: its sweep, provenance and messages without secrets, paths, hosts and users.

Pure functions, except that they look up who runs this process, and where. Knows nothing of files or of the hub.
"""

import getpass
import os
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path, PurePath, PureWindowsPath
from typing import Any

from orchestrator.redact import MARK, redact
from orchestrator.runs.directory import PUBLISHED
from orchestrator.spec.sweep import Sweep

SESSION_FIELDS = (
    *("session_id", "started_at", "ended_at", "machine", "processor", "cores", "python", "git_commit", "versions"),
)
"""What is public of a session as it is; its notes and what it added are cleaned. Its host, its command line and the
places of runs that it took searches from are left out."""
STORAGE = "runs/"
"""Where a sweep's runs lie by default, in place of a private folder or bucket."""
HUB_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{8,}")
FOREIGN_URL = re.compile(r"\b(?!hf://|https://huggingface\.co\b)[A-Za-z][\w+.-]*://[^\s'\"<>]+")
QUOTED_PATH = re.compile(r"(?P<quote>['\"])(?P<path>(?:/|~/|[A-Za-z]:\\|\\\\)[^'\"\n]*)(?P=quote)")
PATH = re.compile(r"(?<![\w:/.\\-])(?:/|~/|[A-Za-z]:\\|\\\\)[^\s'\",;()]+")
ADDRESS = re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w.])")
SHORTEST_NAME = 3
"""Shorter names of hosts and users stand inside ordinary words."""
COMMON_USERS = ("root", "ubuntu", "user")
"""Names that tell nobody apart, and that messages have in other meanings."""

Clean = Callable[[str], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Public:
    """A run's words as everybody may read them."""

    sweep: Sweep
    provenance: dict[str, Any]
    clean: Clean
    """Cleans a message of the run."""


def public(sweep: Sweep, provenance: Mapping[str, Any], *, without_texts: bool) -> Public:
    """The run's sweep and provenance for everybody.

    A local folder or file keeps its last name, as `./name`; nothing else tells where anything lay.
    """
    names = _public_names(sweep)
    clean = _cleaner(names, [str(session.get("host")) for session in provenance["sessions"]])
    shown = _public_sweep(sweep, names)
    models = {
        name: {**known, "model": {**known["model"], "name": names.get(known["model"]["name"], known["model"]["name"])}}
        for name, known in provenance["models"].items()
    }
    sessions = [
        {
            **{name: session[name] for name in SESSION_FIELDS if name in session},
            **{name: _cleaned(session[name], clean) for name in ("notes", "added") if name in session},
        }
        for session in provenance["sessions"]
    ]
    about = {
        "models": models,
        "text_commits": provenance.get("text_commits", {}),
        "notes": provenance.get("notes", []),
    }
    return Public(
        sweep=shown,
        provenance={
            **_cleaned(about, clean),
            "sessions": sessions,
            PUBLISHED: {"without_texts": without_texts},
        },
        clean=clean,
    )


def _public_names(sweep: Sweep) -> dict[str, str]:
    """Absolute path in the sweep -> its public name; different paths have different names."""
    document = sweep.model_dump(mode="json")
    names: dict[str, str] = {}
    for entry in (*document["models"], *document["texts"]):
        for value in entry.values():
            if isinstance(value, str) and Path(value).is_absolute() and value not in names:
                name = _last_name(value)
                numbered = (f"{name}-{number}" for number in count(2))
                names[value] = next(each for each in chain([name], numbered) if each not in names.values())
    return names


def _last_name(path: str) -> str:
    """`./name`; a folder called `model` is named after its parent, as in tables."""
    parts = Path(path)
    return f"./{parts.parent.name}/{parts.name}" if parts.name == "model" else f"./{parts.name}"


def _public_sweep(sweep: Sweep, names: Mapping[str, str]) -> Sweep:
    document = sweep.model_dump(mode="json")
    for entry in (*document["models"], *document["texts"]):
        entry.update({key: names[value] for key, value in entry.items() if isinstance(value, str) and value in names})
    return Sweep.model_validate({**document, "storage": STORAGE})


def _cleaned(value: Any, clean: Clean) -> Any:
    """The value with every string in it cleaned."""
    match value:
        case str():
            return clean(value)
        case Mapping():
            return {clean(str(key)): _cleaned(each, clean) for key, each in value.items()}
        case list() | tuple():
            return [_cleaned(each, clean) for each in value]
        case _:
            return value


def _cleaner(names: Mapping[str, str], hosts: Sequence[str]) -> Clean:
    """Cleans a message: paths of the sweep by their public names, other paths by their last, the rest by MARK."""
    persons = {*hosts, platform.node(), *platform.node().split(".")[:1], _user()} - {*COMMON_USERS, "None", "localhost"}
    known = sorted((re.escape(name) for name in persons if len(name) >= SHORTEST_NAME), key=len, reverse=True)
    person = re.compile(rf"(?<!\w)(?:{'|'.join(known)})(?!\w)") if known else None
    home = os.path.expanduser("~")

    def clean(message: str) -> str:
        for path in sorted(names, key=len, reverse=True):
            message = message.replace(path, names[path])
        if home not in ("/", os.curdir, "~"):
            message = message.replace(home, "~")
        message = FOREIGN_URL.sub(MARK, HUB_TOKEN.sub(MARK, redact(message)))
        message = QUOTED_PATH.sub(lambda found: f"{found['quote']}{_tail(found['path'])}{found['quote']}", message)
        message = ADDRESS.sub(MARK, PATH.sub(lambda found: _tail(found[0]), message))
        return person.sub(MARK, message) if person else message

    return clean


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # no such user in the system's table, as in some containers
        return ""


def _tail(path: str) -> str:
    return (PureWindowsPath(path) if "\\" in path else PurePath(path)).name or MARK
