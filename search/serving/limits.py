"""Limits of requests, and the exception that is raised when a request exceeds them."""

import resource
from dataclasses import dataclass, replace

MIB = 2**20
OTHER_FILES = 256
"""Number of open files reserved for records, libraries, and connections that the system has already
accepted but that are not counted yet.
"""


@dataclass(frozen=True)
class Limits:
    """The limits of a server's memory and waiting times."""

    body_bytes: int = 32 * MIB
    """Maximum size of the body of a request, in bytes."""
    images: int = 256
    """Maximum number of images in a request."""
    pixels: int = 50_000_000
    """Maximum number of pixels of an image, before it is resized."""
    request_pixels: int = 200_000_000
    """Maximum number of pixels of all files in a request: they take seconds to decode, while other
    requests wait.
    """
    queue_images: int = 1024
    """Maximum number of images that wait or are being computed in a process."""
    queue_bytes: int = 256 * MIB
    """Maximum size of the bodies that a process is reading or computing, in bytes."""
    wait_s: float = 2.0
    """Images are refused if their estimated waiting time is longer than this, in seconds."""
    receive_s: float = 15.0
    """Seconds within which a request's header has to arrive; its body has the same time again."""
    send_s: float = 30.0
    """Seconds within which a client has to read a part of its response."""
    header_bytes: int = 32 * 1024
    connections: int = 4096
    """Maximum number of connections of a process."""


def fit_to_open_files(limits: Limits) -> Limits:
    """Raise this process's limit of open files as far as necessary and possible.

    If that is not enough, the returned limits allow fewer connections, but at least half the number
    of files.
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
    """A request is refused, with an HTTP status and a one-line text."""

    def __init__(self, status: int, text: str, retry_after_s: int | None = None) -> None:
        super().__init__(text)
        self.status, self.text, self.retry_after_s = status, text, retry_after_s
