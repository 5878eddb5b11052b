"""A process that does nothing until its parent ends.

It stands in for agents that Ray insists on starting but that nothing here uses (see
`cluster.runtime.lean`). It is run as a file, without the program's own modules, so that it costs
next to nothing.
"""

import os
import sys
import time
from contextlib import suppress

LOOK_S = 1.0
"""The interval of the checks."""


def wait_for_parent(driver: int) -> None:
    """Wait until the parent process or the driver has ended.

    The driver is watched too because it may end before this process has looked up its parent.
    """
    parent = os.getppid()
    with suppress(ProcessLookupError):
        while os.getppid() == parent:
            os.kill(driver, 0)
            time.sleep(LOOK_S)


if __name__ == "__main__":
    wait_for_parent(int(sys.argv[1]))
