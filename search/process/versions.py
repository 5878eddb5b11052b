"""The versions of libraries that verbs accept."""

from cluster.versions import problems
from trainables.errors import ConfigError


def check_versions() -> None:
    """Refuse untested versions of libraries; call it before any of them is used.

    Raises:
        ConfigError: some versions are untested; the message has a line for each such library.
    """
    if lines := list(problems()):
        raise ConfigError("\n".join(lines))
