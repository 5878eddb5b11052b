"""Inspects a data set before a search trains on it."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from search.fetching.images import is_bucket
from search.journal.store import own_path
from search.operations.options import seed
from search.operations.run import data_config
from search.operations.run_request import Reading
from search.values.option import flag, group, option, positional, repeated
from trainables.catalog.datasets import DATASETS
from trainables.config import DataConfig, ModelConfig, parse_setting
from trainables.datasets.corrections import corrections_path, read_corrections
from trainables.errors import ConfigError
from trainables.inspection.leaks import InspectedData, load_inspected
from trainables.inspection.pictures import picture
from trainables.inspection.report import DataReport, report_of
from trainables.progress import step

if TYPE_CHECKING:
    from trainables.label_errors.ranking import RankedLabels


@dataclass(frozen=True, kw_only=True)
class DataRequest:
    """A data set, and the options for reading and splitting it."""

    data: str = positional(
        "a data set as for --data of search.run, or the path of a folder", metavar="DATA"
    )
    reading: Reading = group(Reading)
    seed: int = option(
        "as for search.run: determines how the images are split",
        metavar="N",
        parse=seed,
        default=0,
    )
    settings: tuple[str, ...] = repeated(
        "set how the data is read and split, as for search.run",
        name="set",
        metavar="data.KEY=VALUE",
    )
    out: Path | None = option(
        "also write an HTML page, with a row of samples for each class",
        metavar="FILE",
        parse=own_path,
    )
    labels: bool = flag("rank the images by the probability that their label is wrong")
    weights: Path | None = option(
        "with --labels: pretrained weights, by whose features images are compared (default: those "
        "in torch's cache, else hand-made features)",
        metavar="PATH",
        parse=own_path,
    )


def inspect_data(request: DataRequest) -> DataReport:
    """Inspect a data set, and write an HTML page about it if the request names a file.

    Raises:
        ConfigError: there is no such data set or folder, a setting is invalid, or the page cannot
            be written at its path; or wrong labels are looked for in other data than images in
            classes.
        Unavailable: the data set is missing, or cannot be downloaded.
    """
    from search.views.page.data import write_alone  # imported late, because it imports Jinja

    page = request.out
    if page is not None and (page.is_dir() or not page.parent.is_dir()):
        raise ConfigError(f"--out '{page}' must be a file in an existing folder.")
    if request.weights is not None and not request.labels:
        raise ConfigError("--weights is only used with --labels. Add --labels, or leave it out.")
    config = config_of(request)
    model = features_model(config, request.weights, "--labels") if request.labels else None
    inspected = load_inspected(config, download=request.reading.download)
    labels = None
    if model is not None:
        from trainables.label_errors.ranking import describe_ranking  # imports torch

        ranked = rank_folder(inspected, config, model)
        labels = describe_ranking(ranked, inspected.places)
    with step("describing the data"):
        report = replace(report_of(inspected, config), labels=labels)
        if page is not None:
            write_alone(report, picture(report, inspected), page)
    return report


def features_model(config: DataConfig, weights: Path | None, option: str) -> ModelConfig:
    """Return the model by whose features labels are judged, before any images are read.

    Args:
        config: the data set.
        weights: the file or folder of pretrained weights; None for those at hand.
        option: the option that asks for this, for error messages.

    Raises:
        ConfigError: the data has no classes of images, or the weights cannot be used.
    """
    from trainables.label_errors.ranking import check_labels  # imports torch
    from trainables.probes.probe import model_for_files

    check_labels(config, option)
    return model_for_files(weights)


def rank_folder(inspected: InspectedData, config: DataConfig, model: ModelConfig) -> "RankedLabels":
    """Rank the labels of a data set; those that were checked before are not suspicious."""
    from trainables.label_errors.ranking import rank_labels  # imports torch

    is_corrected = DATASETS[config.name].from_folder and not config.bucket
    path = corrections_path(Path(config.root))
    checked = read_corrections(path) if is_corrected else {}
    return rank_labels(inspected, config, model, checked)


def config_of(request: DataRequest) -> DataConfig:
    """Build the config of the data set that a request names.

    Raises:
        ConfigError: a key of --set does not begin with `data.`.
    """
    data = f"folder:{request.data}" if is_path(request.data) else request.data
    settings = dict(parse_setting(text) for text in request.settings)
    if foreign_keys := [path for path in settings if not path.startswith("data.")]:
        raise ConfigError(
            f"--set {foreign_keys[0]} is not a setting of the data. Use only keys that begin with "
            "'data.' here."
        )
    return data_config(data, request.reading, request.seed).override(settings).data


def is_path(data: str) -> bool:
    """True if `data` is the path of a folder, False if it is the name of a data set."""
    name = data.partition(":")[0]
    return not is_bucket(data) and name not in DATASETS and (os.sep in name or Path(data).is_dir())


def is_folder(report: DataReport) -> bool:
    """True if the data set is a folder of this machine, whose labels can be corrected."""
    return DATASETS[report.name].from_folder
