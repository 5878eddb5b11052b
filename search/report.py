"""python -m search.report NAME: one HTML page with the verdict, the pictures and every trial."""

from pathlib import Path

from cluster.cli import Parser
from search.cli.options import HelpFormatter, storage_option
from search.cli.prompt import search_of
from search.journal.journal import without_garbage_collection
from search.journal.result import PAGE, SearchResult
from search.journal.store import Home, own_path
from search.process.guard import guarded
from search.process.lifetime import leave
from trainables.errors import ConfigError, printable


def main(argv: list[str] | None = None) -> int:
    """Write the HTML report, print its path, and return the exit code (see `ExitCode`)."""
    parser = Parser(
        prog="python -m search.report", description=__doc__, formatter_class=HelpFormatter
    )
    storage_option(parser)
    parser.add_argument(
        "--out",
        type=own_path,
        metavar="FILE",
        help="where to write the page (default: report.html in the search's folder, "
        "or its copy here)",
    )
    args = parser.parse_args(argv)
    return guarded(lambda: _write(search_of(args), args.out))


def _write(home: Home, out: Path | None) -> int:
    # Imported late, because it imports matplotlib, and modules that set environment variables.
    from search.views.page.page import write

    if out is not None and (out.is_dir() or not out.parent.is_dir()):
        problem = (
            "is a folder" if out.is_dir() else f"is to be in '{out.parent}', which is no folder"
        )
        raise ConfigError(f"--out '{out}' {problem}. Name a file in a folder that is there.")
    folder = home.opened(files=True)
    path = out or folder / PAGE
    # A collection would scan all epochs, and little of what is drawn becomes garbage in cycles.
    with without_garbage_collection():
        write(SearchResult.read(folder), folder, path)
    print(printable(str(path)))
    return 0


if __name__ == "__main__":
    leave(main())
