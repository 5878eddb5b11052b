"""Options and their types that verbs share."""

import argparse

from cluster.cli import is_whole
from search.journal.store import storage
from search.values.executors import AUTO_COUNT
from search.values.wording import DEFAULT_STORAGE

MAX_SEED = 2**31
"""The upper limit of a seed, as of `seed` in `trainables.config.TrialConfig`."""


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows the default of an option, unless its text names it or it has none."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        is_named = "(default" in (action.help or "")
        return (
            action.help
            if is_named or action.default in (None, [], False) or action.default is True
            else super()._get_help_string(action)
        )


def storage_option(parser: argparse.ArgumentParser) -> None:
    """Add NAME and --storage, by which every verb but `run` finds a search."""
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
    """Add --json, which prints the result of a verb for programs."""
    parser.add_argument(
        "--json", action="store_true", help="print the result as one JSON object, the last line"
    )


def count_or_auto(text: str) -> int | str:
    """Parse a number or `auto`, as an option's type.

    Raises:
        argparse.ArgumentTypeError: the text is neither.
    """
    if text != AUTO_COUNT and not is_whole(text.removeprefix("-")):
        raise argparse.ArgumentTypeError(
            f"a whole number or {AUTO_COUNT} is needed (got '{text[:80]}')"
        )
    return text if text == AUTO_COUNT else int(text)


def seed(text: str) -> int:
    """Parse a seed, as an option's type.

    Raises:
        argparse.ArgumentTypeError: the text is not a seed.
    """
    if not is_whole(text) or int(text) > MAX_SEED:
        raise argparse.ArgumentTypeError(
            f"a whole number from 0 to {MAX_SEED} is needed (got '{text[:80]}')"
        )
    return int(text)
