"""Pretrained weights: finding, downloading, checking and loading them.

They are in torch's cache, under torchvision's file names, or at a path that the user names
(`model.weights`): a file in the format of torch or safetensors, a checkpoint of this project, or a
folder with a file for each network, named after the network.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.hub import download_url_to_file
from torchvision import models
from torchvision.models.vision_transformer import interpolate_embeddings

from trainables.catalog.models import MODELS
from trainables.catalog.weights import cache, cached, in_folder
from trainables.checkpoints import checkpoint
from trainables.config import SCALING_NAMES, ModelConfig
from trainables.disk import open_regular, read_regular
from trainables.errors import ConfigError, Unavailable
from trainables.models.pretrained import IMAGENET, Pretrainable, Scaling
from trainables.progress import step

Weights = dict[str, Tensor]
WRAPPERS = ("state_dict", "model")
"""Keys under which training scripts often store the weights."""
PREFIXES = ("module.", "net.")
"""Prefixes that torch's data-parallel wrapper and our checkpoints add to the names of weights."""
OLD_DENSE_LAYER = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)")
"""Matches the old names of layers in torchvision's file for DenseNet, such as `norm.1`."""
HASH = re.compile(r"-([0-9a-f]{8,})\.")
"""Matches the start of the SHA-256 in the name of a published file, such as `-f37072fd.pth`."""
POSITIONS = "encoder.pos_embedding"
FOLD = re.compile("fold-([1-9][0-9]{0,8})")
"""Matches the name of the folder of a fold's network in a checkpoint."""
SAMPLES, BLOCK = 64, 2**16
"""The number and the size in bytes of the blocks that identify a file of weights (`digest`)."""


class Unfit(ConfigError):
    """Raised for weights from which a model cannot start.

    `why` is a clause that follows the model's name in a message, such as "whose weights ...".
    """

    def __init__(self, text: str, why: str = "") -> None:
        super().__init__(text)
        self.why = why


class NotFound(Unfit):
    """Raised if there are no weights at `place`."""

    def __init__(self, text: str, why: str = "", place: Path = Path()) -> None:
        super().__init__(text, why)
        self.place = place


class Absent(NotFound):
    """Raised if published weights are not in torch's cache."""


class Unfetched(Unavailable):
    """Raised if published weights could not be downloaded.

    `reason` is the cause, and `why` states it in a clause that follows the model's name.
    """

    def __init__(self, text: str, reason: str = "") -> None:
        super().__init__(text)
        self.reason, self.why = reason, f"whose weights could not be downloaded ({reason})"


def absent(*names: str) -> Absent:
    """Build the error for models whose weights are all missing in torch's cache."""
    return Absent(
        f"{_missing(names)}. Download them with --download, {_remedy(names)}",
        f"whose weights are not in '{cache()}' (use --download)",
        cache() / MODELS[names[0]].weights,
    )


def unfetched(*names: str, reason: str) -> Unfetched:
    """Build the error for models whose weights could not be downloaded."""
    remedy = _remedy(names)
    return Unfetched(
        f"{_missing(names)} and could not be downloaded ({reason}). "
        f"{remedy[0].upper()}{remedy[1:]}",
        reason,
    )


@dataclass(frozen=True)
class WeightsCheck:
    """The result of checking the weights of several models."""

    digests: dict[str, str] = field(default_factory=dict)
    """The digest of each usable file of weights, by file name."""
    missing: dict[str, Unfit | Unfetched] = field(default_factory=dict)
    """The models without usable weights, each with the error."""

    @property
    def notes(self) -> list[str]:
        """Notes for the user on the models that are left out, one line for each reason."""
        return [f"note: models that are left out: {clause}" for clause in self._clauses()]

    def _clauses(self) -> list[str]:
        """Return a clause for each reason, preceded by the names of its models."""
        names: dict[str, list[str]] = {}
        for name, error in self.missing.items():
            names.setdefault(error.why, []).append(name)
        return [f"{', '.join(of)}, {why}" for why, of in names.items()]

    def error(self) -> ConfigError | Unavailable:
        """Build one error for all models without usable weights; there must be such a model."""
        errors = list(self.missing.values())
        if len(errors) == 1:
            return errors[0]
        if all(isinstance(error, Absent) for error in errors):
            return absent(*self.missing)
        if reasons := [error.reason for error in errors if isinstance(error, Unfetched)]:
            return unfetched(*self.missing, reason=reasons[0])
        without = "; nor for ".join(self._clauses())
        return ConfigError(
            f"there are no pretrained weights for {without}. Pass others with --weights PATH. "
            "To see the problem of a single model, use --set model.name=NAME."
        )

    def error_of(self, search: str) -> ConfigError | Unavailable:
        """Build the error for a search that cannot continue because weights are missing.

        Args:
            search: the name of the search.
        """
        errors = list(self.missing.values())
        places = [f"'{error.place}'" for error in errors if isinstance(error, NotFound)]
        if len(places) < len(errors):
            return self.error()
        fetched = all(isinstance(error, Absent) for error in errors)
        return ConfigError(
            f"the weights of {', '.join(self.missing)}, with which '{search}' started, are "
            f"missing at {', '.join(places)}. Restore them there{', or use --download' * fetched}."
        )


