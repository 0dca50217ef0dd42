"""Clusters of two nodes on this machine; they take minutes, so they run with `make cluster-test` only."""

import os

import pytest


@pytest.fixture(autouse=True)
def only_when_asked() -> None:
    if os.environ.get("CAPSWEEP_CLUSTER") != "1":
        pytest.skip("takes minutes: runs with `make cluster-test`")
