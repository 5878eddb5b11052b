"""Options of the requests about the records of a model in use: their place, and a time."""

import re
import time
from datetime import UTC, datetime

from search.journal.store import Storage, storage
from search.values.option import option
from trainables.errors import ConfigError

UNITS = {"m": 60, "h": 3600, "d": 86_400}
"""Seconds of the units of an age."""


def records_option(what: str) -> Storage:
    """Declare `--from`, the place of the records; `what` describes them in the help."""
    place: Storage = option(
        f"{what}: a folder, or s3://BUCKET/PREFIX",
        name="from",
        metavar="PLACE",
        parse=storage,
        is_required=True,
    )
    return place


def since_option(help: str) -> int | None:
    """Declare `--since`, a time in Unix milliseconds."""
    time_ms: int | None = option(help, metavar="TIME", parse=since, text=time_text)
    return time_ms


def since(text: str) -> int:
    """Parse an age such as `90m` or `1d`, or a date, to Unix milliseconds.

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
    """Convert Unix milliseconds to a date that `since` converts back."""
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds")