def place_of(model: ModelConfig) -> Path:
    """Return the path at which this model's weights are expected, or will be downloaded to.

    Raises:
        ConfigError: the model has no published weights and the user has not named any, or the
            user's folder has several files for this model.
    """
    own_place, file_name = model.options.get("weights"), MODELS[model.name].weights
    if own_place and not (
        Path(own_place).is_dir() and not (Path(own_place) / "manifest.json").exists()
    ):
        return Path(own_place)
    if not file_name:
        raise ConfigError(
            f"there are no published weights of '{model.name}'. "
            "Pass a file of your own with --weights PATH, or set model.pretrained=false."
        )
    return in_folder(Path(own_place), model.name) if own_place else cache() / file_name


def find_weights(model: ModelConfig) -> Path:
    """Return the path of the weights, a file or a checkpoint's folder, without downloading them.

    Raises:
        NotFound: they are missing at the path that the user has named.
        Absent: they are missing in torch's cache.
        ConfigError: as for `place_of`.
    """
    place = place_of(model)
    if place.exists():
        return place
    if model.options.get("weights"):
        raise NotFound(
            f"the weights of '{model.name}' were not found at '{place}' (--weights). Pass a file, "
            f"or a folder that contains '{MODELS[model.name].weights}'.",
            f"whose weights are not in '{place.parent}'",
            place,
        )
    raise absent(model.name)


def fetch(model: ModelConfig) -> Path:
    """Download the weights into torch's cache if they are missing; return their path.

    Nothing is downloaded if the user has named another path.

    Raises:
        ConfigError: as for `find_weights`, except `Absent`.
        Unfetched: the download failed.
    """
    try:
        return find_weights(model)
    except Absent:
        place = place_of(model)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        download_url_to_file(
            _url(model.name), str(place), (HASH.findall(place.name) or [None])[0], progress=False
        )
    except (OSError, RuntimeError, HTTPException) as error:
        reason = str(getattr(error, "reason", error)).splitlines()[0]
        raise unfetched(model.name, reason=reason) from error
    return place


def read(place: Path) -> Weights:
    """Read the tensors in a file or a checkpoint, by name.

    Only tensors and plain values are read from a file, and no code is run. If a checkpoint has
    folds, the weights are those of the first fold's network.

    Raises:
        ConfigError: the file contains no weights, or cannot be read.
    """
    try:
        if place.is_dir():
            state = checkpoint.load(place)
            first = state.get("folds", [state])[0]  # with folds: the network of the first fold
            tensors: Any = first.get("model", {})
        elif place.suffix == ".safetensors":
            tensors = checkpoint.tensors(place)
        else:
            with open_regular(place) as file:
                tensors = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        message = (str(error).splitlines() or [type(error).__name__])[0][:200]
        reason = (
            "the file contains more than weights, or is damaged"
            if type(error).__name__ == "UnpicklingError"
            else message
        )
        raise ConfigError(
            f"the weights '{place}' cannot be read ({reason}). "
            "Pass a state dict of torchvision's network."
        ) from error
    for wrapper in WRAPPERS:
        tensors = (
            tensors[wrapper]
            if isinstance(tensors, dict) and isinstance(tensors.get(wrapper), dict)
            else tensors
        )
    if (
        not isinstance(tensors, dict)
        or not tensors
        or not all(
            isinstance(name, str) and isinstance(value, Tensor) for name, value in tensors.items()
        )
    ):
        raise ConfigError(
            f"the weights '{place}' are not a state dict (tensors by name). Save the state_dict() "
            "of torchvision's network."
        )
    return {_plain(name): value for name, value in tensors.items()}


