"""The dashboard for Grafana asks for what a run exports, in the form that Grafana reads."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.util.metrics import Metric

from orchestrator.cluster.metrics import EngineMetrics, RunMetrics

MONITORING = Path(__file__).parents[3] / "monitoring"
DASHBOARD: dict[str, Any] = json.loads((MONITORING / "grafana.json").read_text())
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
RAYS_PREFIX = "ray_"


@pytest.fixture(scope="module")
def exported() -> dict[str, set[str]]:
    """Name of each metric, as a Prometheus reads it, -> its labels."""
    sets = EngineMetrics(run="r", model="m", engine="e"), RunMetrics(run="r")
    metrics = [value for each in sets for value in vars(each).values() if isinstance(value, Metric)]
    return {RAYS_PREFIX + metric.info["name"]: set(metric.info["tag_keys"]) for metric in metrics}


def test_every_metric_is_asked_for_and_none_besides(exported):
    assert set(re.findall(r"ray_\w+", " ".join(QUERIES))) == exported.keys()


def test_every_label_is_one_of_its_metric(exported):
    for query in QUERIES:
        asked = set(re.findall(r"by \((\w+)\)", query)) | set(re.findall(r"(\w+)=~", query))
        for name in re.findall(r"ray_\w+", query):
            assert asked <= exported[name], query
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= set(
                re.findall(r"by \((\w+)\)", target["expr"])
            )


def test_what_only_rises_is_asked_for_as_a_rate():
    for query in QUERIES:
        for name in re.findall(r"ray_\w+_total", query):
            assert f"rate({name}{{" in query


def test_panels_do_not_overlap():
    places = [tuple(panel["gridPos"].values()) for panel in DASHBOARD["panels"]]
    cells = [(x + i, y + j) for h, w, x, y in places for i in range(w) for j in range(h)]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


def test_grafanas_own_model_knows_every_field():
    models = pytest.importorskip("grafana_foundation_sdk.models.dashboard")
    plugins = pytest.importorskip("grafana_foundation_sdk.cog.plugins")
    encoder = pytest.importorskip("grafana_foundation_sdk.cog.encoder")
    plugins.register_default_plugins()
    read_back = json.loads(encoder.JSONEncoder().encode(models.Dashboard.from_json(DASHBOARD)))
    assert_within(DASHBOARD, read_back, "dashboard")


def assert_within(part: Any, whole: Any, where: str) -> None:
    """Every field of `part` is in `whole`, which may have more."""
    if isinstance(part, dict):
        assert part.keys() <= whole.keys(), where
        for key, value in part.items():
            assert_within(value, whole[key], f"{where}.{key}")
    elif isinstance(part, list):
        assert len(part) == len(whole), where
        for number, (one, other) in enumerate(zip(part, whole, strict=True)):
            assert_within(one, other, f"{where}[{number}]")
    else:
        assert part == whole, where


def test_prometheus_finds_the_nodes_where_ray_writes_them():
    from ray._private.ray_constants import PROMETHEUS_SERVICE_DISCOVERY_FILE

    (job,) = yaml.safe_load((MONITORING / "prometheus.yml").read_text())["scrape_configs"]
    assert job["file_sd_configs"] == [{"files": [f"/tmp/ray/{PROMETHEUS_SERVICE_DISCOVERY_FILE}"]}]
