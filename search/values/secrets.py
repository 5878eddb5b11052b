"""Refusal of credentials, which belong into no command, config or record.

A text that looks like one is refused and never repeated.
"""

from cluster.secrets import KEY, redact
from trainables.errors import ConfigError


def refuse(name: str, text: str) -> None:
    """Refuse a value and its key or option if either looks like a credential.

    Raises:
        ConfigError: it does; the error names the key and not the value.
    """
    if KEY.search(name) or redact(text) != text:
        raise ConfigError(
            f"'{redact(name)}' looks like a credential; not logged. Use an environment variable."
        )


def refuse_in_uri(uri: str) -> None:
    """Refuse a tracking URI with a password on the command line.

    Raises:
        ConfigError: it has one.
    """
    if redact(uri) != uri:
        remedy = "Put the URI into MLFLOW_TRACKING_URI and leave --tracking out."
        raise ConfigError(
            f"--tracking holds a password, which others see in the process list. {remedy}"
        )
