"""What Ray does not see of a cluster file: typing errors in names, GPUs that are not there, counts that contradict.

Pure: takes the parsed file and what is known of EC2. Knows nothing of Ray, disk or network.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.cluster.ec2 import Ec2
from orchestrator.errors import did_you_mean, suggest

GPU_FAMILIES = re.compile(r"(g|gr|p)\d")
"""Families of EC2 with GPUs begin so: g4dn, g6e, gr6, p5, p6-b200. (inf, trn and dl have other accelerators.)"""
RAY_NODE_KEYS = ("SubnetIds",)
"""Keys of node_config that Ray takes for itself; all others go to EC2 as they are."""
MARKET_TYPES = ("spot", "capacity-block")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeType:
    """One line of the table that `capsweep check` prints."""

    name: str
    instance: str
    market: str
    """spot, on demand, or empty where nobody rents."""
    cpus: str
    gpus: str
    min_workers: int
    max_workers: int
    is_head: bool


def is_cluster_file(document: Mapping[Any, Any]) -> bool:
    """Whether this is meant for `ray up` rather than a sweep."""
    return "provider" in document or "cluster_name" in document


def node_problems(document: Mapping[str, Any], ec2: Ec2 | None) -> Iterator[str]:
    """What is wrong with the node types, a line each.

    Args:
        document: The parsed file; what Ray's schema refuses in it may still be there.
        ec2: None where botocore is not installed: names are taken for correct then.
    """
    types = mapping(document.get("available_node_types"))
    head = document.get("head_node_type")
    if types and head is not None and head not in types:
        yield f"head_node_type: {head!r} is not among available_node_types. {suggest(head, map(str, types))}"
    on_aws = mapping(document.get("provider")).get("type") == "aws"
    for name, node in types.items():
        where, node = f"available_node_types.{name}", mapping(node)
        yield from _count_problems(where, node, document)
        if on_aws:
            yield from _launch_problems(where, mapping(node.get("node_config")), ec2)
            yield from _gpu_problems(where, node)


def _count_problems(where: str, node: Mapping[str, Any], document: Mapping[str, Any]) -> Iterator[str]:
    least, most, all_workers = node.get("min_workers", 0), node.get("max_workers"), document.get("max_workers")
    if isinstance(least, int) and isinstance(most, int) and least > most:
        yield f"{where}.min_workers: {least} is more than max_workers, which is {most}. Lower one or raise the other."
    if isinstance(least, int) and isinstance(all_workers, int) and least > all_workers:
        yield f"{where}.min_workers: {least} is more than the max_workers of the whole cluster, which is {all_workers}."


def _launch_problems(where: str, config: Mapping[str, Any], ec2: Ec2 | None) -> Iterator[str]:
    if "LaunchTemplate" not in config and "InstanceType" not in config:
        yield f"{where}.node_config.InstanceType: missing. Wanted an EC2 instance type, such as 'g6.xlarge'."
    market = mapping(config.get("InstanceMarketOptions")).get("MarketType")
    if market is not None and market not in MARKET_TYPES:
        yield f"{where}.node_config.InstanceMarketOptions.MarketType: found {market!r}. {suggest(market, MARKET_TYPES)}"
    if ec2 is None:
        return
    instance = config.get("InstanceType")
    if instance is not None and instance not in ec2.instance_types:
        meant = did_you_mean(instance, sorted(ec2.instance_types))
        yield f"{where}.node_config.InstanceType: {instance!r} is not an EC2 instance type.{meant}"
    known = {*ec2.launch_keys, *RAY_NODE_KEYS}
    for key in config:
        if key not in known:
            yield f"{where}.node_config.{key}: EC2 has no such key to launch with.{did_you_mean(key, sorted(known))}"
    yield from (f"{where}.node_config: {refusal}." for refusal in ec2.refusals(config))


def _gpu_problems(where: str, node: Mapping[str, Any]) -> Iterator[str]:
    instance = mapping(node.get("node_config")).get("InstanceType")
    if not isinstance(instance, str):
        return
    promised = mapping(node.get("resources")).get("GPU", 0)
    if GPU_FAMILIES.match(instance) and not promised:
        yield f"{where}.resources: {instance!r} has GPUs, but none are named. Add GPU: 1, or as many as it has."
    if promised and not GPU_FAMILIES.match(instance):
        yield (
            f"{where}.resources.GPU: {promised!r} promised, but {instance!r} has no GPU: the autoscaler would launch "
            "it for engines that can never start there. Remove GPU, or choose a type of the g or p families."
        )


def node_types(prepared: Mapping[str, Any]) -> list[NodeType]:
    """The lines of the table, of a file to which Ray has added what it takes for granted."""
    provider = prepared["provider"]
    return [
        NodeType(
            name=name,
            instance=str(node["node_config"].get("InstanceType", "-")),
            market=_market(provider, node["node_config"]),
            cpus=str(node["resources"].get("CPU", "as found")),
            gpus=str(node["resources"].get("GPU", "as found" if provider["type"] == "local" else 0)),
            min_workers=node.get("min_workers", 0),
            max_workers=node.get("max_workers", 0),
            is_head=name == prepared["head_node_type"],
        )
        for name, node in prepared["available_node_types"].items()
    ]


def _market(provider: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    if provider["type"] == "local":
        return ""
    return mapping(config.get("InstanceMarketOptions")).get("MarketType", "on demand")


def mapping(value: Any) -> Mapping[str, Any]:
    """The value if it is a mapping, else an empty one: Ray's schema reports what is none."""
    return value if isinstance(value, Mapping) else {}
