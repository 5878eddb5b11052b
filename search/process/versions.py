"""The versions of libraries that verbs accept."""

from cluster.versions import problems
from trainables.errors import ConfigError


def check_versions() -> None:
    """Refuse libraries in versions that were never tried, before any of them is used.

    Raises:
        ConfigError: with one line for each such library.
    """
    if lines := list(problems()):
        raise ConfigError("\n".join(lines))
