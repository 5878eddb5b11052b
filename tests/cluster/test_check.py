"""The preflight against real hosts (sshd), a real bucket (SeaweedFS) and a real MLflow server: ten planted mistakes, each named in one line."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml

from tests.cluster.services import S3, free_ports, mlflow_server, seaweedfs
from tests.cluster.sshd import free_address, make_key, needs_sshd, ssh_host

ROOT = Path(__file__).parents[2]
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
USER = {"name": "user", "credentials": [{"accessKey": "AKUSER", "secretKey": "not-a-secret"}], "actions": ["Read", "List", "Write:bucket", "Tagging:bucket"]}


@dataclass(frozen=True, kw_only=True)
class Place:
    """What a check needs: hosts, services, and the home of whoever checks."""

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
        """A file for fixed hosts without a mistake."""
        start = "export RAY_AUTH_MODE=token; chmod 600 ~/.ray/auth_token; ray start"
        head = f"{start} --head --port={self.ports[0]} --dashboard-port={self.ports[1]} --dashboard-host=127.0.0.1 --disable-usage-stats"
        return {
            "cluster_name": "check",
            "provider": {"type": "local", "head_ip": self.head, "worker_ips": [self.worker]},
            "auth": {"ssh_user": "root", "ssh_private_key": str(self.key)},
            "file_mounts": {"~/.ray/auth_token": "~/.ray/auth_token"},
            "head_start_ray_commands": ["ray stop", head],
            "worker_start_ray_commands": ["ray stop", f"{start} --address=$RAY_HEAD_IP:{self.ports[0]}"],
        }

    def check(self, config: Mapping[str, Any], *, storage: str = "", tracking: str = "", home: str = "home") -> "subprocess.CompletedProcess[str]":
        """Run the command as a user does."""
        file = self.folder / "cluster.yaml"
        file.write_text(yaml.safe_dump(dict(config)))
        words = ["-m", "cluster.check", file, "--storage", storage or f"s3://{self.bucket.bucket}/searches", "--tracking", tracking or self.tracking]
        environment = {**os.environ, **self.bucket.place, "HOME": str(self.folder / home), "PYTHONPATH": str(ROOT)}
        return subprocess.run([sys.executable, *map(str, words)], env=environment, capture_output=True, text=True, timeout=120, check=False)


def credentials(home: Path) -> None:
    """The keys of a user who may write to one bucket only."""
    (home / ".aws").mkdir(parents=True, exist_ok=True)
    (home / ".aws/credentials").write_text("[default]\naws_access_key_id = AKUSER\naws_secret_access_key = not-a-secret\n")


def other_ray(folder: Path) -> Path:
    """A package folder that says that another Ray is installed."""
    about = folder / "ray-9.9.9.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: ray\nVersion: 9.9.9\n")
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    needs_sshd()
    folder = tmp_path_factory.mktemp("check")
    key = make_key(folder / "id")
    bashrc = f"echo Welcome to this host\nexport PATH={Path(sys.executable).parent}:$PATH\n"
    late = {"LD_PRELOAD": str(FAKETIME), "FAKETIME": "+60", "FAKETIME_DONT_FAKE_MONOTONIC": "1"} if FAKETIME.exists() else {}
    with ExitStack() as running:
        enter = running.enter_context
        bucket = enter(seaweedfs(folder, others=[USER]))
        boto3.client("s3", endpoint_url=bucket.endpoint, aws_access_key_id=bucket.key, aws_secret_access_key=bucket.secret, region_name="us-east-1").create_bucket(
            Bucket="readonly"
        )
        place = Place(
            folder=folder,
            key=key,
            bucket=bucket,
            tracking=enter(mlflow_server(folder, f"sqlite:///{folder}/mlflow.db", str(folder / "artifacts"))),
            head=enter(ssh_host(folder / "head", key, bashrc=bashrc)),
            worker=enter(ssh_host(folder / "worker", key, bashrc=bashrc)),
            other_ray=enter(ssh_host(folder / "other", key, bashrc=f"{bashrc}export PYTHONPATH={other_ray(folder / 'packages')}\n")),
            late=enter(ssh_host(folder / "late", key, bashrc=bashrc, environment=late)),
        )
        for name in ("home", "tokenless", "head", "worker", "other", "late"):
            credentials(folder / name)
        (folder / "home/.ray").mkdir()
        (folder / "home/.ray/auth_token").write_text("0123456789abcdef")
        (folder / "home/.ray/auth_token").chmod(0o600)
        yield place


def one_error(done: "subprocess.CompletedProcess[str]", code: int) -> str:
    """The only complaint; and the exit code is the one for it."""
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
        "ok: the file is what ray up reads.",
        "ok: nothing in the file is on the security list.",
        f"ok: {place.head}, {place.worker}: ssh lets us in.",
        f"ok: {place.head}, {place.worker}: the clock is within 5 s of this machine's.",
        f"ok: {everywhere}: bucket 'bucket' is writable, readable and deletable, and refuses a second conditional put.",
        f"ok: {everywhere}: MLflow answers at {place.tracking}.",
        "ok: here: Ray's token ~/.ray/auth_token is there, for its owner alone.",
        "not checked: whether the cluster asks for its token (it is not up).",
    ):
        assert line in done.stdout.splitlines()
    assert f"ok: {everywhere}: Python {sys.version.split()[0]}.\n" in done.stdout


@pytest.mark.slow
def test_a_wrong_key(place: Place) -> None:
    config, wrong = place.config(), make_key(place.folder / "wrong")
    config["auth"]["ssh_private_key"] = str(wrong)
    said = one_error(place.check(config), 4)
    assert said.startswith(f"{place.head}, {place.worker}: refuses the ssh key {wrong} for user root. Append its public key to ~/.ssh/authorized_keys")


@pytest.mark.slow
def test_a_closed_port(place: Place) -> None:
    config = place.config()
    config["provider"]["worker_ips"] = [closed := free_address()]
    assert one_error(place.check(config), 4).startswith(f"{closed}: has its ssh port closed: the connection is refused. Start sshd there")


@pytest.mark.slow
def test_another_version_of_ray(place: Place) -> None:
    config = place.config()
    config["provider"]["worker_ips"] = [place.other_ray]
    said = one_error(place.check(config), 4)
    assert said.startswith("the versions of Ray differ: ")
    assert f"here, {place.head}; 9.9.9 on {place.other_ray}. Install Ray " in said


@pytest.mark.slow
def test_a_bucket_that_is_not_there(place: Place) -> None:
    said = one_error(place.check(place.config(), storage="s3://nowhere/searches"), 4)
    assert said == f"here, {place.head}, {place.worker}: bucket 'nowhere' does not exist. Create it, or correct --storage."


@pytest.mark.slow
def test_a_bucket_that_is_read_only(place: Place) -> None:
    said = one_error(place.check(place.config(), storage="s3://readonly/searches"), 4)
    assert said == (
        f"here, {place.head}, {place.worker}: bucket 'readonly' is not writable (AccessDenied). Allow s3:PutObject on arn:aws:s3:::readonly/searches/*."
    )


@pytest.mark.slow
def test_a_host_header_that_mlflow_refuses(place: Place) -> None:
    name = place.tracking.removeprefix("http://").replace("127.0.0.1", "localhost")
    said = one_error(place.check(place.config(), tracking=f"http://{name}"), 4)
    assert f": MLflow at http://{name} refuses the Host header '{name}' (HTTP 403). Start it with --allowed-hosts '{name}'" in said


@pytest.mark.slow
def test_a_gpu_that_is_not_there(place: Place) -> None:
    config = place.config()
    config["worker_start_ray_commands"][1] += " --num-gpus=96"
    said = one_error(place.check(config), 4)
    assert said.startswith(f"{place.worker}: ")
    assert " GPU seen, and worker_start_ray_commands says 96. Install NVIDIA's driver until 'nvidia-smi -L' lists them" in said


@pytest.mark.slow
def test_no_token(place: Place) -> None:
    said = one_error(place.check(place.config(), home="tokenless"), 4)
    assert said == "here: no Ray token at ~/.ray/auth_token. Make one: ray get-auth-token --generate; chmod 600 ~/.ray/auth_token."


@pytest.mark.slow
def test_a_clock_that_is_off(place: Place) -> None:
    if not FAKETIME.exists():
        pytest.skip("needs libfaketime")
    config = place.config()
    config["provider"]["worker_ips"] = [place.late]
    said = one_error(place.check(config), 4)
    assert said == f"{place.late}: the clock is 60 s ahead of this machine's (at most 5 s are well). Set both by NTP: timedatectl set-ntp true."


@pytest.mark.slow
def test_everything_at_once(place: Place) -> None:
    """What is wrong in the file is said beside what is not ready, and decides the exit code."""
    config = place.config()
    config["provider"] |= {"worker_ips": [place.worker, closed := free_address()], "allowed": "0.0.0.0/0"}
    config["colour"] = "green"
    done = place.check(config, storage="s3://readonly/searches", tracking=f"http://127.0.0.1:{place.ports[0]}", home="tokenless")
    lines = done.stderr.splitlines()
    assert done.returncode == 2, done.stderr
    for words in (
        "error: the file: Additional properties are not allowed ('colour' was unexpected).",
        "error: provider.allowed lets in the whole internet (0.0.0.0/0). Allow one network, such as 203.0.113.7/32.",
        f"error: {closed}: has its ssh port closed",
        f"error: here, {place.head}, {place.worker}: bucket 'readonly' is not writable (AccessDenied).",
        f"error: here, {place.head}, {place.worker}: MLflow is not reachable at http://127.0.0.1:{place.ports[0]} ([Errno 111] Connection refused).",
        "error: here: no Ray token at ~/.ray/auth_token.",
    ):
        assert len([line for line in lines if line.startswith(words)]) == 1, f"{words}\n{done.stderr}"
    assert len(lines) == 6


def aws_file(folder: Path, **changes: Any) -> Path:
    """The AWS file of this project, filled in and changed."""
    file = folder / "aws.yaml"
    file.write_text(yaml.safe_dump(changes))
    return file
