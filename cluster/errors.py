"""What `cluster` raises."""


class NotReady(RuntimeError):
    """A machine, device or service that is needed is not there; trying again later is safe."""
