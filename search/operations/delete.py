"""python -m search.delete NAME: delete a search, its checkpoints and its runs in MLflow.

It says what would go and what stays, and asks; without a terminal it needs --yes.
"""

import argparse
import json
import re
import shlex
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from cluster.cli import Parser
from cluster.secrets import redact
from cluster.storage.bucket import AT_ONCE
from search.cli.options import storage_option
from search.cli.parser import HelpFormatter
from search.cli.prompt import can_ask, confirm, search_of
from search.design.experiment import NAME
from search.journal.journal import FILE_NAME, JournalError
from search.journal.result import SearchResult
from search.journal.store import Home, Storage, StoredSize, home, searches_in
from search.process.guard import guarded
from search.process.versions import check_versions
from search.tracking.forget import Traces, forget, traces_of
from search.tracking.uri import uri_of
from search.values.message import Message, Remedy, Start, program
from search.views.terminal import Terminal, say
from trainables.disk import read_regular
from trainables.errors import ConfigError, counted
from trainables.memory import size_text


@dataclass(frozen=True)
class DependentSearch:
    """Another search that has used the search to be deleted."""

    search: str
    trials: int
    """The number of its trials that continued trainings of the deleted search, from copies."""
    needs_weights: bool
    """True if its trials start from weights in the deleted search's folder."""


@dataclass(frozen=True)
class Deletion:
    """The search to be deleted, and everything that is deleted with it or affected."""

    name: str
    place: str
    size: StoredSize
    traces: Traces | None
    """Its runs, which are deleted, and its registered models, which stay. None if MLflow is left
    unchanged, or if the runs are unknown because the journal is damaged."""
    uses: tuple[DependentSearch, ...]


def deletion_of(
    place: Storage, name: str, *, tracking: str | None = None, keep_runs: bool = False
) -> Deletion:
    """Collect everything that the deletion of a search would remove or affect.

    Args:
        place: the place where the search is stored.
        name: the search's name.
        tracking: MLflow's tracking URI; None for the search's own.
        keep_runs: whether to leave MLflow unchanged.
    """
    search_home, traces = home(place, name), None
    with suppress(JournalError):
        result = SearchResult.read(search_home.opened())
        if not keep_runs:
            check_versions()
            traces = traces_of(result.started, uri_of(result, tracking))
    return Deletion(name, str(search_home), search_home.size(), traces, tuple(uses_of(place, name)))


def delete(search_home: Home, deletion: Deletion) -> None:
    """Delete a search; the caller must hold its lease.

    Its runs in MLflow are deleted first: if that fails (`NotReady`), the search still exists.
    """
    if deletion.traces is not None:
        forget(deletion.traces)
    search_home.remove()


def uses_of(place: Storage, name: str) -> Iterator[DependentSearch]:
    """Yield the other searches in a place that have used the search of this name.

    Journals that cannot be read are skipped.
    """
    restored_pattern = re.compile(
        rb'"event": "restored", "trial": "([^"]+)".*"begun": \{"search": "%s"'
        % re.escape(name).encode()
    )
    folder = (
        json.dumps(f"{(place / name).absolute()}/")[1:-1].encode()
        if isinstance(place, Path)
        else None
    )

    def use_by(other_name: str) -> DependentSearch:
        with suppress(JournalError, OSError):
            content = read_regular(home(place, other_name).opened() / FILE_NAME)
            first = content.partition(b"\n")[0]
            return DependentSearch(
                other_name,
                len(set(restored_pattern.findall(content))),
                folder is not None and folder in first,
            )
        return DependentSearch(other_name, 0, needs_weights=False)

    other_names = [other_name for other_name in searches_in(place) if other_name != name]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield from (use for use in pool.map(use_by, other_names) if use.trials or use.needs_weights)


def lines(deletion: Deletion) -> Iterator[str]:
    """Describe the files and runs to delete, and what stays, in lines."""
    count = deletion.size.files
    yield f"{deletion.name}: {counted(count, 'file')}, {size_text(deletion.size.bytes)} in"
    yield f"  {deletion.place}"
    if (traces := deletion.traces) is not None:
        yield f"  {counted(len(traces.runs), 'run')} in MLflow ({redact(traces.uri)})"
        if traces.versions:
            yield f"  stay: {', '.join(traces.versions)}, which have the model in them"
    else:
        yield "  MLflow's runs of it stay"
    for use in deletion.uses:
        if use.trials:
            trials = counted(use.trials, "trial")
            yield f"  '{use.search}' began {trials} with its trainings, of which it has copies"
        if use.needs_weights:
            yield f"  '{use.search}' begins with weights that lie there: it cannot go on afterwards"


def purge_text(uri: str) -> str:
    """Write the command that permanently removes MLflow's deleted runs, with their files."""
    if uri.startswith(("http:", "https:")):
        return "mlflow gc, on MLflow's server"
    address = shlex.quote(redact(uri))
    return f"{program('mlflow')} gc --backend-store-uri {address} --tracking-uri {address}"


def command(args: argparse.Namespace) -> int:
    """Print everything that would be deleted, ask, delete it, and return the exit code."""
    args.name = args.name.rstrip("/")
    if not NAME.fullmatch(args.name):
        raise ConfigError(
            Message(
                f"'{args.name[:80]}' is no name of a search. See ",
                Remedy("list", start=Start.ANYWHERE),
                ".",
            )
        )
    search_home = search_of(args)
    if not search_home.names():
        raise JournalError(f"no search at '{search_home}'. Check the name and --storage.")
    console, stderr = Terminal(), Terminal(stderr=True)
    with search_home.lease(say=lambda text: say(stderr, text)):
        deletion = deletion_of(
            args.storage, args.name, tracking=args.tracking, keep_runs=args.keep_runs
        )
        if not args.json:
            for line in lines(deletion):
                say(console, line)
        if not args.yes and not can_ask():
            raise ConfigError("nobody is there to answer: --yes deletes it. Nothing was deleted.")
        if not args.yes and not confirm(f"Delete '{deletion.name}'?", yes=False):
            say(stderr, "nothing was deleted")
            return 0
        delete(search_home, deletion)
    if args.json:
        print(json.dumps(asdict(deletion)))
        return 0
    say(console, f"{deletion.name} is deleted")
    if deletion.traces is not None and deletion.traces.runs:
        say(console, f"  MLflow keeps deleted runs. For good: {purge_text(deletion.traces.uri)}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, delete the search, and return the exit code (see `ExitCode`)."""
    parser = Parser(
        prog="python -m search.delete", description=__doc__, formatter_class=HelpFormatter
    )
    storage_option(parser)
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument(
        "--keep-runs", action="store_true", help="leave what MLflow has of the search"
    )
    parser.add_argument(
        "--tracking", metavar="URI", help="MLflow's tracking URI (default: the search's own)"
    )
    parser.add_argument(
        "--json", action="store_true", help="print what was deleted as one JSON object"
    )
    args = parser.parse_args(argv)
    return guarded(lambda: command(args))
