"""The brackets of all searches of a run: records verdicts and hands out the next probes.

The ledger is a fold over verdicts: the same verdicts, in any order and repeated any number of times, give the same
ledger. Besides them it only knows which searches have a probe in flight.

Knows nothing of Ray, torch, disk or clock.
"""

import hashlib
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from orchestrator.search.bracket import Bracket, Verdict, fold
from orchestrator.search.policy import Lengths, NextProbe, SearchSettings, Status, is_done, next_probe, status_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Search(Lengths):
    """A search for the capacity of one sample under one model, k and seed, with the lengths that it may ask for."""

    search_id: str
    """Hash of everything that decides the result of the search."""
    model: str
    """Name of the model in the run. Searches of one model share engines."""
    sample_id: str
    """Hash of the tokens of the text and of the tokenizer."""
    num_vectors: int
    """Vectors in a memory: k."""
    seed: int
    """Seed of the search; the random numbers of its probes depend on it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A probe to be made: its search, and what the search asks of it."""

    probe_id: str
    """Hash of the search and the number of the probe."""
    search: Search
    """Search that the probe belongs to."""
    asked: NextProbe
    """What the probe asks for."""


def probe_id_of(search_id: str, number: int) -> str:
    """Hash of the search and the probe's number within it: no time, host or parent."""
    return hashlib.sha256(f"{search_id}/{number}".encode()).hexdigest()[:16]


class Ledger:
    """Brackets of all searches, and which probes are in flight."""

    def __init__(
        self,
        searches: Sequence[Search],
        settings: SearchSettings,
        verdicts: Iterable[Verdict] = (),
        *,
        retry_failed: bool = False,
    ) -> None:
        """`retry_failed`: failures of the machine so far no longer count."""
        self._settings = settings
        self._searches = {search.search_id: search for search in searches}
        self._verdicts: dict[str, list[Verdict]] = {search.search_id: [] for search in searches}
        for verdict in verdicts:
            # Rows of searches that the sweep no longer asks for stay on disk and are ignored.
            if verdict.search_id in self._verdicts:
                self._verdicts[verdict.search_id].append(verdict)
        self._brackets = {search_id: fold(known) for search_id, known in self._verdicts.items()}
        if retry_failed:
            self._brackets = {key: replace(known, forgiven=known.attempts) for key, known in self._brackets.items()}
        self._in_flight: set[str] = set()
        self._ready: dict[str, deque[str]] = {search.model: deque() for search in searches}
        self._num_open = dict.fromkeys(self._ready, 0)
        for search in searches:
            if not self._done(search.search_id):
                self._num_open[search.model] += 1
                self._ready[search.model].append(search.search_id)

    @property
    def num_open(self) -> int:
        """Searches that are not done."""
        return sum(self._num_open.values())

    def num_open_of(self, model: str) -> int:
        """Searches of this model that are not done."""
        return self._num_open[model]

    @property
    def num_searches(self) -> int:
        """All searches."""
        return len(self._searches)

    @property
    def num_in_flight(self) -> int:
        """Searches with a probe in flight."""
        return len(self._in_flight)

    def num_ready(self, model: str) -> int:
        """Searches of this model that wait for a probe."""
        return len(self._ready[model])

    @property
    def models(self) -> list[str]:
        """Models, in the order in which searches first name them."""
        return list(self._ready)

    def bracket(self, search_id: str) -> Bracket:
        """What this search knows."""
        return self._brackets[search_id]

    def status(self, search_id: str) -> Status:
        """How this search ended, or `open`."""
        return status_of(self._brackets[search_id], self._searches[search_id], self._settings)

    def next_orders(self, model: str, count: int) -> list[Order]:
        """Hand out at most `count` probes for searches of `model`; the searches are then in flight."""
        orders: list[Order] = []
        ready = self._ready[model]
        while ready and len(orders) < count:
            search = self._searches[ready.popleft()]
            asked = next_probe(self._brackets[search.search_id], search, self._settings)
            assert asked is not None, "a search that is done does not wait for a probe"
            self._in_flight.add(search.search_id)
            probe_id = probe_id_of(search.search_id, asked.number)
            orders.append(Order(probe_id=probe_id, search=search, asked=asked))
        return orders

    def record(self, verdict: Verdict) -> bool:
        """Record a verdict and return whether it made its search done."""
        search = self._searches[verdict.search_id]
        was_done = self._done(verdict.search_id)
        self._verdicts[verdict.search_id].append(verdict)
        forgiven = self._brackets[verdict.search_id].forgiven
        self._brackets[verdict.search_id] = fold(self._verdicts[verdict.search_id], forgiven=forgiven)
        done = self._done(verdict.search_id)
        if done and not was_done:
            self._num_open[search.model] -= 1
        self._land(search, wait=not done)
        return done and not was_done

    def give_back(self, search_ids: Iterable[str]) -> None:
        """Make searches ready whose probes will not come back."""
        for search_id in search_ids:
            self._land(self._searches[search_id], wait=not self._done(search_id))

    def _land(self, search: Search, *, wait: bool) -> None:
        if search.search_id in self._in_flight:
            self._in_flight.remove(search.search_id)
            if wait:
                self._ready[search.model].append(search.search_id)

    def _done(self, search_id: str) -> bool:
        return is_done(self._brackets[search_id], self._searches[search_id], self._settings)
