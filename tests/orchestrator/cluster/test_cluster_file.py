"""Cluster files: those that ship are good, and a planted mistake of each kind is reported with its place."""

import tempfile
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from orchestrator.cli.app import app
from orchestrator.cluster.cluster_file import check_cluster_file, is_cluster_file

ROOT = Path(__file__).resolve().parents[3]
SHIPPED = ["cluster.yaml", "docs/clusters/on-premise.yaml", "docs/clusters/gcp.yaml"]


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Called from the project's root, by a user who has made a token."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    token = tmp_path / "home" / ".ray" / "auth_token"
    token.parent.mkdir(parents=True)
    token.write_text("a token of nobody")


YOURS = {"your-project": "capsweep-1234", "192.0.2.": "10.0.0."}
"""What a user puts in place of what is marked `yours` in the shipped files."""


def filled(name: str) -> str:
    text = (ROOT / name).read_text()
    for example, own in YOURS.items():
        text = text.replace(example, own)
    return text


def check(path: Path | str) -> Result:
    return CliRunner().invoke(app, ["check", str(path)])


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_files_pass_and_are_shut_to_others(name, tmp_path):
    text, path = filled(name), tmp_path / "filled.yaml"
    path.write_text(text)
    ended = check(path)
    assert ended.exit_code == 0, ended.output
    assert "note: " not in ended.stdout
    assert all(part in text for part in ("--dashboard-host=127.0.0.1", "RAY_AUTH_MODE=token"))
    mounts = set(yaml.safe_load(text)["file_mounts"].values())
    assert {"orchestrator", "tasks", "pyproject.toml", "constraints.txt", "README.md", "LICENSE"} <= mounts


@pytest.mark.parametrize("name", SHIPPED[1:])
def test_what_stands_for_a_name_of_yours_is_not_taken_for_one(name):
    ended = check(name)
    assert ended.exit_code == 2
    lines = ended.stderr.splitlines()
    assert len(lines) == sum(example in part for example in YOURS for part in (ROOT / name).read_text().split())
    assert all(line.endswith(" stands for a name or address of yours. Put yours in its place.") for line in lines)


def test_it_reports_what_a_sweep_may_use(tmp_path):
    checked = check_cluster_file(ROOT / "cluster.yaml")
    counts = {node.name: (node.cpus, node.gpus, node.min_workers, node.max_workers) for node in checked.nodes}
    assert counts == {"head": (2, 0, 0, 0), "gpu_spot": (4, 1, 0, 8), "gpu_on_demand": (4, 1, 0, 4)}
    # 12 workers of both types, of which 10 at a time.
    assert "at most 10 workers at a time, with 10 GPUs" in check("cluster.yaml").stdout
    (tmp_path / "mine.yaml").write_text(filled(SHIPPED[1]).replace("10.0.0.12]", "10.0.0.12, 10.0.0.13]"))
    assert "at most 3 workers at a time, with the GPUs that they have" in check(tmp_path / "mine.yaml").stdout


