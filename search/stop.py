"""python -m search.stop NAME [TRIAL]: stop one trial, or the whole search, after the epoch.

A trial that trains ends after its epoch, any other at once. A search that is stopped begins no
further trial; what it has trained is evaluated, and the best is tested. `search.resume` goes on
from there. Its driver is asked, whose answer is printed; while none runs, the next one is.
"""

from search.cli.steering import steering_face
from search.operations.stop import StopRequest, stop

FACE = steering_face("stop", StopRequest, stop, __doc__)
main = FACE.main

if __name__ == "__main__":
    raise SystemExit(main())
