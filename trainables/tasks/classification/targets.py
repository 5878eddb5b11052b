"""The targets of classification: the class number of each image."""

from collections.abc import Collection, Mapping

import numpy as np

from trainables.catalog.guesses import Guess
from trainables.config import DataConfig
from trainables.datasets.arrays import TITLES, Arrays, Dataset, Decoded
from trainables.datasets.targets import Labels, Targets
from trainables.errors import DataError, counted
from trainables.tasks.classification.guesses import guesses_of


class ClassNumbers(Targets):
    """The targets of classification: class numbers, int64 (images,)."""

    are_classes = True

    def check(self, decoded: Decoded, config: DataConfig) -> None:
        """Check that every class has an image for every part that is drawn.

        Raises:
            DataError: a class has too few images, or the numbers of images, labels and classes do
                not fit together.
        """
        for title, part in decoded.parts.items():
            if len(part.images) != len(part.targets) or part.targets.max(initial=0) >= len(
                decoded.classes
            ):
                raise DataError(
                    f"the {TITLES[title]} set has {counted(len(part.images), 'image')} and "
                    f"{counted(len(part.targets), 'label')} up to {part.targets.max(initial=0)}, "
                    f"but needs one label from 0 to {len(decoded.classes) - 1} for each image. The "
                    "files are damaged; replace them."
                )
        counts = np.bincount(decoded.train.targets, minlength=len(decoded.classes)).tolist()
        own_parts = [name for name in ("val", "test") if getattr(decoded, name) is not None]
        if lines := self.about_sizes(dict(zip(decoded.classes, counts, strict=True)), own_parts):
            raise DataError("\n".join(lines))

    def about_sizes(self, sizes: Mapping[str, int], own_parts: Collection[str]) -> list[str]:
        """Return a line for each class that has too few images for the parts that are drawn.

        If there are fewer than two classes, the only line states that.
        """
        if len(sizes) < 2:
            return [
                f"only one class was found ({min(sizes, default='')!r}). "
                "A classifier needs at least two."
            ]
        drawn = [
            "a training",
            *(
                f"a {title}"
                for title, part in (("validation", "val"), ("test", "test"))
                if part not in own_parts
            ),
        ]
        parts = (
            f"{', '.join(drawn[:-1])} and {drawn[-1]} image"
            if len(drawn) > 1
            else "a training image"
        )
        return [
            f"class {name!r} has {count} image{'s' * (count != 1)}; each class needs "
            f"{parts}. Add images or remove the class."
            for name, count in sizes.items()
            if count < len(drawn)
        ]

    def check_split(self, dataset: Dataset) -> None:
        """Check that every class has at least one image for each fold.

        Raises:
            DataError: a class has fewer images than there are folds.
        """
        counts = np.bincount(dataset.train.targets, minlength=len(dataset.classes))
        name, count = dataset.classes[counts.argmin()], int(counts.min())
        if dataset.folds is not None and count < dataset.folds:
            remedy = f"Use --folds {count}" if count > 1 else "Remove --folds"
            raise DataError(
                f"class {name!r} has {count} training image{'s' * (count != 1)}, but each of the "
                f"{dataset.folds} folds needs an image of every class. {remedy}, or add images."
            )

    def strata(self, targets: Arrays) -> Labels:
        """Return the class of each image."""
        labels: Labels = targets
        return labels

    def guesses(self, dataset: Dataset) -> list[Guess]:
        """Return constant guesses, and one that draws classes by frequency (`guesses_of`)."""
        none = np.zeros(0, np.int64)
        train, val, test = (
            np.bincount(labels, minlength=len(dataset.classes)).tolist()
            for labels in (
                dataset.train.targets,
                dataset.val.targets,
                none if dataset.test is None else dataset.test.targets,
            )
        )
        return guesses_of(dataset.classes, train, val, test)
