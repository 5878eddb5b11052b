"""The team's MLflow server, started by the very commands of `cluster/tracking/README.md`.

It runs with real PostgreSQL, real S3 and real logins. `compose.yaml` is checked for its structure
only, because there is no Docker in the environment of these tests. It starts the same `serve.sh`.
"""

import base64
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

import boto3
import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run

from search.journal.events import Epoch, Evidence, Started
from search.journal.journal import FILE_NAME, Event
from tests.conftest import Command
from tests.support.ports import free_ports
from tests.support.services import ASK, READY_S, S3, checked, postgres, running, seaweedfs

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / "cluster" / "tracking"
OLD = ROOT / "tests" / "fixtures" / "search-v1"
SECRETS = ("PGPASSWORD", "MLFLOW_AUTH_ADMIN_PASSWORD", "MLFLOW_FLASK_SERVER_SECRET_KEY")
MUST_BE_SET = (*SECRETS, "MLFLOW_ARTIFACTS_DESTINATION")
ADDRESS = "https://mlflow.example.com"
QUESTION = "/api/2.0/mlflow/experiments/search"


@dataclass(frozen=True)
class Server:
    """A running server, the bucket behind it, its log, and the people who may log in."""

    uri: str
    bucket: S3
    log: Path
    people: Mapping[str, str]

    def status(
        self,
        path: str = QUESTION,
        *,
        name: str = "",
        password: str = "",
        body: dict[str, Any] | None = None,
        **headers: str,
    ) -> int:
        """Return the HTTP status of its answer to a request."""
        login = (
            {"Authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}
            if name
            else {}
        )
        data = json.dumps(body).encode() if body else None
        question = self.uri + path + ("" if body else "?max_results=1")
        try:
            with urllib.request.urlopen(
                urllib.request.Request(
                    question, data, {**login, "Content-Type": "application/json", **headers}
                ),
                timeout=300,
            ) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code


def commands() -> list[str]:
    """Return README's commands, block by block: the env file, the server, a new person."""
    return re.findall(r"```sh\n(.*?)```", (FOLDER / "README.md").read_text(), re.DOTALL)


def filled_in(text: str, values: Mapping[str, str]) -> str:
    """Return an env file with these values, each of which it has a line for."""
    names = [line.partition("=")[0] for line in text.splitlines()]
    assert set(names) >= values.keys()
    return "".join(
        f"{name}={values[name]}\n" if name in values else f"{line}\n"
        for name, line in zip(names, text.splitlines(), strict=True)
    )


def values_of(bucket: S3, database: SplitResult, port: int) -> dict[str, str]:
    """Return what the env file says of a server on this port: its services and new secrets."""
    return {
        **{name: secrets.token_hex(24) for name in SECRETS},
        "MLFLOW_ARTIFACTS_DESTINATION": f"s3://{bucket.bucket}/mlflow",
        "PGHOST": str(database.hostname),
        "PGPORT": str(database.port),
        "PGPASSWORD": str(database.password),
        "MLFLOW_PORT": str(port),
        "TRACKING_ADDRESS": ADDRESS,
        **{
            name: value
            for name, value in bucket.environment.items()
            if name != "AWS_EC2_METADATA_DISABLED"
        },
    }


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Start the server by README's plain commands, in a home of their own."""
    home, place = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("project")
    (place / "cluster").symlink_to(ROOT / "cluster")
    write_file, start, add = commands()
    port, people = free_ports(1)[0], {name: secrets.token_hex(8) for name in ("anna", "ben")}
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MLFLOW_", "AWS_", "PG"))
    }
    environment = {
        **clean,
        "HOME": str(home),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    with ExitStack() as stack:
        bucket, database = (
            stack.enter_context(seaweedfs(home)),
            urlsplit(stack.enter_context(postgres())),
        )
        values = values_of(bucket, database, port)
        subprocess.run(
            ["sh", "-ec", write_file], cwd=place, env=environment, check=True, timeout=300
        )
        file = home / "tracking.env"
        file.write_text(filled_in(file.read_text(), values))
        log, uri = home / "mlflow.log", f"http://127.0.0.1:{port}"
        alone = ["env", "-i", *(f"{name}={value}" for name, value in environment.items())]
        process = stack.enter_context(
            running([*alone, "sh", "-ec", f"trap : TERM; cd {place}\n{start}"], log)
        )
        checked(process, (), ASK, f"{uri}/health", READY_S, log=log)
        # In a session of its own it has no terminal, and asks its input.
        asked = subprocess.run(
            ["sh", "-ec", add],
            cwd=place,
            env=environment,
            input=f"anna\n{people['anna']}\n",
            capture_output=True,
            text=True,
            timeout=READY_S,
            start_new_session=True,
            check=False,
        )
        assert asked.returncode == 0, asked.stderr
        made = Server(uri, bucket, log, people)
        ben = {"username": "ben", "password": people["ben"]}
        admin = {"name": "admin", "password": values["MLFLOW_AUTH_ADMIN_PASSWORD"]}
        assert made.status("/api/2.0/mlflow/users/create", **admin, body=ben) == 200
        yield made
        assert not any(
            secret in log.read_text(errors="replace")
            for secret in (*(values[name] for name in SECRETS), *people.values())
        )


@pytest.fixture
def log_in(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, str]:
    """Put Anna's login into the environment, with no other login beside it; return it."""
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "AWS_"))]:
        monkeypatch.delenv(name)
    login = {
        "HOME": str(tmp_path),
        "MLFLOW_TRACKING_USERNAME": "anna",
        "MLFLOW_TRACKING_PASSWORD": server.people["anna"],
    }
    for name, value in login.items():
        monkeypatch.setenv(name, value)
    return login


