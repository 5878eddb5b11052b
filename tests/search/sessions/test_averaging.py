import pytest

from search.journal.result import TrialResult
from search.sessions.averaging import can_average, has_fallen
from trainables.config import TrialConfig

PRETRAINED = {"model.name": "resnet18", "model.pretrained": True, "model.input_size": 32}


@pytest.mark.parametrize(
    ("settings", "can"),
    [
        (PRETRAINED, True),
        ({"warm_start": "epoch-0001"}, True),
        ({}, False),
        ({**PRETRAINED, "metric": "balanced_accuracy"}, False),
        ({**PRETRAINED, "data.folds": 5}, False),
    ],
)
def test_only_trainings_with_a_common_beginning_are_averaged(
    settings: dict[str, object], can: bool
) -> None:
    assert can_average(TrialConfig().override(settings)) == can


@pytest.mark.parametrize(
    ("first", "second", "fallen"),
    [
        ([0.70, 0.80, 0.79], [0.70, 0.76, 0.77], False),
        ([0.70, 0.80, 0.74], [0.70, 0.80, 0.74], True),
        # Each had a lucky epoch, but not the same one.
        ([0.70, 0.80, 0.74], [0.80, 0.70, 0.74], False),
    ],
)
def test_trainings_that_are_worse_at_their_ends_are_not_averaged(
    first: list[float], second: list[float], fallen: bool
) -> None:
    """The standard error of 0.74 is 0.044 with 100 images."""
    members = [
        TrialResult(
            "t0001-s1",
            {},
            TrialConfig().to_dict(),
            epochs={
                epoch: {"val/accuracy": value, "val/loss": 1.0}
                for epoch, value in enumerate(values, 1)
            },
        )
        for values in (first, second)
    ]
    assert has_fallen(members, 100) == fallen
