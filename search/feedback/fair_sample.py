"""Select corrected images that are a random sample of all images that the model has answered.

People correct visible mistakes, and `search.label` first shows images that the model was not sure
of. On such images the accuracy is lower than on all images, and any other model looks better than
the champion. `search.monitor` and `search.improve` therefore use only images that were chosen
independently of the model's answer.
"""

from collections.abc import Iterable, Mapping, Sequence, Set

from search.feedback.bounded import USUAL
from search.feedback.records import Correction, RecordedAnswer

BY_PAGE = "page"
"""`Correction.by` for corrections from the server's page, whose visitors correct mistakes."""
MIN_COMPLETENESS = 0.9
"""Minimum share of a sample that must be corrected. It is below 1 because people skip images."""
MAX_END_TIMES = 20
"""Approximate number of end times that are tried. The actual number is below twice this number."""


def fair_sample(
    answers: Iterable[RecordedAnswer], corrections: Mapping[str, Correction]
) -> set[str]:
    """Select the corrected images that are a random sample of all images.

    An image's name is its SHA-256, so the first names in sorted order are a random sample of all
    images. The recorder stores every uncertain image, but only the usual images whose names come
    first in this order. Therefore the sample contains no name after that of the last usual image.
    It ends with a usual image that was corrected elsewhere than on the server's page: the last such
    image up to which nearly all images were corrected.

    Visitors of the server's page correct mistakes. Their corrections count within the sample,
    because `search.label` does not show these images again, but the sample never ends with one.

    Images that arrived after people stopped correcting must not count as missing. Therefore a
    sample is computed for each of several end times, without the images that arrived later, and the
    largest one is returned. The choice of the end time does not depend on the model's answers.

    Args:
        answers: all answers, in the order in which they were written.
        corrections: the last correction of each image, by the image's name.

    Returns:
        The names of the selected images; an empty set if there is no such sample.
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
    """Select the corrected images in the longest prefix of `names` that is nearly complete.

    A prefix is nearly complete if the share of corrected images is at least `MIN_COMPLETENESS`,
    both among all its images and among its usual images. The usual images are checked separately,
    because `search.label` also shows uncertain images for other reasons, and these would otherwise
    be overrepresented.

    Args:
        names: the names of all images up to the last usual one, sorted.
        corrected: the images that have a correction.
        labelled: the corrected images, except those that were corrected on the server's page.
        usual: the images that were stored because they are usual.
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
