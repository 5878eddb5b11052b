"""python -m cluster.submit FILE -- python -m search.run ...: run a command on a cluster's head.

The command runs with this code, and its output is printed until it ends. These files are uploaded:
the three packages, the files that the command names, and the Python files below this folder that
these import. The exit code is that of the command.
"""

import argparse
import ast
import re
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from cluster import definition, ssh
from cluster.cli import Parser, complain, file_argument, say
from cluster.definition import Definition
from cluster.errors import Mistake, NotReady
from cluster.exit_codes import ExitCode
from cluster.guard import guarded
from cluster.jobs import Jobs
from cluster.secrets import KEY, redact

PACKAGES = ("search", "trainables", "cluster")
IGNORED_FILES = shutil.ignore_patterns("__pycache__", "*.pyc")
LARGEST_FILE = 10 * 1024 * 1024
"""Maximum size of an uploaded file that the command names, in bytes."""
TAKE_ADDRESS = ("search.improve", "search.refine", "search.resume", "search.run", "search.select")
"""The verbs that accept --address; `--address auto` is added to their commands."""
OPTIONS_WITHOUT_RESULT = ("--help", "-h", "--dry-run")
"""A command with one of these options stores no results, so its storage is not checked."""
PATIENCE_S = 300
"""Time in seconds for which we try to reconnect after a lost connection."""


def command(args: argparse.Namespace) -> int:
    """Check the command, upload the code, submit the job, and follow it to its end.

    Returns:
        The job's exit code. With --no-wait, 0 as soon as the job is submitted.
    """
    environment = environment_of(args.env)
    words = check_command(args.command, environment)
    cluster = definition.read(args.file)
    with ssh.tunnel(cluster) as url, job_folder(args.command) as folder:
        jobs = Jobs(url)
        job = jobs.submit(shlex.join(words), folder, environment)
        if args.no_wait:
            print(job)
            return 0
        say(f"job {job} was submitted to '{cluster.name}'. Press Ctrl-C to stop the job.")
        code = follow_job(jobs, job)
    return code if code is not None else follow_again(cluster, job, jobs.printed_chars)


def follow_job(jobs: Jobs, job: str) -> int | None:
    """Print the job's output until it ends; Ctrl-C stops the job.

    Returns:
        The job's exit code, `INTERRUPTED` after Ctrl-C, or None if the connection broke.
    """
    try:
        jobs.follow(job, write)
        return exit_code(jobs, job)
    except KeyboardInterrupt:
        say(
            "\nstopping the job. A search pauses within about 12 s and can be resumed. "
            "Press Ctrl-C again to exit without waiting for the job."
        )
        jobs.stop(job)
        jobs.follow(job, write)
        say(
            "the job has stopped. If it ran a search, continue the search with: "
            "python -m cluster.submit FILE -- python -m search.resume NAME --storage ..."
        )
        return ExitCode.INTERRUPTED


def follow_again(cluster: Definition, job: str, printed_chars: int) -> int:
    """Reconnect after the connection broke, and follow the job to its end.

    Args:
        cluster: the cluster on which the job runs.
        job: the job's id.
        printed_chars: the number of characters of its output that were already printed.

    Raises:
        NotReady: the cluster was not reached for `PATIENCE_S`; the job may still be running.
    """
    say("the connection to the cluster was lost, but the job continues. Connecting again...")
    deadline = time.monotonic() + PATIENCE_S
    try:
        while time.monotonic() < deadline:
            try:
                with ssh.tunnel(cluster) as url:
                    jobs = Jobs(url, printed_chars=printed_chars)
                    code, printed_chars = follow_job(jobs, job), jobs.printed_chars
                if code is not None:
                    return code
                deadline = time.monotonic() + PATIENCE_S
            except NotReady:
                time.sleep(5)
    except KeyboardInterrupt:
        say(
            f"job {job} may still be running, but the cluster cannot be reached now. Check the job "
            f"with: python -m cluster.status {ssh.relative_to_here(cluster.path)}"
        )
        return ExitCode.INTERRUPTED
    raise NotReady(
        f"the cluster could not be reached for {PATIENCE_S} s; job {job} may still be running. "
        f"Check the job with: python -m cluster.status {cluster.path}"
    )


def exit_code(jobs: Jobs, job: str) -> int | None:
    """Query the exit code of the job's command; None if the job still runs or is not reached.

    Ray has no exit code for a job that was stopped or never started. For such a job, the result is
    `TERMINATED` or `NOT_READY`, and the reason is printed.
    """
    deadline = time.monotonic() + 10
    try:
        # The job's output may end a moment before its status changes.
        while (outcome := jobs.outcome(job)) is None:
            if time.monotonic() > deadline:
                return None
            time.sleep(0.2)
    except NotReady:
        return None
    status, code, reason = outcome
    if status == "SUCCEEDED":
        return 0
    if code is not None:
        # A negative code is the signal that ended the command; shells report it as 128 + signal.
        return 128 - code if code < 0 else code
    if status == "STOPPED":
        say("the job was stopped")
        return ExitCode.TERMINATED
    return complain(
        NotReady(f"the job did not start or was lost: {' '.join(reason.split())[:1000]}"),
        ExitCode.NOT_READY,
    )


