"""The lock of a run: one session writes to it at a time.

Who that is, the claims of `orchestrator/store/claims.py` decide. Knows nothing of rows.
"""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from orchestrator.errors import BadInput
from orchestrator.store.claims import LOCK_FILE, Claim, claim_name, newest_claim, read_holder
from orchestrator.store.files import Files
from orchestrator.store.held import HeldFiles, LostLockError
from orchestrator.store.holder import STALE_SECONDS, Holder, is_gone, parse_holder, seems_to_live, this_process

STOP_FILE = "stop"
"""Holds the id of a session that was asked to end."""
HEARTBEAT_SECONDS = 5.0
"""A sixth of STALE_SECONDS: a beat or two may come late before others take the holder for gone."""
SETTLE_SECONDS = 2.0
"""Wait after taking a run over: longer than a write that the old holder had begun."""


class RunLock:
    """Held from `take` to `release`, with a heartbeat in between."""

    def __init__(self, files: Files, session_id: str, *, asked_to_stop: Callable[[], None] = lambda: None) -> None:
        """`asked_to_stop` is called, from another thread, when this session is asked to end or has lost the run."""
        self._files = files
        self._session_id = session_id
        self._asked_to_stop = asked_to_stop
        self._held = HeldFiles(files, session_id, number=0)
        self._name = claim_name(0)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lock heartbeat", daemon=True)

    def take(self, *, take_over: bool = False) -> HeldFiles:
        """Become the one session that may write; returns the files to write to.

        Raises:
            BadInput: when another session holds the run and is alive.
            OSError: when the storage cannot be written to, or does not list what was written.
        """
        # 1. Look at the newest claim.
        newest = newest_claim(self._files)
        if not take_over and _lives(newest, self._files):
            raise self._refusal()
        # 2. Claim the run, unless another session was quicker since that look.
        number = newest.number + 1
        self._name = claim_name(number)
        self._held = HeldFiles(self._files, self._session_id, number=number)
        created = self._files.create(self._name, self._holder().as_json())
        if newest_claim(self._files).number < number:
            if created:
                self._files.remove(self._name)
            raise OSError(f"its listing lacks {self._name}, which was just written there")
        try:
            self._held.check()
            # 3. Wait for what the session before had begun to write.
            if newest.open or not created:
                time.sleep(SETTLE_SECONDS)
            self._held.write(LOCK_FILE, self._holder().as_json())
        except LostLockError as error:
            raise self._refusal() from error
        self._thread.start()
        return self._held

    def _refusal(self) -> BadInput:
        holders = sorted(newest_claim(self._files).holders, key=is_gone)
        who = f": {holders[0]}" if holders else ""
        return BadInput(
            f"{self._files.url}: another session writes here{who}. "
            "Stop it first, or use --take-over if you know that it is gone."
        )

    def release(self) -> None:
        """Let others write. If the storage fails, the next session finds out that this one is gone."""
        self._stop.set()
        self._thread.join()
        with suppress(OSError, LostLockError):
            if self._is_asked_to_stop():
                self._held.remove(STOP_FILE)
            self._held.write(self._name, replace(self._holder(), ended=True).as_json())
            seen = parse_holder(self._files.read(LOCK_FILE))
            if seen is not None and seen.session_id == self._session_id:
                self._files.remove(LOCK_FILE)

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_SECONDS):
            try:
                self._held.write(LOCK_FILE, self._holder().as_json())
                if self._is_asked_to_stop():
                    self._asked_to_stop()
            except LostLockError:
                self._asked_to_stop()
                return
            except OSError:
                # A full disk or a slow store may recover, so the heartbeat must go on.
                continue

    def _is_asked_to_stop(self) -> bool:
        with suppress(FileNotFoundError):
            return self._files.read(STOP_FILE) == self._session_id.encode()
        return False

    def _holder(self) -> Holder:
        return this_process(self._session_id, heartbeat=time.time())


def ask_to_stop(files: Files) -> Holder | None:
    """Ask the session that writes to a run, on any machine, to end; returns it, or None if there is none any more."""
    holder = read_holder(files)
    if holder is None or is_gone(holder):
        return None
    files.write(STOP_FILE, holder.session_id.encode())
    return holder


def _lives(newest: Claim, files: Files) -> bool:
    """Whether a session that may be writing is alive."""
    holders = [holder for holder in newest.holders if not is_gone(holder)]
    now = time.time()
    # A heartbeat that is still to come is that of another clock.
    if any(seems_to_live(holder, now) and holder.heartbeat < now + STALE_SECONDS for holder in holders):
        return True
    if not holders:
        return False
    # The clocks of two machines may differ, so only a lock that does not change is stale.
    time.sleep(2 * HEARTBEAT_SECONDS)
    return not set(newest_claim(files).holders) <= set(newest.holders)
