"""Check whether an AWS account can run the machines that a cluster's file describes.

The instance types, the vCPU quotas and the parts of the stack are checked. The address of a running
head is looked up too.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from cluster.preflight import lint
from cluster.preflight.findings import MISTAKE
from cluster.preflight.probe import ERROR, OK, UNCHECKED, Line

QUOTAS = {
    ("standard", False): "L-1216C47A",
    ("standard", True): "L-34B43A08",
    ("G and VT", False): "L-DB2E81BA",
    ("G and VT", True): "L-3819A6DF",
    ("P", False): "L-417A185B",
    ("P", True): "L-7212CCBC",
}
"""EC2's codes for the quotas of running vCPUs. A key is (family of instance types, True for spot
machines).

In a new account the quotas of the GPU families (G and VT, P) are 0.
"""

FAMILIES = {"g": "G and VT", "vt": "G and VT", "p": "P", **dict.fromkeys("acdhimrtz", "standard")}
"""The family in `QUOTAS`, by the letters before the first digit of an instance type's name."""


@dataclass(frozen=True)
class Account:
    """The findings about an account, and the public address of a running head (empty if none)."""

    lines: list[Line] = field(default_factory=list)
    head: str = ""


def collect(config: Mapping[str, Any]) -> Account:
    """Check the file against AWS.

    If AWS refuses a request or the file lacks an entry, a line states what was not checked. No
    exception is raised.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return _ask_aws(config)
    except (BotoCoreError, ClientError) as error:
        return Account([_unchecked("the AWS account, its quotas and a running head", error)])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        return Account(
            [
                _unchecked(
                    "the AWS account, its quotas and a running head",
                    f"an entry of the file is missing or malformed: {error}",
                )
            ]
        )


def _ask_aws(config: Mapping[str, Any]) -> Account:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import ClientError

    options = Config(
        region_name=config["provider"].get("region"),
        connect_timeout=5,
        read_timeout=20,
        retries={"total_max_attempts": 2},
    )
    who = boto3.client("sts", config=options).get_caller_identity()
    lines: list[Line] = [(OK, f"AWS accepts the credentials of {who['Arn']}", "")]
    ec2 = boto3.client("ec2", config=options)
    head = ""
    try:
        head = running_head(ec2, str(config["cluster_name"]))
        sizes = vcpus(ec2, config)
    except ClientError as error:
        if error.response["Error"]["Code"] == "InvalidInstanceType":
            remedy = f"Use instance types that {config['provider'].get('region')} offers."
            return Account(
                [
                    *lines,
                    (
                        MISTAKE,
                        f"available_node_types: {error.response['Error']['Message'].rstrip('.')}",
                        remedy,
                    ),
                ],
                head,
            )
        return Account(
            [*lines, _unchecked("the instance types, quotas and a running head", error)], head
        )
    lines += check_stack_parts(config, ec2, boto3.client("iam", config=options))
    quotas = boto3.client("service-quotas", config=options)
    for (family, is_spot), machine_vcpus in demand(config, sizes).items():
        code = QUOTAS[family, is_spot]
        try:
            allowed = quotas.get_service_quota(ServiceCode="ec2", QuotaCode=code)["Quota"]["Value"]
        except ClientError as error:
            lines.append(_unchecked(f"the quota for {quota_name(family, is_spot)} ({code})", error))
            continue
        lines.append(judge(family, is_spot, allowed, machine_vcpus))
    return Account(lines, head)


def _unchecked(what: str, error: object) -> Line:
    return UNCHECKED, f"{what} ({str(error).rstrip('.')})", ""


def check_stack_parts(config: Mapping[str, Any], ec2: Any, iam: Any) -> Iterator[Line]:
    """Check the instance profiles, security groups and images that the file names.

    They are created by `cluster/aws/stack.yaml`. Each of them must exist. A security group may only
    allow ssh, and not from everywhere.

    Args:
        config: the cluster's file.
        ec2: boto3's client for EC2.
        iam: boto3's client for IAM.
    """
    nodes = [kind["node_config"] for kind in config["available_node_types"].values()]
    profiles = {str((node.get("IamInstanceProfile") or {}).get("Name") or "") for node in nodes}
    groups = {str(group) for node in nodes for group in node.get("SecurityGroupIds") or ()}
    images = {str(node.get("ImageId") or "") for node in nodes}
    parts = {
        "instance profile": (
            profiles,
            "HeadProfile and WorkerProfile, whose names begin with the stack's name,",
            lambda name: iam.get_instance_profile(InstanceProfileName=name),
        ),
        "security group": (
            groups,
            "SecurityGroup",
            lambda name: ec2.describe_security_groups(GroupIds=[name])["SecurityGroups"],
        ),
        "image": (images, "Image", lambda name: ec2.describe_images(ImageIds=[name])["Images"]),
    }
    for what, (names, output, ask) in parts.items():
        for name in sorted(names - {""}):
            yield from _check_part(what, name, output, ask)


def _check_part(what: str, name: str, output: str, ask: Callable[[str], Any]) -> Iterator[Line]:
    from botocore.exceptions import ClientError

    try:
        entries = ask(name)
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code.endswith("Malformed"):  # a placeholder that nobody replaced; `lint` reports it
            return
        if code != "NoSuchEntity" and not code.endswith("NotFound"):
            yield _unchecked(f"the {what} '{name}'", error)
            return
        entries = None
    if not entries:
        remedy = f"Create the stack (cluster/aws/stack.yaml), and enter its {output} in the file."
        yield ERROR, f"there is no {what} '{name}' in this account and region", remedy
        return
    open_doors = (
        lint.open_doors(entries[0]["IpPermissions"], f"security group {name}")
        if what == "security group"
        else []
    )
    yield from ((ERROR, *door.rstrip(".").split(". ", 1)) for door in open_doors)  # type: ignore[misc]
    if not open_doors:
        yield OK, f"the {what} '{name}' exists", ""


def running_head(ec2: Any, name: str) -> str:
    """Look up the public address of the cluster's running head; empty if there is none."""
    filters = {
        "tag:ray-cluster-name": [name],
        "tag:ray-node-type": ["head"],
        "instance-state-name": ["running"],
    }
    answer = ec2.describe_instances(
        Filters=[{"Name": key, "Values": values} for key, values in filters.items()]
    )
    addresses = [
        instance.get("PublicIpAddress")
        for group in answer["Reservations"]
        for instance in group["Instances"]
    ]
    return next(filter(None, addresses), "")


