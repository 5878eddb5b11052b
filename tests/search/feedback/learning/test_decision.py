"""What becomes of a challenger."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from search.feedback.learning.deciding import compare_groups
from search.feedback.learning.decision import (
    CHALLENGER,
    CHAMPION,
    UNCHANGED,
    Decision,
    FirstChampion,
    ScoredChallenger,
    best_challenger,
    luck_of,
    obstacles,
    requirement_lines,
    round_alpha,
)
from search.feedback.learning.paired import PairedComparison
from trainables.config import DataConfig
from trainables.datasets.load import load

BETTER, MAYBE, EQUAL, WORSE = (
    PairedComparison(100, 20, 4),
    PairedComparison(100, 8, 5),
    PairedComparison(100, 5, 5),
    PairedComparison(100, 2, 9),
)
SAFE, UNSURE, DAMAGED = (
    PairedComparison(4000, 60, 60),
    PairedComparison(300, 8, 10),
    PairedComparison(4000, 50, 200),
)


def decision(new: PairedComparison, old: PairedComparison) -> Decision:
    return Decision(
        "t0002", (ScoredChallenger("t0002", 0.9, 0.6),), new, old, 0.5, 0.9, 0.01, 0.2, 0.3
    )


@pytest.mark.parametrize(
    ("new", "old", "outcome"),
    [
        (BETTER, SAFE, CHAMPION),
        (BETTER, UNSURE, CHALLENGER),
        (BETTER, DAMAGED, UNCHANGED),
        (MAYBE, SAFE, CHALLENGER),
        (MAYBE, UNSURE, CHALLENGER),
        (MAYBE, DAMAGED, UNCHANGED),
        (EQUAL, SAFE, UNCHANGED),
        (WORSE, SAFE, UNCHANGED),
    ],
)
def test_a_challenger_becomes(new: PairedComparison, old: PairedComparison, outcome: str) -> None:
    found = decision(new, old)
    assert found.outcome == outcome
    assert found.to_json()["outcome"] == outcome


def test_a_wider_margin_lets_more_pass() -> None:
    found = decision(BETTER, UNSURE)
    assert replace(found, margin=0.05).outcome == CHAMPION


def test_the_words_say_what_was_shown_and_what_would_be_needed() -> None:
    champion = "\n".join(decision(BETTER, SAFE).lines())
    assert champion.startswith("t0002 is the only challenger\n")
    several = replace(decision(BETTER, SAFE), candidates=(ScoredChallenger("t0001", 0.8, 0.5),) * 2)
    assert several.lines()[0].startswith(
        "t0002 is the best of 2 challengers on the validation images"
    )
    assert "accuracy 0.6600 against the champion's 0.5000 on 100 images (+16.0 points" in champion
    assert "it is not worse by 1 point (p =" in champion
    assert "inference: 0.3 ms per image, the champion 0.2 ms" in champion
    assert "it is the new champion" in champion
    maybe = "\n".join(decision(MAYBE, SAFE).lines())
    assert "it is not significantly better" in maybe
    assert "images would show this difference" in maybe
    assert "the champion stays" in maybe
    assert decision(WORSE, SAFE).lines()[-1] == "it is not better, so nothing changed"


def test_images_chosen_for_the_champions_mistakes_make_no_champion() -> None:
    found = replace(decision(BETTER, SAFE), is_fair=False)
    assert found.outcome == CHALLENGER
    assert "this is not evidence" in "\n".join(found.lines())


def test_images_that_have_decided_before_count_less() -> None:
    assert [round_alpha(new, 100) for new in (100, 50, 0)] == [0.05, 0.025, 0]
    assert replace(decision(BETTER, SAFE), alpha=0.0).outcome == CHALLENGER
    assert "all of them were used for the decision" in "\n".join(
        requirement_lines(80, 4000, 0.01, 0.0)
    )


def test_what_is_worse_than_the_first_champion_is_no_champion() -> None:
    """It is as good as the last one, which has lost more than a point in several rounds."""
    assert (
        replace(decision(BETTER, SAFE), first=FirstChampion("t1 of pets", SAFE, 0.9)).outcome
        == CHAMPION
    )
    found = replace(decision(BETTER, SAFE), first=FirstChampion("t1 of pets", DAMAGED, 0.92))
    assert found.outcome == CHALLENGER
    text = "\n".join(found.lines())
    assert "0.8825 against the first champion's (t1 of pets) 0.9200 on 4,000" in text
    assert "it is worse by more than 1 point" in text
    assert found.to_json()["first"]["lost"] == 200
    assert decision(BETTER, SAFE).to_json()["first"] is None


@pytest.mark.parametrize(
    ("fair", "test", "alpha", "told"),
    [
        (30, 4000, 0.05, []),
        (9, 4000, 0.05, ["9 of the held-out images were chosen"]),
        (30, 12, 0.05, ["12 old test images are too few to show"]),
        (30, 4000, 0.0, ["all of them were used for the decision of an earlier round"]),
        (10, 4000, 0.0009, ["most of the 10 held-out images were used for the decision"]),
        (9, 12, 0.05, ["9 of the held-out images", "old test images are too few"]),
    ],
)
def test_what_keeps_any_challenger_from_becoming_champion_is_known_before(
    fair: int, test: int, alpha: float, told: list[str]
) -> None:
    found = obstacles(fair, test, 0.01, alpha)
    assert len(found) == len(told)
    assert all(text in line for text, line in zip(told, found, strict=True))
    lines = list(requirement_lines(fair, test, 0.01, alpha))
    assert all(line in lines for line in found)


def test_the_best_is_good_on_the_old_and_the_new_alike() -> None:
    old, both, new = (
        ScoredChallenger("a", 0.95, 0.3),
        ScoredChallenger("b", 0.92, 0.6),
        ScoredChallenger("c", 0.5, 0.7),
    )
    assert best_challenger([old, both, new]) is both


def test_before_anything_is_trained_it_says_what_so_many_images_tell() -> None:
    lines = "\n".join(requirement_lines(80, 4000, 0.01))
    assert "better by 5 points: 617 held-out images" in lines
    assert "with 80 held-out images, 14 points or more would be detected" in lines
    assert (
        "not worse by 1 point on the 4,000 old test images: an equally good model passes" in lines
    )
    assert "passes if it disagrees on at most 6.5 % of them" in lines
    assert "no difference would be detected" in "\n".join(requirement_lines(12, 4000, 0.01))


def test_with_few_images_chosen_whatever_the_champion_says_it_tells_how_to_get_more() -> None:
    lines = "\n".join(requirement_lines(3, 4000, 0.01))
    assert "no difference on new images can be detected: 3 of the held-out images were" in lines
    assert "10 are required. For that, correct or confirm about 34 images of the server's" in lines
    assert "search.serve --record-share 1 records all images with usual answers" in lines
    assert "0 of the held-out images were" in "\n".join(requirement_lines(0, 4000, 0.01))
    found = replace(decision(BETTER, SAFE), fair=1, is_fair=False)
    assert "this is not evidence (p = 0.00077, one-sided McNemar test): 1 of the held-out " in (
        "\n".join(found.lines())
    )
    assert "--record-share 1" in "\n".join(found.lines())


def test_so_few_test_images_show_nothing_and_it_says_which_margin_or_how_many_would() -> None:
    line = list(requirement_lines(80, 36, 0.01))[-1]
    assert "no challenger can become the champion, because 36 old test images are too few" in line
    assert "disagrees on 5 % of them would pass with --margin 10, or with 3,092 test images" in line
    assert "% of them would" not in list(requirement_lines(80, 268, 0.01))[-1]
    assert not PairedComparison(267, 0, 0).p_worse_by(0.01) <= 0.05
    assert "at most 5" in list(requirement_lines(80, 36, 0.1))[-1]
    assert "at most 5" in list(requirement_lines(80, 3092, 0.01))[-1]
    few = replace(decision(BETTER, SAFE), old=PairedComparison(36, 0, 1))
    assert "and these are too few images: an equally good model" in "\n".join(few.lines())


def test_a_champion_had_to_pass_a_test_and_a_challenger_to_be_better_at_all() -> None:
    tested, tried = (decision(BETTER, one).to_json() for one in (SAFE, UNSURE))
    assert [one["outcome"] for one in (tested, tried)] == [CHAMPION, CHALLENGER]
    assert luck_of(tested) > luck_of(tried) > 0
    assert luck_of(tested) < BETTER.difference


def test_groups_of_old_images_are_compared_and_do_not_decide(
    marked_images: tuple[Path, Path],
) -> None:
    folder, groups = marked_images
    dataset = load(
        DataConfig(name="folder", root=str(folder), groups=str(groups), test_fraction=0.5)
    )
    assert dataset.test is not None
    is_red = dataset.group_numbers(dataset.test) == 1
    champion = np.ones(len(dataset.test), bool)
    green, red = compare_groups(dataset, champion, ~is_red)
    assert (green.name, green.old.lost, green.accuracy) == ("mark=green", 0, 1.0)
    assert (red.name, red.old.lost, red.old.images) == ("mark=red", is_red.sum(), is_red.sum())
    plain = decision(BETTER, SAFE)
    grouped = replace(plain, groups=(green, red))
    assert grouped.outcome == plain.outcome
    (line,) = [line for line in grouped.lines() if "mark=red" in line]
    assert line.startswith("  old test images with mark=red: accuracy 0.0000 against the champion")
    assert grouped.to_json()["groups"][1]["difference"] == -1.0
    assert compare_groups(replace(dataset, attributes=None), champion, champion) == ()
