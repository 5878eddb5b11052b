"""The versions of libraries that verbs accept."""

from cluster.versions import problems
from trainables.errors import ConfigError


def check_versions() -> None:
    """Refuse libraries in versions that were never tried, before any of them is used.

    Raises:
        ConfigError: with a line for each.
    """
    if lines := list(problems()):
        raise ConfigError("\n".join(lines))
