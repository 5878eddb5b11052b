"""Metrics for Prometheus, combined over all processes of a server.

The processes share a folder. The environment variable `PROMETHEUS_MULTIPROC_DIR` has to name the
folder before this module is imported, because prometheus_client reads the variable at its import.
"""

import os
from collections import Counter as Counts

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from search.serving.batching import BatchResult
from search.serving.messages import METRICS_FOLDER_VARIABLE

PATHS = ("/predict", "/invocations", "/explain")
"""Request paths that have their own label; all other paths are counted as `other`."""
LATENCIES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
"""Histogram buckets for the duration of a request, in seconds."""
SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
"""Histogram buckets for the number of images in a batch."""
MAX_CLASSES = 100
OTHER_CLASSES = "(other)"
"""Label of all further classes once `MAX_CLASSES` have their own label. The number of labels is
limited because each is a time series in Prometheus.
"""


class Metrics:
    """The metrics that a process updates."""

    def __init__(self) -> None:
        self._registry = own = CollectorRegistry()
        # Each call of `labels` takes as long as the counting itself, so its results are cached.
        self._request_series: dict[tuple[str, int], tuple[Counter, Histogram]] = {}
        self._version_series: dict[str, Counter] = {}
        self._class_series: dict[str, Counter] = {}
        self._requests = Counter("serving_requests", "Requests", ["path", "status"], registry=own)
        title = "Time from a request's header to its response"
        self._seconds = Histogram(
            "serving_request_seconds", title, ["path"], buckets=LATENCIES, registry=own
        )
        self._batches = Histogram(
            "serving_batch_images", "Images per computed batch", buckets=SIZES, registry=own
        )
        self._computing = Counter(
            "serving_compute_seconds", "Time spent on computing batches", registry=own
        )
        self._classes = Counter(
            "serving_predictions", "Predictions by class", ["class"], registry=own
        )
        text = "Images without an answer, by reason"
        self._abstained = Counter("serving_abstained", text, ["reason"], registry=own)
        text = "Images answered, by version"
        self._images = Counter("serving_images", text, ["version"], registry=own)
        self._versions = Gauge(
            "serving_version",
            "Processes that use a version",
            ["version", "engine"],
            registry=own,
            multiprocess_mode="livesum",
        )
        self._swaps = Counter("serving_swaps", "Version swaps", ["outcome"], registry=own)
        self.queue_images = Gauge(
            "serving_queue_images",
            "Images that are waiting or being computed",
            registry=own,
            multiprocess_mode="livesum",
        )
        self.queue_bytes = Gauge(
            "serving_queue_bytes",
            "Bytes of the requests in progress",
            registry=own,
            multiprocess_mode="livesum",
        )
        self.unobserved = Counter(
            "serving_unobserved", "Answers dropped because the queue was full", registry=own
        )
        self.recording = Gauge(
            "serving_recording",
            "Processes that can record their answers",
            registry=own,
            multiprocess_mode="livesum",
        )
        self.unrecorded = Counter("serving_unrecorded", "Answers not recorded", registry=own)
        self.shadow_images = Counter(
            "serving_shadow_images", "Images that the second model also answered", registry=own
        )
        self.shadow_differences = Counter(
            "serving_shadow_differences", "Images with another predicted class", registry=own
        )

    def count_request(self, path: str, status: int, seconds: float) -> None:
        """Count an answered request, and add its duration to the histogram."""
        label = path if path in PATHS else "other"
        if (series := self._request_series.get((label, status))) is None:
            series = self._requests.labels(label, str(status)), self._seconds.labels(label)
            self._request_series[label, status] = series
        requests, request_seconds = series
        requests.inc()
        request_seconds.observe(seconds)

    def count_batch(self, result: BatchResult) -> None:
        """Count a batch, its images, and their predicted classes."""
        self._batches.observe(len(result.batch))
        self._computing.inc(result.seconds)
        if result.error is not None:
            return
        version = result.served.version
        if (images := self._version_series.get(version)) is None:
            images = self._version_series[version] = self._images.labels(version)
        images.inc(len(result.batch))
        if not result.served.image_classes:
            return
        names = result.served.image_classes
        for number, count in Counts(result.predictions.argmax(axis=1).tolist()).items():
            self._series_of_class(names[number]).inc(count)
        for reason, count in Counts(own.reason for own in result.judgements or ()).items():
            if reason:
                self._abstained.labels(reason).inc(count)

    def _series_of_class(self, name: str) -> Counter:
        if (series := self._class_series.get(name)) is not None:
            return series
        if len(self._class_series) >= MAX_CLASSES:
            return self._classes.labels(OTHER_CLASSES)
        series = self._class_series[name] = self._classes.labels(name)
        return series

    def set_version(self, version: str, engine: str, *, is_used: bool) -> None:
        """Set the gauge that shows if this process uses a version."""
        self._versions.labels(version, engine).set(int(is_used))

    def count_swap(self, outcome: str) -> None:
        """Count an attempt to use a version, by its outcome: `swapped` or `refused`."""
        self._swaps.labels(outcome).inc()

    def text(self) -> bytes:
        """Format the metrics of all processes in Prometheus's text format."""
        return generate_latest(self._combined_registry())

    def value(self, name: str) -> float:
        """Sum a metric without labels over all processes; 0 if it does not exist."""
        return self._combined_registry().get_sample_value(name) or 0.0

    def _combined_registry(self) -> CollectorRegistry:
        if METRICS_FOLDER_VARIABLE not in os.environ:
            return self._registry
        combined = CollectorRegistry()
        MultiProcessCollector(combined)  # type: ignore[no-untyped-call]
        return combined
