"""python -m search.serve MODEL: serve a trained model over HTTP.

MODEL is a promoted model (models:/NAME@champion, models:/NAME/3), a folder that contains one, or a
search (its chosen model). When the alias moves to another version, that version takes over without
a failed request. POST images to /predict; /docs describes the requests.
"""

import os

from search.cli.face import Face
from search.operations.serve import ServeRequest, serve
from search.process.lifetime import leave


def command(request: ServeRequest) -> int:
    """Serve the model until the process is stopped, and return the exit code.

    After SIGTERM, the requests that have arrived are answered, and the exit code is 0.
    """
    _open_standard_streams()
    return serve(request)


def _open_standard_streams() -> None:
    """If any of the file descriptors 0 to 2 is closed, open it on /dev/null, for workers as well.

    Otherwise the next socket or file that is opened would get such a number, and the output of a
    library would be written to it.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


FACE = Face("serve", ServeRequest, command, __doc__)
main = FACE.main

if __name__ == "__main__":
    leave(main())
