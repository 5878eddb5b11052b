"""What a user should know before a search begins, though nothing forbids it."""

import hashlib
from collections.abc import Iterator
from itertools import combinations

from search.experiment import Experiment
from search.room import room
from trainables.datasets.arrays import Dataset, Part


def notes(experiment: Experiment, dataset: Dataset) -> Iterator[str]:
    """Lines that begin with `warning:` or `note:`."""
    if dataset.skipped:
        yield f"note: {_images(dataset.skipped)} cannot be read and {'are' if dataset.skipped > 1 else 'is'} left out."
    yield from _leaks(dataset)
    found = room(experiment, dataset)
    if found is not None and found.free < 2 * found.needed:
        yield f"warning: {found}"


def _leaks(dataset: Dataset) -> Iterator[str]:
    """Images that are, pixel by pixel, in two parts."""
    parts = {"training": dataset.train, "validation": dataset.val, "test": dataset.test}
    digests = {title: list(_digests(part)) for title, part in parts.items() if part is not None}
    for one, other in combinations(digests, 2):
        known = set(digests[one])
        count = sum(digest in known for digest in digests[other])
        if count:
            yield f"warning: {_images(count)} occur{'s' * (count == 1)} in both the {one} and the {other} part."


def _digests(part: Part) -> Iterator[bytes]:
    """One of each image: 60,000 of MNIST take 0.06 s."""
    return (hashlib.sha256(image).digest() for image in part.images)


def _images(count: int) -> str:
    return f"{count:,} image{'s' * (count != 1)}"
