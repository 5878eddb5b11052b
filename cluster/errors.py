"""What `cluster` raises."""


class NotReady(RuntimeError):
    """A machine, device or service that is needed is not there; trying again later is safe."""


class Denied(NotReady):
    """It is there and does not let us in, or has trouble of its own."""


class Mistake(ValueError):
    """The command, or a cluster's file, is wrong; nothing was started."""


class Refused(RuntimeError):
    """It could be done and would hurt; a person must decide."""
