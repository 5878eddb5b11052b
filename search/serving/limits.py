"""The limits of requests, and the refusal of a request beyond them."""

import resource
from dataclasses import dataclass, replace

MIB = 2**20
OTHER_FILES = 256
"""Open files reserved for anything but connections: records, libraries, and connections that the
system has accepted and that are not counted yet.
"""


@dataclass(frozen=True)
class Limits:
    """The bounds of a server's memory and waiting times."""

    body_bytes: int = 32 * MIB
    """Of one request."""
    images: int = 256
    """In one request."""
    pixels: int = 50_000_000
    """Of one image, before it is resized."""
    request_pixels: int = 200_000_000
    """Of all files of one request: they take seconds to decode, while others wait."""
    queue_images: int = 1024
    """That may wait in a process."""
    queue_bytes: int = 256 * MIB
    """Of all requests that a process reads or computes."""
    wait_s: float = 2.0
    """The estimated seconds of waiting above which further images are refused."""
    receive_s: float = 15.0
    """The seconds within which a request's header has to arrive, and again its body."""
    send_s: float = 30.0
    """The seconds within which a client has to read some of its answer."""
    header_bytes: int = 32 * 1024
    connections: int = 4096
    """Per process."""


def fit_to_open_files(limits: Limits) -> Limits:
    """Raise this process's limit of open files as far as needed and possible.

    Where that is too low, fewer connections are allowed, but at least half as many as files.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = limits.connections + OTHER_FILES
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return limits
    possible = needed if hard == resource.RLIM_INFINITY else min(hard, needed)
    resource.setrlimit(resource.RLIMIT_NOFILE, (possible, hard))
    connections = max(possible // 2, possible - OTHER_FILES)
    return replace(limits, connections=min(limits.connections, connections))


class Refusal(Exception):
    """A request that is answered with an error: an HTTP status and a one-line text."""

    def __init__(self, status: int, text: str, retry_after_s: int | None = None) -> None:
        super().__init__(text)
        self.status, self.text, self.retry_after_s = status, text, retry_after_s
