"""The tests of `--evaluate`: the corruptions, and the attacks with their budgets.

This module does not import torch.
"""

from dataclasses import dataclass

from trainables.robustness.published import PUBLISHED, SEVERITIES

MAX_IMAGES, MAX_LARGE_IMAGES = 500, 100
"""The number of validation images of a test: small images (`SMALL_PIXELS`), and larger ones."""
SMALL_PIXELS = 64 * 64
"""The most pixels of a small image."""
CLEAN = "clean"
"""The test on the unchanged images."""
CORRUPTION_ACCURACY = "val/corruption_accuracy"
"""The metric of an epoch that is measured for the objective `corruption_accuracy`."""


@dataclass(frozen=True, kw_only=True)
class AttackBudget:
    """An attack that changes each pixel by at most `epsilon`, where pixels are from 0 to 1."""

    method: str
    """`fgsm`, `pgd` or `square`."""
    epsilon: float
    steps: int = 1
    """The number of steps for each start; for `square` the number of predictions it may use."""
    restarts: int = 1
    """The number of random starts; a start uses all `steps`."""

    @property
    def name(self) -> str:
        """The name of the test, such as `pgd-8`: the method, and `epsilon` in 255ths."""
        return f"{self.method}-{255 * self.epsilon:g}"

    @property
    def step_size(self) -> float:
        """The size of a step of `pgd`, a quarter of `epsilon` (Madry et al. 2018: 2 of 8)."""
        return self.epsilon / 4


ATTACKS = {
    budget.name: budget
    for epsilon in (2 / 255, 8 / 255)
    for budget in (
        AttackBudget(method="fgsm", epsilon=epsilon),
        AttackBudget(method="pgd", epsilon=epsilon, steps=20, restarts=2),
        AttackBudget(method="square", epsilon=epsilon, steps=300),
    )
}
"""The attacks by name."""
CORRUPTED, ATTACKED = "corruptions", "adversarial"
STRESS_TESTS: dict[str, tuple[str, ...]] = {
    CORRUPTED: (CLEAN, *PUBLISHED),
    ATTACKED: (CLEAN, *ATTACKS),
}
"""The tests of each value of `--evaluate`."""
GRADIENT_PASSES = 3
"""The time of a prediction with its gradient, in predictions: backward passes take twice as long.
"""
ATTACKED_SHARE = 0.7
"""The assumed share of the steps that attacks need, as they skip images that are wrong already.

It agrees with the measured time of `mnist_cnn` on 400 images of CIFAR-10; the more robust a network
is, the longer its attacks take.
"""


def predictions_of(evaluation: str) -> float:
    """Estimate the time of an evaluation for one image, in predictions of an image."""
    if evaluation == CORRUPTED:
        return 1.0 + len(PUBLISHED) * len(SEVERITIES)
    steps = sum(
        budget.restarts * budget.steps * (1 if budget.method == "square" else GRADIENT_PASSES)
        for budget in ATTACKS.values()
    )
    return 1.0 + 2 * len(ATTACKS) + ATTACKED_SHARE * steps
