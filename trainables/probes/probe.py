"""A linear probe: logistic regression on the features of a pretrained network.

The features are the inputs of the network's last layer, which stays as it was trained on other
images. They are computed once for each image and kept in the cache, so that a fit takes seconds:
often a good model of photographs, and always a measure for the trainings that take longer.

A checkpoint has the weights of the whole network, so that the file of pretrained weights is needed
for a fit alone.
"""

import hashlib
import math
import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from trainables.baselines.base import Beat, load_baseline, no_beat
from trainables.baselines.classifiers import LinearClassifier
from trainables.baselines.feature_classifiers import (
    FeatureClassifier,
    FeatureKind,
    Probabilities,
    are_cached,
    features_of,
)
from trainables.baselines.features import Images, Values
from trainables.catalog.models import MODELS
from trainables.catalog.weights import cached, in_folder
from trainables.config import ModelConfig, TrialConfig
from trainables.datasets.arrays import Dataset, Part
from trainables.models.families import Family
from trainables.models.weights import check, start_from
from trainables.probes.more_labels import LearningCurve, learning_curve, more_labels
from trainables.probes.unlabelled import FilesPart
from trainables.tasks.base import FromPixels
from trainables.tasks.pixels import Pixels, scaling, shared_tensor
from trainables.training.loop import as_values, eval_batch, on_device, seeded
from trainables.values import Evaluation, State

CPU = torch.device("cpu")
SAMPLE = 16
"""The number of images by which `fit_seconds` measures the time of the network."""
_CURVES: dict[tuple[str, ...], LearningCurve | None] = {}
"""The learning curves of this process, which are the same for all values of the option `c`."""
ABSENT = -1e4
"""The output for a class without training images, whose probability is then 0."""
NETWORKS = ("mobilenet_v2", "efficientnet_b0", "resnet18", "resnet50", "squeezenet1_0")
"""The networks whose features can be used, the first one that has weights."""
HAND_MADE = "svm"
"""The model whose hand-made features are used without weights."""
SIDE, HAND_MADE_SIDE = 128, 32
"""The height and width, in pixels, to which images are resized for a network, and without one."""


