"""The exceptions that `cluster` raises."""


class NotReady(RuntimeError):
    """A required machine, device or service is not available; trying again later is safe."""


class Denied(NotReady):
    """The machine or service is running, but refuses access or fails."""


class Mistake(ValueError):
    """The command or a cluster's file is wrong; nothing was started."""


class Refused(RuntimeError):
    """The action is possible but would do harm; a person must decide."""
