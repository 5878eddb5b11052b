"""Limits of requests, and the exception that is raised when a request exceeds them."""

import resource
from dataclasses import dataclass, replace

MIB = 2**20
OTHER_FILES = 256
"""Number of open files that are reserved for records, libraries, and connections that the operating
system has accepted but that are not counted yet.
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
    """Maximum total number of pixels of the files in a request. Decoding this number of pixels
    takes seconds, and other requests wait meanwhile.
    """
    queue_images: int = 1024
    """Maximum number of images in a process that wait for the model or are in a running batch."""
    queue_bytes: int = 256 * MIB
    """Maximum total size of the bodies of all requests in progress in a process, in bytes."""
    wait_s: float = 2.0
    """Maximum waiting time of images, in seconds. Images with a longer estimate are refused."""
    receive_s: float = 15.0
    """Maximum time until the header of a request has arrived, and then until its body has arrived,
    in seconds.
    """
    send_s: float = 30.0
    """Maximum time in which a client reads nothing of its response, in seconds."""
    header_bytes: int = 32 * 1024
    """Maximum size of the header of a request, or of its trailer, in bytes."""
    connections: int = 4096
    """Maximum number of connections of a process."""


def fit_to_open_files(limits: Limits) -> Limits:
    """Raise this process's limit of open files as far as necessary and possible.

    If that is not enough, the returned limits allow fewer connections, but at least half as many
    as there may be open files.
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
    """A request is refused, with an HTTP status and a one-line text for the client."""

    def __init__(self, status: int, text: str, retry_after_s: int | None = None) -> None:
        super().__init__(text)
        self.status, self.text, self.retry_after_s = status, text, retry_after_s
