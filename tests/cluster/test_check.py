"""The preflight against real hosts (sshd), a real bucket (SeaweedFS) and a real MLflow server.

Each planted mistake is named in one line.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path
from threading import Thread
from typing import Any

import boto3
import pytest
import yaml
from moto.server import ThreadedMotoServer

from cluster import check, definition
from cluster.preflight import account, findings, lint, probe, remote, schema
from cluster.preflight.findings import Finding
from cluster.preflight.remote import HostLogin, Visit
from cluster.storage.bucket import Bucket
from tests.support.ports import free_ports
from tests.support.programs import path_of
from tests.support.services import S3, mlflow_server, running, seaweedfs
from tests.support.sshd import free_address, make_key, needs_sshd, ssh_host
from tests.support.stand_in import FAULTS, stand_in

ROOT = Path(__file__).parents[2]
FAKETIME = path_of("libfaketime.so.1")
USER = {
    "name": "user",
    "credentials": [{"accessKey": "AKUSER", "secretKey": "not-a-secret"}],
    "actions": ["Read", "List", "Write:bucket", "Tagging:bucket"],
}


@dataclass(frozen=True, kw_only=True)
class Place:
    """The environment of a check: hosts, services, and the home of the user who checks."""

    folder: Path
    head: str
    worker: str
    other_ray: str
    late: str
    key: Path
    bucket: S3
    tracking: str
    ports: list[int] = field(default_factory=lambda: free_ports(2))

    def config(self) -> dict[str, Any]:
        """Return a file for fixed hosts without a mistake."""
        start = "export RAY_AUTH_MODE=token; chmod 600 ~/.ray/auth_token; ray start"
        head = (
            f"{start} --head --port={self.ports[0]} --dashboard-port={self.ports[1]} "
            "--dashboard-host=127.0.0.1 --disable-usage-stats"
        )
        return {
            "cluster_name": "check",
            "provider": {"type": "local", "head_ip": self.head, "worker_ips": [self.worker]},
            "auth": {"ssh_user": "root", "ssh_private_key": str(self.key)},
            "file_mounts": {"~/.ray/auth_token": "~/.ray/auth_token"},
            "head_start_ray_commands": ["ray stop", head],
            "worker_start_ray_commands": [
                "ray stop",
                f"{start} --address=$RAY_HEAD_IP:{self.ports[0]}",
            ],
        }

    def check(
        self,
        config: Mapping[str, Any],
        *,
        storage: str = "",
        tracking: str = "",
        home: str = "home",
    ) -> "subprocess.CompletedProcess[str]":
        """Run the command as a user does."""
        file = self.folder / "cluster.yaml"
        file.write_text(yaml.safe_dump(dict(config)))
        words = [
            "-m",
            "cluster.check",
            file,
            "--storage",
            storage or f"s3://{self.bucket.bucket}/searches",
            "--tracking",
            tracking or self.tracking,
        ]
        words += [
            word
            for name, value in self.bucket.place.items()
            for word in ("--env", f"{name}={value}")
        ]
        environment = {**os.environ, "HOME": str(self.folder / home), "PYTHONPATH": str(ROOT)}
        return subprocess.run(
            [sys.executable, *map(str, words)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )


def credentials(home: Path) -> None:
    """Write the keys of a user who may write to one bucket only."""
    (home / ".aws").mkdir(parents=True, exist_ok=True)
    (home / ".aws/credentials").write_text(
        "[default]\naws_access_key_id = AKUSER\naws_secret_access_key = not-a-secret\n"
    )


def other_ray(folder: Path) -> Path:
    """Make a package folder that says that another Ray is installed."""
    about = folder / "ray-9.9.9.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: ray\nVersion: 9.9.9\n")
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Iterator[Place]:
    needs_sshd()
    folder = tmp_path_factory.mktemp("check")
    shutil.copy(empty_database, folder)
    key = make_key(folder / "id")
    bashrc = f"echo Welcome to this host\nexport PATH={Path(sys.executable).parent}:$PATH\n"
    late = (
        {"LD_PRELOAD": str(FAKETIME), "FAKETIME": "+60", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        if FAKETIME is not None
        else {}
    )
    with ExitStack() as services:
        enter = services.enter_context
        bucket = enter(seaweedfs(folder, others=[USER]))
        boto3.client(
            "s3",
            endpoint_url=bucket.endpoint,
            aws_access_key_id=bucket.key,
            aws_secret_access_key=bucket.secret,
            region_name="us-east-1",
        ).create_bucket(Bucket="readonly")
        place = Place(
            folder=folder,
            key=key,
            bucket=bucket,
            tracking=enter(
                mlflow_server(folder, f"sqlite:///{folder}/mlflow.db", str(folder / "artifacts"))
            ),
            head=enter(ssh_host(folder / "head", key, bashrc=bashrc)),
            worker=enter(ssh_host(folder / "worker", key, bashrc=bashrc)),
            other_ray=enter(
                ssh_host(
                    folder / "other",
                    key,
                    bashrc=f"{bashrc}export PYTHONPATH={other_ray(folder / 'packages')}\n",
                )
            ),
            late=enter(ssh_host(folder / "late", key, bashrc=bashrc, environment=late)),
        )
        for name in ("home", "tokenless", "head", "worker", "other", "late"):
            credentials(folder / name)
        (folder / "home/.ray").mkdir()
        (folder / "home/.ray/auth_token").write_text("0123456789abcdef")
        (folder / "home/.ray/auth_token").chmod(0o600)
        yield place


def one_error(done: "subprocess.CompletedProcess[str]", code: int) -> str:
    """Return the only complaint, after checking the exit code."""
    errors = done.stderr.splitlines()
    assert len(errors) == 1, done.stderr + done.stdout
    assert done.returncode == code, done.stdout
    return errors[0].removeprefix("error: ")


@pytest.mark.slow
def test_where_all_is_well_nothing_is_complained_of(place: Place) -> None:
    done = place.check(place.config())
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    everywhere = f"here, {place.head}, {place.worker}"
    for line in (
        "ok: ray up accepts the file.",
        "ok: the file contains no unsafe setting.",
        f"ok: {place.head}, {place.worker}: the login by ssh works.",
        f"ok: {place.head}, {place.worker}: the clock is within 5 s of this machine's.",
        (
            f"ok: {everywhere}: bucket 'bucket' is readable and writable, and supports "
            "deletions and conditional writes."
        ),
        f"ok: {everywhere}: MLflow responds at {place.tracking}.",
        "ok: here: only its owner can read Ray's token ~/.ray/auth_token.",
        "not checked: whether the cluster requires its token (the cluster is not running).",
    ):
        assert line in done.stdout.splitlines()
    assert f"ok: {place.head}, {place.worker}: Python {sys.version.split()[0]}.\n" in done.stdout


@pytest.mark.slow
def test_a_wrong_key(place: Place) -> None:
    config, wrong = place.config(), make_key(place.folder / "wrong")
    config["auth"]["ssh_private_key"] = str(wrong)
    said = one_error(place.check(config), 4)
    assert said.startswith(
        f"{place.head}, {place.worker}: the host refuses the ssh key {wrong} for user root. "
        "Append its public key to ~/.ssh/authorized_keys"
    )


@pytest.mark.slow
def test_a_bucket_that_is_not_there(place: Place) -> None:
    said = one_error(place.check(place.config(), storage="s3://nowhere/searches"), 4)
    assert said == (
        f"here, {place.head}, {place.worker}: bucket 'nowhere' does not exist. "
        "Create it, or correct --storage."
    )


@pytest.mark.slow
def test_a_host_header_that_mlflow_refuses(place: Place) -> None:
    name = place.tracking.removeprefix("http://").replace("127.0.0.1", "localhost")
    said = one_error(place.check(place.config(), tracking=f"http://{name}"), 4)
    assert (
        f": MLflow at http://{name} refuses the Host header '{name}' (HTTP 403). "
        f"Start it with --allowed-hosts '{name}'"
    ) in said


@pytest.mark.slow
def test_everything_at_once(place: Place) -> None:
    """Each mistake is one line, and nothing else is complained of.

    A mistake in the file is reported beside what is not ready, and decides the exit code.
    """
    config = place.config()
    hosts = [place.worker, place.other_ray, place.late]
    config["provider"] |= {
        "worker_ips": [*hosts, closed := free_address()],
        "allowed": "0.0.0.0/0",
    }
    config["worker_start_ray_commands"][1] += " --num-gpus=96"
    config["colour"] = "green"
    done = place.check(
        config,
        storage="s3://readonly/searches",
        tracking=f"http://127.0.0.1:{place.ports[0]}",
        home="tokenless",
    )
    everywhere = ", ".join(["here", place.head, *hosts])
    lines = done.stderr.splitlines()
    assert done.returncode == 2, done.stderr
    planted = [
        "the file: Additional properties are not allowed ('colour' was unexpected).",
        (
            "provider.allowed allows access from the whole internet (0.0.0.0/0). "
            "Allow only your own network, for example 203.0.113.7/32."
        ),
        f"{closed}: the host refuses connections to its ssh port. Start sshd on the host",
        "the versions of Ray differ: ",
        f"{', '.join(hosts)}: no GPU found, but worker_start_ray_commands declares 96. ",
        (
            f"{everywhere}: bucket 'readonly' is not writable (AccessDenied). "
            "Allow s3:PutObject on arn:aws:s3:::readonly/searches/*."
        ),
        (
            f"{everywhere}: MLflow is not reachable at "
            f"http://127.0.0.1:{place.ports[0]} ([Errno 111] Connection refused)."
        ),
        (
            "here: there is no Ray token at ~/.ray/auth_token. Run cluster.up, which creates a "
            "token, or: ray get-auth-token --generate; chmod 600 ~/.ray/auth_token."
        ),
    ]
    if FAKETIME is not None:
        planted.append(
            f"{place.late}: the clock is 60 s ahead of this machine's (at most 5 s are allowed). "
            "Synchronize both clocks by NTP: timedatectl set-ntp true."
        )
    for words in planted:
        assert len([line for line in lines if line.startswith(f"error: {words}")]) == 1, (
            f"{words}\n{done.stderr}"
        )
    assert len(lines) == len(planted)
    (versions,) = (line for line in lines if "versions of Ray differ" in line)
    assert f"; 9.9.9 on {place.other_ray}. Install the same version of Ray " in versions
    (gpus,) = (line for line in lines if "declares 96" in line)
    assert "Install NVIDIA's driver so that 'nvidia-smi -L' lists all GPUs" in gpus


@pytest.mark.slow
def test_the_running_head_of_a_cloud_is_visited(
    place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(account, "collect", lambda config: account.Account([], place.head))
    config = aws_config() | {"auth": {"ssh_user": "root", "ssh_private_key": str(place.key)}}
    found = [
        str(one)
        for one in findings.merge_duplicates(check.check_machines(config, "", place.tracking, {}))
    ]
    assert f"ok: {place.head}: the login by ssh works." in found
    assert f"ok: here, {place.head}: MLflow responds at {place.tracking}." in found
    assert (
        "not checked: the workers (they are started on demand; only the head is checked)." in found
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("keys", "endpoint", "words"),
    [
        (
            {"AWS_ACCESS_KEY_ID": "AKUSER", "AWS_SECRET_ACCESS_KEY": "wrong"},
            "",
            "refuses the credentials (SignatureDoesNotMatch)",
        ),
        (
            {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "wrong"},
            "",
            "refuses the credentials (InvalidAccessKeyId)",
        ),
        ({}, "", "no AWS credentials for s3://bucket"),
        (
            {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"},
            "http://127.0.0.1:9",
            "S3 is not reachable for s3://bucket (Could not connect to the endpoint",
        ),
    ],
)
def test_a_bucket_that_is_closed_to_us(
    keys: dict[str, str],
    endpoint: str,
    words: str,
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    for name, value in {
        **place.bucket.place,
        **keys,
        "HOME": str(tmp_path),
        **({"AWS_ENDPOINT_URL": endpoint} if endpoint else {}),
    }.items():
        monkeypatch.setenv(name, value)
    ((level, what, _),) = probe.storage("s3://bucket")
    assert level == "error"
    assert words in what


@contextmanager
def answering(answers: Mapping[str, tuple[int, str]]) -> Iterator[str]:
    """Start a server that gives one answer for each HTTP method, whatever is asked.

    `LIST` is a bucket's listing.
    """

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, body = answers["LIST" if "list-type" in self.path else self.command]
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        do_GET = do_PUT = do_DELETE = answer

        def log_message(self, *words: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(("fault", "words"), FAULTS.items())
def test_a_storage_that_lacks_what_lock_and_journal_rely_on_is_an_error(
    fault: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with stand_in(fault) as (url, store):
        for name, value in {**NOBODY, "AWS_ENDPOINT_URL": url}.items():
            monkeypatch.setenv(name, value)
        ((level, what, _),) = probe.storage("s3://bucket/searches")
        assert not store.objects or fault == "keeps what is removed"
    assert level == "error"
    assert re.fullmatch(f"bucket 'bucket' {words}", what)


@pytest.mark.slow
def test_seaweedfs_has_what_lock_and_journal_rely_on(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real service is asked by both: by the preflight of a cluster and by that of a search."""
    for name, value in place.bucket.environment.items():
        monkeypatch.setenv(name, value)
    ((level, _, _),) = probe.storage(f"s3://{place.bucket.bucket}/searches")
    assert level == "ok"
    here = Bucket.of(f"s3://{place.bucket.bucket}/searches")
    here.check()
    assert here.listing() == {}


