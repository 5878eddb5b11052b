"""Metrics of predicted classes.

Loss and accuracy are summed over the batches of an epoch on the device, and read once at its end
(`MetricAverage`). The other metrics are not means over batches: `measure` computes them, with their
standard errors, from all outputs at once.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from trainables.augmentation.augment import MixedPairs
from trainables.catalog.entries import Metric
from trainables.fairness.groups import count_cells, lowest_share

BATCH_SUMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "loss": lambda logits, labels: functional.cross_entropy(logits, labels, reduction="sum"),
    "accuracy": lambda logits, labels: (logits.argmax(dim=1) == labels).sum().to(logits.dtype),
}
"""Metrics as functions of logits (batch, classes) and labels (batch,), summed over the batch."""


class MetricAverage:
    """Running sums of named metrics, and the number of images that were added."""

    def __init__(self, *names: str, device: torch.device) -> None:
        self.names = names
        self.sums = torch.zeros(len(names) + 1, dtype=torch.float64, device=device)

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Add a batch: logits (batch, classes) and labels (batch,)."""
        values = [BATCH_SUMS[name](logits.float(), labels) for name in self.names]
        self.add_sums(torch.stack(values), len(labels))

    def add_sums(self, sums: Tensor, images: int) -> None:
        """Add sums over `images` images, with a value for each name."""
        self.sums[:-1] += sums.detach()
        self.sums[-1] += images

    def means(self, prefix: str) -> dict[str, float]:
        """Return each metric's mean over all images that were added, by the key `prefix/name`.

        The means are 0 if there are none.
        """
        *sums, images = self.sums.tolist()
        return {
            f"{prefix}/{name}": value / max(images, 1)
            for name, value in zip(self.names, sums, strict=True)
        }


class Measured(NamedTuple):
    """A metric's value on a set of images, with its standard error."""

    value: float
    error: float
    freedom: float
    """The degrees of freedom of the error, which determine the interval (`Metric.interval`)."""


Labels = NDArray[Any]
Probabilities = NDArray[np.float64]

WORST_GROUP = "worst_group_accuracy"
"""The metric that depends on groups of images."""
RESAMPLES = 200
"""The number of bootstrap samples for the standard error of macro F1."""


def measure(
    metric: Metric, logits: Tensor, labels: Tensor, groups: Labels | None
) -> dict[str, float]:
    """Compute the values of a metric that an epoch reports in addition to loss and accuracy.

    Args:
        metric: a metric of the task; the result is empty for accuracy.
        logits: (images, classes).
        labels: class numbers, (images,).
        groups: the number of each image's group, as for `compute`.
    """
    if metric.is_share:
        return {}
    probabilities = logits.cpu().double().softmax(dim=1).numpy()
    return epoch_metrics(metric, compute(metric, labels.cpu().numpy(), probabilities, groups))


def compute(
    metric: Metric, labels: Labels, probabilities: Probabilities, groups: Labels | None
) -> Measured:
    """Compute a metric other than accuracy, with its standard error.

    Args:
        metric: a metric of predicted classes.
        labels: class numbers, (images,).
        probabilities: class probabilities, (images, classes).
        groups: the number of each image's group, (images,), or `NO_GROUP`, on which only
            worst-group accuracy depends; None for no groups.
    """
    if metric.name == WORST_GROUP:
        return worst_group_accuracy(labels, probabilities, groups)
    return SCORES[metric.name](labels, probabilities)


def epoch_metrics(metric: Metric, measured: Measured) -> dict[str, float]:
    """Return a metric's value, error and degrees of freedom, by their keys in an epoch's report."""
    keys = metric.key, metric.error_key, metric.freedom_key
    return dict(zip(keys, measured, strict=True))


def confusion(labels: Labels, probabilities: Probabilities) -> NDArray[np.int64]:
    """Compute the confusion matrix: images by true class (rows) and guessed class (columns)."""
    classes = probabilities.shape[1]
    pairs = labels.astype(np.int64) * classes + probabilities.argmax(axis=1)
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


