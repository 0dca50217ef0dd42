"""Cluster files: those that ship are good, and a planted mistake of each kind is reported with its place."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from orchestrator.cli.app import app
from orchestrator.cluster.cluster_checks import is_cluster_file
from orchestrator.cluster.cluster_file import check_cluster_file
from orchestrator.cluster.cluster_versions import read_constraints, version_problems
from orchestrator.cluster.ec2 import read_ec2
from orchestrator.errors import BadInput

ROOT = Path(__file__).resolve().parents[3]
SHIPPED = ["cluster.yaml", "docs/clusters/on-premise.yaml"]


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Called from the project's root, by a user who has made a token."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    token = tmp_path / "home" / ".ray" / "auth_token"
    token.parent.mkdir(parents=True)
    token.write_text("a token of nobody")


def check(path: Path | str) -> Result:
    return CliRunner().invoke(app, ["check", str(path)])


@pytest.fixture
def planted(tmp_path: Path) -> Callable[[str, str, str], Path]:
    """A shipped file in which one text stands in another's place."""

    def write(shipped: str, good: str, bad: str) -> Path:
        text = (ROOT / shipped).read_text()
        assert good in text
        path = tmp_path / "cluster.yaml"
        path.write_text(text.replace(good, bad))
        return path

    return write


class TestShippedFiles:
    @pytest.mark.parametrize("name", SHIPPED)
    def test_pass_what_ray_asks_for_and_what_we_do(self, name):
        from ray.autoscaler._private.util import prepare_config, validate_config

        validate_config(prepare_config(yaml.safe_load((ROOT / name).read_text())))
        ended = check(name)
        assert ended.exit_code == 0, ended.output

    def test_the_aws_workers_come_from_zero_and_go_when_idle(self):
        nodes = {node.name: node for node in check_cluster_file(ROOT / "cluster.yaml").nodes}
        assert nodes["head"].is_head
        assert (nodes["head"].gpus, nodes["head"].max_workers) == ("0", 0)
        assert {node.market for node in nodes.values() if not node.is_head} == {"spot", "on demand"}
        assert all(node.min_workers == 0 for node in nodes.values())

    def test_spot_comes_first_as_the_comment_states(self):
        """Ray's own choice between the two; the names' order in the alphabet makes it."""
        from functools import partial

        from ray.autoscaler._private.node_provider_availability_tracker import NodeAvailabilitySummary
        from ray.autoscaler._private.resource_demand_scheduler import _default_utilization_scorer, get_nodes_for

        types = yaml.safe_load((ROOT / "cluster.yaml").read_text())["available_node_types"]
        score: Any = partial(_default_utilization_scorer, node_availability_summary=NodeAvailabilitySummary({}))
        engines: list[Any] = [{"GPU": 1, "CPU": 1}] * 10
        chosen, left = get_nodes_for(types, {}, "head", 10, engines, score)
        assert (dict(chosen), left) == ({"gpu_spot": 8, "gpu_on_demand": 2}, [])

    @pytest.mark.parametrize("name", SHIPPED)
    def test_are_shut_to_others(self, name):
        text = (ROOT / name).read_text()
        assert "--dashboard-host=127.0.0.1" in text
        assert "RAY_AUTH_MODE=token" in text
        assert "RAY_USAGE_STATS_ENABLED=0" in text

    def test_mount_all_that_the_install_needs(self):
        mounts = yaml.safe_load((ROOT / "cluster.yaml").read_text())["file_mounts"].values()
        project = yaml.safe_load((ROOT / "docs/clusters/on-premise.yaml").read_text())["file_mounts"].values()
        assert set(mounts) == set(project)
        assert {"orchestrator", "tasks", "pyproject.toml", "constraints.txt", "README.md", "LICENSE"} <= set(mounts)


