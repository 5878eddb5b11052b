"""The services that a cluster's search needs, as real processes that end with the test.

They are S3 (SeaweedFS), PostgreSQL, and an MLflow server. Each is a context manager. `inside` is
put before every command: the words that run it on another host (`tests/support/hosts.py`). Without
it a service is on this machine, on 127.0.0.1, on ports that are free.
"""

import getpass
import json
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.ports import free_ports
from tests.support.programs import needs, path_of

READY_S = 400
"""A loaded machine of two processors needs some 30 s for MLflow's first start on a new database."""

ASK = """
import sys, time, urllib.error, urllib.request
end = time.monotonic() + float(sys.argv[2])
while True:
    try:
        urllib.request.urlopen(sys.argv[1], timeout=5).close()
    except urllib.error.HTTPError:
        break
    except OSError as error:
        if time.monotonic() > end:
            sys.exit(f"{sys.argv[1]}: {error}")
        time.sleep(0.1)
    else:
        break
"""
"""Asks an address until anything answers."""

MAKE_BUCKET = """
import sys, time
import boto3
from botocore.exceptions import BotoCoreError, ClientError
end = time.monotonic() + float(sys.argv[2])
while True:
    try:
        client = boto3.client("s3")
        client.create_bucket(Bucket=sys.argv[1])
        client.put_object(Bucket=sys.argv[1], Key="ready", Body=b"")
        client.delete_object(Bucket=sys.argv[1], Key="ready")
        break
    except (BotoCoreError, ClientError) as error:
        if "BucketAlreadyOwnedByYou" not in str(error) and time.monotonic() > end:
            sys.exit(str(error))
        time.sleep(0.2)
"""
"""Makes a bucket, and checks it with an object: SeaweedFS's volumes start after its S3 port."""


@dataclass(frozen=True, kw_only=True)
class S3:
    """A running S3 server with one bucket and one user who may do everything."""

    endpoint: str
    bucket: str
    key: str
    secret: str
    process: "subprocess.Popen[bytes]"

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables that boto3 and the AWS CLI read."""
        return {**self.place, "AWS_ACCESS_KEY_ID": self.key, "AWS_SECRET_ACCESS_KEY": self.secret}

    @property
    def place(self) -> dict[str, str]:
        """Return the variables that are no secret."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    @property
    def credentials_file(self) -> str:
        """Return the content of `~/.aws/credentials`."""
        return f"[default]\naws_access_key_id = {self.key}\naws_secret_access_key = {self.secret}\n"