class ByClass(NamedTuple):
    """Precision, recall and F1 of each class, (classes,) each; 0 if the divisor is 0."""

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]
    occurs: NDArray[np.bool_]
    """True for the classes that occur in the labels or the guesses.

    Macro averages are over these, as in scikit-learn. Any other class would count as 0, although no
    guess about it was wrong.
    """

    @classmethod
    def of(cls, counts: NDArray[np.int64]) -> "ByClass":
        """Compute all fields from a confusion matrix: true classes in rows, guesses in columns."""
        right, support, guessed = counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0)
        return cls(
            divide(right, guessed),
            divide(right, support),
            divide(2.0 * right, support + guessed),
            support + guessed > 0,
        )

    def macro(self, name: str) -> float:
        """Average `precision`, `recall` or `f1` over the classes that occur."""
        return float(getattr(self, name)[self.occurs].mean())


def divide(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[np.float64]:
    """Divide one array by another; the result is 0 where the divisor is 0."""
    quotient: NDArray[np.float64] = np.divide(
        part, whole, out=np.zeros(whole.shape), where=whole > 0
    )
    return quotient


def class_freedom(images: NDArray[np.int64]) -> float:
    """Return the degrees of freedom of a mean over classes.

    The formula is that of Satterthwaite 1946, "An approximate distribution of estimates of variance
    components", where the variance of each class is assumed to be the inverse of its number of
    images. The result is 0 if a class has fewer than two images, from which no variance can be
    estimated.

    Args:
        images: the number of images of each class, (classes,).
    """
    if images.min() < 2:
        return 0.0
    variances = 1 / images
    return float(variances.sum() ** 2 / (variances**2 / (images - 1)).sum())


def balanced_accuracy(labels: Labels, probabilities: Probabilities) -> Measured:
    """Average the share of correct guesses over the classes that occur.

    The standard error is that of independent shares. For this error, each share is shrunk towards
    one half by one additional correct guess and one additional wrong guess (Agresti and Coull
    1998). Otherwise the error of a class with two images, both guessed correctly, would be 0.
    """
    counts = confusion(labels, probabilities)
    images, right = counts.sum(axis=1), counts.diagonal()
    freedom = class_freedom(images)
    images, right = images[images > 0], right[images > 0]
    smoothed = (right + 1) / (images + 2)
    errors = smoothed * (1 - smoothed) / images
    error = float(np.sqrt(errors.sum()) / len(images))
    return Measured(float((right / images).mean()), error, freedom)


def macro_f1(labels: Labels, probabilities: Probabilities) -> Measured:
    """Average F1, the harmonic mean of precision and recall, over the classes that occur.

    These are the classes of `ByClass.occurs`. The standard error is the root mean square difference
    between this value and the values of bootstrap samples. It includes the bias: for few images
    macro F1 is too low. The seed is fixed, so that the same counts give the same error. The error
    is at least `_least_error`, because samples of a class whose guesses are always, or never,
    correct do not vary.
    """
    counts = confusion(labels, probabilities)
    cells = np.flatnonzero(counts)
    rows, columns = np.divmod(cells, len(counts))
    by_class = ByClass.of(counts)

    def average(drawn: NDArray[Any]) -> NDArray[np.float64]:
        """Compute macro F1 from bootstrap samples of the cells' counts, (samples, cells)."""
        right, whole = (np.zeros((len(counts), len(drawn))) for _ in range(2))
        same = rows == columns
        right[rows[same]] = drawn[:, same].T
        for axis in (rows, columns):
            np.add.at(whole, axis, drawn.T)
        means: NDArray[np.float64] = divide(2.0 * right, whole)[by_class.occurs].mean(axis=0)
        return means

    counts_of_cells, images = counts.ravel()[cells], int(counts.sum())
    drawn = np.random.default_rng(0).multinomial(images, counts_of_cells / images, RESAMPLES)
    value = by_class.macro("f1")
    error = max(float(np.sqrt(((average(drawn) - value) ** 2).mean())), _least_error(counts))
    return Measured(value, error, class_freedom(counts.sum(axis=1)))


def _least_error(counts: NDArray[np.int64]) -> float:
    """Return the lower limit for the standard error of macro F1.

    It is the larger of two errors: that of balanced accuracy if every guess were correct, and that
    of macro F1 if the classes were independent. The F1 of a class is 2 J / (1 + J), where J is the
    share of correct guesses among the images that are of the class or guessed as it. The error of J
    is that of a share, shrunk as in `balanced_accuracy`, and is multiplied by the derivative
    2 / (1 + J)^2.
    """
    right, images, guessed = counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0)
    either = images + guessed - right
    right, either, images = right[either > 0], either[either > 0], images[images > 0]
    share = (right + 1) / (either + 2)
    variances = (2 / (1 + share) ** 2) ** 2 * share * (1 - share) / either
    perfect = (images + 1) / (images + 2) ** 2 / images
    return max(float(np.sqrt(each.sum()) / len(each)) for each in (variances, perfect))


