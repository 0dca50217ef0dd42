"""Engines, trial workers and nodes are killed, hang or come: the sweep continues with the same results."""

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import orchestrator
from orchestrator.search.policy import MACHINE_FAILURES
from tests.chaos.harness import (
    KILL,
    Witness,
    begin,
    begin_impatient,
    descendants,
    end,
    num_row_files,
    searches_of,
    send,
    to_end,
    undisturbed,
    wait_until,
    write_sweep,
)

SLOW = {"step_seconds": 0.05, "steps": 20, "slots": 4}


def capacities(rows: list[dict[str, Any]]) -> dict[str, int]:
    return {row["search_id"]: row["capacity_tokens"] for row in rows}


def machine_failures(run: Path) -> list[str]:
    rows = orchestrator.read(str(run)).probes.select(["outcome", "reason"]).to_pylist()
    return [row["reason"] for row in rows if row["outcome"] == "failed"]


@pytest.mark.parametrize(
    ("promise", "titles", "number", "hits"),
    [
        ("SIGKILL of an engine actor", ["ray::EngineActor"], KILL, 4),
        ("engine that hangs (SIGSTOP)", ["ray::EngineActor"], signal.SIGSTOP, 2),
        ("SIGKILL of a trial worker", ["ProbeTrial.step", "ProbeTrial.train"], KILL, 4),
    ],
)
def test_a_process_of_the_cluster_is_hit(tmp_path, tally, times, promise, titles, number, hits):
    hits = times(hits, 1)
    found = tally(promise)
    spec = write_sweep(tmp_path, texts=10 + 10 * hits, recipe=SLOW, engines={"snapshot_seconds": 0.5})
    run = tmp_path / "run"
    witness = Witness(run, found)
    # An engine that was not hit may be held up for seconds, too.
    stall_seconds = 4 if number == signal.SIGSTOP else 60
    process = begin_impatient("run", spec, "--run-dir", run, stall_seconds=stall_seconds)
    for _ in range(hits):
        before = num_row_files(run)
        # A verdict in between: engines lost without any end the session.
        wait_until(lambda before=before: num_row_files(run) > before + 3, process)
        send(wait_until(lambda: descendants(process.pid, *titles), process)[0], number)
        found.provoked += 1
        witness.look()
    output = end(process)
    assert process.returncode == 0, output
    witness.conclude()
    lost = machine_failures(run)
    if "ray::EngineActor" in titles:
        assert lost
        assert all("its engine was lost" in reason for reason in lost)
    elif hits < MACHINE_FAILURES:
        # Another trial follows the assignment, whose probes continued in their engine.
        assert not lost
    assert capacities(searches_of(run)) == capacities(undisturbed(spec, tmp_path / "whole"))
    found.notes.append(f"{len(lost)} probes handed to another engine, the same capacities")


def test_engines_that_always_die_end_the_session(tmp_path, tally, times):
    times(1, 0)
    found = tally("every engine is killed at once")
    spec = write_sweep(tmp_path, texts=10, recipe={"step_seconds": 0.5, "steps": 100, "slots": 4})
    run = tmp_path / "run"
    witness = Witness(run, found)
    process = begin("run", spec, "--run-dir", run)
    while process.poll() is None:
        for pid in descendants(process.pid, "ray::EngineActor"):
            send(pid, KILL)
            found.provoked += 1
        time.sleep(0.5)
    output = end(process)
    assert process.returncode == 1
    assert "engines were lost without a verdict in between" in output
    assert "`capsweep resume` continues the run" in output
    assert "10 open; no session writes" in to_end("status", run)
    witness.conclude()


def test_nodes_are_lost_and_added(tmp_path, tally, times):
    losses = times(2, 0)
    from ray.cluster_utils import Cluster

    found = tally("nodes lost and added")
    spec = write_sweep(tmp_path, texts=150, recipe=SLOW, engines={"snapshot_seconds": 0.5})
    run = tmp_path / "run"
    witness = Witness(run, found)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        process = begin("run", spec, "--run-dir", run, "--address", str(cluster.address))
        wait_until(lambda: num_row_files(run) > 1, process)
        for _ in range(losses):
            nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
            for node in nodes:
                wait_until(engine_on(node), process)
            witness.look()
            cluster.remove_node(nodes[0], allow_graceful=False)
            found.provoked += 1
            before = num_row_files(run)
            wait_until(lambda before=before: num_row_files(run) > before + 5, process)
        output = end(process)
    finally:
        cluster.shutdown()
    assert process.returncode == 0, output
    witness.conclude()
    assert capacities(searches_of(run)) == capacities(undisturbed(spec, tmp_path / "whole"))
    found.notes.append(f"{2 * losses} nodes came and got engines, the same capacities")


def engine_on(node) -> Callable[[], list[int]]:
    """Whether an engine runs on a node of a cluster on this machine."""
    raylet = node.all_processes["raylet"][0].process.pid
    return lambda: descendants(raylet, "ray::EngineActor")
