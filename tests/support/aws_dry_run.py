"""Print the requests that `ray up` would send to AWS.

The stack is made, the file bootstrapped, and each kind of node started against a simulated AWS; its
record is printed. It must run in a process of its own, with AWS_ENDPOINT_URL and a HOME that is
thrown away: Ray writes ssh keys there.
"""

import json
import re
from pathlib import Path
from typing import Any
from unittest.mock import patch

import boto3
import yaml
from botocore.client import BaseClient
from ray.autoscaler._private.providers import _get_node_provider
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.autoscaler.tags import (
    NODE_KIND_HEAD,
    NODE_KIND_WORKER,
    TAG_RAY_NODE_KIND,
    TAG_RAY_NODE_NAME,
    TAG_RAY_USER_NODE_TYPE,
)
from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
from ray.autoscaler.v2.utils import ResourceRequestUtil
from ray.core.generated.autoscaler_pb2 import ResourceRequestByCount

CLUSTER = Path(__file__).parent.parent.parent / "cluster"
REGION = "eu-central-1"
NETWORK = "203.0.113.7/32"
STACK = "second"
"""Differs on purpose from the name in the files' comments."""


def stack() -> dict[str, str]:
    """Make the stack of the template, with an image that this AWS has; return the outputs."""
    image = boto3.client("ec2", REGION).describe_images()["Images"][0]["ImageId"]
    boto3.client("ssm", REGION).put_parameter(
        Name="image", Value=image, Type="String", DataType="aws:ec2:image"
    )
    formation = boto3.client("cloudformation", REGION)
    template = (CLUSTER / "aws" / "stack.yaml").read_text()
    (newest,) = re.findall(r"/aws/service/deeplearning/\S+", template)
    formation.create_stack(
        StackName=STACK,
        TemplateBody=template.replace(newest, "image"),
        Parameters=[
            {"ParameterKey": key, "ParameterValue": value}
            for key, value in (("SshFrom", NETWORK), ("Cluster", "another"))
        ],
        Capabilities=["CAPABILITY_NAMED_IAM"],
    )
    (made,) = formation.describe_stacks(StackName=STACK)["Stacks"]
    assert made["StackStatus"] == "CREATE_COMPLETE", made
    return {output["OutputKey"]: output["OutputValue"] for output in made["Outputs"]}


def filled_in(outputs: dict[str, str]) -> dict[str, Any]:
    """Return the file with the user's values put in."""
    text = (CLUSTER / "cluster.yaml").read_text()
    names = ("SecurityGroup", "Image", "HeadProfile", "WorkerProfile")
    marks = dict(
        zip(
            ("sg-PUT-YOURS-HERE", "ami-PUT-YOURS-HERE", "search-head", "search-worker"),
            (outputs[name] for name in names),
            strict=True,
        )
    )
    for mark, value in {
        **marks,
        "cluster_name: search": f"cluster_name: {outputs['Cluster']}",
    }.items():
        assert text.count(mark) == 1
        text = text.replace(mark, value)
    config: dict[str, Any] = yaml.safe_load(text)
    return config


def bootstrapped(config: dict[str, Any]) -> dict[str, Any]:
    """Bootstrap the file as `ray up` does before it starts a machine."""
    config = prepare_config(config)
    provider = _get_node_provider(config["provider"], config["cluster_name"])
    config = provider.fillout_available_node_types_resources(config)
    validate_config(config)
    done: dict[str, Any] = provider.bootstrap_config(config)
    return done