def log_loss(labels: Labels, probabilities: Probabilities) -> Measured:
    """Average the negative logarithm of the true class's probability.

    A probability of 0 is replaced by the machine epsilon, as in scikit-learn.
    """
    true = probabilities[np.arange(len(labels)), labels.astype(np.int64)]
    losses = -np.log(np.maximum(true, np.finfo(np.float64).eps))
    spread = float(losses.std(ddof=1)) if len(losses) > 1 else 0.0
    return Measured(float(losses.mean()), spread / len(losses) ** 0.5, float(len(losses) - 1))


def auc(labels: Labels, probabilities: Probabilities) -> Measured:
    """Average the area under the ROC curve, one class against the rest, over the classes.

    The area is one half if no class has both positive and negative images. The standard error is
    that of Hanley and McNeil 1982, "The meaning and use of the area under a ROC curve". For this
    formula, the area is limited to 1 - 0.5 / (positives * negatives), so that the error of a
    perfect area is not 0. The areas of several classes are treated as independent; with two classes
    both areas are equal. The degrees of freedom are half those of a mean over the classes, because
    the formula is only approximate for few images.
    """
    areas, variances = [], []
    for number in range(probabilities.shape[1]):
        positive = labels == number
        positives, negatives = int(positive.sum()), int((~positive).sum())
        if positives and negatives:
            areas.append(area_under(*roc_curve(positive, probabilities[:, number])))
            area = min(areas[-1], 1 - 0.5 / (positives * negatives))
            pairs = area / (2 - area) - area**2, 2 * area**2 / (1 + area) - area**2
            spread = area * (1 - area) + (positives - 1) * pairs[0] + (negatives - 1) * pairs[1]
            variances.append(max(0.0, spread) / (positives * negatives))
    if not areas:
        return Measured(0.5, 0.5, 0.0)
    error = np.sqrt(np.mean(variances) / (1 if len(areas) == 2 else len(areas)))
    freedom = class_freedom(np.bincount(labels.astype(np.int64), minlength=probabilities.shape[1]))
    return Measured(float(np.mean(areas)), float(error), freedom / 2)


def worst_group_accuracy(
    labels: Labels, probabilities: Probabilities, groups: Labels | None
) -> Measured:
    """Return the lowest share of correct guesses in a class within a group (`lowest_share`).

    There are no degrees of freedom if a class does not occur, since it may be the worst.
    """
    labels = labels.astype(np.int64)
    is_right = probabilities.argmax(axis=1) == labels
    value, error, freedom = lowest_share(count_cells(labels, is_right, groups))
    do_all_occur = len(np.unique(labels)) == probabilities.shape[1]
    return Measured(value, error, freedom if do_all_occur else 0.0)