def vcpus(ec2: Any, config: Mapping[str, Any]) -> dict[str, int]:
    """Look up the number of vCPUs of each instance type in the file.

    EC2 refuses the whole request if it does not know one of the types.
    """
    names = sorted(
        {kind["node_config"]["InstanceType"] for kind in config["available_node_types"].values()}
    )
    return {
        kind["InstanceType"]: kind["VCpuInfo"]["DefaultVCpus"]
        for kind in ec2.describe_instance_types(InstanceTypes=names)["InstanceTypes"]
    }


def demand(
    config: Mapping[str, Any], sizes: Mapping[str, int]
) -> dict[tuple[str, bool], list[int]]:
    """List the vCPUs of each machine that the file may start, by quota.

    Instance types of a family without an entry in `QUOTAS` are left out.

    Args:
        config: the cluster's file.
        sizes: the number of vCPUs, by instance type.

    Returns:
        For each key of `QUOTAS` that applies, one number per machine.
    """
    vcpus_by_quota: dict[tuple[str, bool], list[int]] = {}
    for name, kind in config["available_node_types"].items():
        instance = kind["node_config"]["InstanceType"]
        family = FAMILIES.get(str(re.match("[a-z]*", instance)[0]))  # type: ignore[index]
        if family is None:
            continue
        is_spot = kind["node_config"].get("InstanceMarketOptions", {}).get("MarketType") == "spot"
        count = (
            1
            if name == config.get("head_node_type")
            else int(kind.get("max_workers", config.get("max_workers", 2)))
        )
        vcpus_by_quota.setdefault((family, is_spot), []).extend([sizes[instance]] * count)
    return {quota: sizes for quota, sizes in vcpus_by_quota.items() if sizes}


def quota_name(family: str, is_spot: bool) -> str:
    """Describe a quota, such as "spot P instances"."""
    return f"{'spot' if is_spot else 'on-demand'} {family} instances"


def judge(family: str, is_spot: bool, allowed: float, machine_vcpus: list[int]) -> Line:
    """Judge whether a quota is enough for all, some or none of the machines of the file.

    Machines that are already running are not subtracted from the quota.

    Args:
        family: the family in `QUOTAS`.
        is_spot: True if the quota is for spot machines.
        allowed: the quota in vCPUs.
        machine_vcpus: the vCPUs of each machine; at least one.
    """
    name = quota_name(family, is_spot)
    if allowed < min(machine_vcpus):
        remedy = f"Request an increase under Service Quotas, EC2, {QUOTAS[family, is_spot]}."
        return (
            ERROR,
            (
                f"the quota for {name} is {allowed:g} vCPUs, but one machine has "
                f"{min(machine_vcpus)}, so none would start"
            ),
            remedy,
        )
    if allowed < sum(machine_vcpus):
        return (
            OK,
            (
                f"the quota for {name} is {allowed:g} vCPUs, enough for "
                f"{math.floor(allowed / max(machine_vcpus))} of the {len(machine_vcpus)} machines "
                "at once"
            ),
            "",
        )
    return (
        OK,
        f"the quota for {name} is {allowed:g} vCPUs, and the file's machines have "
        f"{sum(machine_vcpus)}",
        "",
    )