class LinearProbe(FeatureClassifier):
    """A linear classifier on the features of a pretrained network; a fit is a `ProbeNetwork`."""

    growth = 1
    _encoder: "FrozenEncoder | None" = None

    def features(
        self,
        part: Part,
        dataset: Dataset,
        beat: Beat = no_beat,
        fitted: "ProbeNetwork | None" = None,
    ) -> Values:
        """Return the features of a part's images, (images, length), from the cache if possible.

        Without a fit, the file of pretrained weights is read.
        """
        encoder = self._pretrained(dataset) if fitted is None else fitted.encoder
        return features_of(part, self._kind(encoder, dataset), beat)

    def compute(self, images: Images, dataset: Dataset) -> Values:
        """Compute the features of images, (images, length), without the cache."""
        return self._compute(self._pretrained(dataset), images, dataset)

    def fit(self, dataset: Dataset, beat: Beat = no_beat) -> "ProbeNetwork":
        """Fit the last layer to the features of the training set."""
        encoder, classes = self._pretrained(dataset), len(dataset.classes)
        values = self.features(dataset.train, dataset, beat)
        network = ProbeNetwork(encoder, values.shape[1], classes)
        network.put(self.fit_to(values, dataset))
        return network

    def new_classifier(self) -> LinearClassifier:
        """Build the classifier, not fitted yet."""
        return LinearClassifier(C=self.config.model.options["c"])

    def probabilities(
        self, fitted: "ProbeNetwork", values: Values, dataset: Dataset
    ) -> Probabilities:
        """Predict class probabilities, (images, classes), from features."""
        with torch.no_grad():
            logits = fitted.last(torch.from_numpy(np.array(values)))
        chances: Probabilities = logits.double().softmax(dim=1).numpy()
        return chances

    def predict(
        self, fitted: "Sequence[ProbeNetwork]", images: Images, dataset: Dataset
    ) -> Probabilities:
        """Predict the mean class probabilities of the networks, (images, classes)."""
        each = [
            self.probabilities(network, self._compute(network.encoder, images, dataset), dataset)
            for network in fitted
        ]
        mean: Probabilities = np.mean(each, axis=0)
        return mean

    def networks(self, fitted: "Sequence[ProbeNetwork]") -> list[nn.Module]:
        """Return the network of each fit."""
        return list(fitted)

    def state(self, fitted: "ProbeNetwork | None") -> State:
        """Return the state of a network that has been trained, without an optimizer's."""
        return {
            "model": {} if fitted is None else fitted.state_dict(),
            "optimizer": {"state": {}, "param_groups": []},
            "schedule": {},
            "precision": "fp32",
            **({} if fitted is None else {"scaling": fitted.encoder.network.scaling}),
        }

    def restore(self, state: State, dataset: Dataset) -> "ProbeNetwork | None":
        """Build the network of a state that `state` returned."""
        if not state["model"]:
            return None
        length = state["model"]["last.weight"].shape[1]
        network = ProbeNetwork(self._new_encoder(dataset), length, len(dataset.classes))
        network.load_state_dict(state["model"])
        network.encoder.network.normalise(state["scaling"])
        return network.eval()

    def fit_seconds(self, dataset: Dataset, *, box_s: float = math.inf) -> float:
        """Estimate how many seconds a fit takes; with the features, unless they are cached."""
        encoder, count = self._pretrained(dataset), self.uncached_images(dataset)
        sample = dataset.train.take(np.arange(min(SAMPLE, len(dataset.train)))).images
        self._compute(encoder, sample, dataset)  # the first batch takes longer
        start = time.perf_counter()
        self._compute(encoder, sample, dataset)
        image_s = (time.perf_counter() - start) / len(sample)
        return count * image_s + super().fit_seconds(dataset, box_s=box_s)

    def uncached_images(self, dataset: Dataset) -> int:
        """Return the number of images whose features must be computed, because no cache has them.

        They are those of the training and the validation set.
        """
        kind = self._kind(self._pretrained(dataset), dataset)
        parts = {id(part): part for part in (dataset.train, dataset.val)}  # with folds they are one
        return sum(len(part) for part in parts.values() if not are_cached(part, kind))

    def further_evaluation(self, fitted: "ProbeNetwork", dataset: Dataset) -> Evaluation:
        """Return the forecast for more labels, as `more_labels`; empty if there is none."""
        kind = self._kind(fitted.encoder, dataset)
        key = (kind.name, kind.version, dataset.train.fingerprint, dataset.val.fingerprint)
        if key not in _CURVES:
            _CURVES[key] = learning_curve(
                features_of(dataset.train, kind),
                dataset.train.targets,
                features_of(dataset.val, kind),
                dataset.val.targets,
                seed=self.config.data.split_seed,
            )
        curve = _CURVES[key]
        return {} if curve is None else {"more_labels": more_labels(curve, len(dataset.train))}

    def _compute(
        self, encoder: "FrozenEncoder", images: Images, dataset: Dataset, beat: Beat = no_beat
    ) -> Values:
        """Compute the features of images, (images, length)."""
        module = FromPixels(encoder, Pixels(dataset.val, dataset, self.config, CPU)).eval()
        size, parts = eval_batch(self.config, dataset, CPU), []
        with torch.inference_mode():
            for first in range(0, len(images), size):
                parts.append(module(shared_tensor(images[first : first + size])).numpy())
                beat()
        values: Values = np.concatenate(parts)
        return values

    def _kind(self, encoder: "FrozenEncoder", dataset: Dataset) -> FeatureKind:
        """Return the features of this network, with these weights, for images of this size."""
        model = self.config.model
        height, width = MODELS[model.name].effective_size(dataset.image, model.options)
        return FeatureKind(
            f"{MODELS[model.name].source}-{height}x{width}",
            f"{encoder.digest}-{torch.__version__}",
            lambda images, beat: self._compute(encoder, images, dataset, beat),
        )

    def _pretrained(self, dataset: Dataset) -> "FrozenEncoder":
        """Return the network with the pretrained weights of the config, read once."""
        if self._encoder is None:
            self._encoder = self._new_encoder(dataset)
            start_from(
                self._encoder.network,
                self.config.model,
                lambda name: as_values(*scaling(name, dataset)),
            )
        return self._encoder

    def _new_encoder(self, dataset: Dataset) -> "FrozenEncoder":
        """Build the network without its last layer, with random weights."""
        with seeded(self.config.seed, "weights", 0, CPU):
            network = self.config.load_task().network(self.config.model, dataset)
        encoder = FrozenEncoder(network)
        on_device(encoder.requires_grad_(False).eval(), CPU)
        return encoder


