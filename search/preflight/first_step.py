"""A recommendation of pretrained weights, for data sets of few photographs."""

from collections.abc import Iterator

import numpy as np

from search.design.experiment import Experiment
from search.spaces.auto import TUNED
from search.spaces.find import adaptive
from trainables.catalog.entries import TaskEntry
from trainables.catalog.weights import cached
from trainables.datasets.arrays import Dataset, Images, Part

MAX_PER_CLASS = 1000
"""Up to this number of training images per class, pretrained weights improve results considerably.

See "What to expect of how many images" in docs/benchmarks.md.
"""
MIN_SIDE = 32
"""The minimum height and width of a photograph in pixels, which are those of CIFAR-10."""
SAMPLED = 20
"""The maximum number of images that are examined."""
MIN_TINT, MIN_VARIETY = 4.0, 0.1
"""The minimum values for a photograph: of the mean difference between the highest and the lowest
channel of a pixel (0 to 255), and of the number of distinct colours divided by the number of
pixels. Drawings, screenshots and plots have few colours.
"""


def few_photographs(task: TaskEntry, dataset: Dataset) -> bool:
    """True if there are classes with few training images each, most of them photographs."""
    return (
        task.load_targets().are_classes
        and len(dataset.train) <= MAX_PER_CLASS * len(dataset.classes)
        and are_photographs(dataset.train)
    )


def are_photographs(part: Part) -> bool:
    """True if most images of a part are photographs: large enough, in colour and not drawn."""
    if part.is_ragged or not len(part) or part.shape[3] != 3 or min(part.shape[1:3]) < MIN_SIDE:
        return False
    rows = np.linspace(0, len(part) - 1, min(SAMPLED, len(part))).astype(int)
    return sum(map(_is_photograph, part.images[rows])) > len(rows) / 2


def _is_photograph(image: Images) -> bool:
    wide = image.astype(np.int32)
    colours = np.unique(wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2])
    is_coloured = np.ptp(wide, axis=2).mean() >= MIN_TINT
    return bool(is_coloured and len(colours) >= MIN_VARIETY * wide[..., 0].size)


def to_trained_weights(experiment: Experiment, dataset: Dataset) -> Iterator[str]:
    """Yield a note that recommends pretrained weights for few photographs.

    No note is yielded if torch's cache has no weights, or if the search already uses some.
    """
    is_pretrained = any(config.model.pretrained for config in experiment.edges)
    if is_pretrained or not experiment.has_networks or adaptive(experiment.space_source):
        return
    at_hand = sorted(cached(), key=lambda name: name not in TUNED)
    if at_hand and few_photographs(experiment.base.task, dataset):
        is_tried = at_hand[0] in TUNED
        space = "auto" if is_tried else f"transfer --set model.name={at_hand[0]}"
        yield (
            f"note: with only {len(dataset.train):,} training photographs, networks with "
            f"pretrained weights usually do much better. Try --space {space} "
            f"(the weights of {', '.join(at_hand)} are in torch's cache)."
        )
