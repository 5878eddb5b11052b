"""Run the cluster of `onprem.yaml` on several real hosts of one machine.

The cluster is started, searched on, stopped and resumed; one host is cut off; the cluster is ended.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.hosts import ROOT, Host, Network, needs_hosts, network
from tests.support.services import S3, mlflow_server, postgres, postgres_programs, seaweedfs

pytestmark = [pytest.mark.cluster, pytest.mark.ray, pytest.mark.slow(150), pytest.mark.long]

HEAD, WORKERS, CLIENT, SERVICES = "head", ("w1", "w2"), "client", "services"
INJECT = ROOT / "tests" / "faults" / "inject"
TRIALS, EPOCHS = 8, 2

RUNS = """
import json, sys
from mlflow import MlflowClient
client = MlflowClient(sys.argv[1])
ids = [one.experiment_id for one in client.search_experiments()]
found = []
for run in client.search_runs(ids, max_results=1000):
    history = {
        name: sorted(m.step for m in client.get_metric_history(run.info.run_id, name))
        for name in run.data.metrics
        if name == "val/accuracy"
    }
    tags = {k: v for k, v in run.data.tags.items() if k.startswith("search.")}
    found.append({"tags": tags, "status": run.info.status, "epochs": history})
print(json.dumps(found))
"""
"""Prints every run of an MLflow server, with the epochs of its validation accuracy."""

JOURNAL = """
import os, sys
import boto3
client = boto3.client("s3")
bucket, prefix = sys.argv[1:]
for _ in sys.stdin:
    listed = client.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])
    pieces = [
        client.get_object(Bucket=bucket, Key=key)["Body"].read()
        for key in sorted(one["Key"] for one in listed)
    ]
    sys.stdout.write(b"".join(pieces).decode() + "\\n")
    sys.stdout.flush()
"""
"""For each line on stdin prints a search's journal as it lies in the bucket, and an empty line."""

KNOCK = """
import json, sys, urllib.error, urllib.request
said = {}
for url in sys.argv[1:]:
    try:
        said[url] = urllib.request.urlopen(url, timeout=10).status
    except urllib.error.HTTPError as error:
        said[url] = error.code
    except OSError as error:
        said[url] = 0
print(json.dumps(said))
"""
"""Prints the answer of each address to a request without a token; 0 for no answer."""


@dataclass(frozen=True, kw_only=True)
class Bed:
    """The hosts, their shared folder, and the services beside them."""

    hosts: Network
    folder: Path
    s3: S3
    mlflow: str
    reader: "subprocess.Popen[str]"
    up: tuple["subprocess.CompletedProcess[str]", float]

    def at(self, name: str) -> Host:
        return self.hosts.hosts[name]

    @property
    def file(self) -> Path:
        return self.folder / "onprem.yaml"

    @property
    def storage(self) -> str:
        return f"s3://{self.s3.bucket}/searches"

    def verb(self, name: str, *words: object) -> list[str]:
        """Start a verb as the user's machine runs it, on a terminal.

        Without a terminal a shell makes its background commands ignore Ctrl-C, and this process may
        be one.
        """
        return self.at(CLIENT).words(
            "env",
            "--default-signal=INT",
            sys.executable,
            "-m",
            f"cluster.{name}",
            self.file,
            *words,
            folder=str(ROOT),
        )

    def submit(self, *words: object) -> "subprocess.Popen[str]":
        """Start a command on the cluster.

        Each of its epochs takes half a second more, and is recorded in `truth.jsonl`.
        """
        environment = {"PYTHONPATH": INJECT, "FAULTS_DIR": self.folder, **self.s3.place}
        options = [
            word for name, value in environment.items() for word in ("--env", f"{name}={value}")
        ]
        command = self.verb(
            "submit",
            *options,
            "--",
            "python",
            "-m",
            *words,
            "--storage",
            self.storage,
            "--tracking",
            self.mlflow,
        )
        return subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def truth(self) -> list[dict[str, Any]]:
        """Return every epoch that was trained."""
        path = self.folder / "truth.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Return the journal's lines of a kind."""
        assert self.reader.stdin is not None
        assert self.reader.stdout is not None
        self.reader.stdin.write("\n")
        self.reader.stdin.flush()
        lines = iter(self.reader.stdout.readline, "\n")
        return [event for event in map(json.loads, lines) if event["event"] == kind]


