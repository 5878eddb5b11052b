"""Export of a trial's model to a folder, verified against its checkpoint on the search's images."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.errors import Refused
from search.fetching.images import at_hand
from search.journal.provenance import versions, working_fingerprint
from search.journal.result import SearchResult, TrialResult, checkpoint_of
from search.journal.store import Home
from search.process.versions import check_versions
from search.values.wording import DECODED_OTHERWISE
from trainables.config import TrialConfig
from trainables.errors import ConfigError, DataError

if TYPE_CHECKING:
    from trainables.datasets.arrays import Dataset
    from trainables.export.export import Exported
    from trainables.reliability.promises import Promises


def config_of(
    result: SearchResult, trial: TrialResult, data_root: Path | None = None
) -> TrialConfig:
    """Return the config of a trial, with `data_root` as the folder of its data.

    If `data_root` is None, the folder is the one from which the search read the data.
    """
    config = TrialConfig.from_dict(trial.config)
    if not config.data.root:
        return config
    root = data_root or Path(result.started.data["root"])
    return config.override({"data.root": str(root.absolute())})


def local_checkpoint(home: Home, trial: TrialResult) -> Path:
    """Return the local folder of a trial's checkpoint, which is downloaded if necessary."""
    return home.read(str(checkpoint_of(trial, Path())))


def dataset_of(result: SearchResult, config: TrialConfig) -> "Dataset":
    """Load the data set that the trials of a search were trained on.

    Raises:
        Refused: the images have changed since the search, or are decoded differently.
        ConfigError, Unavailable: the images cannot be read.
    """
    from trainables.catalog.datasets import DATASETS
    from trainables.inspection.leaks import load_clean

    dataset = load_clean(at_hand(config.data))
    data = result.started.data
    if dataset.fingerprint != data["fingerprint"]:
        if data.get("decoding") != DATASETS[config.data.name].decoding:
            raise Refused(
                f"the exported network of the search '{result.name}' could not be checked, because "
                f"its images may now be decoded differently ({DECODED_OTHERWISE}). Use the version "
                "that ran the search, or run the search again with this version."
            )
        raise Refused(
            f"the images of the search '{result.name}' have changed since it was started, "
            "so the exported network could not be checked. Restore the images from a "
            "backup."
        )
    return dataset


def export_for_registry(
    result: SearchResult,
    home: Home,
    trial: TrialResult,
    data_root: Path | None,
    folder: Path,
    *,
    onnx: bool,
    promises: "Promises",
) -> "Exported":
    """Export a trial's model to a new folder, verify it on all validation images, and time it.

    Args:
        result: the search.
        home: where the search is stored.
        trial: a trial with a checkpoint.
        data_root: the current folder of the search's data, if it has moved.
        folder: receives the model.
        onnx: True to export the model as ONNX, too.
        promises: the promises that the model's answers should keep.

    Raises:
        Refused: the images are not those of the search, the checkpoint is damaged, or the outputs
            of the exported model differ from those of the checkpoint.
        ConfigError: a promise cannot be kept.
        ConfigError, Unavailable: the data set cannot be read, or ONNX is not available.
    """
    from trainables.export import export

    config, checkpoint = config_of(result, trial, data_root), local_checkpoint(home, trial)
    if onnx:
        export.check_onnx(config)
    dataset = dataset_of(result, config)
    with _refusing_mismatch(trial, "promoted"):
        return export.export(config, dataset, checkpoint, folder, onnx=onnx, promises=promises)


def export_for_use(
    result: SearchResult,
    home: Home,
    trial: TrialResult,
    data_root: Path | None,
    folder: Path,
    *,
    watched: bool,
) -> None:
    """Copy a trial's model from the cache to a new folder, or export it there and cache it.

    An exported model is verified against its checkpoint on one batch. The arguments are those of
    `export_for_registry`; a `watched` model has a reference (`trainables.export.reference`).

    Raises:
        Refused: the images are not those of the search, the checkpoint is damaged, or the outputs
            of the exported model differ from those of the checkpoint.
        ConfigError, Unavailable: the data set cannot be read.
    """
    from trainables.export import kept as cache

    check_versions()
    key = cache.key_of(*_identity(result, home, trial), watched)
    if cache.fetch(key, folder):
        return
    _write(result, home, trial, config_of(result, trial, data_root), folder, watched=watched)
    cache.keep(folder, key)


def _identity(result: SearchResult, home: Home, trial: TrialResult) -> list[object]:
    """Return the parts of a model's cache key, with the versions of the code and the libraries."""
    manifest = home.read(f"{checkpoint_of(trial, Path())}/manifest.json")
    content = manifest.read_bytes() if manifest.is_file() else b""  # `_write` raises the error
    digest = hashlib.sha256(content).hexdigest()
    return [result.started.id, trial.trial, digest, working_fingerprint(), versions()]


def _write(
    result: SearchResult,
    home: Home,
    trial: TrialResult,
    config: TrialConfig,
    folder: Path,
    *,
    watched: bool,
) -> None:
    from trainables.export.export import write

    try:
        dataset = dataset_of(result, config)
    except DataError as error:
        raise ConfigError(
            f"{error} The images of the search '{result.name}' are required to check the exported "
            "model before it is used. A registered model does not need them: "
            f"models:/{result.name}@champion."
        ) from error
    with _refusing_mismatch(trial, "used"):
        write(config, dataset, local_checkpoint(home, trial), folder, watched=watched)


@contextmanager
def _refusing_mismatch(trial: TrialResult, use: str) -> Iterator[None]:
    """Convert errors of an export to `Refused`; `use` is "promoted" or "used", for the message.

    Raises:
        Refused: the checkpoint is damaged, or the outputs of the exported model differ from those
            of the checkpoint.
    """
    from trainables.checkpoints.checkpoint import CheckpointError
    from trainables.export.export import Disagreement

    try:
        yield
    except CheckpointError as error:
        raise Refused(
            f"trial {trial.trial} cannot be {use}: {error}. Restore its checkpoint from a backup, "
            "or choose another trial."
        ) from error
    except Disagreement as error:
        raise Refused(f"trial {trial.trial} cannot be {use}: {error}") from error
