"""The arguments and files of the verbs of `cluster`; nothing is started."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster import auth, dashboard, definition, down, ssh, status, submit, up
from cluster.dashboard import ClusterJob, ClusterState
from cluster.errors import Denied, Mistake, NotReady, Refused
from search.values.verbs import VERBS
from tests.conftest import Command

ROOT = Path(__file__).parent.parent.parent
FILE = ROOT / "cluster" / "onprem.yaml"
SEARCH = ["python", "-m", "search.run", "--space", "table3"]
KEPT = ["--storage", "s3://bucket/prefix", "--tracking", "http://host:5000"]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a home folder with the key that the file names."""
    made = tmp_path / "home"
    (made / ".ssh").mkdir(parents=True)
    (made / ".ssh" / "cluster").write_text("a key")
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(made))
    return made


def changed(folder: Path, **parts: Any) -> Path:
    """Return the project's file with other parts."""
    content = {**yaml.safe_load(FILE.read_text()), **parts}
    path = folder / "changed.yaml"
    path.write_text(
        yaml.safe_dump({name: part for name, part in content.items() if part is not None})
    )
    return path


def test_the_projects_file_is_understood() -> None:
    found = definition.read(FILE)
    assert (found.is_local, found.head, found.workers, found.least_workers) == (
        True,
        "192.168.1.10",
        ("192.168.1.11", "192.168.1.12"),
        2,
    )
    assert down.stop_command(found.content, "worker") == ". ~/search-env/bin/activate; ray stop"


def test_the_projects_file_opens_no_door_without_a_token() -> None:
    content = yaml.safe_load(FILE.read_text())
    starts = [
        one
        for kind in ("head", "worker")
        for one in content[f"{kind}_start_ray_commands"]
        if "ray start" in one
    ]
    assert len(starts) == 2
    for one in starts:
        assert "export RAY_AUTH_MODE=token" in one.partition("ray start")[0]
    assert "--dashboard-host=127.0.0.1" in starts[0]
    assert "RAY_enable_autoscaler_v2=0" in starts[0]
    assert content["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert "chmod 600 ~/.ray/auth_token" in content["setup_commands"]


PYTHON = """#!/bin/sh
[ "$1" = -m ] && [ "$2" = venv ] || exit 9
echo venv >>~/said
mkdir -p "$3/bin"
printf '#!/bin/sh\\necho "$*" >>~/said; touch ~/search-env/bin/ray; test -e ~/can-install\\n' \\
    >"$3/bin/python"
chmod 755 "$3/bin/python"
"""
"""A stand-in for Python. It makes an environment that has Ray before it has everything, and
finishes only if `~/can-install` exists.
"""


def test_an_environment_that_was_broken_off_is_made_anew(home: Path) -> None:
    """An incomplete environment is not taken for whole because it has a `ray`.

    One that is whole is left alone until the list of packages changes.
    """
    *_, install = yaml.safe_load(FILE.read_text())["setup_commands"]
    (home / "bin").mkdir()
    (home / "bin/python3.11").write_text(PYTHON)
    (home / "bin/python3.11").chmod(0o755)
    (home / "search-requirements.txt").write_text("ray==1\n")

    def set_up() -> tuple[bool, int]:
        """Return whether it reports success, and the number of environments that it made."""
        (home / "bin/ray").touch()
        environment = {"HOME": str(home), "PATH": f"{home}/bin:/usr/bin:/bin"}
        done = subprocess.run(["bash", "-c", install], env=environment, check=False, timeout=300)
        made = (home / "said").read_text().count("venv") if (home / "said").exists() else 0
        (home / "said").unlink(missing_ok=True)
        return done.returncode == 0, made

    assert set_up() == (False, 1)
    (home / "search-env/bin/ray").chmod(0o755)
    assert set_up() == (False, 1)
    (home / "can-install").touch()
    assert set_up() == (True, 1)
    (home / "search-env/bin/ray").chmod(0o755)
    assert set_up() == (True, 0)
    (home / "search-requirements.txt").write_text("ray==2\n")
    assert set_up() == (True, 1)


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"provider": None}, "does not define a cluster"),
        ({"auth": {}}, "does not define a cluster"),
        ({"provider": {"type": "local", "worker_ips": ["a"]}}, "head_ip is missing"),
        ({"provider": {"type": "local", "head_ip": "a"}}, "worker_ips must list at least one host"),
        ({"provider": {"type": "local", "head_ip": "a", "worker_ips": ["a"]}}, "listed twice"),
        ({"auth": {"ssh_user": "u"}}, "ssh_private_key is missing"),
        (
            {"auth": {"ssh_user": "u", "ssh_private_key": "~/none"}},
            "does not exist. Create it with: ssh-keygen",
        ),
        (
            {"auth": {"ssh_user": "u", "ssh_private_key": "~nobody-of-ours/key"}},
            "the ssh key '~nobody-of-ours/key' does not exist. Create it with: ssh-keygen",
        ),
        ({"file_mounts": {"~/a": "no-such-file"}}, "'no-such-file' does not exist"),
        ({"file_mounts": {"~/a": "~nobody-of-ours/a"}}, "'~nobody-of-ours/a' does not exist"),
        ({"provider": ["local"]}, "provider must be a mapping"),
    ],
)
def test_a_wrong_file_is_refused_in_words(tmp_path: Path, parts: dict[str, Any], said: str) -> None:
    with pytest.raises(Mistake, match=said):
        definition.read(changed(tmp_path, **parts))


