"""The corrections of a place, examined: what joins, what is left out, and what is not believed."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from cluster.errors import Refused
from search.api import load
from search.feedback.learning.champion import Found
from search.feedback.learning.corrected import (
    CHOOSING,
    CONTRADICTS,
    DOUBTED,
    FEWEST,
    GONE,
    HELD,
    SAME,
    TEST,
    TRAINED,
    UNREADABLE,
    VAL,
    Gathered,
    gather,
    part_of,
)
from search.feedback.learning.joining import About, doubted_before, joined_before, listed
from search.feedback.records import Records
from trainables.errors import ConfigError, counted

MAX_SUSPECTED = 0.1
"""The share of corrections that may be wrong; with more nothing is learned."""
BEFORE = "in an earlier round; correct it again, also as the same, and it counts"
"""Why an image is left out that was doubted before."""
LIKELY = 0.5
"""The probability of being wrong from which on a label is left out."""


def examined(
    records: Records,
    found: Found,
    data_root: Path | None,
    rounds: Sequence[About] = (),
    *,
    anyway: bool,
    note: Callable[[str], None],
) -> tuple[Gathered, float]:
    """Return the new images, and the share of corrections that is probably wrong.

    Args:
        records: what the champion has met.
        found: the champion.
        data_root: where its search's data lies now, if it has moved.
        rounds: the improvements that led to the champion, the first one first.
        anyway: whether corrections that are probably wrong are kept.
        note: is told, as a line, that the search for wrong labels begins, which may take minutes.

    Raises:
        ConfigError: there are no records of this model.
        Refused: too many corrections are probably wrong.
    """
    dataset = found.known.dataset
    if (told := records.about) is None:
        raise ConfigError(
            f"'{records.place}' holds no records (--from). A server writes them: --record PLACE."
        )
    if told.classes != dataset.classes:
        raise ConfigError(
            f"'{records.place}' holds the records of '{told.model}', whose classes are not those "
            f"of {found.source}."
        )
    model = load(
        found.source,
        storage=str(found.known.experiment.storage),
        tracking=found.tracking,
        data_root=data_root,
    )
    gathered = gather(records, model, dataset, joined_before(rounds))
    if not anyway:
        gathered = without_doubted(gathered, rounds)
    if not gathered.new:
        return gathered, 0.0
    note(f"looking for wrong labels among {counted(len(gathered.new), 'new image')}")
    suspected, wrong = suspicion(found, gathered)
    if not wrong or anyway:
        return gathered, suspected
    if suspected > MAX_SUSPECTED:
        doubted = gathered.without(wrong).why(DOUBTED)
        told_lines = "\n".join(f"  {line}" for line in listed(doubted))
        raise Refused(
            f"about {100 * suspected:.0f} % of the {len(gathered.new):,} corrections are probably "
            f"wrong, more than {100 * MAX_SUSPECTED:g} %: nothing was started. Look at those that "
            "contradict the others most, correct them, or train on all with --anyway:\n"
            f"{told_lines}"
        )
    return gathered.without(in_training(gathered, wrong)), suspected


def without_doubted(gathered: Gathered, rounds: Sequence[About]) -> Gathered:
    """Leave out what was doubted in an earlier round, and not corrected again.

    The right corrections of the same rounds have joined and are gone from the new ones: a share
    over what is left would grow with each round, whatever people correct.
    """
    return gathered.without(dict.fromkeys(doubted_before(rounds, gathered.new), BEFORE))


def in_training(gathered: Gathered, wrong: dict[str, str]) -> dict[str, str]:
    """Return the doubted images that would be trained on.

    The others stay: the doubt is by what the champion sees, and so are not to be what it is judged
    by.
    """
    trained = {one.image for one in gathered.of(TRAINED)}
    return {image: why for image, why in wrong.items() if image in trained}


def suspicion(found: Found, gathered: Gathered) -> tuple[float, dict[str, str]]:
    """Return the share of corrections that is probably wrong, and why each of those is doubted."""
    from trainables.evaluation.doubts import doubts, features_of

    known, new = found.known, list(gathered.new)
    part = part_of(new, known.dataset.classes)
    features = features_of(known.config, known.dataset, found.checkpoint, part.images)
    told = doubts(features, part.targets, len(known.dataset.classes))
    ranked = np.argsort(-told.chances, kind="stable")
    return told.share, {
        new[row].image: f"{100 * told.chances[row]:.0f} % likely"
        for row in ranked
        if told.chances[row] >= LIKELY
    }


def refuse_few(gathered: Gathered) -> None:
    """Check that there are enough new images of each use.

    Raises:
        ConfigError: there are not.
    """
    counts = {use: len(gathered.of(use)) for use in FEWEST}
    if all(counts[use] >= fewest for use, fewest in FEWEST.items()):
        return
    raise ConfigError(
        f"too few corrected images: {counts[TRAINED]} to train on, {counts[CHOOSING]} to choose "
        f"by, {counts[HELD]} held out; at least {FEWEST[TRAINED]}, {FEWEST[CHOOSING]} and "
        f"{FEWEST[HELD]} are needed. About 60 corrections are enough: correct more with "
        "search.label, or on the server's page."
    )


def data_lines(gathered: Gathered, suspected: float) -> Iterator[str]:
    """Yield what the corrections come to, as lines of text."""
    counts = {use: len(gathered.of(use)) for use in FEWEST}
    yield (
        f"new images: {counts[TRAINED]:,} join the training part, {counts[CHOOSING]:,} are set "
        f"aside to choose by, {counts[HELD]:,} are held out"
    )
    for reason in (TEST, VAL, CONTRADICTS, DOUBTED, UNREADABLE, GONE, SAME):
        if not (images := gathered.why(reason)):
            continue
        verb_text = "refused" if reason in (TEST, VAL) else "left out"
        yield f"  {len(images):,} {verb_text}: {reason}"
        if reason not in (SAME, GONE):
            yield from (f"    {line}" for line in listed(images))
    if gathered.limit:
        yield f"  note: {gathered.limit}"
    if suspected:
        yield f"  about {100 * suspected:.0f} % of the corrections are probably wrong"
