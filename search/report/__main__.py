"""python -m search.report NAME: one HTML page with the verdict, the pictures and every trial."""

from pathlib import Path

from search.cli import Parser, guarded
from search.result import PAGE, SearchResult
from trainables.errors import printable


def main(argv: list[str] | None = None) -> int:
    """Write the page beside the journal and say where."""
    parser = Parser(prog="python -m search.report", description=__doc__)
    parser.add_argument("name", metavar="NAME", help="the search's name")
    parser.add_argument("--storage", type=Path, default=Path("searches"), metavar="DIR", help="where searches are kept (default: searches)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where to write the page (default: report.html in the search's folder)")
    args = parser.parse_args(argv)
    return guarded(lambda: _write(args.storage / args.name, args.out))


def _write(folder: Path, out: Path | None) -> int:
    from search.report.page import write  # matplotlib, and what sets environment variables as it is imported

    path = out or folder / PAGE
    write(SearchResult.read(folder), folder, path)
    print(printable(str(path)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
