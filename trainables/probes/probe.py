"""A linear probe: logistic regression on the features of a pretrained network.

The features are the inputs of the network's last layer, which stays as it was trained on other
images. They are computed once for each image and kept in the cache, so that a fit takes seconds:
often a good model of photographs, and always a measure for the trainings that take longer.
"""

import math
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trainables.baselines.base import Beat, Fitted, no_beat
from trainables.baselines.classification import FeatureClassifier
from trainables.baselines.classifiers import LinearClassifier
from trainables.baselines.features import Images, Values
from trainables.baselines.shared import FeatureKind, are_cached, features_of
from trainables.catalog.models import MODELS, MOST_FEATURES
from trainables.datasets.arrays import Dataset, Part
from trainables.tasks.base import FromPixels, Task
from trainables.tasks.pixels import Pixels, scaling, shared_tensor
from trainables.training.loop import as_values, eval_batch, on_device
from trainables.values import Json

CPU = torch.device("cpu")
SAMPLE = 16
"""The number of images by which `fit_seconds` measures the time of the network."""
ABSENT = -1e4
"""The output for a class without training images, whose probability is then 0."""


class LinearProbe(FeatureClassifier):
    """A linear classifier on the features of a pretrained network."""

    growth = 1

    def features(self, part: Part, dataset: Dataset, beat: Beat = no_beat) -> Values:
        """Return the features of a part's images, (images, length), from the cache if possible."""
        return features_of(part, self._kind(dataset), beat)

    def compute(self, images: Images, dataset: Dataset, beat: Beat = no_beat) -> Values:
        """Compute the features of images, (images, length), without the cache."""
        module = FromPixels(
            self._encoder(dataset), Pixels(dataset.val, dataset, self.config, CPU)
        ).eval()
        size, parts = eval_batch(self.config, dataset, CPU), []
        with torch.inference_mode():
            for first in range(0, len(images), size):
                parts.append(module(shared_tensor(images[first : first + size])).numpy())
                beat()
        values: Values = np.concatenate(parts)
        return values

    def new_classifier(self, **changes: Any) -> LinearClassifier:
        """Build the classifier, not fitted yet."""
        return LinearClassifier(C=self.config.model.options["c"])

    def networks(self, fitted: Sequence[Fitted], dataset: Dataset) -> list[nn.Module]:
        """Return the pretrained network of each fit, with the fit's weights in its last layer."""
        encoder, classes = self._encoder(dataset), len(dataset.classes)
        return [ProbeNetwork(encoder, classifier, classes) for classifier in fitted]

    def export(self, fitted: Sequence[Fitted], folder: Any) -> Json:
        """Raise an error: a probe is exported as a network (`networks`)."""
        raise NotImplementedError

    def fit_seconds(self, dataset: Dataset, *, box_s: float = math.inf) -> float:
        """Estimate how many seconds a fit takes; with the features, unless they are cached."""
        kind = self._kind(dataset)
        count = sum(
            len(part)
            for part in {id(part): part for part in (dataset.train, dataset.val)}.values()
            if not are_cached(part, kind)
        )
        sample = dataset.train.take(np.arange(min(SAMPLE, len(dataset.train)))).images
        self.compute(sample, dataset)  # the first batch also builds the network
        start = time.perf_counter()
        self.compute(sample, dataset)
        image_s = (time.perf_counter() - start) / len(sample)
        return count * image_s + super().fit_seconds(dataset, box_s=box_s)

    @staticmethod
    def most_bytes(
        options: Mapping[str, Any], image: tuple[int, int, int], outputs: int, images: int
    ) -> int:
        """Return an upper bound on the size of the weights of the last layer on disk, in bytes."""
        return 20_000 + 16 * outputs * MOST_FEATURES

    def _kind(self, dataset: Dataset) -> FeatureKind:
        """Return the features of this network, with these weights, for images of this size."""
        from trainables.models.weights import digest, find_weights  # imports torchvision

        model = self.config.model
        place = find_weights(model)
        height, width = MODELS[model.name].effective_size(dataset.image, model.options)
        return FeatureKind(
            f"{MODELS[model.name].source}-{height}x{width}",
            f"{digest(place)}-{torch.__version__}",
            lambda images, beat: self.compute(images, dataset, beat),
        )

    def _encoder(self, dataset: Dataset) -> nn.Module:
        """Return the pretrained network without its last layer, built once."""
        self._dataset = dataset
        return self._built

    @cached_property
    def _built(self) -> nn.Module:
        from trainables.models.families import Family
        from trainables.models.weights import start_from

        dataset, task = self._dataset, self.config.load_task()
        assert isinstance(task, Task)
        with torch.random.fork_rng(devices=[]):  # the random weights of the head are not used
            network = task.network(self.config.model, dataset)
        assert isinstance(network, Family)
        start_from(network, self.config.model, lambda name: as_values(*scaling(name, dataset)))
        network.part.set_submodule(network.anatomy.head[0].removesuffix("."), nn.Identity())
        return on_device(network.requires_grad_(False).eval(), CPU)


class ProbeNetwork(nn.Module):
    """A pretrained network whose last layer is a fitted linear classifier."""

    def __init__(self, encoder: nn.Module, classifier: LinearClassifier, classes: int) -> None:
        """Build the last layer.

        Args:
            encoder: the network without its last layer.
            classifier: a fit to the outputs of the encoder.
            classes: the number of classes of the data set; some may have no training images.
        """
        super().__init__()
        self.encoder = encoder
        weights, biases = classifier.logits()
        self.last = nn.Linear(weights.shape[1], classes).requires_grad_(False)
        self.last.weight.zero_()[classifier.classes_] = torch.from_numpy(weights).float()
        self.last.bias.fill_(ABSENT)[classifier.classes_] = torch.from_numpy(biases).float()

    def forward(self, images: Tensor) -> Tensor:
        """Map float32 (batch, channels, height, width) to logits, (batch, classes)."""
        logits: Tensor = self.last(self.encoder(images))
        return logits