def write(text: str) -> None:
    """Print a part of the job's output, and flush stdout."""
    sys.stdout.write(text)
    sys.stdout.flush()


def environment_of(assignments: Sequence[str]) -> dict[str, str]:
    """Parse the values of `--env` into environment variables.

    Raises:
        Mistake: a text is not NAME=VALUE, or looks like a credential. A credential is refused,
            because everybody with access to the cluster's jobs could read it.
    """
    variables = {}
    for text in assignments:
        name, equals, value = text.partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise Mistake(
                "--env must have the form NAME=VALUE, and NAME may contain only A-Z a-z 0-9 _ and "
                f"must not start with a digit (got '{redact(name)}{'=...' * bool(equals)}')."
            )
        if KEY.search(name) or redact(value) != value:
            raise Mistake(
                f"--env {name} looks like a credential, which everybody with access to the jobs "
                "could read. Store the credential in ~/.aws/credentials on the hosts, or give the "
                "hosts an IAM role."
            )
        variables[name] = value
    return variables


def check_command(words: Sequence[str], environment: dict[str, str]) -> list[str]:
    """Check a command, and build the one that the head runs.

    `--address auto` is added to a search, so that it joins the running cluster.

    Args:
        words: the command, word by word.
        environment: the variables from --env.

    Raises:
        Mistake: there is no command, it contains a credential, or its --storage or --tracking
            would be lost with the job's temporary folder.
    """
    if not words:
        raise Mistake(
            "the command is missing. Write it after --, for example: "
            "python -m cluster.submit FILE -- python -m search.run --space table3 ..."
        )
    if any(redact(word) != word for word in words):
        raise Mistake(
            "the command contains a text that looks like a credential, which everybody with access "
            "to the jobs could read. Store the credential on the hosts instead, for example in "
            "~/.mlflow/credentials."
        )
    module = words[words.index("-m") + 1] if "-m" in words[:-1] else ""
    if not module.startswith("search.") or any(word in OPTIONS_WITHOUT_RESULT for word in words):
        return list(words)
    options = options_of(words)
    storage = options.get("storage")
    if storage is None or not is_outside_job(storage):
        got = f"got '{storage}'" if storage else "none was given"
        raise Mistake(
            f"--storage must name a place that remains after the job ({got}). "
            "Use --storage s3://BUCKET/PREFIX, or the absolute path of a folder "
            "that all hosts share."
        )
    tracking = options.get("tracking") or environment.get("MLFLOW_TRACKING_URI")
    if (tracking is None and module == "search.run") or (
        tracking is not None and not is_tracking_outside_job(tracking)
    ):
        got = f"got '{tracking}'" if tracking else "none was given"
        raise Mistake(
            f"--tracking must name a place that remains after the job ({got}). "
            "Use --tracking http://HOST:5000 with a server that the head node can reach."
        )
    return (
        [*words, "--address", "auto"]
        if module in TAKE_ADDRESS and "address" not in options
        else list(words)
    )


def options_of(words: Sequence[str]) -> dict[str, str]:
    """Read the options --storage, --tracking, --address and --config of a command.

    The config file is read too. Options in the command override those in the file.

    Returns:
        The values by option name, without the dashes; absent options are left out.
    """
    options: dict[str, str] = {}
    for number, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name in ("--storage", "--tracking", "--address", "--config"):
            options[name[2:]] = (
                value if equals else (list(words[number + 1 : number + 2]) or [""])[0]
            )
    return {**_config_options(options["config"]), **options} if "config" in options else options


def _config_options(name: str) -> dict[str, str]:
    """Read the options in a config file; empty if it is malformed, which the search reports."""
    with suppress(Mistake):
        content = definition.mapping(Path(name))
        return {
            key: str(content[key])
            for key in ("storage", "tracking", "address")
            if content.get(key) is not None
        }
    return {}


def is_outside_job(storage: str) -> bool:
    """True if a storage is outside the job's temporary folder: a URI or an absolute path."""
    return "://" in storage or storage.startswith("/")


def is_tracking_outside_job(uri: str) -> bool:
    """True unless a tracking URI is an SQLite file in the job's temporary folder."""
    return not urlsplit(uri).scheme.startswith("sqlite") or uri.partition(":///")[2].startswith("/")