def check(
    model: ModelConfig, image: tuple[int, int, int], classes: int, *, download: bool = False
) -> Path:
    """Check that a pretrained model's weights exist and fit, before anything is trained.

    The network is built without memory for its own weights.

    Returns:
        The path of the weights.

    Raises:
        ConfigError: the weights are missing or do not fit (the first difference is named), or the
            checkpoint that contains them is damaged.
        Unfetched: the weights cannot be downloaded.
    """
    place = fetch(model) if download else find_weights(model)
    with torch.device("meta"):
        network = MODELS[model.name].build(image, classes, **model.options)
    assert isinstance(network, Pretrainable)
    select_fitting(network, read(place), place, model.name)
    scaling_of(place, lambda name: IMAGENET)
    return place


def check_all(
    models: Iterable[ModelConfig],
    image: tuple[int, int, int],
    classes: int,
    *,
    download: bool = False,
) -> WeightsCheck:
    """Check the weights of several models, and collect the models without usable weights.

    Raises:
        ConfigError: a file cannot be read, or the checkpoint that contains it is damaged.
    """
    checked, every = WeightsCheck(), list(models)
    with step("checking pretrained weights", len(every)) as advance:
        for model in every:
            advance()
            try:
                place = check(model, image, classes, download=download)
            except (Unfit, Unfetched) as error:
                checked.missing.setdefault(model.name, error)
                continue
            checked.digests[place.name] = digest(place)
    return checked


def digest(place: Path) -> str:
    """Return 16 hex digits that identify the weights at `place`.

    They are a hash of the size and of `SAMPLES` blocks of a file or, for a checkpoint, of its
    manifest. Hashing a whole file would take a second for the 528 MB of VGG-16, and is not
    necessary, because further training changes nearly all of the bytes.
    """
    place = place / "manifest.json" if place.is_dir() else place
    size, hasher = place.stat().st_size, hashlib.sha256()
    hasher.update(str(size).encode())
    with open_regular(place) as file:
        for number in range(SAMPLES):
            file.seek(number * max(0, size - BLOCK) // (SAMPLES - 1))
            hasher.update(file.read(BLOCK))
    return hasher.hexdigest()[:16]


def start_from(network: nn.Module, model: ModelConfig, scaling: Callable[[str], Scaling]) -> None:
    """Load the pretrained weights, except those of the head, into the part that starts with them.

    The network's scaling of pixels is set to the one with which these weights were trained.

    Args:
        network: a new network, a `Pretrainable`.
        model: the model's config, which names the path of the weights.
        scaling: returns a scaling for the data set, by its name in the config (`data.scaling`).

    Raises:
        ConfigError: the weights do not fit, or are missing.
    """
    assert isinstance(network, Pretrainable)
    place = find_weights(model)
    network.part.load_state_dict(
        select_fitting(network, read(place), place, model.name), strict=False
    )
    network.normalise(scaling_of(place, scaling))


def scaling_of(place: Path, scaling: Callable[[str], Scaling]) -> Scaling:
    """Return the scaling of pixels with which the weights at `place` were trained.

    A checkpoint contains the scaling of its own training; all other weights have ImageNet's.
    Checkpoints of earlier versions contain only the name of the scaling, which `scaling` converts
    to values for the current data set.

    Raises:
        ConfigError: the checkpoint's `state.json` is damaged.
    """
    folder = next(
        (path for path in (place, *place.parents[:2]) if (path / "state.json").exists()), None
    )
    if folder is None or not (
        place.is_dir()
        or (place.name == "model.safetensors" and (folder / "manifest.json").exists())
    ):
        return IMAGENET
    try:
        document = json.loads(read_regular(folder / "state.json"))
        own = document["folds"][_fold_of(place) - 1] if "folds" in document else document
        if "scaling" in own:
            return _check_scaling(own["scaling"])
        config = document["extra"].get("config", {})
        if config.get("model", {}).get("pretrained") or "data" not in config:
            return IMAGENET
        name = SCALING_NAMES[SCALING_NAMES.index(config["data"]["scaling"])]
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        problem = (
            f"'{folder / 'state.json'}' next to the weights is damaged, so the scaling of pixels "
            "is unknown"
        )
        remedy = (
            "Pass another checkpoint. To scale pixels as for ImageNet, move the weights into a "
            "folder without this file."
        )
        raise ConfigError(f"the weights '{place}' cannot be used: {problem}. {remedy}") from error
    return scaling(name)


def _fold_of(place: Path) -> int:
    """Return the number of the fold whose network is at `place`; 1 for a whole checkpoint."""
    match = FOLD.fullmatch(place.parent.name)
    return int(match[1]) if match else 1


def _check_scaling(scaling: Any) -> Scaling:
    """Check that a value from a file is a scaling, and return it.

    Raises:
        ValueError, LookupError, TypeError: it is not a scaling.
    """
    for name in ("mean", "deviation"):
        values = torch.tensor(scaling[name], dtype=torch.float32)
        if values.shape not in ((1,), (3,)) or not values.isfinite().all():
            raise ValueError(name)
    checked: Scaling = scaling
    return checked


def select_fitting(network: Pretrainable, weights: Weights, place: Path, name: str) -> Weights:
    """Select the weights to load into this network.

    The head's weights are left out, because the head is new. Those of auxiliary heads are included
    if the network has such heads and `weights` contains them.

    Raises:
        Unfit: a weight is missing, has another shape, or is superfluous; the message names the
            first.
    """
    own_weights = {
        key: value
        for key, value in network.part.state_dict().items()
        if not key.startswith(network.anatomy.head)
    }
    weights = _resize_positions(_weights_of_part(weights, network.part_name), network.part)
    if difference := _difference(network, own_weights, weights):
        raise Unfit(
            f"the weights '{place}' do not fit {name}: {difference}",
            f"which the weights '{place}' do not fit",
        )
    return {key: value for key, value in weights.items() if key in own_weights}


def _weights_of_part(weights: Weights, part_name: str) -> Weights:
    """Select the part's weights from those of a larger network, a checkpoint of this project.

    Other weights, which are those of the part itself, are returned unchanged.
    """
    prefix = f"{part_name}."
    return {
        key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)
    } or weights


