"""Refusal of credentials in commands and configs, which are recorded with the search.

A text that looks like a credential is refused, and not repeated in the message.
"""

from cluster.secrets import KEY, redact
from trainables.errors import ConfigError


def refuse(name: str, text: str) -> None:
    """Refuse an option or key, `name`, if it or its value looks like a credential.

    Raises:
        ConfigError: one of them does; the message contains only the redacted name.
    """
    if KEY.search(name) or redact(text) != text:
        raise ConfigError(
            f"'{redact(name)}' looks like a credential; not logged. Use an environment variable."
        )


def refuse_in_uri(uri: str) -> None:
    """Refuse a tracking URI with a password on the command line.

    Raises:
        ConfigError: the URI contains a password.
    """
    if redact(uri) != uri:
        remedy = "Put the URI into MLFLOW_TRACKING_URI and leave --tracking out."
        raise ConfigError(
            f"--tracking holds a password, which others see in the process list. {remedy}"
        )
