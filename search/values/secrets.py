"""Refuses credentials in commands and configs, because these are recorded with the search.

The error message does not repeat a text that looks like a credential.
"""

from cluster.secrets import KEY, redact
from trainables.errors import ConfigError


def refuse(name: str, text: str) -> None:
    """Refuse an option or a key whose name or value looks like a credential.

    Args:
        name: the name of the option or key.
        text: its value.

    Raises:
        ConfigError: the name or the value looks like a credential. The message contains only the
            redacted name.
    """
    if KEY.search(name) or redact(text) != text:
        raise ConfigError(
            f"'{redact(name)}' looks like a credential, so its value was refused and not logged. "
            "Pass credentials in environment variables."
        )


def refuse_in_uri(uri: str) -> None:
    """Refuse a tracking URI with a password on the command line.

    Raises:
        ConfigError: the URI contains a password.
    """
    if redact(uri) != uri:
        remedy = "Set MLFLOW_TRACKING_URI to the URI instead, and remove --tracking."
        raise ConfigError(
            "--tracking contains a password, which other users can see in the process list. "
            f"{remedy}"
        )
