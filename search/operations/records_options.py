"""Options of the verbs that read the records of a model in use: their place, and a time."""

import re
import time
from datetime import UTC, datetime

from search.journal.store import Storage, storage
from search.values.option import option
from trainables.errors import ConfigError

UNITS = {"m": 60, "h": 3600, "d": 86_400}
"""The units of an age, in seconds."""


def records_option(what: str) -> Storage:
    """Declare the option `--from`, the place of the records; `what` begins its help text."""
    place: Storage = option(
        f"{what}: a folder, or s3://BUCKET/PREFIX",
        name="from",
        metavar="PLACE",
        parse=storage,
        is_required=True,
    )
    return place


def since_option(help: str) -> int | None:
    """Declare the option `--since`, whose value is a Unix time in milliseconds."""
    time_ms: int | None = option(help, metavar="TIME", parse=since, text=time_text)
    return time_ms


def since(text: str) -> int:
    """Convert an age such as `90m` or `1d` (before now), or a date, to a Unix time in milliseconds.

    Raises:
        ConfigError: the text is not a time.
    """
    if match := re.fullmatch(r"([0-9]{1,6})([mhd])", text):
        return int((time.time() - int(match[1]) * UNITS[match[2]]) * 1000)
    try:
        return round(datetime.fromisoformat(text).timestamp() * 1000)
    except (ValueError, OverflowError) as error:
        raise ConfigError(
            "expected a time such as 90m, 12h, 1d, 2026-11-28 or 2026-11-28T14:00 (got "
            f"'{text[:80]}')"
        ) from error


def time_text(time_ms: int) -> str:
    """Format a Unix time in milliseconds as a date that `since` can parse."""
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds")