@contextmanager
def services(hosts: Network, folder: Path) -> Iterator[tuple[S3, str]]:
    """Provide SeaweedFS, and MLflow on PostgreSQL, on a host of their own."""
    host = hosts.hosts[SERVICES]
    inside = host.network_words
    with ExitStack() as stack:
        s3 = stack.enter_context(seaweedfs(folder, host=host.address, inside=inside))
        database = stack.enter_context(
            postgres(host=host.address, inside=inside, allowed=f"{host.address}/32")
        )
        url = stack.enter_context(
            mlflow_server(
                folder,
                database,
                f"s3://{s3.bucket}/mlflow",
                host=host.address,
                inside=inside,
                environment=s3.environment,
            )
        )
        yield s3, url


def write_file(hosts: Network, folder: Path) -> None:
    """Write the project's own file, with these hosts in it and one processor for each worker."""
    text = (ROOT / "cluster" / "onprem.yaml").read_text()
    workers = ", ".join(hosts.hosts[name].address for name in WORKERS)
    for old, new in (
        ("head_ip: 192.168.1.10 ", f"head_ip: {hosts.hosts[HEAD].address} "),
        ("[192.168.1.11, 192.168.1.12]", f"[{workers}]"),
        ("ssh_user: ubuntu", "ssh_user: root"),
        ("ssh_private_key: ~/.ssh/cluster", "ssh_private_key: ~/.ssh/key"),
        ("ray start --address", "ray start --num-cpus=1 --address"),
    ):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    (folder / "onprem.yaml").write_text(text)


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    """Provide a running cluster of hosts that had the software already, and the services."""
    needs_hosts()
    postgres_programs()
    folder = tmp_path_factory.mktemp("onprem")
    (folder / "plan.json").write_text(json.dumps({"faults": [{"do": "sleep", "seconds": 0.5}]}))
    # The greeting must not confuse any command.
    bashrc = 'export MLFLOW_DISABLE_TELEMETRY=true\n[ -z "${SSH_CONNECTION:-}" ] || echo Welcome'
    with network(
        folder / "hosts", [HEAD, *WORKERS, CLIENT, SERVICES], shared=[folder], bashrc=bashrc
    ) as hosts:
        write_file(hosts, folder)
        for name in (HEAD, *WORKERS):
            hosts.hosts[name].run("ln", "-s", sys.prefix, "/root/search-env")
            hosts.hosts[name].run(
                "cp", ROOT / "cluster/requirements.txt", "/root/search-env.installed"
            )
        hosts.hosts[CLIENT].run("install", "-m", "600", hosts.key, "/root/.ssh/key")
        with ThreadPoolExecutor() as pool:
            up = pool.submit(timed_up, hosts, folder)
            with services(hosts, folder) as (s3, mlflow), reader(hosts, s3) as journal:
                for name in (HEAD, *WORKERS, CLIENT):
                    hosts.hosts[name].write("/root/.aws/credentials", s3.credentials_file)
                yield Bed(
                    hosts=hosts, folder=folder, s3=s3, mlflow=mlflow, reader=journal, up=up.result()
                )


def timed_up(hosts: Network, folder: Path) -> tuple["subprocess.CompletedProcess[str]", float]:
    """Start the cluster; return the output and the seconds that it took."""
    began = time.monotonic()
    command = hosts.hosts[CLIENT].words(
        sys.executable, "-m", "cluster.up", folder / "onprem.yaml", folder=str(ROOT)
    )
    return subprocess.run(
        command, capture_output=True, text=True, timeout=900, check=False
    ), time.monotonic() - began


@contextmanager
def reader(hosts: Network, s3: S3) -> Iterator["subprocess.Popen[str]"]:
    """Start a process beside the services that reads the journal."""
    hosts.hosts[SERVICES].write("/root/.aws/credentials", s3.credentials_file)
    words = [
        "env",
        *(f"{name}={value}" for name, value in s3.place.items()),
        sys.executable,
        "-c",
        JOURNAL,
        s3.bucket,
        "searches/s/journal.jsonl/",
    ]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        hosts.hosts[SERVICES].words(*words), stdin=pipe, stdout=pipe, text=True
    ) as process:
        yield process
        process.kill()


def wait_for(
    condition: Callable[[], object],
    process: "subprocess.Popen[str]",
    what: str,
    timeout: float = 600,
) -> None:
    """Wait until a condition holds, while the process lives."""
    end = time.monotonic() + timeout
    while not condition():
        if process.poll() is not None or time.monotonic() > end:
            signal_inside(process, signal.SIGTERM)
            raise AssertionError(
                f"waited in vain for {what}; the command ended with {process.poll()} and said: "
                f"{process.communicate(timeout=30)[0]}"
            )
        time.sleep(0.05)


