"""python -m search.ui: web pages on all searches of a place: see them, start them, steer them.

The address that is printed has a token: whoever has it may do here what you may. It listens on this
machine alone, unless --host says otherwise.
"""

from search.cli.face import Face
from search.web.pages.registry import PAGES
from search.web.server import UiRequest, serve_pages


def command(request: UiRequest) -> int:
    """Serve the pages until the process is stopped, and return the exit code."""
    serve_pages(request, PAGES)
    return 0


FACE = Face("ui", UiRequest, command, __doc__)
main = FACE.main

if __name__ == "__main__":
    raise SystemExit(main())
