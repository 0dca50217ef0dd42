"""The role of the head on AWS allows every call that Ray's autoscaler makes, and no action that none of them needs."""

import copy
import json
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
POLICY = ROOT / "docs" / "clusters" / "aws-head-policy.json"


def actions(service: str) -> set[str]:
    statements = json.loads(POLICY.read_text())["Statement"]
    listed = (each["Action"] if isinstance(each["Action"], list) else [each["Action"]] for each in statements)
    return {action.partition(":")[2] for action in chain(*listed) if action.startswith(f"{service}:")}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The names of the calls to a simulated EC2, in order."""
    moto = pytest.importorskip("moto")
    import botocore.client

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "nobody")
    made: list[str] = []
    original = botocore.client.BaseClient._make_api_call

    def record(self: Any, name: str, arguments: Any) -> Any:
        made.append(name)
        return original(self, name, arguments)

    with moto.mock_aws():
        monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", record)
        yield made


@pytest.mark.slow
def test_the_autoscaler_launches_sees_tags_and_ends_workers_with_it(calls: list[str]):
    import boto3
    from ray.autoscaler._private.aws.node_provider import AWSNodeProvider

    cluster = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    ec2 = boto3.client("ec2", cluster["provider"]["region"])
    subnet = ec2.describe_subnets()["Subnets"][0]["SubnetId"]
    image = ec2.describe_images()["Images"][0]["ImageId"]
    provider = AWSNodeProvider(cluster["provider"], cluster["cluster_name"])
    worker = copy.deepcopy(cluster["available_node_types"]["gpu_spot"]["node_config"])
    calls.clear()
    # What `ray up` fills in: it needs more rights, on the machine where it runs.
    provider.create_node({**worker, "ImageId": image, "SubnetIds": [subnet]}, {"ray-node-name": "worker"}, 1)
    (node,) = provider.non_terminated_nodes({})
    provider.set_node_tags(node, {"ray-node-status": "up-to-date"})
    provider.node_tags(node)
    provider.internal_ip(node)
    provider.terminate_node(node)
    assert set(calls) == actions("ec2")


def test_the_head_has_it_and_it_names_this_cluster():
    cluster = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    assert cluster["available_node_types"]["head"]["node_config"]["IamInstanceProfile"] == {"Name": "capsweep-head"}
    named = [
        part for each in json.loads(POLICY.read_text())["Statement"] for part in each.get("Condition", {}).values()
    ]
    clusters = {value for part in named for key, value in part.items() if key.endswith("/ray-cluster-name")}
    assert clusters == {cluster["cluster_name"]}
