"""The cluster on AWS: the shipped files ask for nothing unsafe, and Ray accepts them.

A simulated AWS (moto) records the requests.
"""

import json
import os
import re
import subprocess
import sys
import time
import tomllib
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from cluster.preflight import lint
from tests.support.ports import free_port

ROOT = Path(__file__).parent.parent.parent
FILE, STACK, PINS = (
    ROOT / "cluster" / "cluster.yaml",
    ROOT / "cluster" / "aws" / "stack.yaml",
    ROOT / "cluster" / "requirements.txt",
)
VALUES = {
    "sg-PUT-YOURS-HERE": "sg-0123456789abcdef0",
    "ami-PUT-YOURS-HERE": "ami-0123456789abcdef0",
}
NETWORK = "203.0.113.7/32"


def filled_in() -> str:
    text = FILE.read_text()
    for mark, value in VALUES.items():
        text = text.replace(mark, value)
    return text


def pins() -> dict[str, str]:
    lines = [line for line in PINS.read_text().splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
    return dict(line.split("==") for line in lines)


def test_the_file_is_safe_once_the_users_values_are_in_it() -> None:
    assert lint.problems(yaml.safe_load(filled_in())) == []


def test_a_value_that_is_not_put_in_yet_is_named_once() -> None:
    said = lint.problems(yaml.safe_load(FILE.read_text()))
    assert len(said) == len(VALUES)
    for line, mark in zip(said, VALUES, strict=True):
        assert line.startswith(
            f"head, spot, on_demand: {'ImageId ' if 'ami' in mark else ''}'{mark}' is not the id "
            "of "
        )
        assert "Enter the stack's" in line


TOKENS = "asks_for_tokens: &asks_for_tokens {HttpTokens: required, "
MISTAKES = [
    (
        "[*security_group]",
        "[]",
        "SecurityGroupIds is missing, so Ray would create a group that opens ssh to the whole ",
    ),
    (
        "  cache_stopped_nodes: false",
        "  security_group: {IpPermissions: [{IpRanges: [{CidrIp: 0.0.0.0/0}]}]}",
        "the whole internet (0.0.0.0/0)",
    ),
    (
        "  cache_stopped_nodes: false",
        "  security_group: {IpPermissions: [{IpRanges: [{CidrIpv6: '::/0'}]}]}",
        "the whole internet (::/0)",
    ),
    (
        "  cache_stopped_nodes: false",
        "  security_group: {IpPermissions: [{FromPort: 8265, IpRanges: [{CidrIp: 192.0.2.0/24}]}]}",
        "more than ssh (port 8265)",
    ),
    (
        "cache_stopped_nodes: false",
        "cache_stopped_nodes: true",
        "provider.cache_stopped_nodes is not false",
    ),
    (
        TOKENS,
        "asks_for_tokens: &asks_for_tokens {HttpTokens: optional, ",
        "head, spot, on_demand: IMDSv2 is not required",
    ),
    ("      MetadataOptions: *asks_for_tokens\n", "", "IMDSv2 is not required"),
    (
        "      IamInstanceProfile: {Name: *head_profile}\n",
        "",
        "head: IamInstanceProfile is missing, so Ray would give the head full rights",
    ),
    ("search-worker", "search-head", "spot: the workers have the head's instance profile"),
    ("Encrypted: true, ", "", "a disk is not encrypted"),
    ("resources: {CPU: 0}", "resources: {}", "head: trials would run on the head"),
    ("ami-0123456789abcdef0", "latest_dlami", "ImageId 'latest_dlami' is not the id of an image"),
    (
        "RAY_AUTH_MODE=token RAY_USAGE",
        "RAY_USAGE",
        "worker_start_ray_commands starts Ray without a token",
    ),
    (
        "chmod 600 ~/.ray/auth_token && ",
        "",
        "head_start_ray_commands leaves the token readable by every user",
    ),
    (
        "  ~/.ray/auth_token: ~/.ray/auth_token\n",
        "",
        "file_mounts does not copy a token to the nodes",
    ),
    (
        "--dashboard-host=127.0.0.1",
        "--dashboard-host=0.0.0.0",
        "head_start_ray_commands opens the dashboard on 0.0.0.0",
    ),
    ("--dashboard-host=127.0.0.1", "--dashboard-host '::'", "opens the dashboard on ::"),
    ("uv==0.13.9", "uv", "setup_commands installs the latest version of 'uv'"),
    (
        "head_setup_commands: []",
        "head_setup_commands: [pip install ray==2.59.0 ray==2.60.0]",
        "different versions of Ray (2.59.0, 2.60.0)",
    ),
    (
        "head_setup_commands: []",
        "docker: {image: rayproject/ray:latest-gpu}",
        "docker.image 'rayproject/ray:latest-gpu' is not pinned to a version",
    ),
    (
        "setup_commands:\n  - python3",
        "initialization_commands:\n  - python3",
        "setup_commands is missing, so Ray's default commands would install its nightly build",
    ),
    (
        "head_start_ray_commands:",
        "initialization_commands:",
        "head_start_ray_commands does not start Ray",
    ),
    (
        "auth: {",
        (
            "docker: {run_options: ['-e "
            "AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY']}\nauth: {"
        ),
        "docker.run_options contains a secret",
    ),
    (
        "auth: {",
        "docker: {run_options: ['AKIAIOSFODNN7EXAMPLE']}\nauth: {",
        "contains an AWS access key",
    ),
    (
        "auth: {",
        "docker: {run_options: ['-e URI=https://me:hunter22@mlflow']}\nauth: {",
        "contains a password in an address",
    ),
    (
        "  region: *region\n",
        "  region: *region\n  aws_credentials: {aws_access_key_id: x}\n",
        "provider.aws_credentials contains credentials",
    ),
]


@pytest.mark.parametrize(("right", "wrong", "words"), MISTAKES)
def test_a_planted_mistake_is_named(right: str, wrong: str, words: str) -> None:
    text = filled_in()
    assert right in text
    said = lint.problems(yaml.safe_load(text.replace(right, wrong)))
    assert any(words in line for line in said), said
    assert all("wJalr" not in line and "hunter22" not in line for line in said)


@pytest.mark.parametrize("wrong", [None, [], "text", 7, {"any": None}, [None]])
@pytest.mark.parametrize("name", [*yaml.safe_load(FILE.read_text()), "docker"])
def test_a_file_of_another_shape_is_looked_at_all_the_same(name: str, wrong: object) -> None:
    """Each key and each node type is broken here; the shapes are for Ray's schema to check."""
    config = yaml.safe_load(filled_in())
    assert all(isinstance(line, str) for line in lint.problems(config | {name: wrong}))
    if name == "available_node_types":
        for inner in config[name]:
            assert lint.problems(config | {name: config[name] | {inner: wrong}})


FIXED = """
cluster_name: fixed
provider: {type: local, head_ip: 192.0.2.1, worker_ips: [192.0.2.2]}
auth: {ssh_user: ubuntu}
file_mounts: {~/.ray/auth_token: ~/.ray/auth_token}
setup_commands: [chmod 600 ~/.ray/auth_token, pip install --requirement pins.txt 'ray==2.60.0']
head_start_ray_commands: [export RAY_AUTH_MODE=token; ray start --head --disable-usage-stats]
worker_start_ray_commands: [export RAY_AUTH_MODE=token; ray start --address=$RAY_HEAD_IP:6379]
"""


def test_fixed_hosts_are_held_to_what_concerns_them() -> None:
    """Ray's dashboard is on 127.0.0.1 by default; the rules for AWS do not apply."""
    assert lint.problems(yaml.safe_load(FIXED)) == []
    head, worker = lint.problems(
        yaml.safe_load(FIXED.replace("chmod 600", "ls")) | {"head_start_ray_commands": ["ray stop"]}
    )
    assert head.startswith("head_start_ray_commands does not start Ray")
    assert worker.startswith("worker_start_ray_commands leaves the token readable")


def test_usage_reports_of_ray_are_named_unless_either_switch_turns_them_off() -> None:
    one = filled_in().replace("--disable-usage-stats ", "")
    assert lint.problems(yaml.safe_load(one)) == []
    (said,) = lint.problems(
        yaml.safe_load(one.replace("RAY_USAGE_STATS_ENABLED=0", "RAY_USAGE_STATS_ENABLED=1"))
    )
    assert said.startswith(
        "head_start_ray_commands lets Ray send usage statistics to its developers."
    )


def test_a_spot_machine_as_head_is_named() -> None:
    config = yaml.safe_load(filled_in())
    config["available_node_types"]["head"]["node_config"]["InstanceMarketOptions"] = {
        "MarketType": "spot"
    }
    assert [line.partition(". ")[0] for line in lint.problems(config)] == [
        "head: the head is a spot instance"
    ]


def test_every_node_gets_what_the_project_needs_in_one_version_each() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = pins()
    for wanted in map(Requirement, project["dependencies"]):
        assert wanted.specifier.contains(pinned[wanted.name]), wanted
    text = FILE.read_text()
    assert f"ray=={pinned['ray']}" not in text  # said in one place
    python = re.search(r"--python (3\.\d+)", text)
    assert python is not None
    assert Requirement(f"python{project['requires-python']}").specifier.contains(python[1])


STAND_IN = """#!/bin/bash
said=~/said."$(basename "$0")"."$1"
{ echo "$(basename "$0") $*"; env; } > "$said.new" && mv "$said.new" "$said"
if [ "$2" = cluster.spot ]; then while [ ! -e ~/end ]; do sleep 0.1; done; touch ~/ended; fi
[ "$(basename "$0")" = cloud-init ] && echo eu-central-1 || true
"""
"""Replaces a program: it records its arguments and its environment. In place of the watch for spot
notices it stays until it is stopped.
"""


@pytest.fixture
def node(tmp_path: Path) -> Path:
    """Make a node's home with stand-ins for programs.

    The shell and the command that starts the watch are real.
    """
    for name in (
        "venv/bin/ray",
        "venv/bin/python",
        ".local/bin/uv",
        "bin/cloud-init",
        "bin/python3",
    ):
        program = tmp_path / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(STAND_IN)
        program.chmod(0o700)
    (tmp_path / ".bashrc").write_text('export PATH="$HOME/bin:$PATH"\n')
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("token")
    (tmp_path / ".ray" / "auth_token").chmod(0o644)
    (tmp_path / "search/cluster").mkdir(parents=True)
    (tmp_path / "search/cluster/requirements.txt").write_text("ray==2.60.0\n")
    return tmp_path


def run_as_ray_does(command: str, home: Path) -> None:
    """Run a command as Ray's launcher wraps it, without the terminal."""
    wrapped = (
        "source ~/.bashrc; export OMP_NUM_THREADS=1 PYTHONWARNINGS=ignore && (export "
        f"RAY_HEAD_IP=192.0.2.1; {command})"
    )
    subprocess.run(
        ["bash", "--login", "-c", wrapped],
        env={"HOME": str(home), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )


def said(home: Path, name: str) -> tuple[str, dict[str, str]]:
    words, *environment = (home / f"said.{name}").read_text().splitlines()
    return words, dict(line.split("=", 1) for line in environment if "=" in line)


def wait_for(file: Path) -> None:
    end = time.monotonic() + 300
    while not file.exists():
        assert time.monotonic() < end, file
        time.sleep(0.05)


@pytest.mark.parametrize("who", ["head", "worker"])
def test_the_shell_makes_of_the_start_commands_what_is_meant(who: str, node: Path) -> None:
    """Ray starts with the token, on all processors, in the region.

    The watch goes on by itself when the command is over.
    """
    for command in yaml.safe_load(filled_in())[f"{who}_start_ray_commands"]:
        run_as_ray_does(command, node)
    words, environment = said(node, "ray.start")
    assert ("--head" in words, "--address=192.0.2.1:6379" in words) == (
        who == "head",
        who == "worker",
    )
    assert (
        environment["RAY_AUTH_MODE"],
        environment["RAY_USAGE_STATS_ENABLED"],
        environment["AWS_DEFAULT_REGION"],
    ) == ("token", "0", "eu-central-1")
    assert "OMP_NUM_THREADS" not in environment
    assert (node / ".ray" / "auth_token").stat().st_mode & 0o777 == 0o600
    if who == "worker":
        wait_for(node / "said.python.-m")
        with pytest.raises(
            subprocess.CalledProcessError
        ):  # a second watch sees the first, and leaves
            run_as_ray_does(command.removesuffix("&"), node)
        words, environment = said(node, "python.-m")
        assert words == "python -m cluster.spot --address=192.0.2.1:6379"
        assert (environment["PWD"], environment["RAY_AUTH_MODE"]) == (str(node / "search"), "token")
        (node / "end").touch()
        wait_for(node / "ended")


def test_the_shell_makes_of_the_setup_commands_what_is_meant(node: Path) -> None:
    set_up(node)
    assert said(node, "python3.-m")[0] == "python3 -m pip install --user --quiet uv==0.13.9"
    assert said(node, "uv.venv")[0] == f"uv venv --quiet --clear --python 3.11 {node}/venv"
    assert said(node, "uv.pip")[0] == (
        f"uv pip install --quiet --python {node}/venv/bin/python -r "
        f"{node}/search/cluster/requirements.txt"
    )
    (node / "said.uv.pip").unlink()
    set_up(node)  # a node that is there already is set up again by the next ray up
    assert not (node / "said.uv.pip").exists()
    assert (node / ".bashrc").read_text().count("venv/bin") == 1


def set_up(node: Path) -> None:
    for command in yaml.safe_load(filled_in())["setup_commands"]:
        run_as_ray_does(command, node)


def test_an_environment_that_was_broken_off_is_made_anew(node: Path) -> None:
    installer = node / ".local/bin/uv"
    installer.write_text(STAND_IN.replace("echo eu-central-1 || true", 'true; [ "$1" != pip ]'))
    with pytest.raises(subprocess.CalledProcessError):
        set_up(node)
    installer.write_text(STAND_IN)
    (node / "said.uv.venv").unlink()
    set_up(node)
    assert said(node, "uv.venv")[0].startswith("uv venv --quiet --clear ")
    (node / "search/cluster/requirements.txt").write_text("ray==9.9.9\n")
    (node / "said.uv.pip").unlink()
    set_up(node)
    assert said(node, "uv.pip")


class Plain(yaml.SafeLoader):
    """A YAML loader that reads CloudFormation's own tags as plain values."""


Plain.add_multi_constructor(
    "!",
    lambda loader, tag, node: (
        f"{tag} {node.value}"
        if isinstance(node, yaml.ScalarNode)
        else f"{tag} {[each.value for each in node.value]}"
    ),
)


def test_the_stack_opens_ssh_to_one_network_and_closes_the_bucket() -> None:
    text = STACK.read_text()
    assert not [
        found for found in yaml.scan(text) if isinstance(found, yaml.AnchorToken | yaml.AliasToken)
    ], "CloudFormation takes none"
    assert not any(network in text for network in lint.EVERYWHERE)
    stack = yaml.load(text, Plain)  # noqa: S506 - a SafeLoader, and our own file
    allowed = re.compile(stack["Parameters"]["SshFrom"]["AllowedPattern"])
    assert allowed.fullmatch(NETWORK)
    assert not any(
        allowed.fullmatch(network)
        for network in (
            "0.0.0.0/0",
            "0.0.0.0/1",
            "10.0.0.0/7",
            "203.0.113.7",
            "::/0",
            "203.0.113.7/33",
        )
    )
    bucket = stack["Resources"]["Bucket"]
    assert bucket["DeletionPolicy"] == "Retain"
    assert set(bucket["Properties"]["PublicAccessBlockConfiguration"].values()) == {True}
    assert bucket["Properties"]["BucketEncryption"]
    assert stack["Parameters"]["KeepDeletedDays"]["Default"] == 0, (
        "every replaced checkpoint would be paid for"
    )
    assert bucket["Properties"]["VersioningConfiguration"] == {
        "Status": "If ['KeepsDeleted', 'Enabled', 'Suspended']"
    }
    (statement,) = stack["Resources"]["TlsOnly"]["Properties"]["PolicyDocument"]["Statement"]
    assert (statement["Effect"], statement["Condition"]) == (
        "Deny",
        {"Bool": {"aws:SecureTransport": "false"}},
    )


@pytest.fixture(scope="module")
def dry_run(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the record of the stack and of one node of each kind.

    It is made by tests/support/aws_dry_run.py.
    """
    home = tmp_path_factory.mktemp("home")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    plain = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    own = {
        "HOME": str(home),
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_DEFAULT_REGION": "eu-central-1",
    }
    with (home / "moto.log").open("w") as log:
        words = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        server = subprocess.Popen(words, stdout=log, stderr=log, env=plain | {"HOME": str(home)})
    try:
        end = time.monotonic() + 600
        while True:
            try:
                urllib.request.urlopen(f"{url}/moto-api/", timeout=5).close()
                break
            except OSError:
                assert time.monotonic() < end, (home / "moto.log").read_text()
                assert server.poll() is None, (home / "moto.log").read_text()
                time.sleep(0.1)
        words = [sys.executable, "-m", "tests.support.aws_dry_run"]
        done = subprocess.run(
            words,
            cwd=ROOT,
            env=plain | own,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found
    finally:
        server.kill()
        server.wait()


@pytest.mark.slow
def test_each_kind_of_node_is_asked_for_as_the_file_says(dry_run: dict[str, Any]) -> None:
    machines, group = dry_run["instances"], dry_run["outputs"]["SecurityGroup"]
    assert {
        name: (one["InstanceType"], one.get("InstanceLifecycle")) for name, one in machines.items()
    } == {
        "head": ("m6i.xlarge", None),
        "spot": ("g5.xlarge", "spot"),
        "on_demand": ("g5.xlarge", None),
    }
    for name, one in machines.items():
        assert one["IamInstanceProfile"]["Arn"].endswith(
            ":instance-profile/" + ("second-head" if name == "head" else "second-worker")
        )
        assert [each["GroupId"] for each in one["SecurityGroups"]] == [group]
        assert one["ImageId"] == dry_run["outputs"]["Image"]
        assert (
            one["MetadataOptions"]["HttpTokens"],
            one["MetadataOptions"]["HttpPutResponseHopLimit"],
        ) == ("required", 1)
        assert {"Key": "ray-cluster-name", "Value": "another"} in one["Tags"]
    assert len(dry_run["volumes"]) == len(machines)
    assert all(volume["Encrypted"] for volume in dry_run["volumes"])
    resources = {
        name: kind["resources"] for name, kind in dry_run["config"]["available_node_types"].items()
    }
    assert resources["head"]["CPU"] == 0
    assert "GPU" not in resources["head"]
    assert resources["spot"] == resources["on_demand"]
    assert (resources["spot"]["CPU"], resources["spot"]["GPU"]) == (4, 1)


@pytest.mark.slow
def test_waiting_trials_get_all_that_there_may_be_at_once_spot_machines_first(
    dry_run: dict[str, Any],
) -> None:
    """If AWS has no spot machine to give, others are taken; Ray asks for spot ones again later."""
    assert dry_run["wanted"] == {"spot machines": {"spot": 4}, "no spot machines": {"on_demand": 4}}


@pytest.mark.slow
def test_the_group_lets_in_ssh_from_the_one_network_and_the_nodes_themselves(
    dry_run: dict[str, Any],
) -> None:
    """Ray made no other group, and added nothing to this one."""
    group = dry_run["outputs"]["SecurityGroup"]
    rules = dry_run["groups"].pop(group)
    assert not any(dry_run["groups"].values())
    assert lint.open_doors(rules, group) == []
    ssh, inside = sorted(rules, key=lambda rule: str(rule["IpProtocol"]), reverse=True)
    assert (
        ssh["FromPort"],
        ssh["ToPort"],
        [each["CidrIp"] for each in ssh["IpRanges"]],
        ssh["UserIdGroupPairs"],
    ) == (22, 22, [NETWORK], [])
    assert (
        inside["IpProtocol"],
        inside["IpRanges"],
        [each["GroupId"] for each in inside["UserIdGroupPairs"]],
    ) == ("-1", [], [group])


def listed(actions: str | list[str]) -> list[str]:
    return [actions] if isinstance(actions, str) else actions


@pytest.mark.slow
def test_the_roles_may_do_what_is_needed_and_nothing_else(dry_run: dict[str, Any]) -> None:
    """The head may do everything that the autoscaler asked of AWS.

    Workers have the one folder in the bucket.
    """
    assert dry_run["profiles"] == {
        "second-head": ["second-head"],
        "second-worker": ["second-worker"],
    }
    may: dict[str, list[dict[str, Any]]] = {"second-head": [], "second-worker": []}
    for policy in dry_run["rights"]:
        for role in policy["roles"]:
            may[role] += policy["statements"]
    actions = {
        role: {action for each in statements for action in listed(each["Action"])}
        for role, statements in may.items()
    }
    assert not any("*" in action for allowed in actions.values() for action in allowed)
    assert set(dry_run["asked"]) == {
        "ec2:RunInstances",
        "ec2:CreateTags",
        "ec2:DescribeInstances",
        "ec2:TerminateInstances",
    }
    assert actions["second-head"] - actions["second-worker"] == {
        *dry_run["asked"],
        "iam:PassRole",
        "iam:CreateServiceLinkedRole",
    }
    assert {action.split(":")[0] for action in actions["second-worker"]} == {"s3"}
    bucket, folder = dry_run["outputs"]["Storage"].removeprefix("s3://").split("/")
    assert {each["Resource"] for each in may["second-worker"]} == {
        f"arn:aws:s3:::{bucket}",
        f"arn:aws:s3:::{bucket}/{folder}/*",
    }
    assert [each["Action"] for each in may["second-head"] if each["Resource"] == "*"] == [
        "ec2:DescribeInstances"
    ]
    (passing,) = [each for each in may["second-head"] if each["Action"] == "iam:PassRole"]
    assert passing["Resource"].endswith(":role/second-worker")
