import pytest
import torch

from tests.bench.weight_average import Scores, greedy_soup
from trainables.evaluation.combine import Weights


def weights(value: float) -> Weights:
    return {"layer.weight": torch.full((2,), float(value))}


def test_greedy_soup_begins_with_the_best_and_refuses_what_lowers_it() -> None:
    """The accuracy is highest at 3; the members come from the best to the worst."""

    def score(tried: Weights) -> Scores:
        value = float(tried["layer.weight"][0])
        return 1 - abs(value - 3) / 10, value

    members = [(weights(value), score(weights(value))) for value in (9, 4, 1, 2)]
    # 4 is the best, beside 2. Their mean is 3, and 1 and 9 would move it away.
    count, soup, accuracies = greedy_soup(members, score)
    assert (count, accuracies) == (2, (pytest.approx(1), 3))
    assert soup["layer.weight"].tolist() == [3, 3]
