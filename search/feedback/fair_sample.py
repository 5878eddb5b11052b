"""The corrected images that are a random sample of all images that the model has answered.

People correct visible mistakes, and `search.label` shows images first of which the model was not
sure. On such images the accuracy is too low, and any other model looks better than the champion.
`search.monitor` and `search.improve` therefore use only images that were chosen without regard to
the model's answer.
"""

from collections.abc import Iterable, Mapping, Sequence, Set

from search.feedback.bounded import USUAL
from search.feedback.records import Correction, RecordedAnswer

BY_PAGE = "page"
"""`Correction.by` of a visitor of the server's page, who corrects mistakes."""
MIN_COMPLETENESS = 0.9
"""The share of a sample that has to be corrected; people skip some images."""
MAX_END_TIMES = 20
"""The most times at which completeness is checked."""


def fair_sample(
    answers: Iterable[RecordedAnswer], corrections: Mapping[str, Correction]
) -> set[str]:
    """Select the corrected images that are a random sample of all images.

    An image's name is its SHA-256, so the first names in sorted order are a random sample. The
    recorder keeps the usual images with the first names, and all uncertain ones. The sample is
    therefore cut off at the last usual image, and then at the last usual image that a person was
    asked about and up to which nearly all images were corrected.

    Visitors of the server's page correct mistakes. Their corrections count within the sample, since
    `search.label` does not show these images again, but the sample never ends at one.

    Images that arrived after the corrections do not count as missing: the sample may also be taken
    from the images that arrived up to some time. That choice does not depend on the answers.

    Args:
        answers: all answers, in the order in which they were written.
        corrections: the last correction of each image, by the image's name.
    """
    first_ms: dict[str, int] = {}
    usual: set[str] = set()
    for answer in answers:
        first_ms.setdefault(answer.image, answer.time_ms)
        if answer.kept == USUAL:
            usual.add(answer.image)
    corrected = corrections.keys() & first_ms.keys()
    labelled = {image for image in corrected if corrections[image].by != BY_PAGE}
    last_usual = max(usual, default="")
    names = sorted(image for image in first_ms if image <= last_usual)
    times = sorted(first_ms[image] for image in labelled)
    end_times = times[:: -max(1, len(times) // MAX_END_TIMES)]
    samples = (
        _complete_sample(
            [name for name in names if first_ms[name] <= end_ms], corrected, labelled, usual
        )
        for end_ms in end_times
    )
    return max(samples, key=len, default=set())


def _complete_sample(
    names: Sequence[str], corrected: Set[str], labelled: Set[str], usual: Set[str]
) -> set[str]:
    """Select the corrected images up to the last name up to which nearly all were corrected.

    Uncertain images are also corrected for other reasons. Nearly all usual images have to be
    corrected as well, so that their share is the true one.
    """
    end = all_corrected = all_usual = usual_corrected = 0
    for number, name in enumerate(names, 1):
        all_corrected += name in corrected
        if name not in usual:
            continue
        all_usual += 1
        usual_corrected += name in corrected
        is_complete = (
            all_corrected >= MIN_COMPLETENESS * number
            and usual_corrected >= MIN_COMPLETENESS * all_usual
        )
        if is_complete and name in labelled:
            end = number
    return {name for name in names[:end] if name in corrected}
