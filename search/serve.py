"""python -m search.serve MODEL: a trained model over HTTP.

MODEL is a promoted model (models:/NAME@champion, models:/NAME/3), a folder that holds one, or a
search (its chosen model). When the alias moves to another version, that takes over without a
failed request. POST images to /predict; /docs says how.
"""

import os
from collections.abc import Sequence

from search.cli.face import Face
from search.operations.serve import ServeRequest, serve
from search.process.lifetime import leave

FACE = Face("serve", ServeRequest, serve, __doc__)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, serve, and return the exit code (see `ExitCode`).

    After SIGTERM the requests that have arrived are answered, and the exit code is 0.
    """
    _open_standard_streams()
    return FACE.main(argv)


def _open_standard_streams() -> None:
    """Open the file descriptors 0 to 2 on /dev/null if they are closed, inheritable by workers.

    Otherwise the next opened socket or file would get such a number, and a library's output would
    be written to it.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


if __name__ == "__main__":
    leave(main())
