"""The promises with which a classifier may be promoted. This module does not import torch."""

import math
from dataclasses import asdict, dataclass

from trainables.catalog.models import MODELS
from trainables.config import TrialConfig
from trainables.errors import ConfigError
from trainables.values import Json


@dataclass(frozen=True, kw_only=True)
class Promises:
    """The promises about a model's answers; None or False for those that are not made."""

    max_error: float | None = None
    """The largest share of wrong answers among those that the model does not abstain from."""
    coverage: float | None = None
    """The share of images whose set of possible classes contains the true class."""
    by_class: bool = False
    """True if `coverage` should hold for the images of each class."""
    false_alarms: float | None = None
    """The share of images like those of the training that are reported as unlike them."""

    @property
    def options(self) -> list[str]:
        """The options of `search.promote` by which these promises are made."""
        return [
            option
            for option, value in (
                ("--max-error", self.max_error),
                ("--coverage", self.coverage),
                ("--by-class", self.by_class or None),
                ("--unlike", self.false_alarms),
            )
            if value is not None
        ]

    @property
    def set_on_test_images(self) -> list[str]:
        """The promises whose thresholds are chosen on test images, as words of a command line."""
        words = []
        if self.max_error is not None:
            words.append(f"--max-error {100 * self.max_error:g}%")
        if self.coverage is not None:
            words.append(f"--coverage {100 * self.coverage:g}%{' --by-class' * self.by_class}")
        return words

    def to_json(self) -> Json:
        """Return the promises that are made, as JSON-compatible values by their names."""
        return {name: value for name, value in asdict(self).items() if value}

    @property
    def need_test_set(self) -> bool:
        """True if images are needed by which no model was chosen."""
        return self.max_error is not None or self.coverage is not None


NO_PROMISES = Promises()


def fraction(text: str) -> float:
    """Parse a share between 0 and 1, such as `1%` or `0.01`.

    Raises:
        ConfigError: the text is not a number, or not in this range.
    """
    number, percent, rest = text.strip().partition("%")
    try:
        value = float(number) / (100 if percent else 1)
    except ValueError:
        value = 0.0
    if not 0 < value < 1 or rest:
        raise ConfigError(
            f"expected a share above 0 and below 1, such as 5% or 0.05 (got '{text[:80]}')"
        )
    return value


def check_promises(
    promises: Promises, config: TrialConfig, validation_images: int, test_images: int
) -> None:
    """Check that a model can be promoted with promises, before any work starts.

    Args:
        promises: the promises.
        config: the config of the model's trial.
        validation_images: the number of images in the validation set.
        test_images: the number of images in the test set; 0 if there is none.

    Raises:
        ConfigError: the task, the model or the data do not allow one of them.
    """
    if not promises.options:
        return
    config.task.require("promises", promises.options[0])
    if promises.by_class and promises.coverage is None:
        raise ConfigError("--by-class needs --coverage, such as --coverage 95%. Add it.")
    if promises.need_test_set and not test_images:
        raise ConfigError(
            f"{promises.options[0]} needs test images, by which no model was chosen, but the data "
            "have none. Search with a test set (data.test_fraction), or remove this option."
        )
    if promises.false_alarms is None:
        return
    if not MODELS[config.model.name].has_network:
        raise ConfigError(
            f"--unlike cannot be used for '{config.model.name}', because it has no network whose "
            "features could be compared. Remove --unlike, or promote a network with --trial."
        )
    if config.members:
        raise ConfigError(
            "--unlike cannot be used for an ensemble, because the features of a single network are "
            "compared. Remove --unlike, or promote one of its trials with --trial."
        )
    if config.data.folds:
        raise ConfigError(
            "--unlike cannot be used for a search with folds: its networks together were trained "
            "on all images that are not test images. Remove --unlike."
        )
    # With fewer, the limit would have to be above the scores of all validation images.
    fewest = math.ceil(1 / promises.false_alarms - 1 - 1e-9)
    if validation_images < fewest:
        raise ConfigError(
            f"--unlike {100 * promises.false_alarms:g}% needs at least {fewest} validation images "
            f"(the data have {validation_images}). Allow more false alarms, such as --unlike "
            f"{math.ceil(100 / (validation_images + 1))}%."
        )
