"""python -m search.stop NAME [TRIAL]: stop one trial, or the whole search, after the epoch.

A trial that is training ends after its epoch, any other at once. A search that is stopped starts no
further trials; the trained models are evaluated, and the best one is tested. `search.resume`
continues from there. The request goes to the driver of the search, and its reply is printed; if no
driver is running, the next one carries the request out.
"""

from search.cli.steering import steering_face
from search.operations.stop import StopRequest, stop

FACE = steering_face("stop", StopRequest, stop, __doc__)
main = FACE.main

if __name__ == "__main__":
    raise SystemExit(main())
