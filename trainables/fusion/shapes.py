"""Keys of trials that can be trained as one network, or that cost the same, and their shares.

They are computed from configs alone, without torch.
"""

from collections import Counter
from collections.abc import Hashable, Sequence

from trainables.config import TrialConfig


def shape_key(config: TrialConfig) -> Hashable | None:
    """Return a key that is equal for trials that may be trained as one network.

    These have one network, batch size, kind of optimizer, precision and data; everything else is
    each trial's own. The key is None for what cannot be fused: a baseline, which has no
    network, one that begins with a checkpoint, and trials of a task that does not support it.
    """
    if config.model.is_baseline or config.warm_start or "fuse" not in config.task.can:
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
    """Return a key that is equal for trials that cost the same to use on one machine.

    These have one model and data; how they were trained, and which weights were frozen meanwhile,
    does not count.

    Args:
        config: the trial's.
        precision: the one in which the trial was trained. Before that is known it is `auto`, which
            stands for one precision for each batch size.
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
    """Return the part of these trials that has the shape of any one of them, on average.

    It is 1 if all have one shape, 1/n if no two have, and 0 for no trials.

    Args:
        shapes: the shape of each trial that runs at the same time. None for a trial that cannot be
            fused: it shares its shape with no other.
    """
    sizes = Counter(shape for shape in shapes if shape is not None)
    pairs = sum(size**2 for size in sizes.values()) + shapes.count(None)
    return pairs / max(len(shapes), 1) ** 2
