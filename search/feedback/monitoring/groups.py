"""The answers of a model in use in groups of images (`search.monitor --groups`)."""

from dataclasses import dataclass

import numpy as np

from search.feedback.monitoring.accuracy import Accuracy
from search.feedback.monitoring.window import Window
from trainables.errors import printable
from trainables.fairness.groups import LEAST_IMAGES, Attributes


@dataclass(frozen=True)
class GroupAnswers:
    """The answers on images with one value of an attribute."""

    name: str
    """The attribute and its value, such as `camera=old`."""
    images: int
    """Number of tested images of this group."""
    corrected: int
    """Number of its corrected images in the random sample."""
    accuracy: Accuracy | None
    """The accuracy on them; None if they are fewer than `LEAST_IMAGES`."""


def answers_of_groups(window: Window, attributes: Attributes) -> list[GroupAnswers]:
    """Count the answers in each group, and measure the accuracy on corrected images.

    Args:
        window: the model's answers in the tested period.
        attributes: the attributes of images, whose names are those of the records (the SHA-256 of
            the file); images that it does not name belong to no group.
    """
    answers = attributes.numbers(answer.image for answer in window.answers)
    corrected = attributes.numbers(answer.image for answer, _ in window.corrected)
    groups_of_values = []
    for title in attributes.titles:
        for value, groups in attributes.values(title).items():
            right = window.right[np.isin(corrected, groups)]
            groups_of_values.append(
                GroupAnswers(
                    printable(f"{title}={value}"),
                    int(np.isin(answers, groups).sum()),
                    len(right),
                    Accuracy.of(right) if len(right) >= LEAST_IMAGES else None,
                )
            )
    return groups_of_values
