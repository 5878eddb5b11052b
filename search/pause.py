"""python -m search.pause NAME: pause a search, as Ctrl-C does where it runs.

Each trial finishes its epoch, then the process of the search ends. `search.resume` continues a
search, and `search.select` a selection.
"""

from search.cli.steering import steering_face
from search.operations.pause import PauseRequest, pause

FACE = steering_face("pause", PauseRequest, pause, __doc__)
main = FACE.main

if __name__ == "__main__":
    raise SystemExit(main())