@pytest.mark.parametrize(
    ("status", "body", "login", "needs_login", "level", "words"),
    [
        (200, "{}", False, True, "ok", "MLflow responds at"),
        (200, "<html>", False, True, "error", "is not MLflow"),
        (404, "", False, True, "error", "is not MLflow, or is not working (HTTP 404)"),
        (401, "", False, False, "ok", "requires a login, which only the head needs"),
        (401, "", False, True, "error", "requires a login, but none was found"),
        (401, "", True, True, "error", "refuses the login (HTTP 401)"),
        (
            403,
            "Invalid Host header - possible DNS rebinding attack detected",
            True,
            True,
            "error",
            "refuses the Host header '127.0.0.1:",
        ),
    ],
)
def test_what_mlflow_may_say(
    status: int,
    body: str,
    login: bool,
    needs_login: bool,
    level: str,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    if login:
        (tmp_path / ".mlflow").mkdir()
        (tmp_path / ".mlflow/credentials").write_text(
            "[mlflow]\nmlflow_tracking_username = me\nmlflow_tracking_password = 100%mine\n"
        )
    with answering({"GET": (status, body)}) as url:
        ((found, what, _),) = probe.mlflow(url, needs_login=needs_login)
    assert found == level
    assert words in what


@pytest.mark.ray
@pytest.mark.slow
def test_a_cluster_that_is_up(place: Place) -> None:
    """The dashboard asks for a token.

    On one host the token is readable by all, on another it is an old one.
    """
    config = place.config()
    config["provider"]["worker_ips"] = [place.worker, place.late]
    for name, text, mode in (
        ("head", "0123456789abcdef", 0o600),
        ("worker", "0123456789abcdef", 0o644),
        ("late", "of yesterday", 0o600),
    ):
        token = place.folder / name / ".ray/auth_token"
        token.parent.mkdir(exist_ok=True)
        token.write_text(text)
        token.chmod(mode)
    try:
        with ray_head(place):
            done = place.check(config)
    finally:
        for name in ("head", "worker", "late"):
            (place.folder / name / ".ray/auth_token").unlink()
    assert done.returncode == 4
    assert "ok: the cluster refuses requests without a token.\n" in done.stdout
    lines = [line for line in done.stderr.splitlines() if "token" in line]
    assert lines == [
        (
            f"error: {place.worker}: Ray's token ~/.ray/auth_token is readable by others (mode "
            "0644). Make it private: chmod 600 ~/.ray/auth_token."
        ),
        (
            f"error: {place.late}: Ray's token differs from the one on this machine. "
            "Run ray up again to copy the token."
        ),
    ]


@contextmanager
def ray_head(place: Place) -> Iterator[None]:
    """Start a real head, whose home is the head host's, with ports and folder of its own."""
    others = (
        "dashboard-agent-listen-port",
        "dashboard-agent-grpc-port",
        "metrics-export-port",
        "runtime-env-agent-port",
        "ray-client-server-port",
    )
    ports = [f"--{name}={port}" for name, port in zip(others, free_ports(len(others)), strict=True)]
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as temporary:
        words = [
            "ray",
            "start",
            "--head",
            "--block",
            f"--port={place.ports[0]}",
            f"--dashboard-port={place.ports[1]}",
            "--node-ip-address=127.0.0.1",
            *ports,
        ]
        words += [
            f"--temp-dir={temporary}",
            "--num-cpus=1",
            "--object-store-memory=100000000",
            "--disable-usage-stats",
        ]
        words += ["--min-worker-port=0", "--max-worker-port=0"]
        environment = {"HOME": str(place.folder / "head"), "RAY_AUTH_MODE": "token"}
        with running(
            [Path(sys.executable).with_name(words[0]), *words[1:]],
            place.folder / "ray.log",
            environment=environment,
        ) as process:
            end = time.monotonic() + 600
            while probe.dashboard("127.0.0.1", place.ports[1]) is None:
                assert process.poll() is None, (place.folder / "ray.log").read_text()
                assert time.monotonic() < end
                time.sleep(0.1)
            yield


def aws_config() -> dict[str, Any]:
    """Return a file for AWS without a mistake."""
    node = {
        "ImageId": "ami-0123456789abcdef0",
        "IamInstanceProfile": {"Name": "search-head"},
        "SecurityGroupIds": ["sg-0123456789abcdef0"],
        "MetadataOptions": {"HttpTokens": "required"},
        "BlockDeviceMappings": [{"DeviceName": "/dev/sda1", "Ebs": {"Encrypted": True}}],
    }
    worker = node | {
        "InstanceType": "g5.xlarge",
        "IamInstanceProfile": {"Name": "search-worker"},
        "InstanceMarketOptions": {"MarketType": "spot"},
    }
    start = (
        "export RAY_AUTH_MODE=token; chmod 600 ~/.ray/auth_token; "
        "ray start --dashboard-host=127.0.0.1 --disable-usage-stats"
    )
    return {
        "cluster_name": "check",
        "max_workers": 4,
        "provider": {
            "type": "aws",
            "region": "us-east-1",
            "cache_stopped_nodes": False,
            "security_group": {
                "IpPermissions": [
                    {
                        "IpProtocol": "tcp",
                        "FromPort": 22,
                        "ToPort": 22,
                        "IpRanges": [{"CidrIp": "203.0.113.7/32"}],
                    }
                ]
            },
        },
        "auth": {"ssh_user": "ubuntu"},
        "head_node_type": "head",
        "available_node_types": {
            "head": {"resources": {"CPU": 0}, "node_config": node | {"InstanceType": "m5.large"}},
            "spot": {"max_workers": 4, "node_config": worker},
        },
        "file_mounts": {"~/.ray/auth_token": "~/.ray/auth_token"},
        "setup_commands": [f"pip install ray=={metadata.version('ray')}"],
        "head_start_ray_commands": [f"{start} --head"],
        "worker_start_ray_commands": [f"{start} --address=$RAY_HEAD_IP:6379"],
    }


def check_aws(
    folder: Path, config: Mapping[str, Any], **environment: str
) -> "subprocess.CompletedProcess[str]":
    """Check a file for AWS from a home that has a token."""
    token = folder / ".ray/auth_token"
    token.parent.mkdir()
    token.write_text("0123456789abcdef")
    token.chmod(0o600)
    file = folder / "cluster.yaml"
    file.write_text(yaml.safe_dump(dict(config)))
    rsync = folder / "bin/rsync"  # this machine may have none, which would be one more error
    rsync.parent.mkdir()
    rsync.touch(0o755)
    rest = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "MLFLOW_"))
    }
    return subprocess.run(
        [sys.executable, "-m", "cluster.check", file],
        env={
            **rest,
            "HOME": str(folder),
            "PATH": f"{rsync.parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "AWS_EC2_METADATA_DISABLED": "true",
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def test_ssh_that_is_open_to_the_whole_internet(tmp_path: Path) -> None:
    config = aws_config()
    config["provider"]["security_group"]["IpPermissions"][0]["IpRanges"][0]["CidrIp"] = "0.0.0.0/0"
    done = check_aws(tmp_path, config)
    said = one_error(done, 2)
    assert said.startswith("provider.security_group")
    assert said.endswith(
        "allows access from the whole internet (0.0.0.0/0). "
        "Allow only your own network, for example 203.0.113.7/32."
    )
    assert (
        "not checked: the AWS account, its quotas and a running head (Unable to locate "
        "credentials).\n"
    ) in done.stdout


def test_an_account_is_asked_as_far_as_it_answers(tmp_path: Path) -> None:
    """The server that stands for AWS here knows EC2, and no quotas for it."""
    with aws() as endpoint:
        done = check_aws(
            tmp_path,
            with_what_is_needed(endpoint, aws_config()),
            AWS_ENDPOINT_URL=endpoint,
            **NOBODY,
        )
    assert done.returncode == 0, done.stderr
    assert "ok: the instance profile 'search-head' exists.\n" in done.stdout
    assert (
        "ok: AWS accepts the credentials of arn:aws:sts::123456789012:user/moto.\n" in done.stdout
    )
    assert "not checked: the quota for spot G and VT instances (L-3819A6DF) (" in done.stdout
    assert "not checked: the nodes (no running head was found).\n" in done.stdout


def with_what_is_needed(endpoint: str, config: dict[str, Any]) -> dict[str, Any]:
    """Return the file with a group and an image that this AWS has, and make its profiles."""
    iam, ec2 = (
        boto3.client(
            name,
            endpoint_url=endpoint,
            region_name="us-east-1",
            aws_access_key_id="x",
            aws_secret_access_key="x",
        )
        for name in ("iam", "ec2")
    )
    group = ec2.describe_security_groups()["SecurityGroups"][0]["GroupId"]
    for node in (kind["node_config"] for kind in config["available_node_types"].values()):
        node |= {"SecurityGroupIds": [group], "ImageId": "ami-12c6146b"}
        iam.create_instance_profile(InstanceProfileName=node["IamInstanceProfile"]["Name"])
    return config


def test_what_the_file_names_and_the_account_lacks_is_said() -> None:
    """The stack may have another name than the profiles in the file.

    A security group may let in more than the file shows.
    """
    with aws() as endpoint:
        iam, ec2 = (
            boto3.client(
                name,
                endpoint_url=endpoint,
                region_name="us-east-1",
                aws_access_key_id="x",
                aws_secret_access_key="x",
            )
            for name in ("iam", "ec2")
        )
        config = aws_config()
        for name, kind in config["available_node_types"].items():
            kind["node_config"]["IamInstanceProfile"] = {"Name": f"lacking-{name}"}
        assert [
            (level, what) for level, what, _ in account.check_stack_parts(config, ec2, iam)
        ] == [
            ("error", "there is no instance profile 'lacking-head' in this account and region"),
            ("error", "there is no instance profile 'lacking-spot' in this account and region"),
            (
                "error",
                "there is no security group 'sg-0123456789abcdef0' in this account and region",
            ),
            ("error", "there is no image 'ami-0123456789abcdef0' in this account and region"),
        ]
        config = with_what_is_needed(endpoint, config)
        assert {level for level, _, _ in account.check_stack_parts(config, ec2, iam)} == {"ok"}
        (group,) = config["available_node_types"]["head"]["node_config"]["SecurityGroupIds"]
        ec2.authorize_security_group_ingress(
            GroupId=group, IpProtocol="tcp", FromPort=22, ToPort=22, CidrIp="0.0.0.0/0"
        )
        ((_, what, remedy),) = [
            line for line in account.check_stack_parts(config, ec2, iam) if line[0] == "error"
        ]
    assert what == f"security group {group} allows access from the whole internet (0.0.0.0/0)"
    assert remedy == "Allow only your own network, for example 203.0.113.7/32"


def test_an_instance_type_that_there_is_not(tmp_path: Path) -> None:
    config = aws_config()
    config["available_node_types"]["spot"]["node_config"]["InstanceType"] = "g5.huge"
    with aws() as endpoint:
        said = one_error(check_aws(tmp_path, config, AWS_ENDPOINT_URL=endpoint, **NOBODY), 2)
    assert "g5.huge" in said


def test_the_head_that_runs_is_found_by_its_tags() -> None:
    with aws() as endpoint:
        ec2 = boto3.client(
            "ec2",
            endpoint_url=endpoint,
            region_name="us-east-1",
            aws_access_key_id="x",
            aws_secret_access_key="x",
        )
        assert account.running_head(ec2, "check") == ""
        tags = [
            {"Key": "ray-cluster-name", "Value": "check"},
            {"Key": "ray-node-type", "Value": "head"},
        ]
        made = ec2.run_instances(
            ImageId="ami-12c6146b",
            MinCount=1,
            MaxCount=1,
            TagSpecifications=[{"ResourceType": "instance", "Tags": tags}],
        )
        (found,) = ec2.describe_instances(InstanceIds=[made["Instances"][0]["InstanceId"]])[
            "Reservations"
        ][0]["Instances"]
        assert account.running_head(ec2, "check") == found["PublicIpAddress"]
        assert account.running_head(ec2, "another") == ""


NOBODY = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}


@contextmanager
def aws() -> Iterator[str]:
    """Start a server that answers as EC2 and STS do."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def test_each_quota_is_held_against_what_the_file_may_start() -> None:
    wanted = account.demand(aws_config(), {"m5.large": 2, "g5.xlarge": 4})
    assert wanted == {("standard", False): [2], ("G and VT", True): [4, 4, 4, 4]}


@pytest.mark.parametrize(
    ("allowed", "level", "words"),
    [
        (
            0,
            "error",
            (
                "the quota for spot G and VT instances is 0 vCPUs, but one machine has 4, "
                "so none would start"
            ),
        ),
        (8, "ok", "8 vCPUs, enough for 2 of the 4 machines at once"),
        (64, "ok", "64 vCPUs, and the file's machines have 16"),
    ],
)
def test_a_quota_that_lets_none_start_is_an_error(allowed: float, level: str, words: str) -> None:
    found, what, _ = account.judge("G and VT", True, allowed, [4, 4, 4, 4])
    assert found == level
    assert words in what


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cluster_name: [", "cluster.yaml is not valid YAML ("),
        ("- a\n- b\n", "cluster.yaml does not contain a YAML mapping."),
        (
            "a: !!python/object/apply:os.system [echo]",
            "cluster.yaml is not valid YAML (could not determine a constructor",
        ),
        (None, "cluster.yaml cannot be read (No such file or directory)."),
    ],
)
def test_what_is_no_file_of_a_cluster(
    text: str | None, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "cluster.yaml"
    if text is not None:
        file.write_text(text)
    assert check.main([str(file)]) == 2
    said = capsys.readouterr()
    assert words in said.err
    assert len(said.err.splitlines()) == 1


LOCAL = {
    "cluster_name": "x",
    "provider": {"type": "local", "head_ip": "10.0.0.1", "worker_ips": ["10.0.0.2"]},
    "auth": {"ssh_user": "root", "ssh_private_key": __file__},
}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, ""),
        ({"min_workers": 1}, ""),
        ({"cluster_name": 3}, "cluster_name: 3 is not of type 'string'."),
        (
            {"available_node_types": {"a": {"node_config": {}, "resources": {}}}},
            "available_node_types is not allowed for fixed hosts. Remove it.",
        ),
        ({"auth": "root"}, "auth: 'root' is not of type 'object'."),
        (
            {"auth": {}},
            (
                "FILE does not define a cluster, because it lacks auth.ssh_user. "
                "See cluster/onprem.yaml for an example."
            ),
        ),
        (
            {"provider": {"type": "local", "worker_ips": ["a"]}},
            "FILE: provider: head_ip is missing",
        ),
        (
            {"provider": {"type": "local", "head_ip": "a", "worker_ips": ["a"]}},
            "FILE: provider: a host is listed twice",
        ),
        (
            {"provider": {"type": "aws"}},
            (
                "available_node_types is missing or is not a mapping. "
                "Copy it from cluster/cluster.yaml."
            ),
        ),
    ],
)
def test_what_ray_up_would_stumble_over(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text(yaml.safe_dump({**LOCAL, **change}))
    assert schema.problems(file, {**LOCAL, **change}) == (
        [words.replace("FILE", str(file))] if words else []
    )


@pytest.mark.parametrize("name", ["onprem", "cluster"])
def test_the_files_of_this_project_lack_only_what_is_the_users(name: str) -> None:
    config = definition.mapping(ROOT / f"cluster/{name}.yaml")
    found = [*schema.problems(ROOT / f"cluster/{name}.yaml", config), *lint.problems(config)]
    assert [
        line for line in found if "PUT-YOURS-HERE" not in line and "the ssh key " not in line
    ] == []


def test_a_file_of_odd_forms_is_looked_at_as_far_as_it_goes(tmp_path: Path) -> None:
    odd = {
        "provider": {"type": "aws"},
        "auth": "root",
        "docker": [],
        "available_node_types": {"a": 3},
        "head_start_ray_commands": "ray start",
    }
    done = check_aws(tmp_path, odd)
    assert done.returncode == 2
    assert "error: auth: 'root' is not of type 'object'.\n" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("status", "level"), [(401, "ok"), (200, "error"), (None, "not checked")])
def test_a_door_that_lets_anybody_in_is_an_error(status: int | None, level: str) -> None:
    assert findings.door(status).level == level


def visited(host: str, ahead_s: float = 0, unsure_s: float = 0, **seen: Any) -> Visit:
    return Visit(
        host=host,
        ahead_s=ahead_s,
        clock_error_s=unsure_s,
        report={"python": "3.11.7", "ray": "2.60.0", "gpus": None, "has_card": False, **seen},
    )


@pytest.mark.parametrize(
    ("ahead_s", "unsure_s", "level"),
    [
        (0, 0, "ok"),
        (-4, 1, "ok"),
        (6, 0.5, "error"),
        (-6, 0.5, "error"),
        (6, 2, "ok"),
        (0, 30, "not checked"),
        (60, 30, "error"),
    ],
)
def test_a_slow_answer_makes_no_clock_wrong(ahead_s: float, unsure_s: float, level: str) -> None:
    (found,) = findings.clocks([visited("a", ahead_s, unsure_s)])
    assert found.level == level


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        ({"gpus": 2}, "ok: a: 2 GPUs found."),
        ({"gpus": 0}, "ok: a: no GPU found, and none is required."),
    ],
)
def test_gpus_that_are_there(seen: dict[str, Any], words: str) -> None:
    assert str(findings.gpus({}, visited("a", **seen), is_head=False)) == words


def test_what_many_see_alike_is_one_line() -> None:
    many = [
        Finding(level, "seen", "", (f"h{number}",))
        for number in range(30)
        for level in ("ok", "error")
    ]
    well, ill = map(str, findings.merge_duplicates(many))
    assert well == "ok: 30 machines: seen."
    assert ill == f"error: {', '.join(f'h{number}' for number in range(30))}: seen."


def test_a_card_without_a_driver_is_an_error() -> None:
    assert findings.gpus({}, visited("a", has_card=True), is_head=False).level == "error"


def test_where_the_files_commands_install_ray_it_may_still_be_missing() -> None:
    here = {"python": "3.11.7", "ray": "2.60.0"}
    reached = [visited("a", ray=None, python="3.9.2")]
    assert [
        one.level
        for one in findings.versions(
            {"setup_commands": ["~/env/bin/pip install ray==2.60.0"]}, here, reached
        )
    ] == ["not checked"]
    assert [one.level for one in findings.versions({}, here, reached)] == ["error"]


def test_another_ray_in_the_file_than_here_is_an_error() -> None:
    (found,) = findings.versions(
        {"docker": {"image": "rayproject/ray:2.59.0-py311-gpu"}},
        {"python": "3.11.7", "ray": "2.60.0"},
        [],
    )
    assert str(found) == (
        "error: the file installs Ray 2.59.0, but this machine has 2.60.0. "
        "Use the same version in both places."
    )


def test_a_key_that_ray_could_not_use(tmp_path: Path) -> None:
    missing = tmp_path / "none"
    assert str(check.key_problem(str(missing))) == (
        f"not checked: the hosts (the ssh key {missing} does not exist)."
    )
    key = make_key(tmp_path / "id")
    assert check.key_problem(str(key)) is None
    key.chmod(0o644)
    assert "is readable by others, so ssh will not use it. Make it private: chmod 600" in str(
        check.key_problem(str(key))
    )
    key.chmod(0o600)
    subprocess.run(
        ["ssh-keygen", "-q", "-p", "-N", "long and secret", "-f", key],
        check=True,
        capture_output=True,
    )
    assert "has a passphrase" in str(check.key_problem(str(key)))


def test_a_file_for_kubernetes_is_held_against_the_security_list(tmp_path: Path) -> None:
    """Its cluster is not asked."""
    job = {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "spec": {"rayClusterSpec": {"rayVersion": "2.60.0", "headGroupSpec": {}}},
    }
    done = check_aws(tmp_path, job)
    assert done.returncode == 2
    assert (
        "error: rayClusterSpec.authOptions does not require a token. Set authOptions: {mode: "
        "token}.\n"
    ) in done.stderr
    assert (
        "not checked: the machines (those of provider 'kubernetes' cannot be checked from here).\n"
        in done.stdout
    )


def test_the_probe_runs_on_an_older_python_so_that_it_can_say_which() -> None:
    ast.parse((ROOT / "cluster/preflight/probe.py").read_text(), feature_version=(3, 9))


@pytest.mark.parametrize(
    ("said", "code", "words"),
    [
        (
            "root@h: Permission denied (publickey).",
            255,
            "the host refuses the ssh key ~/.ssh/id for user me",
        ),
        ("ssh: connect to host h port 22: Connection timed out", 255, "the host does not respond"),
        ("Connection timed out during banner exchange", 255, "the host does not respond"),
        (
            "ssh: connect to host h port 22: Network is unreachable",
            255,
            "the network of the host cannot be reached",
        ),
        (
            "ssh: Could not resolve hostname h: Name or service not known",
            255,
            "the host name cannot be resolved",
        ),
        (
            "kex_exchange_identification: Connection closed by remote host",
            255,
            "the host cannot be reached by ssh (kex_exchange_identification: Connection closed",
        ),
        (
            "bash: no job control in this shell\nbash: line 1: exec: python3: not found",
            127,
            "the login by ssh works, but Python 3 cannot be run (bash: line 1: exec",
        ),
        ("", 1, "the login by ssh works, but Python 3 cannot be run (no message)"),
    ],
)
def test_what_ssh_says_in_plain_words(said: str, code: int, words: str) -> None:
    assert remote._failed_visit(
        "h", HostLogin(user="me", key="~/.ssh/id"), code, said
    ).problem.startswith(words)


def test_a_host_that_takes_its_time_is_not_waited_for_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(remote, "LIMIT_S", 0.5)
    found = remote.visit("h", HostLogin(user="me", proxy_command="sleep 4"), {})
    assert found.problem == "the host did not respond within 0.5 s"


@pytest.mark.parametrize(
    ("start", "before"),
    [
        ("ulimit -n 65536; . ~/env/bin/activate; ray start --head", ". ~/env/bin/activate; "),
        ("source /opt/env/bin/activate && ray start --head", "source /opt/env/bin/activate; "),
        ("~/env/bin/ray start --head", 'export PATH="$HOME/env/bin:$PATH"; '),
        ("ray start --head", ""),
    ],
)
def test_the_python_is_the_one_that_the_file_starts_ray_with(start: str, before: str) -> None:
    assert check._host_login({"head_start_ray_commands": [start]}).before == before
