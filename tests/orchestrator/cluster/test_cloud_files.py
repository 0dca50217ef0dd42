"""Files for clouds and Kubernetes, against the schemas of the tools that read them, where those can be had."""

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
CLUSTERS = ROOT / "docs" / "clusters"
KUBERAY = ["kuberay-cluster.yaml", "kuberay-job.yaml"]


def documents(name: str) -> list[Any]:
    return list(yaml.safe_load_all((CLUSTERS / name).read_text()))


def ray_cluster(name: str) -> Any:
    spec = documents(name)[-1]["spec"]
    return spec.get("rayClusterSpec", spec)


class TestSkyPilot:
    def test_its_own_reader_takes_the_task_and_falls_back_to_on_demand(self):
        if (sky := shutil.which("sky")) is None:
            pytest.skip("needs the command `sky` on PATH (pip install skypilot, in an environment of its own)")
        code = (
            "import json, sys, sky; task = sky.Task.from_yaml(sys.argv[1]); resources = task.resources;"
            "print(json.dumps([type(resources).__name__, [each.use_spot for each in resources], task.num_nodes]))"
        )
        python = Path(sky).resolve().parent / "python"
        environment = {**os.environ, "SKYPILOT_DISABLE_USAGE_COLLECTION": "1"}
        ended = subprocess.run(
            [python, "-c", code, CLUSTERS / "skypilot.yaml"],
            cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr
        assert json.loads(ended.stdout.splitlines()[-1]) == ["list", [True, False], 1]

    def test_it_runs_a_sweep_that_is_there_into_a_run_that_a_next_machine_resumes(self):
        (task,) = documents("skypilot.yaml")
        assert (ROOT / task["envs"]["SWEEP"]).is_file()
        assert 'capsweep run "$SWEEP" --run-dir "$RUN"' in task["run"]
        assert "--constraint constraints.txt" in task["setup"]


@pytest.mark.parametrize("name", KUBERAY)
class TestKubeRay:
    def test_it_asks_for_this_ray_one_image_and_a_token(self, name):
        cluster = ray_cluster(name)
        assert cluster["rayVersion"] == version("ray")
        assert cluster["authOptions"] == {"mode": "token"}
        groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
        images = {box["image"] for group in groups for box in group["template"]["spec"]["containers"]}
        assert images == {f"YOUR-REGISTRY/capsweep:{version('capsweep')}"}

    def test_its_pods_are_those_of_kubernetes(self, name):
        client = pytest.importorskip("kubernetes.client", reason="needs the package kubernetes")
        cluster = ray_cluster(name)
        for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]:
            assert list(unknown_fields(group["template"], "V1PodTemplateSpec", client)) == []
        misspelt = {"spec": {"containers": [{"name": "a", "imagee": "b"}]}}
        assert list(unknown_fields(misspelt, "V1PodTemplateSpec", client)) == ["imagee"]

    def test_kuberays_own_schema(self, name):
        """The folder holds ray.io_rayclusters.yaml and ray.io_rayjobs.yaml, as KubeRay's Helm chart has them."""
        if (folder := os.environ.get("CAPSWEEP_KUBERAY_CRDS")) is None:
            pytest.skip("needs KubeRay's CRDs: set CAPSWEEP_KUBERAY_CRDS to their folder")
        found = documents(name)[-1]
        crd = yaml.safe_load(Path(folder, f"ray.io_{found['kind'].lower()}s.yaml").read_text())
        schema = next(each for each in crd["spec"]["versions"] if each["name"] == "v1")["schema"]["openAPIV3Schema"]
        jsonschema.validate(found, closed(schema))


def unknown_fields(value: Any, kind: str, client: Any) -> Iterator[str]:
    """Fields of a Kubernetes object that its Python client does not know."""
    if listed := re.fullmatch(r"[Ll]ist\[(.+)\]", kind):
        for each in value:
            yield from unknown_fields(each, listed[1], client)
    elif isinstance(value, Mapping) and (model := getattr(client, kind, None)) is not None:
        fields = {theirs: model.openapi_types[ours] for ours, theirs in model.attribute_map.items()}
        for key, part in value.items():
            if key in fields:
                yield from unknown_fields(part, fields[key], client)
            else:
                yield key


def closed(schema: Any) -> Any:
    """The schema with fields refused that it does not name: Kubernetes would drop them without a word."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, Mapping):
        return schema
    inner = {key: closed(part) for key, part in schema.items()}
    return {**inner, "additionalProperties": False} if isinstance(schema.get("properties"), Mapping) else inner


def test_the_sweep_of_the_kubernetes_job_is_one_and_its_run_is_named(tmp_path):
    from orchestrator.spec.sweep_file import load_sweep

    config, job = documents("kuberay-job.yaml")
    (tmp_path / "sweep.yaml").write_text(config["data"]["sweep.yaml"])
    assert load_sweep(tmp_path / "sweep.yaml").name == "mine"
    command, verb, path, *options = shlex.split(job["spec"]["entrypoint"])
    (mount,) = ray_cluster("kuberay-job.yaml")["headGroupSpec"]["template"]["spec"]["containers"][0]["volumeMounts"]
    assert (command, verb, path) == ("capsweep", "run", f"{mount['mountPath']}/sweep.yaml")
    assert options[:2] == ["--address", "auto"]
    assert options[2] == "--run-dir"


class TestDockerfile:
    text = (CLUSTERS / "Dockerfile").read_text()

    def test_it_copies_what_is_there_and_nothing_else_is_sent(self):
        (user,) = re.findall(r"^USER (\w+)$", self.text, re.M)
        lines = re.findall(r"^COPY (.+) \S+$", self.text, re.M)
        owners = {line.split()[0] for line in lines}
        assert owners == {f"--chown={user}:users"}, "a file that only its owner can read stays readable"
        copied = {name for line in lines for name in line.split()[1:]}
        assert {"orchestrator", "tasks", "pyproject.toml", "constraints.txt", "README.md", "LICENSE"} <= copied
        assert all((ROOT / name).exists() for name in copied)
        rules = (CLUSTERS / "Dockerfile.dockerignore").read_text().splitlines()
        assert {rule[1:] for rule in rules if rule.startswith("!")} == copied

    def test_it_installs_what_the_constraints_say_for_extras_that_are_there(self):
        import tomllib

        (extras,) = re.findall(r'pip install --constraint constraints.txt --editable "\.\[(.+)\]"', self.text)
        known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        assert set(extras.split(",")) <= set(known)
        (python,) = re.findall(r"^FROM python:3\.(\d+)-", self.text, re.M)
        assert int(python) >= 11