def ended(process: "subprocess.Popen[str]", timeout: float = 600) -> str:
    """Return a command's output, once it has ended."""
    try:
        return process.communicate(timeout=timeout)[0]
    except subprocess.TimeoutExpired:
        signal_inside(process, signal.SIGTERM)
        raise AssertionError(
            f"still running after {timeout:g} s; it says: {process.communicate(timeout=30)[0]}"
        ) from None


def starts(bed: Bed) -> None:
    done, _ = bed.up
    assert done.returncode == 0, done.stdout + done.stderr
    for name in WORKERS:
        assert f"{bed.at(name).address} has joined the cluster (CPUs: 1," in done.stdout
    assert bed.at(CLIENT).run("stat", "-c", "%a", "/root/.ray/auth_token").stdout.strip() == "600"
    token = bed.at(CLIENT).run("cat", "/root/.ray/auth_token").stdout
    assert token not in done.stdout + done.stderr
    keys = bed.at(CLIENT).run("cat", "/root/.ray/known_hosts-onprem").stdout
    assert {line.split()[0] for line in keys.splitlines()} == {
        bed.at(name).address for name in (HEAD, *WORKERS)
    }
    assert bed.at(HEAD).run("cat", "/root/.ray/known_hosts").stdout == keys
    for name in (HEAD, *WORKERS):
        assert bed.at(name).run("stat", "-c", "%a", "/root/.ray/auth_token").stdout.strip() == "600"
        assert bed.at(name).run("cat", "/root/.ray/auth_token").stdout == token


def opens_no_door_without_the_token(bed: Bed) -> None:
    head = bed.at(HEAD)
    paths = (
        "api/version",
        "api/jobs/",
        "nodes?view=summary",
        "api/cluster_status",
        "api/v0/nodes",
        "api/v0/logs",
    )
    here = json.loads(
        head.run(
            sys.executable, "-c", KNOCK, *(f"http://127.0.0.1:8265/{path}" for path in paths)
        ).stdout
    )
    assert set(here.values()) == {401}, here
    agents = [
        f"http://{bed.at(name).address}:52365/api/job_agent/jobs/x/logs"
        for name in (HEAD, *WORKERS)
    ]
    there = json.loads(
        bed.at(CLIENT)
        .run(sys.executable, "-c", KNOCK, f"http://{head.address}:8265/api/version", *agents)
        .stdout
    )
    assert list(there.values()) == [0, 401, 401, 401], there
    for where, words in (
        (CLIENT, ["ray", "status", "--address", f"{head.address}:6379"]),
        (HEAD, ["ray", "job", "list", "--address", "http://127.0.0.1:8265"]),
    ):
        done = bed.at(where).run("env", "HOME=/tmp", *words, check=False)
        assert done.returncode != 0
        assert "AuthenticationError" in done.stderr
    wrong = subprocess.run(bed.verb("status"), capture_output=True, text=True, check=False)
    assert wrong.returncode == 0, wrong.stderr
    assert "2 workers alive" in wrong.stdout
    wrong = bed.at(CLIENT).run(
        "env",
        "RAY_AUTH_TOKEN=wrong",
        *["bash", "-c", f"cd {ROOT} && python -m cluster.status {bed.file}"],
        check=False,
    )
    assert (wrong.returncode, wrong.stderr) == (
        4,
        (
            "error: the cluster rejected this machine's token. Copy ~/.ray/auth_token from the "
            "machine of the person who started the cluster.\n"
        ),
    )


