"""Claims to a run, which decide who may write to it.

Every session that takes a run has a claim: a numbered file in `sessions/`. It is created exclusively, so no two
sessions have one number, and the session with the highest number holds the run. Nobody writes the claim of another, so
a session that was frozen cannot take a run back, however late it wakes up.
"""

import re
from dataclasses import dataclass

from orchestrator.store.files import Files
from orchestrator.store.holder import Holder, parse_holder

SESSION_FOLDER = "sessions"
LOCK_FILE = "lock"
"""Shows the heartbeat of the session that holds the run. Written late, it shows the wrong one, and decides nothing."""
CLAIM = re.compile(rf"{SESSION_FOLDER}/(\d+)\.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The newest claim to a run."""

    number: int
    """0 if there is none: then the file `lock` counts alone, as in earlier versions."""
    holder: Holder | None
    """The session that holds the run by it, with its last heartbeat; None if it has ended, or cannot be read."""
    rival: Holder | None = None
    """Another session that the file `lock` names: one of an earlier version, or one that was frozen."""
    open: bool
    """Whether the run was not let go: something may still be on its way to it."""

    @property
    def holders(self) -> tuple[Holder, ...]:
        """Who may be writing."""
        return tuple(holder for holder in (self.holder, self.rival) if holder is not None)


def claim_name(number: int) -> str:
    """The name of a claim."""
    return f"{SESSION_FOLDER}/{number:06d}.json"


def newest_claim(files: Files) -> Claim:
    """The newest claim to a run."""
    found = [match for name in files.names(SESSION_FOLDER, suffix=".json") if (match := CLAIM.fullmatch(name))]
    number = max((int(match[1]) for match in found), default=0)
    contents = files.read_all([claim_name(number), LOCK_FILE])
    seen = parse_holder(contents.get(LOCK_FILE, b""))
    if number == 0:
        return Claim(number=0, holder=seen, open=LOCK_FILE in contents)
    claimed = parse_holder(contents.get(claim_name(number), b""))
    if claimed is None:
        return Claim(number=number, holder=seen, open=True)
    beating = seen is not None and seen.session_id == claimed.session_id
    rival = None if beating else seen
    if claimed.ended:
        return Claim(number=number, holder=None, rival=rival, open=rival is not None)
    return Claim(number=number, holder=seen if beating else claimed, rival=rival, open=True)


def read_holder(files: Files) -> Holder | None:
    """The session that holds the run; None if there is none."""
    return next(iter(newest_claim(files).holders), None)
