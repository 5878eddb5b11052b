"""Ports of this machine for the servers that tests start."""

import random
import socket

RANGE = range(20_000, 32_000)
"""Above the ports that Ray gives to workers, and below those that Linux gives to outgoing
connections, one of which might take a port while its server is away.
"""

CHANCE = random.SystemRandom()
"""Independent of the seed that a test has set: other test processes may have set the same one."""


def free_ports(count: int) -> list[int]:
    """Return ports on which nothing listens, all different."""
    found: dict[int, socket.socket] = {}
    try:
        while len(found) < count:
            port = CHANCE.choice(RANGE)
            if port not in found:
                one = socket.socket()
                try:
                    one.bind(("0.0.0.0", port))
                except OSError:
                    one.close()
                else:
                    found[port] = one
        return list(found)
    finally:
        for one in found.values():
            one.close()


def free_port() -> int:
    """Return a port on which nothing listens."""
    return free_ports(1)[0]
