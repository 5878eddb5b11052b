"""Explanations of a classifier's answers: occlusion maps, which need only predictions.

A thread of its own computes them, one at a time and in small batches, and waits for a moment while
other requests are being answered.
"""

import base64
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from search.serving.limits import Refusal
from search.serving.versions import ServedVersion

METHOD = "occlusion"
MAX_PENDING = 4
"""Maximum number of explanations of a process that wait or are being computed."""
RETRY_S = 5
"""Seconds after which a refused client may try again."""
BATCH = 16
"""Maximum number of images that are computed at once, so that other requests wait only briefly."""
PATIENCE_S, POLL_S = 0.1, 0.005
"""Maximum wait before a batch while the model answers other requests, and the seconds between two
looks.
"""


class ExplanationCancelled(Exception):
    """The client has left, so the explanation is no longer needed."""


class Explainer:
    """Explains answers in a thread."""

    def __init__(self, is_busy: Callable[[], bool]) -> None:
        """Prepare the thread, which starts with the first explanation.

        Args:
            is_busy: True while the model answers other requests.
        """
        self._is_busy = is_busy
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="explaining")
        self._pending = 0

    @property
    def pool(self) -> ThreadPoolExecutor:
        """The thread that computes explanations."""
        return self._pool

    def admit(self) -> None:
        """Reserve a place; `release` it later.

        Raises:
            Refusal: too many explanations are pending.
        """
        if self._pending >= MAX_PENDING:
            raise Refusal(
                503, f"too many explanations are waiting; try again in {RETRY_S} s", RETRY_S
            )
        self._pending += 1

    def release(self) -> None:
        """Free the place of an explanation."""
        self._pending -= 1

    def explain(
        self, served: ServedVersion, pixels: NDArray[np.uint8], is_cancelled: threading.Event
    ) -> str:
        """Explain the most probable class of an image; return the answer as JSON.

        Args:
            served: the version that answers.
            pixels: the decoded image, (height, width, channels).
            is_cancelled: set by another thread to end the work.

        Raises:
            ExplanationCancelled: the work was ended.
        """
        # Imported late: SciPy would delay the start of a server.
        from trainables.explanations.maps import (
            ExplainableModel,
            MapScorer,
            judge_faithfulness,
            occlusion,
        )
        from trainables.explanations.pictures import draw_map

        def predict(images: NDArray[np.uint8]) -> NDArray[np.float64]:
            parts = [images[first : first + BATCH] for first in range(0, len(images), BATCH)]
            return np.concatenate([self._predict(served, part, is_cancelled) for part in parts])

        # The colours of the training images are not exported: missing pixels get the image's mean.
        fill = np.round(pixels.mean(axis=(0, 1))).astype(np.uint8)
        model, images = ExplainableModel(predict, (), fill), pixels[None]
        chances = model.predict(images)
        classes = chances.argmax(axis=1)
        maps = occlusion(model, images, classes)
        judged = judge_faithfulness(MapScorer(model, images, classes), maps)
        values = {
            "class": served.image_classes[int(classes[0])],
            "probability": float(chances[0, classes[0]]),
            "version": served.version,
            "method": METHOD,
            "faithful": bool(judged.is_faithful[0]),
            "score": float(judged.scores.values[0]),
            "random_score": float(judged.random_scores.mean()),
            "map": base64.b64encode(draw_map(pixels, maps[0])).decode(),
        }
        return json.dumps(values) + "\n"

    def _predict(
        self, served: ServedVersion, images: NDArray[np.uint8], is_cancelled: threading.Event
    ) -> NDArray[np.float64]:
        until = time.monotonic() + PATIENCE_S
        while self._is_busy() and time.monotonic() < until:
            time.sleep(POLL_S)
        if is_cancelled.is_set():
            raise ExplanationCancelled
        return np.asarray(served.predictions(list(images)), dtype=np.float64)

    def close(self) -> None:
        """End the thread after the current explanation."""
        self._pool.shutdown(cancel_futures=True)
