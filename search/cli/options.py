"""Options that verbs share, and the types of their values."""

import argparse

from cluster.cli import is_whole
from search.journal.store import storage
from search.values.executors import AUTO_COUNT
from search.values.wording import DEFAULT_STORAGE

MAX_SEED = 2**31
"""The maximal seed, the same as that of `seed` in `trainables.config.TrialConfig`."""


def storage_option(parser: argparse.ArgumentParser) -> None:
    """Add NAME and --storage, which identify an existing search."""
    parser.add_argument("name", metavar="NAME", help="the search's name")
    place_option(parser)


def place_option(parser: argparse.ArgumentParser) -> None:
    """Add --storage, the place where searches are stored."""
    parser.add_argument(
        "--storage",
        type=storage,
        default=DEFAULT_STORAGE,
        metavar="PLACE",
        help="where searches are kept: a folder, or s3://BUCKET/PREFIX",
    )


def json_option(parser: argparse.ArgumentParser) -> None:
    """Add --json, for a verb that prints its result as JSON as well."""
    parser.add_argument(
        "--json", action="store_true", help="print the result as one JSON object, the last line"
    )


def count_or_auto(text: str) -> int | str:
    """Parse a whole number or `auto`; for the `type` of an option.

    Raises:
        argparse.ArgumentTypeError: the text is neither.
    """
    if text != AUTO_COUNT and not is_whole(text.removeprefix("-")):
        raise argparse.ArgumentTypeError(
            f"a whole number or {AUTO_COUNT} is needed (got '{text[:80]}')"
        )
    return text if text == AUTO_COUNT else int(text)


def seed(text: str) -> int:
    """Parse a seed; for the `type` of an option.

    Raises:
        argparse.ArgumentTypeError: the text is not a whole number from 0 to `MAX_SEED`.
    """
    if not is_whole(text) or int(text) > MAX_SEED:
        raise argparse.ArgumentTypeError(
            f"a whole number from 0 to {MAX_SEED} is needed (got '{text[:80]}')"
        )
    return int(text)
