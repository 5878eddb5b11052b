"""The limits of what a request may ask for, and the refusal of one that asks for too much."""

import resource
from dataclasses import dataclass, replace

MIB = 2**20
OTHER_FILES = 256
"""The files that a process may have open beside its connections: its records, its libraries', and
connections that the system has accepted and that are not counted yet.
"""


@dataclass(frozen=True)
class Limits:
    """The bounds of a server's memory and patience."""

    body_bytes: int = 32 * MIB
    """Of one request."""
    images: int = 256
    """In one request."""
    pixels: int = 50_000_000
    """Of one image, before it is resized."""
    request_pixels: int = 200_000_000
    """Of all files of one request: some seconds of decoding, in which others wait."""
    queue_images: int = 1024
    """That may wait in a process."""
    queue_bytes: int = 256 * MIB
    """Of all requests that a process reads or works on."""
    wait_s: float = 2.0
    """The seconds that an image may be expected to wait before others are refused."""
    receive_s: float = 15.0
    """The seconds that a request may take to arrive, its header and its body each."""
    send_s: float = 30.0
    """The seconds within which a client has to read some of an answer that waits for it."""
    header_bytes: int = 32 * 1024
    connections: int = 4096
    """To a process."""


def within_open_files(limits: Limits) -> Limits:
    """Let this process open as many files as the connections need; else allow fewer of them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = limits.connections + OTHER_FILES
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return limits
    possible = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
    resource.setrlimit(resource.RLIMIT_NOFILE, (possible, hard))
    connections = max(possible // 2, possible - OTHER_FILES)
    return replace(limits, connections=min(limits.connections, connections))


class Refusal(Exception):
    """A request that is answered with an error: HTTP's status and one line."""

    def __init__(self, status: int, text: str, retry_after_s: int | None = None) -> None:
        super().__init__(text)
        self.status, self.text, self.retry_after_s = status, text, retry_after_s
