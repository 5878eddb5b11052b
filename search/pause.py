"""python -m search.pause NAME: pause a search, as Ctrl-C where it runs would.

Each trial finishes its epoch, then the search's process ends; `search.resume` goes on from there,
and a selection's `search.select`.
"""

from search.cli.steering import steering_face
from search.operations.pause import PauseRequest, pause

FACE = steering_face("pause", PauseRequest, pause, __doc__)
main = FACE.main

if __name__ == "__main__":
    raise SystemExit(main())