def is_ready(bed: Bed) -> None:
    """Check that the preflight finds no problem."""
    place = [word for name, value in bed.s3.place.items() for word in ("--env", f"{name}={value}")]
    done = subprocess.run(
        bed.verb("check", "--storage", bed.storage, "--tracking", bed.mlflow, *place),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    assert "supports deletions and conditional writes" in done.stdout


def is_reported_from_elsewhere(bed: Bed) -> None:
    """Make the report on a machine that has nothing of the search but the bucket's address."""
    place = [f"{name}={value}" for name, value in bed.s3.place.items()]
    words = (
        "env",
        *place,
        sys.executable,
        "-m",
        "search.report",
        "s",
        "--storage",
        bed.storage,
        "--out",
        "/tmp/page.html",
    )
    bed.at(CLIENT).run("bash", "-c", f'cd {ROOT} && exec "$0" "$@"', *words)
    page = bed.at(CLIENT).run("cat", "/tmp/page.html").stdout
    assert "<h1" in page
    assert "t0001" in page


def pauses_on_ctrl_c(bed: Bed) -> None:
    """Train a search on both workers, and press Ctrl-C on the machine that submitted it."""
    search = (
        "search.run",
        "--space",
        "table3",
        "--max-epochs",
        EPOCHS,
        "--trials",
        TRIALS,
        "--scheduler",
        "fifo",
        "--device",
        "cpu",
        "--name",
        "s",
    )
    process = bed.submit(*search)
    addresses = {bed.at(name).address for name in WORKERS}
    wait_for(
        lambda: {event["host"] for event in bed.events("running")} >= addresses and bed.truth(),
        process,
        "both workers to train",
    )
    again = subprocess.run(bed.verb("up"), capture_output=True, text=True, check=False)
    assert again.returncode == 5
    assert "jobs that a restart would stop" in again.stderr
    signal_inside(process, signal.SIGINT)
    said = ended(process)
    assert process.returncode == 130, said
    assert "A search pauses" in said
    assert "search.resume" in said


def signal_inside(process: "subprocess.Popen[str]", number: int) -> None:
    """Send a signal to the Python that `nsenter` runs, its only child."""
    for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
        os.kill(int(pid), number)


def goes_on_without_the_host_that_is_cut_off(bed: Bed) -> float:
    """Resume the search, and cut a worker off the network while it trains.

    Returns the seconds until its trial goes on elsewhere.
    """
    before = len(bed.events("running"))
    process = bed.submit("search.resume", "s", "--json")
    lost = bed.at(WORKERS[1]).address

    def trains_there() -> list[str]:
        return [event["trial"] for event in bed.events("running")[before:] if event["host"] == lost]

    wait_for(trains_there, process, "a trial on the second worker")
    bed.at(WORKERS[1]).cut()
    began = time.monotonic()
    wait_for(
        lambda: [event for event in bed.events("retried") if event["kind"] == "lost"],
        process,
        "the lost trial to be tried again",
    )
    cost = time.monotonic() - began
    said = ended(process)
    assert process.returncode == 0, said
    summary = json.loads(next(line for line in reversed(said.splitlines()) if line.startswith("{")))
    assert summary["trials"] == {"completed": TRIALS}
    return cost


def has_lost_nothing(bed: Bed) -> None:
    every = {
        (f"t{number:04}", epoch): 1
        for number in range(1, TRIALS + 1)
        for epoch in range(1, EPOCHS + 1)
    }
    assert Counter((event["trial"], event["epoch"]) for event in bed.events("epoch")) == every
    runs = json.loads(bed.at(CLIENT).run(sys.executable, "-c", RUNS, bed.mlflow).stdout)
    trials = {
        run["tags"]["search.trial"]: run["epochs"] for run in runs if "search.trial" in run["tags"]
    }
    assert trials == {
        f"t{number:04}": {"val/accuracy": list(range(1, EPOCHS + 1))}
        for number in range(1, TRIALS + 1)
    }
    assert {run["status"] for run in runs} == {"FINISHED"}


def ends(bed: Bed) -> None:
    done = subprocess.run(bed.verb("status"), capture_output=True, text=True, check=False)
    assert f"worker {bed.at(WORKERS[1]).address}  dead" in done.stdout, done
    bed.at(WORKERS[1]).mend()
    done = subprocess.run(
        bed.verb("down"), capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    for name in (HEAD, *WORKERS):
        left = [
            line
            for line in bed.at(name).processes()
            if "ray" in line and not line.startswith(("ps ", "ssh: "))
        ]  # a shared ssh ends 10 s later
        assert not left, f"{name}: {left}"


def test_a_search_on_hosts_of_ones_own(bed: Bed, capsys: pytest.CaptureFixture[str]) -> None:
    """Run the whole scenario, and print its times."""
    times: dict[str, float] = {}

    def step(name: str, do: Callable[[Bed], Any]) -> Any:
        began = time.monotonic()
        result = do(bed)
        times[name] = time.monotonic() - began
        return result

    starts(bed)
    times["up"] = bed.up[1]
    step("doors", opens_no_door_without_the_token)
    step("check", is_ready)
    step("paused search", pauses_on_ctrl_c)
    cost = step("resumed search, one host cut off", goes_on_without_the_host_that_is_cut_off)
    step("accounts", has_lost_nothing)
    step("report", is_reported_from_elsewhere)
    step("down", ends)
    hosts = Counter(event["host"] for event in bed.events("running"))
    with capsys.disabled():
        print(
            f"\nseconds: { ({name: round(value, 1) for name, value in times.items()}) }; "
            f"the cut cost {cost:.1f} s; trials by host: {dict(hosts)}"
        )
    assert set(hosts) == {bed.at(name).address for name in WORKERS}
