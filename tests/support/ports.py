"""Ports of this machine for the servers that tests start."""

import random
import socket

RANGE = range(20_000, 32_000)
"""Above those that Ray gives to workers, and below those that Linux gives to whoever connects,
which might take one while its server is away.
"""

CHANCE = random.SystemRandom()
"""Whatever seed a test has set: other test processes may have set the same."""


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, all different."""
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
    """A port that nobody listens on."""
    return free_ports(1)[0]