MISTAKES = {
    "an instance type": (
        "g6.xlarge",
        "g6.xlrage",
        "available_node_types.gpu_spot.node_config.InstanceType: 'g6.xlrage' is not an EC2 instance type. "
        "Did you mean 'g6.xlarge'?",
    ),
    "a top-level key": ("idle_timeout_minutes", "idle_timeout_minute", "Did you mean 'idle_timeout_minutes'?"),
    "no idle timeout": ("idle_timeout_minutes: 10", "", "idle_timeout_minutes: missing."),
    "a key of a node type": (
        "min_workers: 0\n    max_workers: 8",
        "min_worker: 0\n    max_workers: 8",
        "available_node_types.gpu_spot.min_worker: unknown key. known: node_config, min_workers,",
    ),
    "a key of node_config": (
        "InstanceMarketOptions",
        "InstanceMarketOption",
        "gpu_spot.node_config.InstanceMarketOption: EC2 has no such key to launch with. "
        "Did you mean 'InstanceMarketOptions'?",
    ),
    "a key below it": (
        "VolumeSize: 150",
        "VolumeSzie: 150",
        'gpu_spot.node_config: Unknown parameter in BlockDeviceMappings[0].Ebs: "VolumeSzie", must be one of: ',
    ),
    "a market": ("MarketType: spot", "MarketType: spto", "MarketType: found 'spto'. known: spot, capacity-block."),
    "a type": (
        "max_workers: 8",
        "max_workers: eight",
        "gpu_spot.max_workers: found 'eight'; it should be a whole",
    ),
    "a GPU that is not named": ("CPU: 4, GPU: 1", "CPU: 4", "gpu_spot.resources: 'g6.xlarge' has GPUs, but none are"),
    "a GPU that is not there": (
        "InstanceType: g6.xlarge",
        "InstanceType: m7i.xlarge",
        "gpu_spot.resources.GPU: 1 promised, but 'm7i.xlarge' has no GPU",
    ),
    "the head's type": (
        "head_node_type: head",
        "head_node_type: haed",
        "head_node_type: 'haed' is not among available_node_types. known: head, gpu_spot, gpu_on_demand. "
        "Did you mean 'head'?",
    ),
    "least above most": (
        "min_workers: 0\n    max_workers: 8",
        "min_workers: 9\n    max_workers: 8",
        "gpu_spot.min_workers: 9 is more than max_workers, which is 8.",
    ),
    "least above all": (
        "min_workers: 0\n    max_workers: 8",
        "min_workers: 11\n    max_workers: 12",
        "gpu_spot.min_workers: 11 is more than the max_workers of the whole cluster, which is 10.",
    ),
    "an old Python": ("python3.12 -m venv", "python3.10 -m venv", "'python3.10' is Python 3.10; capsweep needs 3.11"),
    "no constraints": (
        "--constraint constraints.txt ",
        "",
        "setup_commands.3: 'pip install --quiet --editable \".[s3,aws]\"' installs whatever is newest.",
    ),
    "another Ray": (
        '".[s3,aws]"',
        '".[s3,aws]" ray[default]==2.59.0',
        "setup_commands.3: installs ray 2.59.0, constraints.txt has 2.60.0.",
    ),
    "another torch": (
        '".[s3,aws]"',
        '".[s3,aws]" torch==2.9.1',
        "setup_commands.3: installs torch 2.9.1, constraints.txt has 2.13.0.",
    ),
    "another image": (
        "head_node_type: head",
        "head_node_type: head\ndocker: {image: 'rayproject/ray:2.59.0-py311-gpu', container_name: ray}",
        "docker.image: 'rayproject/ray:2.59.0-py311-gpu' has ray 2.59.0, constraints.txt has 2.60.0. "
        "Did you mean 'rayproject/ray:2.60.0-py311-gpu'?",
    ),
    "an image with an old Python": (
        "head_node_type: head",
        "head_node_type: head\ndocker: {image: 'rayproject/ray:2.60.0-py310-gpu', container_name: ray}",
        "docker.image: 'rayproject/ray:2.60.0-py310-gpu' is Python 3.10",
    ),
    "a mount": (": sweeps", ": sweps", "file_mounts./home/ubuntu/capsweep/sweeps: 'sweps' does not exist, seen from"),
    "a provider": ("type: aws", "type: asw", "Ray refuses it: "),
}


