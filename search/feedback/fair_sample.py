"""The corrected images that are a random sample of all that were met.

People correct what they see to be wrong, and `search.label` shows images first of which the model
was not sure. An accuracy on such images is too low, and beside a champion's mistakes any other
model looks better. `search.monitor` and `search.improve` therefore use only images that were chosen
without regard to the model's answer.
"""

from collections.abc import Iterable, Mapping, Sequence, Set

from search.feedback.bounded import USUAL
from search.feedback.records import Correction, Seen

PAGE = "page"
"""`Correction.by` of a visitor of the server's page, who corrects mistakes."""
COMPLETE = 0.9
"""The share of a sample that has to be corrected; people skip some images."""
MOMENTS = 20
"""The most times at which completeness is checked."""


def fair_sample(answers: Iterable[Seen], corrections: Mapping[str, Correction]) -> set[str]:
    """Select the corrected images that are a random sample of all images.

    An image's name is its SHA-256, so the first names in their order are a random sample. Of usual
    images the recorder keeps those with the first names, of uncertain ones all. The sample is
    therefore cut off at the last usual image, and then at the last usual one that was shown to a
    person up to which nearly all images were corrected.

    Visitors of the server's page correct mistakes. Their corrections count within the sample, since
    `search.label` does not show these images again, but the sample never ends at one.

    Images that were met after the corrections do not count as missing: the sample may also be one
    of the images that were met up to some time. That choice does not depend on the answers.

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
    shown = {image for image in corrected if corrections[image].by != PAGE}
    last = max(usual, default="")
    names = sorted(image for image in first_ms if image <= last)
    times = sorted(first_ms[image] for image in shown)
    ends = times[:: -max(1, len(times) // MOMENTS)]
    samples = (
        _complete([name for name in names if first_ms[name] <= end], corrected, shown, usual)
        for end in ends
    )
    return max(samples, key=len, default=set())


def _complete(
    names: Sequence[str], corrected: Set[str], shown: Set[str], usual: Set[str]
) -> set[str]:
    """Select the corrected images up to the last name up to which nearly all were corrected.

    Uncertain images are corrected for other reasons too. Nearly all of the usual ones have to be
    corrected as well, so that their share is the true one.
    """
    end = all_corrected = all_usual = usual_corrected = 0
    for number, name in enumerate(names, 1):
        all_corrected += name in corrected
        if name not in usual:
            continue
        all_usual += 1
        usual_corrected += name in corrected
        is_complete = all_corrected >= COMPLETE * number and usual_corrected >= COMPLETE * all_usual
        if is_complete and name in shown:
            end = number
    return {name for name in names[:end] if name in corrected}
