"""A check that one network of each model of a search can be exported, so that it can be used later.

Without it, a network that trains but cannot be exported would be found out by `promote`, hours
later. A network that was checked on this machine with the same code is not checked again.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from search.journal.provenance import training_fingerprint
from search.preflight.memory import sum_of_options
from trainables.catalog.models import MODELS
from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset
from trainables.disk import cache_folder, make_private
from trainables.progress import step

KIND = "exportable"
"""The name of the cache folder; it has an empty file for each checked network."""


def check_exports(
    configs: Iterable[TrialConfig], dataset: Dataset, print_line: Callable[[str], None]
) -> None:
    """Check that one network of each model can be exported (`check_exportable`).

    Of each model's networks, the one with the largest sum of numeric options is checked.

    Args:
        configs: the configs at the edges of the search's space.
        dataset: the data of the search.
        print_line: receives a line if there are networks to check.

    Raises:
        ConfigError: a network cannot be exported.
    """
    largest = _largest(configs)
    names = {config.model.name for config in largest}
    unchecked = {
        file: config
        for config in largest
        # A probe is a part of its network: if that is checked too, it suffices.
        if MODELS[config.model.name].source not in names
        and not _exists(file := _file(config, dataset))
    }
    if not unchecked:
        return
    print_line(
        "checking that networks can be exported after the search (once for each): "
        + ", ".join(config.model.name for config in unchecked.values())
    )
    from trainables.export.program import check_exportable  # imports torch

    with step("exporting networks", len(unchecked)) as advance:
        for file, config in unchecked.items():
            advance()
            if not check_exportable(config, dataset):
                continue
            with suppress(OSError):  # without a cache the network is checked again
                make_private(file.parent)
                file.touch()


def _exists(file: Path) -> bool:
    """True if a file exists and its folder can be read."""
    try:
        return file.exists()
    except OSError:
        return False


def _largest(configs: Iterable[TrialConfig]) -> list[TrialConfig]:
    """Return the config of the largest network of each model; others are left out."""
    largest: dict[str, TrialConfig] = {}
    for config in configs:
        if MODELS[config.model.name].has_network:
            earlier = largest.setdefault(config.model.name, config)
            if sum_of_options(config) > sum_of_options(earlier):
                largest[config.model.name] = config
    return list(largest.values())


def _file(config: TrialConfig, dataset: Dataset) -> Path:
    """Return the file that exists if this network was checked with the present code."""
    targets, entry = config.task.load_targets(), MODELS[config.model.name]
    options = config.model.options
    key = training_fingerprint(
        task=config.task.name,
        model=[
            entry.source or config.model.name,
            entry.kind,
            entry.builder,
            {name: options[name] for name in options if name not in entry.fit_options},
        ],
        image=targets.image(dataset),
        largest=dataset.train.shape[1:],  # which determines the tiles
        width=targets.width(dataset),
    )
    return cache_folder(KIND) / key
