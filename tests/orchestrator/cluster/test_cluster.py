"""What is of Ray alone; what every executor owes is in tests/orchestrator/test_executors.py."""

import contextlib
import json
import re
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from prometheus_client.parser import text_string_to_metric_families

import orchestrator
from orchestrator.cluster.executor import RayExecutor
from orchestrator.cluster.probe_trial import name_of
from orchestrator.execution.executor import Watcher
from orchestrator.execution.stop import Stop
from orchestrator.planning.plan import Plan
from orchestrator.planning.planner import make_plan
from orchestrator.runs.session import Session, open_session
from orchestrator.spec.sweep_file import load_sweep

MONITORING = Path(__file__).parents[3] / "monitoring"

pytestmark = pytest.mark.xdist_group("ray")


def run_plan(plan: Plan, run: Path, executor: Callable[[Session], Any]) -> list[dict[str, Any]]:
    with open_session(plan, str(run)) as session:
        executor(session)
        session.finish()
    table = orchestrator.read(str(run)).searches.drop_columns(["seconds"])
    return sorted(table.to_pylist(), key=lambda row: row["search_id"])


def on_ray(session: Session, *, stop: Stop) -> None:
    RayExecutor(None).run(session, stop=stop, watcher=Watcher())


def to_the_end(session: Session) -> None:
    on_ray(session, stop=Stop())


def named_actors() -> list[Any]:
    """Names of the actors that live; one that is killed keeps its name for a moment."""
    deadline = time.monotonic() + 60
    while (names := ray.util.list_named_actors()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return names


@pytest.fixture
def later() -> Iterator[Callable[[Callable[[], None]], None]]:
    """Runs something beside the test."""
    threads: list[threading.Thread] = []

    def begin(what: Callable[[], None]) -> None:
        threads.append(threading.Thread(target=what, daemon=True))
        threads[-1].start()

    yield begin
    for thread in threads:
        thread.join(timeout=60)


@pytest.mark.slow
def test_a_trial_of_one_probe_is_one_optimization_task(local_ray, toy_sweep, tmp_path):
    few = toy_sweep.read_text().replace("path: texts/", "path: texts/, samples: 3")
    toy_sweep.write_text(few + "engines: {probes_per_trial: 1}\nsearch: {retries: 1}\n")
    rows = run_plan(make_plan(load_sweep(toy_sweep)), tmp_path / "ray", to_the_end)
    assert [row["status"] for row in rows] == ["measured"] * 3
    assert not named_actors()


def test_a_trial_is_called_by_what_it_does():
    config = {"number": 12, "model": "EleutherAI/pythia-160m", "lengths": [180, 220, 200]}
    assert name_of(config) == "trial 12 · pythia-160m · 3 probes of 180-220 tokens"
    assert name_of({**config, "lengths": [8]}) == "trial 12 · pythia-160m · 1 probe of 8 tokens"


@pytest.mark.slow
def test_what_a_run_exports_can_be_scraped(local_ray, toy_sweep, tmp_path, later):
    # A name of its own: what other runs of this Ray have exported is still there.
    text = toy_sweep.read_text().replace("name: toy", "name: scraped")
    toy_sweep.write_text(text + "recipe: {step_seconds: 0.1, slots: 4, steps: 40}\n")
    seen: dict[str, dict[str, float]] = {}
    dashboard = (MONITORING / "grafana.json").read_text()
    asked_for = {name.removesuffix("_total") for name in re.findall(r"ray_(capsweep_\w+)", dashboard)}
    later(lambda: seen.update(scraped_until(sorted(asked_for))))
    stop = Stop()
    later(lambda: stop_when(stop, lambda: bool(seen)))
    run_plan(make_plan(load_sweep(toy_sweep)), tmp_path / "ray", lambda session: on_ray(session, stop=stop))
    assert asked_for <= seen.keys()
    assert seen["capsweep_searches"].keys() == {"done", "in_flight", "waiting"}
    assert sum(seen["capsweep_searches"].values()) == 12
    assert seen["capsweep_slots"] == {"": 4.0}
    assert 0 < seen["capsweep_slots_busy"][""] <= 4
    assert seen["capsweep_engine_restarts"] == {"": 0.0}


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("prometheus") is None, reason="needs Prometheus (apt-get install prometheus)")
def test_a_prometheus_answers_what_every_panel_of_the_dashboard_asks(local_ray, toy_sweep, tmp_path, later):
    toy_sweep.write_text(toy_sweep.read_text() + "recipe: {step_seconds: 0.1, slots: 4, steps: 40}\n")
    panels = json.loads((MONITORING / "grafana.json").read_text())["panels"]
    asked = {target["expr"] for panel in panels for target in panel["targets"]}
    filled = {query.replace("$run", "toy").replace("$__rate_interval", "20s") for query in asked}
    answered: set[str] = set()
    stop = Stop()

    def ask() -> None:
        with prometheus(tmp_path) as address:
            deadline = time.monotonic() + 90
            while filled - answered and time.monotonic() < deadline:
                time.sleep(0.5)
                answered.update(query for query in filled - answered if values(address, query))
        stop.interrupt()

    later(ask)
    run_plan(make_plan(load_sweep(toy_sweep)), tmp_path / "ray", lambda session: on_ray(session, stop=stop))
    assert not filled - answered


@contextlib.contextmanager
def prometheus(folder: Path) -> Iterator[str]:
    """A Prometheus with the shipped configuration, but for where this Ray's nodes are and how often it scrapes them."""
    node = ray.nodes()[0]
    nodes = folder / "nodes.json"
    nodes.write_text(json.dumps([{"targets": [f"127.0.0.1:{node['MetricsExportPort']}"]}]))
    shipped = (MONITORING / "prometheus.yml").read_text()
    config = folder / "prometheus.yml"
    config.write_text(shipped.replace("/tmp/ray/prom_metrics_service_discovery.json", str(nodes)).replace("10s", "1s"))
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    options = [f"--config.file={config}", f"--storage.tsdb.path={folder / 'tsdb'}", f"--web.listen-address={address}"]
    with subprocess.Popen(["prometheus", *options], stderr=subprocess.DEVNULL) as process:
        try:
            yield f"http://{address}"
        finally:
            process.terminate()


def values(address: str, query: str) -> list[Any]:
    """What Prometheus answers to a query: nothing while it starts, or has nothing."""
    with contextlib.suppress(urllib.error.URLError, ConnectionError):
        url = f"{address}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
        with urllib.request.urlopen(url, timeout=10) as reply:
            return json.load(reply)["data"]["result"]
    return []


def scraped_until(names: list[str], seconds: float = 90) -> dict[str, dict[str, float]]:
    """Our metrics as a Prometheus reads them, by name and by outcome or state, once all of these are there."""
    deadline = time.monotonic() + seconds
    found: dict[str, dict[str, float]] = {}
    while not set(names) <= found.keys() and time.monotonic() < deadline:
        time.sleep(0.5)
        port = ray.nodes()[0]["MetricsExportPort"]
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as reply:
            for family in text_string_to_metric_families(reply.read().decode()):
                ours = [sample for sample in family.samples if sample.labels.get("run") == "scraped"]
                if ours:
                    found[family.name.removeprefix("ray_")] = {
                        sample.labels.get("outcome", sample.labels.get("state", "")): sample.value for sample in ours
                    }
    return found


def stop_when(stop: Stop, when: Callable[[], bool]) -> None:
    while not when() and not stop:
        time.sleep(0.1)
    stop.interrupt()