def test_a_clouds_workers_are_counted_without_its_head(tmp_path: Path) -> None:
    kinds = {"head": {"min_workers": 0}, "spot": {"min_workers": 2}, "on-demand": {}}
    path = changed(
        tmp_path,
        provider={"type": "aws"},
        auth={"ssh_user": "ubuntu"},
        available_node_types=kinds,
        head_node_type="head",
    )
    found = definition.read(path)
    assert (found.is_local, found.least_workers) == (False, 2)


@pytest.mark.parametrize("verb", ["up", "down", "status", "submit"])
def test_each_verb_names_its_mistake_in_one_line(call: Command, tmp_path: Path, verb: str) -> None:
    (tmp_path / "bad.yaml").write_text("a: [")
    for file, said in (("none.yaml", "cannot be read"), ("bad.yaml", "is not valid YAML")):
        done = call(
            f"cluster.{verb}",
            file,
            *(["--", "python", "-m", "trainables"] if verb == "submit" else []),
        )
        assert done.returncode == 2
        assert done.stdout == ""
        assert done.stderr.count("\n") == 1
        assert done.stderr.startswith(f"error: {file}")
        assert said in done.stderr
    done = call(f"cluster.{verb}")
    assert done.returncode == 2
    assert done.stderr == (
        f"error: the following arguments are required: FILE. See python -m cluster.{verb} --help.\n"
    )


def test_the_verbs_load_no_ray_until_they_need_it() -> None:
    code = (
        "import sys, cluster.up, cluster.down, cluster.submit, cluster.status; "
        "print([name for name in ('ray', 'torch', 'boto3') if name in sys.modules])"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
        == "[]\n"
    )


def test_a_token_is_made_once_and_for_this_user_alone(home: Path) -> None:
    with pytest.raises(NotReady, match="token is missing"):
        auth.token()
    assert auth.ensure()
    path = home / ".ray" / "auth_token"
    made = path.read_text()
    assert len(made) == 64
    path.chmod(0o644)
    assert not auth.ensure()
    assert (path.read_text(), path.stat().st_mode & 0o777) == (made, 0o600)
    assert auth.token() == made


