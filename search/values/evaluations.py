"""The further evaluations of `--evaluate`, which measure how robust the answer of a search is."""

from collections.abc import Sequence

from trainables.errors import ConfigError
from trainables.robustness.stress_tests import STRESS_TESTS


def parse_evaluations(text: str) -> tuple[str, ...]:
    """Parse the value of `--evaluate`, names separated by commas.

    Raises:
        ConfigError: a name is unknown or occurs twice.
    """
    names = tuple(part.strip() for part in text.split(","))
    check_evaluations(names)
    return names


def check_evaluations(names: Sequence[str]) -> None:
    """Check that all names are evaluations, without duplicates.

    Raises:
        ConfigError: a name is unknown or occurs twice.
    """
    if not STRESS_TESTS.keys() >= set(names) or len(set(names)) < len(names):
        got = ",".join(names)[:80]
        raise ConfigError(
            f"--evaluate must be {' or '.join(STRESS_TESTS)}, or both separated by a comma "
            f"(got '{got}')."
        )
