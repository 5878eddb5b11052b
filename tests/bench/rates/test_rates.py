import numpy as np
import pytest

from tests.bench.rates.__main__ import cases_of, main
from tests.bench.rates.case import Case, Promise, Tally, holds, measure
from tests.bench.rates.registry import FEATURES

ERROR, INTERVAL, POWER = (
    Promise("error rate", 0.05),
    Promise("interval", 0.95),
    Promise("power", 0.8),
)


@pytest.mark.parametrize(
    ("promise", "happened", "is_kept"),
    [
        (ERROR, 40, True),
        (ERROR, 51, False),  # more often than promised
        (ERROR, 0, True),
        (INTERVAL, 960, True),
        (INTERVAL, 949, False),
        (POWER, 800, True),
        (POWER, 690, False),
        (POWER, 910, False),  # what is seen more often is promised too low
    ],
)
def test_a_share_is_held_against_its_promise(
    promise: Promise, happened: int, is_kept: bool
) -> None:
    assert holds(promise, Tally(happened, 1000)) is is_kept


def test_few_repetitions_show_nothing() -> None:
    assert not holds(ERROR, Tally(0, 20))  # the interval reaches to 17 %


def test_what_is_not_stated_is_not_counted() -> None:
    def play(generator: np.random.Generator) -> dict[str, bool | None]:
        return {"a": None, "b": bool(generator.random() < 0.5)}

    measured = measure(Case("x", "y", {"a": ERROR, "b": POWER}, play), 200)
    assert measured.tallies["a"] == Tally(0, 0)
    assert measured.tallies["b"].stated == 200
    assert 60 < measured.tallies["b"].happened < 140


@pytest.mark.parametrize("feature", FEATURES)
def test_a_case_of_each_feature_plays(feature: str) -> None:
    """The first one only: all of them take minutes."""
    case = cases_of(feature)[0]
    assert set(case.play(np.random.default_rng(0))) >= set(case.promises)


def test_an_unknown_feature_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--only", "nothing"])
    assert "invalid choice" in capsys.readouterr().err