def scaled(config: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Start and name one node of each kind, and end the workers again.

    This is done as `ray up` and the autoscaler do it.

    Returns the record of AWS while all were up, and the autoscaler's requests.
    """
    provider = _get_node_provider(config["provider"], config["cluster_name"])
    head = config["head_node_type"]
    asked: list[str] = []
    ask = BaseClient._make_api_call

    def heard(client: BaseClient, operation: str, arguments: Any) -> Any:
        asked.append(f"{client.meta.service_model.service_name}:{operation}")
        return ask(client, operation, arguments)

    _start(provider, config, head, NODE_KIND_HEAD)
    with patch.object(BaseClient, "_make_api_call", heard):
        for name in config["available_node_types"]:
            if name != head:
                _start(provider, config, name, NODE_KIND_WORKER)
    found = recorded()
    with patch.object(BaseClient, "_make_api_call", heard):
        provider.terminate_nodes(
            provider.non_terminated_nodes({TAG_RAY_NODE_KIND: NODE_KIND_WORKER})
        )
    return found, sorted(set(asked))


def wanted(config: dict[str, Any], availability: dict[str, float]) -> dict[str, int]:
    """Return the nodes that the autoscaler starts on an empty cluster, by kind.

    There are more trials than there may be nodes.
    """
    known = AutoscalingConfig(config, skip_content_hash=True)
    request = SchedulingRequest(
        disable_launch_config_check=True,
        node_type_configs=known.get_node_type_configs(),
        max_num_nodes=known.get_max_num_worker_nodes(),  # as if the head were there already
        resource_requests=[
            ResourceRequestByCount(request=ResourceRequestUtil.make({"CPU": 1, "GPU": 1}), count=9)
        ],
        recoverable_resource_availabilities=availability,
    )
    launches = ResourceDemandScheduler().schedule(request).to_launch
    return {launch.instance_type: launch.count for launch in launches}


def _start(provider: Any, config: dict[str, Any], name: str, kind: str) -> None:
    tags = {
        TAG_RAY_NODE_KIND: kind,
        TAG_RAY_USER_NODE_TYPE: name,
        TAG_RAY_NODE_NAME: f"ray-search-{name}",
    }
    provider.create_node(config["available_node_types"][name]["node_config"], tags, 1)
    (node,) = provider.non_terminated_nodes({TAG_RAY_USER_NODE_TYPE: name})
    provider.set_node_tags(node, {"ray-node-status": "up-to-date"})
    provider.internal_ip(node)


def recorded() -> dict[str, Any]:
    """Return AWS's record of machines, disks, groups and rights."""
    ec2, iam = boto3.client("ec2", REGION), boto3.client("iam", REGION)
    instances = [
        one for many in ec2.describe_instances()["Reservations"] for one in many["Instances"]
    ]
    return {
        "instances": {
            next(tag["Value"] for tag in one["Tags"] if tag["Key"] == TAG_RAY_USER_NODE_TYPE): one
            for one in instances
        },
        "volumes": ec2.describe_volumes()["Volumes"],
        "groups": {
            one["GroupId"]: one["IpPermissions"]
            for one in ec2.describe_security_groups()["SecurityGroups"]
        },
        "rights": [
            _policy(iam, policy["Arn"], policy["DefaultVersionId"])
            for policy in iam.list_policies(Scope="Local")["Policies"]
        ],
        "profiles": {
            one["InstanceProfileName"]: [role["RoleName"] for role in one["Roles"]]
            for one in iam.list_instance_profiles()["InstanceProfiles"]
        },
    }


def _policy(iam: Any, name: str, version: str) -> dict[str, Any]:
    roles = iam.list_entities_for_policy(PolicyArn=name)["PolicyRoles"]
    document = iam.get_policy_version(PolicyArn=name, VersionId=version)["PolicyVersion"][
        "Document"
    ]
    return {
        "roles": sorted(role["RoleName"] for role in roles),
        "statements": document["Statement"],
    }


def main() -> None:
    outputs = stack()
    config = filled_in(outputs)
    ready = bootstrapped(config)
    found, asked = scaled(ready)
    ready.pop("head_node")  # as on the head
    launches = {
        "spot machines": wanted(ready, {}),
        "no spot machines": wanted(ready, {"spot": 0.0}),
    }
    print(
        json.dumps(
            {"outputs": outputs, "config": ready, "asked": asked, "wanted": launches, **found},
            default=str,
        )
    )


if __name__ == "__main__":
    main()
