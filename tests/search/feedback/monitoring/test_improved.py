"""The monitor of a model that was improved: held to what it met before, and not fooled by it."""

from dataclasses import replace

import numpy as np
import pytest

from search.feedback.monitoring.findings import ACCURACY, MIX, Findings, find_changes
from search.feedback.monitoring.held_to import VALIDATION
from search.feedback.monitoring.page import render
from search.feedback.monitoring.window import Window
from search.feedback.monitoring.words import facts
from tests.support.improved import ALL, CLEAN, MISTAKES, ROUGH, Images, Play
from trainables.export.reference import Reference

RUNS = 20


def played(seed: int, corrected: str = ALL, count: int = 400) -> tuple[Play, np.random.Generator]:
    generator = np.random.default_rng(seed)
    made = (
        Images.made(number, generator, noise) for number, noise in ((count, ROUGH), (200, CLEAN))
    )
    return Play(*made, corrected), generator


def looked(play: Play, after: Images, share: float = 1.0) -> tuple[Findings, Reference, Window]:
    reference = play.improved()
    window = play.meets(after, reference, share)
    return find_changes("models:/pets/2", reference, window), reference, window


def told(found: Findings) -> dict[str, str]:
    return dict(facts(found))


def test_what_it_was_improved_for_is_no_change_any_more() -> None:
    play, generator = played(0)
    mix = (0.6, 0.2, 0.2)
    play = Play(Images.made(800, generator, ROUGH, mix), play.validation)
    found, reference, window = looked(play, Images.made(300, generator, ROUGH, mix))
    assert found.changed == []
    assert reference.earlier is not None
    count = len(reference.earlier.probabilities)
    assert found.held_to == (
        f"{count} images that were answered before it was improved and not trained on"
    )
    assert told(found)["compared with"] == found.held_to
    assert found.to_json()["held_to"] == found.held_to
    page = render(found, reference, window)
    assert "earlier images" in page
    assert "validation images <svg" not in page
    # By the old validation images it would be one for ever.
    alone = find_changes("models:/pets/2", replace(reference, earlier=None), window)
    assert MIX in alone.changed
    assert alone.held_to == VALIDATION
    assert "compared with" not in told(alone)


def test_another_class_mix_is_seen_beside_that_of_before() -> None:
    play, generator = played(0, count=1500)
    found, *_ = looked(play, Images.made(300, generator, ROUGH, mix=(0.1, 0.2, 0.7)))
    assert MIX in found.changed
    (fox,) = (share for share in found.shares if share.name == "fox")
    assert fox.changed
    assert fox.low > fox.before


@pytest.mark.parametrize(("corrected", "again"), [(ALL, 0.0), (MISTAKES, 0.4)])
def test_false_alarms_are_as_rare_as_they_should_be(corrected: str, again: float) -> None:
    """Also where mistakes alone were corrected, and where images are met again.

    Of 20 looks at a rate of 5 % more than 4 raise an alarm three times in a thousand.
    """
    alarms = 0
    for seed in range(RUNS):
        play, generator = played(seed + 100, corrected, 300)
        rows = generator.permutation(300)[: round(again * 200)]
        new = Images.made(200 - len(rows), generator, ROUGH)
        found, *_ = looked(play, play.before.taken(rows).and_then(new))
        alarms += bool(found.changed)
    assert alarms <= 4


def test_what_it_is_held_to_is_a_fair_sample_though_mistakes_are_corrected() -> None:
    """Without the images that it was trained on the hard ones would be rarer there."""
    play, _ = played(3, MISTAKES, 3000)
    met = play.improved().earlier
    assert met is not None
    truth = play.before.successor.max(axis=1)
    error = truth.std() / np.sqrt(len(met.probabilities))
    assert abs(met.probabilities.max(axis=1).mean() - truth.mean()) < 2.5 * error
    shares = np.mean(met.probabilities.max(axis=1) < 0.7), np.mean(truth < 0.7)
    assert abs(shares[0] - shares[1]) < 0.05
    assert len(met.trained) == len(play.trained) > 100


def test_images_that_are_all_met_again_raise_no_alarm() -> None:
    play, _ = played(0)
    found, _, window = looked(play, play.before)
    assert found.changed == []
    assert len(window.trained) == len(play.trained)


def test_corrected_images_that_it_was_trained_on_are_left_out_and_counted() -> None:
    play, generator = played(0)
    after = play.before.and_then(Images.made(100, generator, ROUGH))
    found, _, window = looked(play, after)
    names = {one.image for one, _ in window.corrected}
    assert not names & window.trained
    assert found.learned == found.met_again == len(play.trained)
    assert facts(found)[-1][1] == f"{found.learned} corrected images that the model was trained on"
    assert (
        f"(except for the {found.met_again} images that it was trained on)"
        in told(found)["answers"]
    )
    assert len(window.fresh) == len(window.answers) - found.met_again


def test_with_few_images_of_known_class_the_accuracy_is_compared_with_nothing() -> None:
    """A person corrects mistakes alone: none of those stands for all images."""
    play, generator = played(0, MISTAKES)
    found, *_ = looked(play, Images.made(250, generator, ROUGH), 1.0)
    assert found.accuracy is not None
    assert (found.check(ACCURACY), found.accuracy_before) == (None, None)
    assert told(found)["accuracy"].endswith(
        "not compared: 0 images of known class, held out before the model was improved, "
        "but 20 are required"
    )


def test_with_few_images_met_before_it_is_held_to_the_validation_images() -> None:
    play, generator = played(0, count=40)
    found, reference, _ = looked(play, Images.made(250, generator, ROUGH))
    assert reference.earlier is not None
    assert len(reference.earlier.probabilities) == 0
    assert found.held_to == VALIDATION
    assert told(found)["compared with"].startswith(
        "the validation images, since fewer than 20 images"
    )
    assert "earlier images" not in told(found)["outputs"]


def test_the_luck_of_being_chosen_is_taken_off_the_accuracy() -> None:
    play, generator = played(0)
    _, reference, window = looked(play, Images.made(250, generator, ROUGH))
    assert reference.earlier is not None
    right = reference.earlier.labelled.argmax(axis=1) == reference.earlier.targets
    luck = 0.1 * right / right.mean()
    lucky = replace(reference, earlier=replace(reference.earlier, luck=luck))
    plain = replace(reference, earlier=replace(reference.earlier, luck=0 * luck))
    before = [find_changes("pets", one, window).accuracy_before for one in (plain, lucky)]
    assert before[0] is not None
    assert before[1] == pytest.approx(before[0] - 0.1)
    assert "minus 10.0 points" in told(find_changes("pets", lucky, window))["accuracy"]
    assert "minus" not in find_changes("pets", plain, window).accuracy_held_to