@pytest.mark.slow
def test_only_who_logs_in_is_answered_and_only_under_the_servers_own_names(server: Server) -> None:
    anna = {"name": "anna", "password": server.people["anna"]}
    assert server.status() == 401
    assert server.status(name="anna", password="not hers") == 401
    assert server.status(name="admin", password="password1234") == 401
    assert server.status(**anna) == 200
    assert server.status(**anna, Host="mlflow.example.com") == 200
    assert server.status(**anna, Host="evil.example.com") == 403
    question = {"max_results": 1}
    assert server.status(**anna, body=question, Origin=ADDRESS) == 200
    assert server.status(**anna, body=question, Origin="https://evil.example.com") == 403


@pytest.mark.slow
@pytest.mark.parametrize(
    ("host", "name", "line"),
    [
        (
            "127.0.0.1",
            "ben",
            "refuses this login (401). Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD.",
        ),
        (
            "127.1",
            "anna",
            (
                "refuses the Host header '127.1:PORT' (403). "
                "Add this host to the server's --allowed-hosts, or use an allowed address."
            ),
        ),
    ],
    ids=["somebody else's password", "another name of the host"],
)
def test_what_the_server_refuses_is_one_line_before_anything_starts(
    server: Server,
    log_in: Mapping[str, str],
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    host: str,
    name: str,
    line: str,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", name)
    uri = server.uri.replace("127.0.0.1", host)
    done = command("search.run", "--space", "smoke", "--tracking", uri)
    assert done.stderr == f"error: MLflow at {uri} {line.replace('PORT', uri.rpartition(':')[2])}\n"
    assert (done.returncode, done.stdout) == (4, "")
    assert not (tmp_path / "searches").exists()


def recorded(folder: Path, name: str, accuracy: float) -> None:
    """Record a search of this name in which every accuracy is the given one.

    It has a checkpoint and a page to be stored.
    """
    shutil.copytree(OLD, folder)
    (folder / "report.html").write_text(f"<p>{name}</p>")
    events = [Event.from_line(line) for line in (OLD / FILE_NAME).read_text().splitlines()]
    for number, event in enumerate(events):
        if isinstance(event.data, Started):
            data = replace(event.data, name=name, id=f"id-{name}")
            events[number] = replace(event, data=data)
        elif isinstance(event.data, Epoch):
            event.data.metrics["val/accuracy"] = accuracy
    last = events[-1]
    kept = [("t0001", "trials/t0001/epoch-0006", "checkpoint"), ("", "report.html", "")]
    more = [Evidence(*one) for one in kept]
    events += [
        Event(last.number + number, last.time_ms + number, data)
        for number, data in enumerate(more, 1)
    ]
    (folder / FILE_NAME).write_text("".join(event.to_line() for event in events))


def check_runs(client: MlflowClient, runs: list[Run], accuracy: float) -> Run:
    """Check that a search's runs are its own, whole; return its parent run."""
    parents = [run for run in runs if run.data.tags["search.role"] == "search"]
    assert len(parents) == 1
    trials = {
        run.data.tags["search.trial"]: run
        for run in runs
        if run.data.tags["search.role"] == "trial"
    }
    assert len(runs) == 1 + len(trials)
    for name, epochs in (("t0001", 6), ("t0002", 3)):
        assert trials[name].data.tags["mlflow.parentRunId"] == parents[0].info.run_id
        points = client.get_metric_history(trials[name].info.run_id, "val/accuracy")
        assert [(point.step, point.value) for point in points] == [
            (step, accuracy) for step in range(1, epochs + 1)
        ]
    return parents[0]


def home_with_login(home: Path, name: str, password: str) -> Path:
    """Make a home whose file for MLflow has this login."""
    (home / ".mlflow").mkdir(parents=True)
    (home / ".mlflow" / "credentials").write_text(
        f"[mlflow]\nmlflow_tracking_username = {name}\nmlflow_tracking_password = {password}\n",
        encoding="utf-8",
    )
    return home


def synced_at_once(
    environments: Mapping[str, Mapping[str, str]], storage: Path, uri: str
) -> list[str]:
    """Write the searches of these names to MLflow, all at once; return what each printed."""
    where = ["--storage", str(storage), "--tracking", uri]
    writing = [
        subprocess.Popen(
            [sys.executable, "-m", "search.sync", name, *where],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for name, environment in environments.items()
    ]
    said = [process.communicate(timeout=900)[0] for process in writing]
    assert [process.returncode for process in writing] == [0] * len(writing), said
    return said


def kept_in(bucket: S3) -> set[str]:
    """Return the names of the files that MLflow keeps in its bucket."""
    client = boto3.client(
        "s3",
        endpoint_url=bucket.endpoint,
        aws_access_key_id=bucket.key,
        aws_secret_access_key=bucket.secret,
    )
    listed = client.list_objects_v2(Bucket=bucket.bucket, Prefix="mlflow/")["Contents"]
    return {one["Key"] for one in listed}


@pytest.mark.slow
def test_two_peoples_searches_are_kept_apart_and_their_files_lie_in_the_bucket(
    server: Server, log_in: Mapping[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anna logs in by her environment, Ben by a file in his home.

    Neither has a key for S3 or contacts it, however large a file is said to be.
    """
    monkeypatch.setenv("MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE", "1")
    figures = {"anna": 0.25, "ben": 0.75}
    without = {
        name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_TRACKING_")
    }
    home = home_with_login(tmp_path / "ben", "ben", server.people["ben"])
    environments = {"anna": {**without, **log_in}, "ben": {**without, "HOME": str(home)}}
    for name, accuracy in figures.items():
        recorded(tmp_path / "searches" / name, name, accuracy)
    said = synced_at_once(environments, tmp_path / "searches", server.uri)
    assert "/mpu/" not in server.log.read_text(errors="replace")

    client = MlflowClient(server.uri)
    experiment = client.get_experiment_by_name("smoke-digits")
    found = list(client.search_runs([experiment.experiment_id]))
    keys = kept_in(server.bucket)
    for name, accuracy in figures.items():
        runs = [run for run in found if run.data.tags["search.id"] == f"id-{name}"]
        parent = check_runs(client, runs, accuracy)
        trained = next(run for run in runs if run.data.tags.get("search.trial") == "t0001")
        assert (
            f"mlflow/{experiment.experiment_id}/{trained.info.run_id}/artifacts/checkpoint/model.safetensors"
            in keys
        )
        assert (
            Path(
                client.download_artifacts(parent.info.run_id, "report.html", str(tmp_path / name))
            ).read_text()
            == f"<p>{name}</p>"
        )
    assert len({run.data.tags["search.id"] for run in found}) == 2

    written = [*said, json.dumps([run.to_dictionary() for run in found])] + [
        path.read_text(errors="replace")
        for path in (tmp_path / "searches").rglob("*")
        if path.is_file()
    ]
    assert not any(password in text for password in server.people.values() for text in written)


@pytest.mark.parametrize("name", MUST_BE_SET)
def test_without_a_secret_the_server_does_not_start(name: str) -> None:
    values = {
        "PGHOST": "localhost",
        **dict.fromkeys(MUST_BE_SET, "x"),
        name: "",
        "PATH": os.environ["PATH"],
    }
    done = subprocess.run(
        ["sh", FOLDER / "serve.sh"],
        env=values,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode != 0
    assert f"{name}: is empty. Set" in done.stderr


def test_the_example_has_a_line_for_all_that_is_set_and_no_secret() -> None:
    lines = [
        line
        for line in (FOLDER / "env.example").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    example = dict(line.split("=", 1) for line in lines)
    assert not [
        name
        for name in (*MUST_BE_SET, "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        if example[name]
    ]
    asked = re.findall(r"\$\{(\w+)", (FOLDER / "compose.yaml").read_text())
    assert set(asked) <= example.keys()


def compose() -> dict[str, Any]:
    """Return compose.yaml, parsed."""
    read: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())
    return read


def test_the_containers_keep_postgresql_to_themselves_and_mlflow_to_this_machine() -> None:
    services = compose()["services"]
    assert services.keys() == {"postgres", "mlflow", "caddy"}
    assert "ports" not in services["postgres"]
    assert services["postgres"]["networks"] == ["database"]
    assert compose()["networks"]["database"] == {"internal": True}
    assert services["mlflow"]["ports"] == ["127.0.0.1:${MLFLOW_PORT:-5000}:5000"]
    assert services["caddy"]["profiles"] == ["tls"]
    assert services["mlflow"]["command"] == ["sh", "/tracking/serve.sh"]
    assert services["mlflow"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}


def test_the_containers_images_are_pinned_and_their_health_is_looked_after() -> None:
    for service in compose()["services"].values():
        assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+(\.\d+)?(-full)?", service["image"])
        assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
        assert service["restart"] == "unless-stopped"
        for name in service.get("volumes", []):
            source = name.partition(":")[0]
            assert (
                (FOLDER / source).exists()
                if source.startswith(".")
                else source in compose()["volumes"]
            )


def test_the_containers_secrets_must_be_set_and_are_never_in_the_file() -> None:
    """A variable's name says whether it is secret.

    Its value is then a reference that fails while it is empty.
    """
    found = {name for service in compose()["services"].values() for name in service["environment"]}
    assert {*MUST_BE_SET, "POSTGRES_PASSWORD"} <= found
    for service in compose()["services"].values():
        for name, value in service["environment"].items():
            if name in MUST_BE_SET or re.search(r"PASSWORD|SECRET", name):
                assert re.fullmatch(
                    r"\$\{\w+:\?is empty\. .*\}" if not name.startswith("AWS_") else r"\$\{\w+:-\}",
                    value,
                ), name