def roc_curve(
    positive: NDArray[np.bool_], scores: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute the ROC curve of one class: false-positive rates and true-positive rates.

    Args:
        positive: True for the images of the class, (images,); there must be both kinds of images.
        scores: the probabilities of the class, (images,).
    """
    order = np.argsort(scores, kind="stable")[::-1]
    scores, true_positives = scores[order], np.cumsum(positive[order])
    # Images with equal scores pass the threshold together.
    steps = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)
    right, wrong = (
        true_positives[steps].astype(float),
        (1 + steps - true_positives[steps]).astype(float),
    )
    if len(steps) > 2:  # leave out points on a straight line between two others
        corners = np.concatenate(
            [[True], (np.diff(wrong, 2) != 0) | (np.diff(right, 2) != 0), [True]]
        )
        right, wrong = right[corners], wrong[corners]
    false_rate, true_rate = (
        np.concatenate([[0.0], counts]) / counts[-1] for counts in (wrong, right)
    )
    return false_rate, true_rate


def area_under(fpr: NDArray[np.float64], tpr: NDArray[np.float64]) -> float:
    """Compute the area under a ROC curve by the trapezoidal rule."""
    return float(np.trapezoid(tpr, fpr))


SCORES: dict[str, Callable[[Labels, Probabilities], Measured]] = {
    "balanced_accuracy": balanced_accuracy,
    "macro_f1": macro_f1,
    "log_loss": log_loss,
    "auc": auc,
}
"""The metrics that are neither sums over batches nor depend on groups of images.

Each is a function of labels (images,) and class probabilities (images, classes).
"""


class WithAuxiliary(NamedTuple):
    """The outputs in training of a network with auxiliary heads.

    They are the network's logits, the auxiliary heads' logits, and the weight of each auxiliary
    loss.
    """

    logits: Tensor
    auxiliary: tuple[Tensor, ...]
    weight: float


def losses(
    outputs: Tensor | WithAuxiliary,
    labels: Tensor,
    weights: Tensor | None = None,
    *,
    smoothing: float = 0.0,
    pairs: MixedPairs | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the loss to minimise, and the loss to report.

    The first is the mean cross-entropy over the batch, plus the cross-entropy of each auxiliary
    head times `WithAuxiliary.weight`. The second is the mean cross-entropy of the network's own
    logits, without weights and smoothing. Of mixed images, both are cross-entropies to the mixed
    labels, because a mixed image has no single label.

    Args:
        outputs: logits (batch, classes), or those of several heads.
        labels: class numbers (batch,).
        weights: the weight of each image in the loss to minimise, (batch,); None for equal weights.
        smoothing: the share of each label that the loss to minimise spreads over all classes
            (Szegedy et al. 2016, "Rethinking the Inception Architecture", section 7).
        pairs: the pairs of which the images are mixtures; None if they are not mixed.
    """
    if isinstance(outputs, Tensor):
        outputs = WithAuxiliary(outputs, (), 0.0)
    own = mean_cross_entropy(outputs.logits, labels, pairs=pairs)
    loss = own
    if weights is not None or smoothing:
        loss = mean_cross_entropy(outputs.logits, labels, weights, smoothing=smoothing, pairs=pairs)
    if not outputs.auxiliary:
        return loss, own
    auxiliary_losses = torch.stack(
        [
            mean_cross_entropy(logits, labels, weights, smoothing=smoothing, pairs=pairs)
            for logits in outputs.auxiliary
        ]
    )
    return loss + outputs.weight * auxiliary_losses.sum(), own


@torch.no_grad()
def loss_of_each(outputs: Tensor | WithAuxiliary, labels: Tensor) -> Tensor:
    """Return the cross-entropy of each image's own logits, (batch,), as for `losses`."""
    logits = outputs if isinstance(outputs, Tensor) else outputs.logits
    return functional.cross_entropy(logits.float(), labels, reduction="none")


def mean_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    weights: Tensor | None = None,
    *,
    smoothing: float = 0.0,
    pairs: MixedPairs | None = None,
) -> Tensor:
    """Return the mean over a batch of each image's cross-entropy times its weight.

    The result is not divided by the sum of the batch's weights, so that several processes that
    share a batch compute the same gradient as a single one. The cross-entropy of a mixed image is
    that to the label of each image of the pair, with the weight of this image, times its share.
    """
    logits = logits.float()
    if weights is None and pairs is None:
        return functional.cross_entropy(logits, labels, label_smoothing=smoothing)

    def each(rows: Tensor | None = None) -> Tensor:
        """Return the weighted cross-entropies to the labels of the images in these rows."""
        own = labels if rows is None else labels[rows]
        entropies = functional.cross_entropy(
            logits, own, reduction="none", label_smoothing=smoothing
        )
        if weights is None:
            return entropies
        return entropies * (weights if rows is None else weights[rows])

    if pairs is None:
        return each().mean()
    return torch.lerp(each(pairs.partners), each(), pairs.shares).mean()
