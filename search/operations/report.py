"""The HTML report of a search."""

from dataclasses import dataclass
from pathlib import Path

from search.journal.journal import without_garbage_collection
from search.journal.result import PAGE, SearchResult
from search.journal.store import own_path
from search.operations.options import SearchRequest
from search.values.option import option
from trainables.errors import ConfigError
from trainables.progress import step


@dataclass(frozen=True, kw_only=True)
class ReportRequest(SearchRequest):
    """A search, and the file for its report."""

    out: Path | None = option(
        "where to write the page (default: report.html in the search's folder, or its copy here)",
        metavar="FILE",
        parse=own_path,
    )


def report(request: ReportRequest) -> Path:
    """Write the report, and return its path.

    Raises:
        NoSuchSearch: there is no such search.
        ConfigError: the file is a folder, or is in a folder that does not exist.
    """
    # Imported late, because it imports matplotlib, and modules that set environment variables.
    from search.views.page.page import write

    home, out = request.home(), request.out
    if out is not None and (out.is_dir() or not out.parent.is_dir()):
        problem = "is a folder" if out.is_dir() else f"is in '{out.parent}', which is not a folder"
        raise ConfigError(f"--out '{out}' {problem}. Choose a file in an existing folder.")
    folder = home.opened(files=True)
    path = out or folder / PAGE
    # A garbage collection would scan the objects of all epochs, although few are garbage.
    with step("drawing the report"), without_garbage_collection():
        write(SearchResult.read(folder), folder, path)
    return path
