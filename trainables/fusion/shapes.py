"""What trials must have in common to be trained as one network, or to cost the same, as far as it
is known without torch.
"""

from collections import Counter
from collections.abc import Hashable, Sequence

from trainables.config import TrialConfig


def shape_key(config: TrialConfig) -> Hashable | None:
    """Equal for trials of one network, batch size, kind of optimizer, precision and data;
    everything else is each trial's own. None for a baseline, which has no network.
    """
    if config.model.is_baseline:
        return None
    options = tuple(
        sorted((name, value) for name, value in config.model.options.items() if name != "dropout")
    )
    return (
        config.model.name,
        options,
        config.batch_size,
        config.optimizer.name,
        config.precision,
        config.data,
    )


def cost_key(config: TrialConfig, precision: str) -> Hashable:
    """Equal for trials that cost the same to use on one machine: of one model and data, however
    they were trained, and whatever of it was frozen meanwhile. `precision` is the one that a trial
    was trained in; before that is known, `auto` is one precision for one batch size.
    """
    options = tuple(
        sorted(
            (name, value)
            for name, value in config.model.options.items()
            if name not in ("dropout", "weights", "freeze")
        )
    )
    return (
        config.model.name,
        options,
        config.data,
        precision,
        config.batch_size if precision == "auto" else None,
    )


def same_shape_fraction(shapes: Sequence[Hashable | None]) -> float:
    """The part of these trials, which run at once, that has the shape of any one of them, on
    average: 1 if all share one, 1/n if none do.

    None is the shape of a trial that cannot be fused, which is alone. 0 for no trials.
    """
    sizes = Counter(shape for shape in shapes if shape is not None)
    pairs = sum(size**2 for size in sizes.values()) + shapes.count(None)
    return pairs / max(len(shapes), 1) ** 2
