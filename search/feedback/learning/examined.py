"""Examine the corrections in a place: select images to learn from, and find doubtful labels."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from cluster.errors import Refused
from search.feedback.learning.champion import ChampionModel
from search.feedback.learning.corrected import (
    ALREADY_KNOWN,
    CONTRADICTORY,
    HELD_OUT,
    MIN_NEW_IMAGES,
    NO_LONGER_STORED,
    PROBABLY_WRONG,
    SELECTION,
    SHOWS_TEST_IMAGE,
    SHOWS_VALIDATION_IMAGE,
    TRAINING,
    UNKNOWN_CLASS,
    UNREADABLE,
    CorrectedImages,
    part_of,
    read_corrected_images,
)
from search.feedback.learning.joining import (
    ImprovementInfo,
    doubted_images,
    exclusion_lines,
    joined_labels,
)
from search.feedback.records import Records
from search.values.message import Message, Remedy, Start
from trainables.errors import ConfigError, counted

MAX_SUSPECTED = 0.1
"""Maximum share of wrong corrections; above it, the improvement is refused."""
DOUBTED_BEFORE = "in an earlier round; correct it again, also as the same, and it counts"
"""Explanation for an image that is left out because an earlier round doubted its correction."""
MIN_DOUBT = 0.5
"""An image is left out if the probability that its label is wrong is at least this."""


def examine_corrections(
    records: Records,
    champion: ChampionModel,
    data_root: Path | None,
    rounds: Sequence[ImprovementInfo] = (),
    *,
    keep_doubted: bool,
    note: Callable[[str], None],
) -> tuple[CorrectedImages, float]:
    """Read the corrected images, and leave out those whose labels are probably wrong.

    Args:
        records: the images that the champion has answered, and their corrections.
        champion: the model to improve.
        data_root: the current folder of its search's data, if it has moved.
        rounds: the improvements that led to the champion, the first one first.
        keep_doubted: keep corrections that are probably wrong.
        note: prints a line before the search for wrong labels, which may take minutes.

    Returns:
        The corrected images, and the estimated share of wrong corrections among the new ones. The
        share is 0 if there are no new images, or no significant evidence of wrong labels.

    Raises:
        ConfigError: there are no records, or their classes are not those of the champion.
        Refused: too many corrections are probably wrong.
    """
    dataset = champion.data.dataset
    if (info := records.info) is None:
        raise ConfigError(
            f"--from '{records.place}' contains no records. To record images, start a server "
            f"with --record '{records.place}'."
        )
    if info.classes != dataset.classes:
        raise ConfigError(
            f"--from '{records.place}' contains the records of '{info.model}', whose classes "
            f"differ from those of {champion.source}. Pass the records of {champion.source}."
        )
    model = champion.load_model(data_root)
    corrected_images = read_corrected_images(records, model, dataset, joined_labels(rounds))
    if not keep_doubted:
        corrected_images = without_earlier_doubted(corrected_images, rounds)
    if not corrected_images.new:
        return corrected_images, 0.0
    note(f"looking for wrong labels among {counted(len(corrected_images.new), 'new image')}")
    suspected, wrong = estimate_wrong_labels(champion, corrected_images)
    if not wrong or keep_doubted:
        return corrected_images, suspected
    if suspected > MAX_SUSPECTED:
        doubted = corrected_images.without_doubted(wrong).left_out_because(PROBABLY_WRONG)
        doubted_lines = "\n".join(f"  {line}" for line in exclusion_lines(doubted))
        raise Refused(
            f"about {100 * suspected:.0f} % of the {len(corrected_images.new):,} corrections are "
            f"probably wrong, more than the allowed {100 * MAX_SUSPECTED:g} %, so no training "
            "was started. Check the corrections that are listed here, or pass --anyway to train on "
            f"all corrections.\n{doubted_lines}"
        )
    return corrected_images.without_doubted(
        doubted_for_training(corrected_images, wrong)
    ), suspected


def without_earlier_doubted(
    corrected_images: CorrectedImages, rounds: Sequence[ImprovementInfo]
) -> CorrectedImages:
    """Leave out images that were doubted in an earlier round and not corrected again.

    Images that were not doubted joined the training set in those rounds, and are no longer new. If
    the doubted images stayed, the share of wrong corrections among the new images would grow with
    each round.
    """
    return corrected_images.without_doubted(
        dict.fromkeys(doubted_images(rounds, corrected_images.new), DOUBTED_BEFORE)
    )


def doubted_for_training(
    corrected_images: CorrectedImages, wrong: dict[str, str]
) -> dict[str, str]:
    """Select the doubted images that would be trained on.

    The other doubted images are not left out. The doubts are based on the champion's features, and
    the champion must not influence the selection of the images on which it is judged.
    """
    trained = {new_image.image for new_image in corrected_images.with_use(TRAINING)}
    return {image: why for image, why in wrong.items() if image in trained}


def estimate_wrong_labels(
    champion: ChampionModel, corrected_images: CorrectedImages
) -> tuple[float, dict[str, str]]:
    """Estimate the share of wrong corrections, and find the corrections that are probably wrong.

    Returns:
        The share, and the doubted images by name, the most doubtful one first. Each is mapped to a
        text with the probability that its label is wrong.
    """
    from trainables.evaluation.evaluate import features_of
    from trainables.label_errors.doubts import SURE_GAIN, doubts

    data, new_images = champion.data, list(corrected_images.new)
    part = part_of(new_images, data.dataset.classes)
    features = features_of(data.config, data.dataset, champion.checkpoint, part.images)
    doubt = doubts(features, part.targets, len(data.dataset.classes), least_gain=SURE_GAIN)
    ranked = np.argsort(-doubt.chances, kind="stable")
    return doubt.share, {
        new_images[row].image: f"{100 * doubt.chances[row]:.0f} % likely"
        for row in ranked
        if doubt.chances[row] >= MIN_DOUBT
    }


def refuse_few(corrected_images: CorrectedImages) -> None:
    """Check that there are enough new images of each use.

    Raises:
        ConfigError: there are too few.
    """
    counts = {use: len(corrected_images.with_use(use)) for use in MIN_NEW_IMAGES}
    if all(counts[use] >= fewest for use, fewest in MIN_NEW_IMAGES.items()):
        return
    raise ConfigError(
        Message(
            f"there are too few corrected images: {counts[TRAINING]} for training (at least "
            f"{MIN_NEW_IMAGES[TRAINING]}), {counts[SELECTION]} for the selection of the best "
            f"challenger (at least {MIN_NEW_IMAGES[SELECTION]}) and {counts[HELD_OUT]} held out "
            f"for the comparison with the champion (at least {MIN_NEW_IMAGES[HELD_OUT]}). About "
            "60 corrections in total are enough. Correct more images with ",
            Remedy("label", start=Start.MODULE),
            ", or on the server's page.",
        )
    )


def data_lines(corrected_images: CorrectedImages, suspected: float) -> Iterator[str]:
    """Summarise the corrections in lines of text."""
    counts = {use: len(corrected_images.with_use(use)) for use in MIN_NEW_IMAGES}
    yield (
        f"new images: {counts[TRAINING]:,} join the training set, {counts[SELECTION]:,} are set "
        f"aside to select the best challenger, and {counts[HELD_OUT]:,} are held out"
    )
    for reason in (
        SHOWS_TEST_IMAGE,
        SHOWS_VALIDATION_IMAGE,
        CONTRADICTORY,
        PROBABLY_WRONG,
        UNREADABLE,
        UNKNOWN_CLASS,
        NO_LONGER_STORED,
        ALREADY_KNOWN,
    ):
        if not (images := corrected_images.left_out_because(reason)):
            continue
        verb_text = (
            "refused" if reason in (SHOWS_TEST_IMAGE, SHOWS_VALIDATION_IMAGE) else "left out"
        )
        yield f"  {len(images):,} {verb_text}: {reason}"
        if reason not in (ALREADY_KNOWN, NO_LONGER_STORED):
            yield from (f"    {line}" for line in exclusion_lines(images))
    if corrected_images.limit:
        yield f"  note: {corrected_images.limit}"
    if suspected:
        yield f"  about {100 * suspected:.0f} % of the corrections are probably wrong"
