"""Keys to group trials: by whether they can be fused, and by the cost of using their models.

The keys are computed from configs, without torch, so that the driver can compute them too.
"""

from collections import Counter
from collections.abc import Collection, Hashable, Sequence
from typing import Any

from trainables.catalog.models import MODELS
from trainables.config import TrialConfig


def shape_key(config: TrialConfig) -> Hashable | None:
    """Return a key that is equal for trials that may be fused, or None for a trial that cannot be.

    Trials with equal keys have the same network, batch size, kind of optimizer, precision and data;
    all other settings may differ. Baselines, trainings that start from a checkpoint, trainings with
    an option that cannot be fused (`unfused_option`), and tasks that do not support fusion have no
    key. A key does not guarantee that the layers of the network can be fused; `stack.shape_of`,
    which needs torch, checks that too.
    """
    if config.model.is_baseline or config.warm_start or "fuse" not in config.task.can:
        return None
    if unfused_option(config):
        return None
    own = (config.batch_size, config.optimizer.name, config.precision, config.data)
    return config.model.name, _options(config, {"dropout"}), *own


def unfused_option(config: TrialConfig) -> str:
    """Return the path of an option with which trainings cannot be fused; empty without any."""
    is_on = {
        "augment.mix": config.augment.mix != "none",
        "train.group_dro": config.train.group_dro > 0,
        "train.ema": config.train.ema > 0,
        "train.smoothing": config.train.smoothing > 0,
        "train.adversarial": config.train.adversarial > 0,
    }
    return next((path for path, is_set in is_on.items() if is_set), "")


def cost_key(config: TrialConfig, precision: str) -> Hashable:
    """Return a key that is equal for trials whose models cost the same to use on one machine.

    Such trials have the same model and data. How they were trained or fitted, and which weights
    were frozen, does not matter.

    Args:
        config: the trial's config.
        precision: the precision of the training, or `auto` before it is known. For `auto`, the
            batch size is a part of the key, because it affects the choice of the precision.
    """
    omitted = {"dropout", "weights", "freeze", *MODELS[config.model.name].fit_options}
    return (
        config.model.name,
        _options(config, omitted),
        config.data,
        precision,
        config.batch_size if precision == "auto" else None,
        *(cost_key(member, precision) for member in config.members),
    )


def _options(config: TrialConfig, omitted: Collection[str]) -> tuple[tuple[str, Any], ...]:
    options = config.model.options.items()
    return tuple(sorted((name, value) for name, value in options if name not in omitted))


def same_shape_fraction(shapes: Sequence[Hashable | None]) -> float:
    """Return the mean, over these trials, of the share of trials that have the same shape.

    It is the sum of n_s^2 / n^2 over the shapes s: 1 if all trials have the same shape, 1/n if all
    differ, and 0 without trials.

    Args:
        shapes: the shape of each trial that runs at the same time; None for a trial that cannot be
            fused, whose shape differs from all others.
    """
    sizes = Counter(shape for shape in shapes if shape is not None)
    pairs = sum(size**2 for size in sizes.values()) + shapes.count(None)
    return pairs / max(len(shapes), 1) ** 2