class TestMistakes:
    @pytest.mark.parametrize("kind", MISTAKES)
    def test_each_is_reported_with_its_place(self, planted, kind):
        good, bad, message = MISTAKES[kind]
        path = planted("cluster.yaml", good, bad)
        ended = check(path)
        assert (ended.exit_code, ended.stdout) == (2, "")
        lines = ended.stderr.splitlines()
        assert all(line.startswith(f"{path}: ") for line in lines)
        assert any(message in line for line in lines), lines

    def test_all_at_once(self, planted):
        path = planted("cluster.yaml", "g6.xlarge", "g6.xlrage")
        path.write_text(path.read_text().replace("upscaling_speed", "upscaling_sped").replace(": sweeps", ": sweps"))
        with pytest.raises(BadInput) as refused:
            check_cluster_file(path)
        assert [line.split(": ")[1] for line in refused.value.problems] == [
            "upscaling_sped",
            "available_node_types.gpu_spot.node_config.InstanceType",
            "available_node_types.gpu_on_demand.node_config.InstanceType",
            "file_mounts./home/ubuntu/capsweep/sweeps",
        ]

    def test_without_a_token_the_message_explains_how_to_make_one(self, tmp_path):
        (tmp_path / "home" / ".ray" / "auth_token").unlink()
        ended = check("cluster.yaml")
        assert ended.exit_code == 2
        assert "Make it with `ray get-auth-token`, option --generate." in ended.stderr

    @pytest.mark.parametrize(
        ("good", "bad", "message"),
        [
            ("head_ip:", "haed_ip:", "provider.head_ip: missing."),
            ("min_workers: 2", "min_workers: 2\navailable_node_types: {}", "machines of your own have no types"),
        ],
    )
    def test_on_premise(self, planted, good, bad, message):
        assert message in check(planted(SHIPPED[1], good, bad)).stderr

    @pytest.mark.parametrize(
        "text",
        [
            "provider: aws\n",
            "provider: {type: aws}\ncluster_name: x\navailable_node_types: [1]\n",
            "provider: {type: aws}\ncluster_name: x\navailable_node_types: {a: null, b: {node_config: 3}}\n",
            "cluster_name: 3\n",
            "provider: {type: local}\ncluster_name: x\nfile_mounts: [3]\nsetup_commands: {a: b}\n",
        ],
    )
    def test_whatever_stands_there_ends_in_a_message(self, tmp_path, text):
        path = tmp_path / "odd.yaml"
        path.write_text(text)
        ended = check(path)
        assert ended.exit_code == 2, ended.output
        assert isinstance(ended.exception, SystemExit), "a traceback"


class TestNotes:
    def test_without_botocore_names_are_not_checked_and_a_note_states_it(self, monkeypatch):
        read_ec2.cache_clear()
        monkeypatch.setitem(sys.modules, "botocore.loaders", None)
        notes = check_cluster_file(ROOT / "cluster.yaml").notes
        read_ec2.cache_clear()
        assert any("names of EC2 were not checked" in note for note in notes)

    def test_what_it_costs_idle(self):
        assert "idle, it costs the head (m7i.large) and 0 workers" in check_cluster_file(ROOT / "cluster.yaml").notes[0]

    def test_a_cluster_that_is_open_to_others(self, planted):
        path = planted("cluster.yaml", "RAY_AUTH_MODE=token", "")
        path.write_text(path.read_text().replace("dashboard-host=127.0.0.1", "dashboard-host=0.0.0.0"))
        notes = " ".join(check_cluster_file(path).notes)
        assert "runs code on the cluster" in notes
        assert "listens on every address" in notes


@pytest.mark.parametrize(
    "command",
    [
        "pip install -c constraints.txt -e .",
        "python -m pip install --constraint=constraints.txt ray==2.60.0",
        "pip install --upgrade pip setuptools",
        "pip install -U pip && pip install -c constraints.txt capsweep; echo done",
        "echo pip",
    ],
)
def test_commands_that_install_what_they_should(command):
    assert not list(version_problems({"setup_commands": [command]}, {"ray": "2.60.0"}))


def test_constraints_are_read_as_pip_compares_names():
    assert read_constraints("# a comment==1\nHuggingFace_Hub==2.4.0\nray[default]==2.60.0  # why\n") == {
        "huggingface-hub": "2.4.0",
        "ray": "2.60.0",
    }


def test_a_sweep_is_no_cluster_file(toy_sweep):
    assert not is_cluster_file(yaml.safe_load(toy_sweep.read_text()))
    assert is_cluster_file({"provider": {}})
