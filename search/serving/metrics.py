"""The figures that Prometheus is told, of all processes of a server together.

The processes share a folder, which `PROMETHEUS_MULTIPROC_DIR` names before this is imported.
"""

import os
from collections import Counter as Counts

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from search.serving.batching import Finished
from search.serving.messages import FIGURES

PATHS = ("/predict", "/invocations")
LATENCIES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
MOST_CLASSES = 100
OTHER = "(other)"
"""The label of all classes beyond `MOST_CLASSES`, so that a model cannot make endless labels."""


class Metrics:
    """The figures of a process."""

    def __init__(self) -> None:
        self._registry = own = CollectorRegistry()
        self._requests = Counter("serving_requests", "Requests", ["path", "status"], registry=own)
        self._seconds = Histogram(
            "serving_request_seconds",
            "From a request's header to its answer",
            ["path"],
            buckets=LATENCIES,
            registry=own,
        )
        self._batches = Histogram(
            "serving_batch_images", "Images computed at once", buckets=SIZES, registry=own
        )
        self._computing = Counter(
            "serving_compute_seconds", "Time in which batches were computed", registry=own
        )
        self._classes = Counter(
            "serving_predictions", "Answers by their class", ["class"], registry=own
        )
        self._images = Counter(
            "serving_images", "Images answered by a version", ["version"], registry=own
        )
        self._versions = Gauge(
            "serving_version",
            "Processes in which a version is in use",
            ["version", "engine"],
            registry=own,
            multiprocess_mode="livesum",
        )
        self._swaps = Counter("serving_swaps", "Versions that came", ["outcome"], registry=own)
        self.queue_images = Gauge(
            "serving_queue_images",
            "Images that wait or are computed",
            registry=own,
            multiprocess_mode="livesum",
        )
        self.queue_bytes = Gauge(
            "serving_queue_bytes",
            "Bytes of the requests that are read or worked on",
            registry=own,
            multiprocess_mode="livesum",
        )
        self.unobserved = Counter(
            "serving_unobserved", "Answers that came too fast for what observes them", registry=own
        )
        self.recording = Gauge(
            "serving_recording",
            "Processes that can record what they answer",
            registry=own,
            multiprocess_mode="livesum",
        )
        self.unrecorded = Counter("serving_unrecorded", "Answers not recorded", registry=own)
        self.shadow_images = Counter(
            "serving_shadow_images", "Images that the second model answered too", registry=own
        )
        self.shadow_differences = Counter(
            "serving_shadow_differences", "Those of which it named another class", registry=own
        )
        self._known: set[str] = set()

    def request(self, path: str, status: int, seconds: float) -> None:
        """Count a request."""
        shown = path if path in PATHS else "other"
        self._requests.labels(shown, str(status)).inc()
        self._seconds.labels(shown).observe(seconds)

    def batch(self, finished: Finished) -> None:
        """Count a batch and what was said of its images."""
        self._batches.observe(len(finished.batch))
        self._computing.inc(finished.seconds)
        if finished.error is not None:
            return
        self._images.labels(finished.served.version).inc(len(finished.batch))
        if not finished.served.is_classifier:
            return
        names = finished.served.model.classes
        for number, count in Counts(finished.found.argmax(axis=1).tolist()).items():
            self._classes.labels(self._label(names[number])).inc(count)

    def _label(self, name: str) -> str:
        if name in self._known or len(self._known) < MOST_CLASSES:
            self._known.add(name)
            return name
        return OTHER

    def version(self, version: str, engine: str, *, is_used: bool) -> None:
        """Say whether this process uses a version."""
        self._versions.labels(version, engine).set(int(is_used))

    def swapped(self, outcome: str) -> None:
        """Count a version that came: `swapped` or `refused`."""
        self._swaps.labels(outcome).inc()

    def text(self) -> bytes:
        """Return all figures of all processes, in Prometheus's format."""
        return generate_latest(self._all())

    def value(self, name: str) -> float:
        """Return one figure that has no labels, of all processes together."""
        return self._all().get_sample_value(name) or 0.0

    def _all(self) -> CollectorRegistry:
        if FIGURES not in os.environ:
            return self._registry
        together = CollectorRegistry()
        MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return together
