"""The guesses with which a classifier is compared, and the metrics that they reach."""

import math
from collections.abc import Iterable, Sequence

from trainables.catalog.guesses import Guess, commonest

WORST_GROUP = "worst_group_accuracy"
"""The metric for which guessing all classes equally often is best."""


def guesses_of(
    classes: Sequence[str], train: Sequence[int], val: Sequence[int], test: Sequence[int]
) -> list[Guess]:
    """Return the guesses with which a classifier is compared: constant ones, and the class mix.

    A network that has learned nothing may predict any constant, whatever the class frequencies of
    its training images. Therefore the guesses use the frequencies of the images on which they are
    measured: the constant ones predict the most frequent class of the validation set, and that of
    the test set if it differs. For each metric, one of the guesses is as good as the best
    prediction that does not depend on the image (`expected_values`).

    Args:
        classes: the names of the classes.
        train: the number of training images of each class, which breaks ties between classes.
        val: the number of validation images of each class.
        test: the number of test images of each class; all 0 if there is no test set.
    """
    numbers = range(len(classes))
    errors = blind_error(val), blind_error(test)
    guesses = []
    for number in commonest(train, val, test):
        always = [float(own == number) for own in numbers]
        guesses.append(
            Guess(
                classes[number],
                expected_values(always, val),
                expected_values(always, test),
                *errors,
            )
        )
    return [
        *guesses,
        Guess(
            "", expected_values(_shares(val), val), expected_values(_shares(test), test), *errors
        ),
        *_even(val, test, errors),
    ]


def _even(
    val: Sequence[int], test: Sequence[int], errors: tuple[dict[str, float], dict[str, float]]
) -> list[Guess]:
    """Return the guess that draws every class that occurs equally often.

    It is better than the others only by worst-group accuracy, and only if the classes are of unlike
    size; otherwise the result is empty.
    """
    values = []
    for counts in (val, test):
        occurring = sum(count > 0 for count in counts)
        values.append({WORST_GROUP: 1 / occurring} if occurring else {})
    if all(len({count for count in counts if count}) < 2 for counts in (val, test)):
        return []
    on_val, on_test = values
    return [Guess("", on_val, on_test, *errors, "guessing all classes equally often")]


def expected_values(shares: Sequence[float], counts: Sequence[int]) -> dict[str, float]:
    """Return the expected value of each metric for guesses with these frequencies.

    Let n be the number of images, p the frequencies of the classes that occur, and q those of the
    guesses. Accuracy is the sum of p q, at most the largest p. Balanced accuracy is the mean of q,
    at most 1 over the number of classes. F1 of a class is 2 p q / (p + q), since guesses that do
    not depend on the image are right n p q times in expectation. The sum of F1 over the classes is
    concave in q and greatest at q = p (Lagrange), where it is 1. Log loss is least at q = p too
    (Gibbs' inequality). A log loss that is infinite, because a class that occurs is never guessed,
    is left out. Worst-group accuracy is the least q, at most 1 over the number of classes.

    Args:
        shares: the frequency of each class among the guesses, which is also its predicted
            probability.
        counts: the number of images of each class; if all are 0, the result is empty.
    """
    if not (images := sum(counts)):
        return {}
    truth = [count / images for count in counts]
    pairs = list(zip(shares, truth, strict=True))
    values = {
        "accuracy": math.fsum(share * true for share, true in pairs),
        "balanced_accuracy": _mean(share for share, true in pairs if true),
        "macro_f1": _mean(
            2 * share * true / (share + true) for share, true in pairs if share or true
        ),
        WORST_GROUP: min(share for share, true in pairs if true),
        "auc": 0.5,
    }
    if all(share for share, true in pairs if true):
        values["log_loss"] = -math.fsum(true * math.log(share) for share, true in pairs if true)
    return values


def blind_error(counts: Sequence[int]) -> dict[str, float]:
    """Return upper bounds of the standard errors of metrics, for a classifier that only guesses.

    A metric's usual standard error is estimated from the same few images as its value. It vanishes
    as the value approaches 1, which may well happen by chance if a class has two images. The upper
    bounds depend only on the numbers of images:

    - Balanced accuracy, the mean over k classes of n_c images each, n in total: if a class is
      guessed with probability q_c, its recall has the variance q_c (1 - q_c) / n_c. The sum of
      these is largest (Lagrange) at q_c = (1 - n_c (k - 2) / n) / 2. Classes for which this q_c is
      negative are left out of the sum.
    - Macro F1: the same bound, because one image changes macro F1 by no more than it changes
      balanced accuracy.
    - Worst-group accuracy: the largest error of the share of the smallest class, at one half.
    - AUC, the mean over k classes, each against the rest, of a class's mean rank (Mann and Whitney
      1947): with c_a = n / (n - n_a) and R the correlations between the classes' scores, its
      variance is (n + 1) / (12 n k^2) (sum of c_a^2 / n_a - c'Rc / n). It is largest if c'Rc is
      least. The least c'Rc is 0 or, if the largest c exceeds the sum of the others, the square of
      their difference.

    Args:
        counts: the number of images of each class.

    Returns:
        The bounds by metric name; empty if fewer than two classes have images.
    """
    images, counts_present = sum(counts), sorted(count for count in counts if count)
    if len(counts_present) < 2:
        return {}
    guessed_counts = list(counts_present)
    while (len(guessed_counts) - 2) * guessed_counts[-1] > sum(guessed_counts):
        guessed_counts.pop()
    shares = (
        math.fsum(1 / count for count in guessed_counts)
        - (len(guessed_counts) - 2) ** 2 / sum(guessed_counts)
    ) / 4
    balanced = math.sqrt(shares) / len(counts_present)
    factors = [images / (images - count) for count in counts_present]
    ranks = math.fsum(
        factor**2 / count for factor, count in zip(factors, counts_present, strict=True)
    )
    least = max(0.0, 2 * max(factors) - math.fsum(factors)) ** 2
    auc = math.sqrt((images + 1) / (12 * images) * (ranks - least / images)) / len(counts_present)
    lowest = 0.5 / math.sqrt(counts_present[0])
    return {"balanced_accuracy": balanced, "macro_f1": balanced, "auc": auc, WORST_GROUP: lowest}


def _shares(counts: Sequence[int]) -> list[float]:
    return [count / max(1, sum(counts)) for count in counts]


def _mean(values: Iterable[float]) -> float:
    numbers = list(values)
    return math.fsum(numbers) / len(numbers)