def _difference(network: Pretrainable, own_weights: Weights, weights: Weights) -> str:
    """Describe the first difference between a network's weights and those to load.

    The result is empty if they fit.
    """
    for key, value in own_weights.items():
        if (
            key not in weights
            and not key.endswith("num_batches_tracked")
            and not key.startswith(network.anatomy.auxiliary)
        ):
            return f"'{key}' is missing in the file."
        if key in weights and weights[key].shape != value.shape:
            return (
                f"'{key}' is {_shape(weights[key])} in the file, but {_shape(value)} in the "
                "network."
            )
    head_prefixes = (*network.anatomy.head, *network.anatomy.auxiliary)
    unknown = (
        key for key in weights if key not in own_weights and not key.startswith(head_prefixes)
    )
    return next((f"the network has no '{key}'." for key in unknown), "")


def _url(model: str) -> str:
    return str(models.get_model_weights(MODELS[model].source or model).DEFAULT.url)


def _missing(models: Sequence[str]) -> str:
    # Several networks may start with the same file.
    names = list(dict.fromkeys(f"'{MODELS[model].weights}'" for model in models))
    if len(names) == 1:
        return f"the weights {names[0]} are not in '{cache()}'"
    return f"none of the weights {', '.join(names[:-1])} and {names[-1]} is in '{cache()}'"


def _remedy(names: Sequence[str]) -> str:
    """Build the advice for weights that are not downloaded: `put the file there ...`."""
    url, pronoun, file_noun = _url(names[0]), "it", "the file"
    if len(names) > 1:
        url, pronoun, file_noun = f"{url.rpartition('/')[0]}/", "one", "one"
    entry = MODELS[names[0]]
    may_omit = entry.source and not entry.options["pretrained"]
    without = "set model.pretrained=false" if may_omit else "use for example --space table3"
    available = [name for name in cached(entry.tasks) if name not in names]
    if entry.fitted_by:
        available = [f"probe_{name}" for name in available if f"probe_{name}" in MODELS]
    alternatives = (
        f" The weights of {', '.join(available)} are available: --set model.name={available[0]}."
        if available
        else ""
    )
    return (
        f"put {file_noun} there (from {url}), or pass {pronoun} with --weights PATH. To train "
        f"without pretrained weights, {without}.{alternatives}"
    )


def _plain(name: str) -> str:
    """Convert a weight's name to its name in torchvision's network."""
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    return OLD_DENSE_LAYER.sub(r"\1\2", name)


def _resize_positions(weights: Weights, part: nn.Module) -> Weights:
    """Interpolate a transformer's position embeddings to the network's image size.

    This is torchvision's method. If it cannot be applied, the weights are returned unchanged.
    """
    if (
        not isinstance(part, models.VisionTransformer)
        or POSITIONS not in weights
        or weights[POSITIONS].shape == part.encoder.pos_embedding.shape
        or weights[POSITIONS].dim() != part.encoder.pos_embedding.dim()
    ):
        return weights
    try:
        return dict(interpolate_embeddings(part.image_size, part.patch_size, dict(weights)))
    except (ValueError, RuntimeError):  # the weights have another width, or only a single patch
        return weights


def _shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "a number"
