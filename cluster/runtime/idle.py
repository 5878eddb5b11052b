"""A process that does nothing until its parent or the driver ends.

It replaces agents that Ray requires but that we do not use (see `cluster.runtime.lean`). It is run
as a file and imports nothing of this project, so that it starts fast and needs little memory.
"""

import os
import sys
import time
from contextlib import suppress

LOOK_S = 1.0
"""The interval between checks, in seconds."""


def wait_for_parent(driver: int) -> None:
    """Wait until the parent process or the driver has ended.

    The driver is checked too, because the parent may already have ended when `os.getppid` is
    called for the first time.

    Args:
        driver: the process id of the driver.
    """
    parent = os.getppid()
    with suppress(ProcessLookupError):
        while os.getppid() == parent:
            os.kill(driver, 0)
            time.sleep(LOOK_S)


if __name__ == "__main__":
    wait_for_parent(int(sys.argv[1]))