class FrozenEncoder(nn.Module):
    """A network of torchvision without its last layer."""

    def __init__(self, network: Family) -> None:
        super().__init__()
        self.network = network
        network.part.set_submodule(network.anatomy.head[0].removesuffix("."), nn.Identity())

    @cached_property
    def digest(self) -> str:
        """16 hex digits that identify the weights, and the scaling of pixels before them."""
        hasher = hashlib.sha256(repr(self.network.scaling).encode())
        for name, weights in self.network.state_dict().items():
            hasher.update(name.encode())
            hasher.update(weights.contiguous().numpy().tobytes())
        return hasher.hexdigest()[:16]

    def forward(self, images: Tensor) -> Tensor:
        """Map float32 (batch, channels, height, width) to features, (batch, length)."""
        features: Tensor = self.network(images)
        return features


class ProbeNetwork(nn.Module):
    """A pretrained network whose last layer is a fitted linear classifier."""

    def __init__(self, encoder: FrozenEncoder, length: int, classes: int) -> None:
        """Build the last layer, not fitted yet.

        Args:
            encoder: the network without its last layer.
            length: the number of its features.
            classes: the number of classes of the data set.
        """
        super().__init__()
        self.encoder = encoder
        self.last = nn.Linear(length, classes).requires_grad_(False)

    def put(self, classifier: LinearClassifier) -> None:
        """Make a fitted classifier the last layer; some classes may have no training images."""
        weights, biases = classifier.logits()
        self.last.weight.zero_()[classifier.classes_] = torch.from_numpy(weights).float()
        self.last.bias.fill_(ABSENT)[classifier.classes_] = torch.from_numpy(biases).float()

    def forward(self, images: Tensor) -> Tensor:
        """Map float32 (batch, channels, height, width) to logits, (batch, classes)."""
        logits: Tensor = self.last(self.encoder(images))
        return logits


def model_for_files(weights: Path | None) -> ModelConfig:
    """Return the probe whose features are used: that of the first network that has weights.

    Without weights, it is the classifier on hand-made features.

    Args:
        weights: a folder of files, or a file or checkpoint of the first network; None to look in
            torch's cache.

    Raises:
        ConfigError: `weights` cannot be used.
    """
    if weights is None:
        names = [name for name in NETWORKS if name in cached()]
    elif weights.is_dir() and not (weights / "manifest.json").exists():
        names = [name for name in NETWORKS if in_folder(weights, name).exists()] or [NETWORKS[0]]
    else:
        names = [NETWORKS[0]]  # whose check says what is missing
    if not names:
        return ModelConfig(name=HAND_MADE, features="all")
    place = None if weights is None else str(weights.absolute())
    model = ModelConfig(name=f"probe_{names[0]}", input_size=SIDE, weights=place)
    check(model, (3, SIDE, SIDE), 2)
    return model


class FileFeatures:
    """Computes the features of image files, and keeps them in the cache."""

    def __init__(self, model: ModelConfig) -> None:
        """Choose the model (`model_for_files`)."""
        side = SIDE if MODELS[model.name].source else HAND_MADE_SIDE
        part = Part(np.zeros((1, side, side, 3), np.uint8), np.zeros(1, np.int64))
        # Features do not depend on the classes, but a data set has some.
        self._dataset = Dataset("folder", ("a", "b"), part, part, None, "")
        baseline = load_baseline(TrialConfig(model=model))
        assert isinstance(baseline, FeatureClassifier)
        self._baseline = baseline

    def of(self, paths: Sequence[Path], beat: Beat = no_beat) -> Values:
        """Return the features of images, float32 (images, length).

        Raises:
            ConfigError: an image is damaged.
        """
        part = FilesPart(list(paths), self._dataset, beat)
        return np.asarray(self._baseline.features(part, self._dataset, beat))