@contextmanager
def running(
    command: Sequence[object],
    log: Path,
    *,
    environment: Mapping[str, str] | None = None,
    stop: int = signal.SIGTERM,
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a process, with all that it starts, for as long as the context lasts."""
    with log.open("ab") as out:
        process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
    try:
        yield process
    finally:
        for number, patience_s in ((stop, 15), (signal.SIGKILL, 15)):
            if process.poll() is None:
                os.killpg(process.pid, number)
                try:
                    process.wait(timeout=patience_s)
                except subprocess.TimeoutExpired:
                    continue
        process.wait(timeout=5)


def checked(
    server: "subprocess.Popen[bytes]",
    inside: Sequence[str],
    code: str,
    *words: object,
    log: Path,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run a few lines of Python on the server's host.

    If they fail, or if the server ends meanwhile, its log is shown.
    """
    command = [*inside, sys.executable, "-c", code, *map(str, words)]
    asking = subprocess.Popen(
        command, env={**os.environ, **(environment or {})}, stderr=subprocess.PIPE, text=True
    )
    with asking:
        while asking.poll() is None and server.poll() is None:
            time.sleep(0.05)
        if server.poll() is not None:
            asking.kill()
        _, said = asking.communicate()
    assert asking.returncode == 0, f"{said}\n{log.read_text(errors='replace')[-4000:]}"


@contextmanager
def seaweedfs(
    folder: Path,
    *,
    host: str = "127.0.0.1",
    inside: Sequence[str] = (),
    bucket: str = "bucket",
    others: Sequence[Mapping[str, object]] = (),
) -> Iterator[S3]:
    """Run an S3 server that refuses requests without a key.

    `others` are more users, in SeaweedFS's format. It takes 15 s to end well, and is killed.
    """
    weed = Path(sys.executable).with_name("weed")
    data = folder / "seaweedfs"
    data.mkdir(parents=True)
    parts = ("master", "volume", "filer", "s3")
    names = [f"{part}.port{kind}" for part in parts for kind in ("", ".grpc")]
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    key, secret = f"AK{secrets.token_hex(9)}", secrets.token_hex(20)
    users = folder / "seaweedfs.json"
    credentials = [{"accessKey": key, "secretKey": secret}]
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    tests = {"name": "tests", "credentials": credentials, "actions": actions}
    users.write_text(json.dumps({"identities": [tests, *others]}))
    users.chmod(0o600)
    options = [
        "-master.volumeSizeLimitMB=64",
        "-volume.max=20",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-master.telemetry=false",
        "-volume.preStopSeconds=0",
    ]
    command = [
        weed,
        "server",
        f"-ip={host}",
        f"-ip.bind={host}",
        f"-dir={data}",
        "-s3",
        f"-s3.config={users}",
        *options,
    ]
    log = folder / "seaweedfs.log"
    with running(
        [*inside, *command, *(f"-{name}={port}" for name, port in ports.items())],
        log,
        stop=signal.SIGKILL,
    ) as process:
        endpoint = f"http://{host}:{ports['s3.port']}"
        server = S3(endpoint=endpoint, bucket=bucket, key=key, secret=secret, process=process)
        checked(process, inside, ASK, server.endpoint, READY_S, log=log)
        checked(
            process, inside, MAKE_BUCKET, bucket, READY_S, log=log, environment=server.environment
        )
        yield server


def unprivileged() -> str:
    """Return the user who runs PostgreSQL, which refuses root."""
    if os.geteuid() != 0:
        return getpass.getuser()
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    return pytest.skip("needs a user 'postgres' or 'nobody': PostgreSQL refuses root")


def postgres_programs() -> Path:
    """Return the folder of PostgreSQL's programs, the newest."""
    needs("initdb")
    program = path_of("initdb")
    assert program is not None
    return program.parent


def create_database(command: Sequence[object], password: str, log: Path) -> None:
    """Run this command until the server is ready for it; else its log is shown."""
    environment = {**os.environ, "PGPASSWORD": password, "PGCONNECT_TIMEOUT": "5"}
    words, end = [str(word) for word in command], time.monotonic() + READY_S
    while (
        done := subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    ).returncode:
        assert time.monotonic() < end, f"{done.stderr}\n{log.read_text(errors='replace')[-4000:]}"
        time.sleep(0.1)


@contextmanager
def postgres(
    *, host: str = "127.0.0.1", inside: Sequence[str] = (), allowed: str = "127.0.0.1/32"
) -> Iterator[str]:
    """Run a PostgreSQL server with a new database `mlflow`; yield its URI, password included.

    The driver is named in it: SQLAlchemy 2.1 takes psycopg 3 for a plain `postgresql://`.
    """
    programs, user, port, password = (
        postgres_programs(),
        unprivileged(),
        free_ports(1)[0],
        secrets.token_hex(16),
    )
    needs("setpriv")
    become = (
        ["setpriv", f"--reuid={user}", f"--regid={pwd.getpwnam(user).pw_gid}", "--clear-groups"]
        if os.geteuid() == 0
        else []
    )
    with tempfile.TemporaryDirectory(prefix="postgres-") as place:
        folder, log = Path(place), Path(place) / "log"
        (folder / "password").write_text(password)
        for path in (folder, folder / "password"):
            shutil.chown(path, user)
        data = folder / "data"
        make = [
            *become,
            programs / "initdb",
            f"--pgdata={data}",
            "--username=mlflow",
            f"--pwfile={folder / 'password'}",
            "--auth=scram-sha-256",
            "--no-sync",
            "--encoding=UTF8",
        ]
        subprocess.run(
            [str(word) for word in make], check=True, capture_output=True, cwd="/", timeout=READY_S
        )
        with (data / "pg_hba.conf").open("a") as file:
            file.write(f"host all all {allowed} scram-sha-256\n")
        settings = [
            f"listen_addresses={host}",
            f"port={port}",
            f"unix_socket_directories={folder}",
            "fsync=off",
            "max_connections=200",
        ]
        server = [
            *inside,
            *become,
            programs / "postgres",
            "-D",
            data,
            *(word for setting in settings for word in ("-c", setting)),
        ]
        reach = ["-h", host, "-p", port, "-U", "mlflow"]
        with running(server, log, stop=signal.SIGINT):
            create_database([*inside, programs / "createdb", *reach, "mlflow"], password, log)
            yield f"postgresql+psycopg2://mlflow:{password}@{host}:{port}/mlflow"


@contextmanager
def mlflow_server(
    folder: Path,
    database: str,
    artifacts: str,
    *,
    host: str = "127.0.0.1",
    inside: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    allowed_hosts: str = "",
    more: Sequence[str] = (),
) -> Iterator[str]:
    """Run an MLflow server that hands artifacts through; yield its address.

    The database's URI is in its environment, as it has a password.
    """
    port, log = free_ports(1)[0], folder / "mlflow.log"
    words = [
        "--artifacts-destination",
        artifacts,
        "--host",
        host,
        "--port",
        port,
        "--workers",
        1,
        "--allowed-hosts",
        allowed_hosts or f"{host}:{port}",
    ]
    private = {
        "MLFLOW_BACKEND_STORE_URI": database,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    command = [*inside, sys.executable, "-m", "mlflow", "server", *words, *more]
    with running(command, log, environment={**private, **(environment or {})}) as process:
        checked(process, inside, ASK, f"http://{host}:{port}/health", READY_S, log=log)
        yield f"http://{host}:{port}"
