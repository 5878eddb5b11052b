"""python -m search.extend NAME --trials +20 --budget +1h --concurrency 4: change a running search.

The search continues with more or fewer trials, with a larger or smaller budget, and with more or
fewer trials at once. Trials that were paused because a budget was used up continue with a larger
one.
"""

from search.cli.steering import steering_face
from search.operations.extend import ExtendRequest, extend

FACE = steering_face("extend", ExtendRequest, extend, __doc__)
main = FACE.main

if __name__ == "__main__":
    raise SystemExit(main())