DOCKER = "head_node_type: head\ndocker: {container_name: ray, image: "
MISTAKES = {
    "a top-level key": ("upscaling_speed", "upscaling_sped", "upscaling_sped: unknown key.", "'upscaling_speed'?"),
    "a key of a node type": ("  min_workers: 0\n    max_workers: 8", "  min_worker: 0", "gpu_spot.min_worker: unknown"),
    "no resources": ("resources: {CPU: 2}", "", "available_node_types.head.resources: missing."),
    "a type": ("max_workers: 8", "max_workers: eight", "gpu_spot.max_workers: found 'eight'; it should be a whole"),
    "the head's type": ("head_node_type: head", "head_node_type: haed", "Ray refuses it: `head_node_type` must be"),
    "too few": (
        "min_workers: 0\n    max_workers: 8",
        "min_workers: 11\n    max_workers: 12",
        "Ray refuses it: The spe",
    ),
    "a provider": ("type: aws", "type: asw", "Ray refuses it: "),
    "a mount": (": sweeps", ": sweps", "file_mounts./home/ubuntu/capsweep/sweeps: 'sweps' does not exist, seen from"),
    "a zone of another region": (
        "region: us-west-2",
        "region: us-east-1",
        "provider.availability_zone: us-west-2a, us-west-2b, us-west-2c, us-",
        "are not in the region us-east-1. Wanted zones of one region",
    ),
    "one such zone": (
        "us-west-2b",
        "us-west-1b",
        "provider.availability_zone: us-west-1b is not in the region us-",
    ),
    "a field of AWS": (
        "InstanceMarketOptions:",
        "InstanceMarketOption:",
        "gpu_spot.node_config.InstanceMarketOption: unknown key. known: ",
        "Did you mean 'InstanceMarketOptions'?",
    ),
    "a field within": ("Ebs: {VolumeSize", "Ebs: {VolumSize", "head.node_config.BlockDeviceMappings.0.Ebs.VolumSize: "),
    "a value of AWS": ("MarketType: spot", "MarketType: sport", "MarketType: found 'sport'. known: ", "mean 'spot'?"),
    "a mapping": (
        "{MarketType: spot}",
        "spot",
        "gpu_spot.node_config.InstanceMarketOptions: found 'spot'; it should be a m",
    ),
    "a list": (
        "{MarketType: spot}",
        "{}\n      SecurityGroupIds: sg",
        "SecurityGroupIds: found 'sg'; it should be a list.",
    ),
    "no type of machine": ("InstanceType: m7i.large", "", "head.node_config.InstanceType: missing."),
    "an old Python": ("python3.12 -m", "python3.10 -m", "setup_commands.2: 'python3.10' is Python 3.10; wanted >=3.11"),
    "another Ray": ('".[s3,aws]"', "ray[default]==2.9.3", "setup_commands.3: 'ray[default]==2.9.3' is Ray 2.9.3; want"),
    "an image": ("head_node_type: head", f"{DOCKER}'rayproject/ray:2.9.3-py311'}}", "docker.image: ", "is Ray 2.9.3;"),
    "an image's Python": ("head_node_type: head", f"{DOCKER}'rayproject/ray:2.60.0-py310-gpu'}}", "is Python 3.10;"),
    "any image": ("head_node_type: head", f"{DOCKER}rayproject/ray}}", "'rayproject/ray' is Ray latest; wanted"),
}


@pytest.mark.parametrize("kind", MISTAKES)
def test_each_mistake_is_reported_with_its_place(tmp_path, kind):
    good, bad, *words = MISTAKES[kind]
    text, path = (ROOT / "cluster.yaml").read_text(), tmp_path / "cluster.yaml"
    assert good in text
    path.write_text(text.replace(good, bad))
    ended = check(path)
    assert (ended.exit_code, ended.stdout) == (2, "")
    lines = ended.stderr.splitlines()
    assert all(line.startswith(f"{path}: ") for line in lines)
    assert any(all(word in line for word in words) for line in lines), lines


def test_a_type_of_machine_that_boto3_does_not_know_is_a_note(tmp_path):
    path = tmp_path / "cluster.yaml"
    path.write_text((ROOT / "cluster.yaml").read_text().replace("InstanceType: m7i.large", "InstanceType: m7i.larg"))
    ended = check(path)
    assert ended.exit_code == 0, ended.output
    (note,) = [line for line in ended.stdout.splitlines() if line.startswith("note: ")]
    assert note.startswith("note: available_node_types.head.node_config.InstanceType: boto3 ")
    assert note.endswith(" here does not know 'm7i.larg'; AWS may. Did you mean 'm7i.large'?")


