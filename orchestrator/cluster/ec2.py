"""What EC2 takes, according to botocore's own description of it: read from its files, without network or account."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Ec2:
    """What can be launched, and how that is asked for."""

    instance_types: frozenset[str]
    """Every name, such as g6.xlarge."""
    launch_keys: frozenset[str]
    """Keys of a request to launch, which are those of node_config."""
    request: Any
    """botocore's shape of such a request."""

    def refusals(self, config: Mapping[str, Any]) -> list[str]:
        """What botocore would refuse of a node_config before it asked EC2, a line each."""
        from botocore.validate import ParamValidator

        known = {key: value for key, value in config.items() if key in self.launch_keys}
        report = ParamValidator().validate({**known, "MinCount": 1, "MaxCount": 1}, self.request)
        return [line for line in report.generate_report().split("\n") if line]


@cache
def read_ec2() -> Ec2 | None:
    """None where botocore is not installed."""
    try:
        from botocore.loaders import Loader
        from botocore.model import ServiceModel
    except ImportError:
        return None
    request = ServiceModel(Loader().load_service_model("ec2", "service-2"), "ec2").shape_for("RunInstancesRequest")
    members: Any = getattr(request, "members")  # noqa: B009 - of structures only, which botocore's types do not state
    return Ec2(instance_types=frozenset(members["InstanceType"].enum), launch_keys=frozenset(members), request=request)
