"""Inspects a data set before a search trains on it."""

import os
from dataclasses import dataclass
from pathlib import Path

from search.fetching.images import is_bucket
from search.journal.store import own_path
from search.operations.options import seed
from search.operations.run import data_config
from search.operations.run_request import Reading
from search.values.option import group, option, positional, repeated
from trainables.catalog.datasets import DATASETS
from trainables.config import DataConfig, parse_setting
from trainables.errors import ConfigError
from trainables.inspection.leaks import load_inspected
from trainables.inspection.pictures import picture
from trainables.inspection.report import DataReport, report_of
from trainables.progress import step


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


def inspect_data(request: DataRequest) -> DataReport:
    """Inspect a data set, and write an HTML page about it if the request names a file.

    Raises:
        ConfigError: there is no such data set or folder, a setting is invalid, or the page cannot
            be written at its path.
        Unavailable: the data set is missing, or cannot be downloaded.
    """
    from search.views.page.data import write_alone  # imported late, because it imports Jinja

    page = request.out
    if page is not None and (page.is_dir() or not page.parent.is_dir()):
        raise ConfigError(f"--out '{page}' must be a file in an existing folder.")
    config = config_of(request)
    inspected = load_inspected(config, download=request.reading.download)
    with step("describing the data"):
        report = report_of(inspected, config)
        if page is not None:
            write_alone(report, picture(report, inspected), page)
    return report


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
