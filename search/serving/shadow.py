"""A second model that answers a share of the requests for itself, and how often it differs."""

import random
from collections.abc import Sequence

from search.serving.metrics import Metrics
from search.serving.observer import Answered
from search.serving.versions import Served


class Shadow:
    """An observer that asks a second model."""

    def __init__(self, share: float, metrics: Metrics) -> None:
        """Ask it for this share of the images, once there is one."""
        self.served: Served | None = None
        self._share, self._metrics = share, metrics

    def answered(self, batch: Sequence[Answered]) -> None:
        """Ask the second model about a sample of these images, and count differences."""
        served = self.served
        asked = [one for one in batch if random.random() < self._share]
        if served is None or not asked:
            return
        found = served.predictions([one.pixels for one in asked])
        differing = sum(
            int(chances.argmax()) != int(one.probabilities.argmax())
            for chances, one in zip(found, asked, strict=True)
        )
        self._metrics.shadow_images.inc(len(asked))
        self._metrics.shadow_differences.inc(differing)

    def close(self) -> None:
        """Nothing is left to do."""
