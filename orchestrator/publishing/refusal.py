"""What the hub refuses, told in one line."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from orchestrator.errors import BadInput
from orchestrator.store.hub_files import HubPlace
from tasks.hub import Kind


@contextmanager
def refused_in_one_line(place: HubPlace, explain: Callable[[BaseException, Kind], str | None]) -> Iterator[None]:
    """Give errors that `explain` knows as BadInput; others pass."""
    try:
        yield
    except (BadInput, MemoryError):
        raise
    except Exception as error:  # what an HTTP library raises below huggingface_hub depends on its version
        why = explain(error, "data set")
        if why is None:
            raise
        raise BadInput(f"{place.url}: {why}") from error
