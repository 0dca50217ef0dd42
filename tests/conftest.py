"""What several tests share: the shared data, small sweeps, one Ray for the whole session."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

SHARED_DATA = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"
SHIPPED_MODEL = Path(__file__).resolve().parents[1] / "sweeps" / "quickstart" / "model"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    if not SHARED_DATA.is_dir():
        pytest.skip("needs the shared test data (../shared/data from the project's root), which is not here")
    return SHARED_DATA.resolve()


@pytest.fixture(scope="session")
def stories_model(shared_data: Path) -> Path:
    return shared_data / "models" / "stories260K"


@pytest.fixture(scope="session")
def stories(shared_data: Path) -> list[str]:
    lines = (shared_data / "text" / "stories_choose.jsonl").read_text().splitlines()
    return [json.loads(line)["text"] for line in lines]


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    import ray

    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR, namespace="tests")
    yield
    ray.shutdown()


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
