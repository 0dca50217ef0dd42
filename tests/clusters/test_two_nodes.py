"""A cluster of two nodes: submit, follow, watch, lose a node and a driver, stop, resume."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import orchestrator
from orchestrator.runs.directory import open_run
from tasks.toy import toy_capacity
from tests.chaos.harness import wait_until, write_sweep
from tests.clusters.two_nodes import ADDRESSES, DASHBOARD, HEAD, WORKER, TwoNodes, why_not

SLOW = {"step_seconds": 0.1, "steps": 20, "slots": 4, "shortfall": 0}


AUTOSCALED = """
head_node_type: head
max_workers: 1
available_node_types:
  head: {resources: {CPU: 2}}
  gpu: {resources: {CPU: 2, GPU: 1}, max_workers: 1}
"""


@pytest.fixture
def machines(tmp_path: Path, only_when_asked: None) -> Iterator[TwoNodes]:
    if (reason := why_not()) is not None:
        pytest.skip(reason)
    with TwoNodes(tmp_path) as made:
        yield made


@pytest.fixture
def cluster(machines: TwoNodes) -> TwoNodes:
    machines.start(HEAD, cpus=2)
    machines.start(WORKER, cpus=2)
    return machines


def num_rows(run: Path) -> int:
    return orchestrator.read(str(run)).probes.num_rows if list(run.glob("probes/*.parquet")) else 0


def titles(cluster: TwoNodes, node: str) -> str:
    """What the processes of a node are called."""
    paths = [Path(f"/proc/{pid}/cmdline") for pid in cluster.processes(node)]
    return "\n".join(path.read_bytes().decode(errors="replace") for path in paths if path.exists())


def test_a_sweep_is_submitted_and_outlives_a_node_a_driver_and_a_stop(cluster, tmp_path):
    spec = write_sweep(tmp_path, texts=96, recipe=SLOW, engines={"snapshot_seconds": 0.5})
    run = tmp_path / "runs" / "mine"

    # 1. Submitted from beside the cluster, with its texts; engines come up on both nodes.
    output = cluster.capsweep("submit", spec, "--address", DASHBOARD, "--run-dir", run)
    assert "exit code 0" in output
    job = re.search(r"^job (\S+) runs", output, re.MULTILINE)
    assert job is not None
    for node in (HEAD, WORKER):
        wait_until(lambda node=node: "EngineActor" in titles(cluster, node), awaited=f"engine on {node}")
    wait_until(lambda: num_rows(run) > 10, awaited="rows")
    output = cluster.capsweep("status", DASHBOARD)
    assert re.search(rf"{job[1]}\s+running", output)
    wait_until(lambda: "of 96 searches done" in cluster.capsweep("status", DASHBOARD), awaited="its progress")
    assert "already runs it" in cluster.capsweep("submit", spec, "--address", DASHBOARD, "--run-dir", run)

    # 2. Watched: what a Prometheus would scrape.
    wait_until(lambda: "ray_capsweep_verdicts_total" in metrics(cluster), awaited="metrics of the driver")
    wait_until(lambda: "ray_capsweep_slots_busy" in metrics(cluster), awaited="metrics of an engine")

    # 3. A node is lost: the run continues.
    cluster.lose(WORKER)
    before = num_rows(run)
    wait_until(lambda: num_rows(run) > before + 10, awaited="rows after the loss of a node")

    # 4. The driver is killed: its job begins it again.
    driver = [pid for pid in cluster.processes(HEAD) if is_driver(pid)]
    assert len(driver) == 1
    cluster.run("kill", "-9", str(driver[0]), node=HEAD)
    before = num_rows(run)
    wait_until(lambda: num_rows(run) > before + 5, awaited="rows after the death of the driver")

    # 5. Stopped in order: what is in flight is saved.
    output = cluster.capsweep("stop", job[1], "--address", DASHBOARD)
    assert "ended" in output
    assert list((run / "snapshots").glob("*.parquet"))
    assert any(row == "open" for row in orchestrator.read(str(run)).searches["status"].to_pylist())

    # 6. Resumed, on a worker that has come, and followed to the end.
    cluster.start(WORKER, cpus=2)
    assert "exit code 0" in cluster.capsweep("submit", spec, "--address", DASHBOARD, "--run-dir", run)
    output = cluster.capsweep("status", run.name, "--address", DASHBOARD, "--follow", timeout=600)
    assert "report: " in output
    assert "exit code 0" in output
    assert_proven_once(run)


def test_two_sweeps_share_the_cluster(cluster, tmp_path):
    runs: list[Path] = []
    for name in ("first", "second"):
        spec = write_sweep(tmp_path, texts=400, name=name, recipe=SLOW)
        runs.append(tmp_path / "runs" / name)
        assert "exit code 0" in cluster.capsweep("submit", spec, "--address", DASHBOARD, "--run-dir", runs[-1])
        wait_until(lambda: num_rows(runs[-1]) > 5, awaited=f"rows of the {name} sweep")
    # The second had rows before the first was done: it did not wait for its end.
    assert any(row == "open" for row in orchestrator.read(str(runs[0])).searches["status"].to_pylist())
    for run in runs:
        assert "ended" in cluster.capsweep("stop", run.name, "--address", DASHBOARD)


def test_a_cluster_that_may_grow_is_asked_for_gpus_and_let_go_again(machines, tmp_path):
    # Where `ray up` leaves the cluster file on the head; what an autoscaler does with a demand is Ray's own affair.
    (tmp_path / "ray_bootstrap_config.yaml").write_text(AUTOSCALED)
    machines.start(HEAD, cpus=2)
    spec = write_sweep(tmp_path, texts=12, recipe=SLOW)
    run = tmp_path / "runs" / "grown"
    output = machines.capsweep("submit", spec, "--address", DASHBOARD, "--run-dir", run)
    assert "exit code 0" in output
    wait_until(lambda: re.search(r"'GPU': .*pending", machines.status()), awaited="a demand for a GPU")
    assert num_rows(run) == 0
    machines.start(WORKER, cpus=2, gpus=1)
    wait_until(lambda: num_rows(run) > 5, awaited="rows of the engine on the node that came")
    wait_until(lambda: "succeeded" in machines.capsweep("status", DASHBOARD), awaited="the end")
    assert "pending tasks/actors" not in machines.status()


def assert_proven_once(run: Path) -> None:
    """Each search found what the toy holds, and no probe has two verdicts."""
    samples = open_run(str(run)).samples().to_pylist()
    known = {row["sample_id"]: toy_capacity(row["tokens"]) for row in samples}
    found = orchestrator.read(str(run)).searches.select(["sample_id", "capacity_tokens"]).to_pylist()
    assert {row["sample_id"]: row["capacity_tokens"] for row in found} == known
    rows = orchestrator.read(str(run)).probes.select(["probe_id", "outcome"]).to_pylist()
    verdicts = Counter(row["probe_id"] for row in rows if row["outcome"] != "failed")
    assert set(verdicts.values()) == {1}


def is_driver(pid: int) -> bool:
    path = Path(f"/proc/{pid}/cmdline")
    words = path.read_bytes().split(b"\0") if path.exists() else []
    return b"orchestrator.cli" in words and b"run" in words


def metrics(cluster: TwoNodes) -> str:
    address = f"http://{ADDRESSES[HEAD]}:8080/metrics"
    return cluster.run("python", "-c", f"import urllib.request as u; print(u.urlopen({address!r}).read().decode())")
