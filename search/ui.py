"""python -m search.ui: serve web pages that show, start and steer the searches of a storage.

The printed address contains a token: everyone who has it can do here what you can do. The server
only listens on this machine, unless --host is passed.
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
