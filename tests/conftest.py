"""What several tests share: the shared data, small sweeps, one Ray for the whole session."""

import json
import logging
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers

from tests.hub import Hub

# Two workers of pytest-xdist share two cores. Set before torch is loaded, here and in processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Whoever starts the tests in the background or under nohup has these ignored, and so would every process begun here.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# A submission is judged by the same examples on every machine, however slow that is; `make fuzz` looks for new ones.
settings.register_profile(
    "repeatable", derandomize=True, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("repeatable")
# Nor do examples depend on which of our modules, whose constants it would try, are loaded by then.
assert hasattr(providers, "_get_local_constants"), "hypothesis has another way now to find constants in our code"
providers._get_local_constants = lambda: providers._local_constants

SHARED_DATA = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"
SHIPPED_MODEL = Path(__file__).resolve().parents[1] / "sweeps" / "quickstart" / "model"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    if not SHARED_DATA.is_dir():
        pytest.skip("needs the shared test data (../shared/data from the project's root), which is not here")
    return SHARED_DATA.resolve()


@pytest.fixture(scope="session")
def shipped_model() -> Path:
    return SHIPPED_MODEL


@pytest.fixture(scope="session")
def stories_model(shared_data: Path) -> Path:
    return shared_data / "models" / "stories260K"


@pytest.fixture(scope="session")
def stories(shared_data: Path) -> list[str]:
    lines = (shared_data / "text" / "stories_choose.jsonl").read_text().splitlines()
    return [json.loads(line)["text"] for line in lines]


SAME_ARITHMETIC = {
    # Intel's library sums in one order on every processor; torch and oneDNN take AVX2 even where there is more.
    "MKL_CBWR": "COMPATIBLE",
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "OMP_NUM_THREADS": "1",
}
"""Variables under which every x86-64 processor with AVX2 computes the same bits; slower than without."""


@pytest.fixture(scope="session")
def same_arithmetic() -> dict[str, str]:
    return SAME_ARITHMETIC


@pytest.fixture(autouse=True)
def _signals_as_found() -> Iterator[None]:
    """No test leaves a handler of its own behind, as Tune does where it is not told to leave Ctrl-C to us."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGHUP)}
    yield
    after = {number: signal.getsignal(number) for number in before}
    for number, handler in before.items():
        signal.signal(number, handler)
    assert after == before


@pytest.fixture(autouse=True)
def _no_lock_is_kept() -> Iterator[None]:
    """No test leaves a session's heartbeat behind, which reads and writes files while others count who does."""
    yield
    assert "lock heartbeat" not in [thread.name for thread in threading.enumerate()]


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """One Ray for all tests of a worker; what its engines compute is held against golden values."""
    from orchestrator.cluster.environment import set_variables

    set_variables("joined")
    import ray

    ray.init(
        num_cpus=4,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        namespace="tests",
        runtime_env={"env_vars": SAME_ARITHMETIC},
    )
    yield
    ray.shutdown()


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """A hub on loopback, which this process uses with empty caches."""
    with Hub() as hub, hub.here(tmp_path / "hub"):
        yield hub


TOY_TEXT = "Text number {number}: long enough to have a capacity of its own, and then some more words to be safe."


@pytest.fixture
def toy_sweep(tmp_path: Path) -> Path:
    """A sweep file over twelve texts whose capacities are known."""
    texts = tmp_path / "texts"
    texts.mkdir()
    for number in range(12):
        (texts / f"{number:02d}.txt").write_text(TOY_TEXT.format(number=number))
    path = tmp_path / "toy.yaml"
    path.write_text("name: toy\ntask: toy\nmodels: [toy/model]\ntexts:\n  - {source: files, path: texts/}\n")
    return path