@contextmanager
def job_folder(words: Sequence[str]) -> Iterator[Path]:
    """Yield a temporary folder with only the files that the job needs.

    These are the packages, the files that the command names, and the modules that these import.
    Results, data, virtual environments and secrets in the working directory are not uploaded.

    Raises:
        Mistake: the command names a folder or a large file by a relative path.
    """
    with tempfile.TemporaryDirectory(prefix="cluster-submit-") as temporary:
        folder = Path(temporary)
        for package in PACKAGES:
            shutil.copytree(definition.ROOT / package, folder / package, ignore=IGNORED_FILES)
        for file in with_imports(named_files(words)):
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, folder / file)
        yield folder


def with_imports(files: Sequence[Path]) -> set[Path]:
    """Collect these files and all Python files that they import, directly or indirectly.

    Modules are looked up where Python will look for them on the head: in the job's folder, and next
    to the importing file. Imports of computed names (`importlib`) are not found.
    """
    files_and_imports = set(files)
    waiting = [file for file in files if file.suffix == ".py"]
    while waiting:
        file = waiting.pop()
        for name in imported_names(file):
            new = {module for place in ("", file.parent) for module in modules(Path(place), name)}
            waiting += new - files_and_imports
            files_and_imports |= new
    return files_and_imports


def imported_names(file: Path) -> set[str]:
    """List the names of all modules that a file's import statements may import.

    `from a import b` yields `a` and `a.b`; relative names keep their leading dots. Empty if the
    file cannot be parsed.
    """
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):  # the command itself reports the error
        return set()
    names = set[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            prefix = f"{'.' * node.level}{node.module or ''}"
            joint = "" if prefix.endswith(".") else "."
            names |= {prefix, *(f"{prefix}{joint}{alias.name}" for alias in node.names)}
    return names


def modules(place: Path, name: str) -> set[Path]:
    """List the files that Python reads to import a module and the packages that contain it.

    Modules of our own packages are left out, because all of their files are uploaded.

    Args:
        place: the folder in which the module is looked up.
        name: the module's name. The first leading dot stands for `place`, each further one for the
            folder above.
    """
    plain = name.lstrip(".")
    for _ in range(len(name) - len(plain) - 1):
        place = place.parent
    parts = plain.split(".")
    if plain and parts[0] in PACKAGES:
        return set()
    candidates = set[Path]()
    for count in range(len(parts) + 1):
        module = place.joinpath(*parts[:count])
        candidates |= {module / "__init__.py", module.with_suffix(".py")} if module.name else set()
    return {path for path in candidates if path.is_file()}


def named_files(words: Sequence[str]) -> list[Path]:
    """List the files below the working directory that a command names by relative paths.

    A path may be a word of the command, or an option's value after `=`. `:NAME` may follow it.

    Raises:
        Mistake: a path names a folder, a file above `LARGEST_FILE`, or contains `..`.
    """
    files = []
    for word in words:
        value = word.partition("=")[2] if word.startswith("--") else word
        path = Path(
            value.removeprefix("folder:")
            if value.startswith("folder:")
            else value.rpartition(":")[0] or value
        )
        if not value or path.is_absolute() or not path.exists() or str(path) in (".", *PACKAGES):
            continue
        # A plain word, such as the name of a space, may coincide with a folder's name.
        if path.is_dir() and "/" not in value and not value.startswith("folder:"):
            continue
        if path.is_dir() or path.stat().st_size > LARGEST_FILE or ".." in path.parts:
            raise Mistake(
                f"'{path}' cannot be uploaded, because only files of at most "
                f"{LARGEST_FILE // 2**20} MB inside the working directory can be uploaded. Copy "
                f"'{path.name}' to a place that all hosts can read, and pass its absolute path."
            )
        files.append(path)
    return files


def parser() -> argparse.ArgumentParser:
    """Define the arguments of `python -m cluster.submit`, except the command after `--`."""
    parser = Parser(
        prog="python -m cluster.submit",
        description=__doc__,
        usage="python -m cluster.submit FILE [options] -- COMMAND ...",
    )
    file_argument(parser)
    parser.add_argument(
        "--env",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an environment variable for the job and its workers; it must not be a credential",
    )
    parser.add_argument(
        "--no-wait", action="store_true", help="print the job's id and exit immediately"
    )
    return parser


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the options; the words after `--` become the attribute `command`."""
    words = list(argv)
    cut = words.index("--") if "--" in words else len(words)
    args = parser().parse_args(words[:cut])
    args.command = words[cut + 1 :]
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, submit the job, and return its exit code (see `ExitCode`)."""
    args = arguments(sys.argv[1:] if argv is None else argv)
    return guarded(lambda: command(args))


if __name__ == "__main__":
    raise SystemExit(main())