def test_fields_and_values_of_google_cloud(tmp_path):
    pytest.importorskip("googleapiclient", reason="needs the extra `gcp`")
    path = tmp_path / "cluster.yaml"
    text = filled(SHIPPED[2]).replace("machineType: e2-standard-2", "machine_type: e2-standard-2")
    path.write_text(text.replace("onHostMaintenance: TERMINATE}", "onHostMaintenance: STOP}"))
    places = [line.split(": ")[1].removeprefix("available_node_types.") for line in check(path).stderr.splitlines()]
    assert places == [
        "head.node_config.machine_type",
        "head.node_config.machineType",
        "gpu_spot.node_config.scheduling.onHostMaintenance",
        "gpu_on_demand.node_config.scheduling.onHostMaintenance",
    ]


def test_zones_of_google_cloud_and_local_zones_of_aws(tmp_path):
    path = tmp_path / "cluster.yaml"
    text = filled(SHIPPED[2])
    path.write_text(text.replace("availability_zone: us-central1-a", "availability_zone: us-central2-a"))
    (line,) = check(path).stderr.splitlines()
    assert "provider.availability_zone: us-central2-a is not in the region us-central1." in line
    path.write_text((ROOT / "cluster.yaml").read_text().replace("us-west-2b", "us-west-2-lax-1a"))
    assert check(path).exit_code == 0


def test_all_mistakes_at_once(tmp_path):
    (tmp_path / "home" / ".ray" / "auth_token").unlink()
    text, path = (ROOT / "cluster.yaml").read_text(), tmp_path / "cluster.yaml"
    path.write_text(text.replace("upscaling_speed", "upscaling_sped").replace("python3.12 -m", "python3.9 -m"))
    lines = check(path).stderr.splitlines()
    places = ["upscaling_sped", "setup_commands.2", "file_mounts./home/ubuntu/.ray/auth_token"]
    assert [line.split(": ")[1] for line in lines] == places
    assert lines[-1].endswith("Make it with `ray get-auth-token --generate`.")


def test_a_token_that_others_can_read_goes_to_no_node(monkeypatch):
    # Not below pytest's own folder, which nobody else can enter.
    with tempfile.TemporaryDirectory(dir="/tmp") as home:
        token = Path(home) / ".ray" / "auth_token"
        token.parent.mkdir()
        token.write_text("a token of nobody")
        monkeypatch.setenv("HOME", home)
        for folder in (Path(home), token.parent):
            folder.chmod(0o755)
        token.chmod(0o644)
        (line,) = check("cluster.yaml").stderr.splitlines()
        assert "file_mounts./home/ubuntu/.ray/auth_token: other users can read" in line
        assert f"chmod 600 {token}" in line
        token.chmod(0o600)
        assert check("cluster.yaml").exit_code == 0


@pytest.mark.parametrize(
    "text",
    [
        "provider: aws\n",
        "provider: {type: aws}\ncluster_name: x\navailable_node_types: [1]\n",
        "provider: {type: aws}\ncluster_name: x\navailable_node_types: {a: null, b: {node_config: 3}}\n",
        "cluster_name: 3\n",
        "provider: {type: local}\ncluster_name: x\nfile_mounts: [3]\nsetup_commands: {a: b}\n",
        "provider: {type: local, haed_ip: 192.0.2.1}\ncluster_name: x\n",
    ],
)
def test_whatever_stands_there_ends_in_a_message(tmp_path, text):
    path = tmp_path / "odd.yaml"
    path.write_text(text)
    ended = check(path)
    assert ended.exit_code == 2, ended.output
    assert isinstance(ended.exception, SystemExit), "a traceback"


@pytest.mark.parametrize(("name", "tool"), [("kuberay-cluster", "Kubernetes"), ("skypilot", "SkyPilot")])
def test_a_file_of_another_tool_is_one_line(name, tool):
    ended = check(f"docs/clusters/{name}.yaml")
    assert ended.exit_code == 2
    (line,) = ended.stderr.splitlines()
    assert f"as a file for {tool}, where `" in line


def test_a_sweep_is_no_cluster_file(toy_sweep):
    assert not is_cluster_file(yaml.safe_load(toy_sweep.read_text()))
    assert is_cluster_file({"provider": {}})