def test_a_token_is_never_readable_by_others(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even while it is written, nor through its folder."""
    made: list[int] = []
    link = os.link

    def seen(source: str, target: Path) -> None:
        made.append(Path(source).stat().st_mode & 0o777)
        link(source, target)

    monkeypatch.setattr(os, "link", seen)
    (home / ".ray").mkdir(mode=0o755)
    before = os.umask(0)
    try:
        auth.ensure()
    finally:
        os.umask(before)
    assert made == [0o600]
    assert (home / ".ray").stat().st_mode & 0o777 == 0o700
    assert [path.name for path in (home / ".ray").iterdir()] == ["auth_token"]


def test_of_two_who_make_a_token_at_once_both_have_the_same(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def late(source: str, target: Path) -> None:
        target.write_text("the other's")
        link(source, target)

    monkeypatch.setattr(os, "link", late)
    assert not auth.ensure()
    assert auth.token() == "the other's"


def test_an_empty_token_is_made_anew(home: Path) -> None:
    (home / ".ray").mkdir()
    (home / ".ray" / "auth_token").touch(mode=0o644)
    assert auth.ensure()
    assert len(auth.token()) == 64
    assert auth.token_file().stat().st_mode & 0o777 == 0o600


def test_a_home_that_takes_no_token_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "file").touch()
    monkeypatch.setenv("HOME", str(home / "file"))
    with pytest.raises(
        NotReady,
        match=(
            r"^Ray's token file .*/file/\.ray/auth_token cannot be written \(Not a "
            r"directory\)\. Set HOME"
        ),
    ):
        auth.ensure()


def test_the_environments_token_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    auth.ensure()
    monkeypatch.setenv("RAY_AUTH_TOKEN", "another")
    assert auth.token() == "another"


def test_a_search_joins_the_running_cluster() -> None:
    assert submit.check_command([*SEARCH, *KEPT], {}) == [*SEARCH, *KEPT, "--address", "auto"]
    given = [*SEARCH, *KEPT, "--address=local"]
    assert submit.check_command(given, {}) == given
    status_of = ["python", "-m", "search.status", "s", "--storage", "/shared"]
    assert submit.check_command(status_of, {}) == status_of
    other = ["python", "-c", "print(1)"]
    assert submit.check_command(other, {}) == other
    assert submit.check_command([*SEARCH, "--dry-run"], {}) == [*SEARCH, "--dry-run"]


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_that_can_join_a_cluster_does(verb: str) -> None:
    """Otherwise it would train on the head, by itself."""
    help_text = (ROOT / "tests" / "fixtures" / "faces" / "help" / f"{verb}.txt").read_text()
    trains = "--address" in help_text and "--executor" in help_text
    words = submit.check_command(["python", "-m", f"search.{verb}", "s", *KEPT], {})
    assert (words[-2:] == ["--address", "auto"]) == trains


def test_what_outlives_the_job_may_come_from_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert submit.check_command(
        [*SEARCH, "--storage", "/shared"], {"MLFLOW_TRACKING_URI": "http://host:5000"}
    )[-2:] == ["--address", "auto"]
    monkeypatch.chdir(tmp_path)
    Path("search.yaml").write_text(
        "storage: s3://bucket/x\ntracking: http://host:5000\naddress: auto\n"
    )
    words = ["python", "-m", "search.run", "--config", "search.yaml"]
    assert submit.check_command(words, {}) == words


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "the command is missing"),
        (SEARCH, r"--storage must name a place that remains after the job \(none was given\)"),
        (
            [*SEARCH, "--storage", "searches"],
            r"--storage must name a place that remains after the job \(got 'searches'\)",
        ),
        (
            [*SEARCH, "--storage=s3://bucket/x"],
            r"--tracking must name a place that remains after the job \(none was given\)",
        ),
        (
            [*SEARCH, "--storage", "/shared", "--tracking", "sqlite:///mlflow.db"],
            r"--tracking must name a place that remains after the job \(got 'sqlite:///mlflow.db'\)",
        ),
        (
            ["python", "-m", "search.resume", "s"],
            "--storage must name a place that remains after the job",
        ),
        (
            [*SEARCH, *KEPT[:2], "--tracking", "http://me:secret@host:5000"],
            "contains a text that looks like a credential",
        ),
    ],
)
def test_results_that_would_be_lost_are_refused(words: list[str], said: str) -> None:
    with pytest.raises(Mistake, match=said):
        submit.check_command(words, {})


@pytest.mark.parametrize(
    "given",
    [
        "AWS_SECRET_ACCESS_KEY=x",
        "AWS_ACCESS_KEY_ID=x",
        "MLFLOW_TRACKING_PASSWORD=x",
        "HF_TOKEN=x",
        "URL=https://a:b@host",
    ],
)
def test_credentials_are_no_part_of_a_job(given: str) -> None:
    with pytest.raises(Mistake, match="looks like a credential") as raised:
        submit.environment_of([given])
    assert "=x" not in str(raised.value)
    assert "a:b" not in str(raised.value)


def test_other_variables_are(tmp_path: Path) -> None:
    assert submit.environment_of(["AWS_ENDPOINT_URL=http://host:8333", "EMPTY="]) == {
        "AWS_ENDPOINT_URL": "http://host:8333",
        "EMPTY": "",
    }
    for text in ("NAME", "=value", "A-B=c"):
        with pytest.raises(Mistake, match="NAME=VALUE"):
            submit.environment_of([text])


def test_the_packages_and_the_named_files_are_shipped_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    files = {
        "mine/space.py": "import numpy, helper\nfrom mine.parts import sizes\nimport search.space",
        "mine/helper.py": "import common",
        "mine/parts/__init__.py": "from . import rates",
        "mine/parts/sizes.py": "import os.path",
        "mine/parts/rates.py": "",
        "mine/parts/other.py": "",
        "mine/credentials.py": "KEY = 1",
        "mine/secrets.txt": "",
        "common.py": "this is no Python",
        "settings.py": "KEY = 1",
        "search.yaml": "",
        "table3/x": "",
    }
    for name, content in files.items():
        Path(name).parent.mkdir(exist_ok=True, parents=True)
        Path(name).write_text(content)
    words = [
        "python",
        "-m",
        "search.run",
        "--space",
        "mine/space.py:space",
        "--config=search.yaml",
        "--name",
        "table3",
        "--storage",
        "/tmp",
    ]
    with submit.job_folder(words) as folder:
        shipped = {
            path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
        }
    assert not folder.exists()
    assert {name for name in shipped if name.split("/")[0] not in submit.PACKAGES} == {
        "mine/space.py",
        "mine/helper.py",
        "mine/parts/__init__.py",
        "mine/parts/sizes.py",
        "mine/parts/rates.py",
        "common.py",
        "search.yaml",
    }
    assert {
        "search/run.py",
        "search/views/page/page.html",
        "trainables/trial.py",
        "cluster/runtime/session.py",
    } <= shipped
    assert not [name for name in shipped if "__pycache__" in name]


def test_data_is_not_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data/flowers").mkdir(parents=True)
    with pytest.raises(Mistake, match="'data/flowers' cannot be uploaded"):
        submit.named_files(["--data", "folder:data/flowers"])


def test_what_follows_the_dashes_is_the_command() -> None:
    args = submit.arguments(
        ["file.yaml", "--env", "A=b", "--no-wait", "--", "python", "-m", "search.run", "--", "x"]
    )
    assert (args.file, args.env, args.no_wait, args.command) == (
        Path("file.yaml"),
        ["A=b"],
        True,
        ["python", "-m", "search.run", "--", "x"],
    )


class Ended:
    """A job that has ended."""

    def __init__(self, *how: object) -> None:
        self.how = how

    def outcome(self, job: str) -> tuple[object, ...]:
        """Return how the job ended."""
        return self.how


@pytest.mark.parametrize(
    ("how", "code"),
    [
        (("SUCCEEDED", 0, ""), 0),
        (("FAILED", 3, ""), 3),
        (("FAILED", -15, ""), 143),
        (("STOPPED", None, ""), 143),
        (("FAILED", None, "no place"), 4),
    ],
)
def test_the_exit_code_is_the_commands(
    how: tuple[object, ...], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert submit.exit_code(Ended(*how), "job") == code  # type: ignore[arg-type]
    assert ("no place" in capsys.readouterr().err) == (code == 4)


def test_a_cluster_is_told_in_plain_words() -> None:
    listed = [
        {"node_ip": "192.168.1.11", "state": "DEAD", "start_time_ms": 1, "resources_total": {}},
        {
            "node_ip": "192.168.1.11",
            "state": "ALIVE",
            "start_time_ms": 2,
            "resources_total": {"CPU": 8.0, "GPU": 1.0},
        },
        {"node_ip": "192.168.1.10", "state": "ALIVE", "is_head_node": True, "resources_total": {}},
    ]
    load = {
        "usageByNode": {"192.168.1.11": {"CPU": [3.0, 8.0], "GPU": [0.5, 1.0]}},
        "resourceDemand": [[{"CPU": 1.0}, 2]],
        "pgDemand": [[{"bundles": [[{"CPU": 0.5, "GPU": 0.25}, 2]], "strategy": "PACK"}, 3]],
    }
    job = ClusterJob(
        name="raysubmit_x", status="running", start_s=0, command="python -m search.run"
    )
    now = ClusterState(
        nodes=tuple(dashboard.nodes(listed, load["usageByNode"])),
        pending_requests=tuple(dashboard.pending_requests(load)),
        jobs=(job,),
    )  # type: ignore[arg-type]
    *said, last = status.lines(definition.read(FILE), now)
    assert said == [
        "onprem: 1 worker alive, at least 2 required",
        "  head   192.168.1.10  alive  0 of 0 CPUs in use",
        "  worker 192.168.1.11  alive  3 of 8 CPUs, 0.5 of 1 GPUs in use",
        "  worker 192.168.1.12  has not joined",
        "waiting for resources: 2 x 1 CPU",
        "waiting for resources: 3 x 1 CPU and 0.5 GPU",
    ]
    assert last.startswith("job raysubmit_x  running since ")


LISTED = [
    {
        "type": "SUBMISSION",
        "submission_id": "raysubmit_x",
        "status": "RUNNING",
        "entrypoint": "python -m search.run",
        "job_id": "02000000",
        "start_time": 1,
    },
    {
        "type": "SUBMISSION",
        "submission_id": "raysubmit_y",
        "status": "SUCCEEDED",
        "entrypoint": "python -m search.run",
        "job_id": "03000000",
    },
    {
        "type": "DRIVER",
        "submission_id": None,
        "job_id": "04000000",
        "status": "RUNNING",
        "entrypoint": "search/run.py --address 10.0.0.1:6379",
        "driver_info": {"id": "04000000", "node_ip_address": "10.0.0.9", "pid": "77"},
    },
    {
        "type": "DRIVER",
        "submission_id": None,
        "job_id": "05000000",
        "status": "SUCCEEDED",
        "driver_info": {"node_ip_address": "10.0.0.9", "pid": "78"},
    },
]
"""Jobs as Ray lists them: submitted, and joined by `--address HOST:PORT`."""


def test_a_search_that_joined_by_an_address_is_a_job_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """To start Ray again would end it."""
    monkeypatch.setattr(dashboard, "_get", lambda url, path: LISTED)
    running = dashboard.jobs("http://head")
    assert [job.name for job in running] == [
        "raysubmit_x",
        "04000000 (process 77 on 10.0.0.9)",
    ]
    now = ClusterState(nodes=(), pending_requests=(), jobs=tuple(running))
    said = [line for line in status.lines(definition.read(FILE), now) if line.startswith("job ")]
    assert said[1].startswith("job 04000000 (process 77 on 10.0.0.9)  running since ")
    assert said[1].endswith("search/run.py --address 10.0.0.1:6379")

    @contextmanager
    def tunnel(at: definition.Definition) -> Iterator[str]:
        yield "http://head"

    monkeypatch.setattr(up.ssh, "tunnel", tunnel)
    with pytest.raises(
        Refused,
        match=(
            r"is running jobs that a restart would stop: raysubmit_x, "
            r"04000000 \(process 77 on 10\.0\.0\.9\)\. Wait"
        ),
    ):
        up.refuse_to_interrupt(definition.read(FILE))


def test_a_cluster_that_is_slow_to_answer_is_not_started_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.socket() as hole:
        hole.bind(("127.0.0.1", 0))
        hole.listen()

        @contextmanager
        def tunnel(at: definition.Definition) -> Iterator[str]:
            yield f"http://127.0.0.1:{hole.getsockname()[1]}"

        auth.ensure()
        monkeypatch.setattr(up.ssh, "tunnel", tunnel)
        monkeypatch.setattr(dashboard, "TIMEOUT_S", 0.2)
        slow = r"the cluster's dashboard is running, but did not respond within 0\.2 s"
        with pytest.raises(Denied, match=slow):
            up.refuse_to_interrupt(definition.read(FILE))


class Answers:
    """Hosts that ssh reaches, or does not."""

    def __init__(self, *lost: str) -> None:
        self.lost = lost

    def __call__(
        self, at: definition.Definition, hosts: tuple[str, ...], command: str
    ) -> dict[str, "subprocess.CompletedProcess[str]"]:
        """Return the answer of each host."""
        return {
            host: subprocess.CompletedProcess([], 255 * (host in self.lost), "", "No route to host")
            for host in hosts
        }


def test_a_host_that_is_not_reached_is_named_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(up.ssh, "run_on", Answers("192.168.1.12"))
    with pytest.raises(
        NotReady,
        match=(
            r"^192\.168\.1\.12 cannot be reached by ssh as ubuntu with .*/\.ssh/cluster \(No route "
            r"to host\)\."
        ),
    ):
        up.check_hosts(definition.read(FILE))
    up.check_hosts(definition.read(changed(tmp_path, min_workers=1)))
    assert "192.168.1.12 cannot be reached" in capsys.readouterr().out
    monkeypatch.setattr(up.ssh, "run_on", Answers("192.168.1.10"))
    with pytest.raises(NotReady, match=r"^192\.168\.1\.10 cannot be reached"):
        up.check_hosts(definition.read(changed(tmp_path, min_workers=1)))


def test_rays_launcher_is_not_let_try_again_where_the_head_shows_another_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It would, for minutes."""
    monkeypatch.setattr(
        ssh,
        "RAY",
        ("sh", "-c", "echo Waiting for SSH; echo Host key verification failed.; exec sleep 60"),
    )
    with pytest.raises(
        NotReady,
        match=(
            r"^'ray up' failed \(the head's host key has changed since the first connection\. "
            r"If the host .*known_hosts-onprem -R 192\.168\.1\.10\)"
        ),
    ):
        up.ray_up(definition.read(FILE))


def test_rays_own_words_are_made_plain() -> None:
    assert (
        up.plain_text("\x1b[31m!!! Failed to setup head node. !!!\x1b[0m\n")
        == "Failed to setup head node."
    )
    assert up.plain_text("----------\n") == ""


@pytest.mark.parametrize("given", ["nan", "inf", "-1", "0", "²", "1e300", "soon"])
def test_a_time_that_cannot_be_waited_is_refused(
    given: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        up.main([str(changed(tmp_path)), f"--timeout={given}"])
    assert left.value.code == 2
    assert (
        f"the number of seconds must be above 0 and at most 1,000,000,000 (got '{given}')"
        in capsys.readouterr().err
    )
