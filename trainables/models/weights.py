"""Weights that were trained on other images: finding, fetching, checking and loading them.

They lie in torch's cache, under the name that torchvision gives them, or where the user says
(`model.weights`): in a file of torch's or of safetensors' format, in a checkpoint of this project,
or in a folder of files that are named after their family.
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
from trainables.models.families import IMAGENET, Family, Scaling

Weights = dict[str, Tensor]
WRAPPERS = ("state_dict", "model")
"""Keys under which training scripts keep the weights in a file of theirs."""
PREFIXES = ("module.", "net.")
"""Prefixes of weights' names: of torch's data-parallel wrapper, and of our checkpoints."""
OLD_DENSE_LAYER = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)")
"""The names in torchvision's file of DenseNet: `norm.1` for `norm1`."""
HASH = re.compile(r"-([0-9a-f]{8,})\.")
POSITIONS = "encoder.pos_embedding"
FOLD = re.compile("fold-([1-9][0-9]{0,8})")
"""The name of the folder of a fold's network in a checkpoint."""
SAMPLES, BLOCK = 64, 2**16
"""The number of blocks, and the bytes of each, by which files of weights are told apart."""


class Unfit(ConfigError):
    """Weights with which a model cannot begin.

    `why` says so in a clause that follows the model's name.
    """

    def __init__(self, text: str, why: str = "") -> None:
        super().__init__(text)
        self.why = why


class NotFound(Unfit):
    """Weights that are not where they should be, at `place`."""

    def __init__(self, text: str, why: str = "", place: Path = Path()) -> None:
        super().__init__(text, why)
        self.place = place


class Absent(NotFound):
    """Published weights that are not on this machine."""


class Unfetched(Unavailable):
    """Published weights that could not be downloaded; `reason` and `why` say why."""

    def __init__(self, text: str, reason: str = "") -> None:
        super().__init__(text)
        self.reason, self.why = reason, f"whose weights could not be fetched ({reason})"


def absent(*names: str) -> Absent:
    """Return the error for models none of which has its weights in torch's cache."""
    return Absent(
        f"{_missing(names)}. Fetch them with --download, {_remedy(names)}",
        f"whose weights are not in '{cache()}' (--download fetches them)",
        cache() / MODELS[names[0]].weights,
    )


def unfetched(*names: str, reason: str) -> Unfetched:
    """Return the error for models whose weights could not be downloaded."""
    remedy = _remedy(names)
    return Unfetched(
        f"{_missing(names)} and could not be fetched ({reason}). {remedy[0].upper()}{remedy[1:]}",
        reason,
    )


@dataclass(frozen=True)
class Checked:
    """The weights with which networks can begin, and the networks that have none."""

    digests: dict[str, str] = field(default_factory=dict)
    """A digest of each file, by its name."""
    missing: dict[str, Unfit | Unfetched] = field(default_factory=dict)
    """The models without weights, each with the reason."""

    @property
    def notes(self) -> list[str]:
        """Lines on models that are left out."""
        return [f"note: left out: {told}" for told in self._told()]

    def _told(self) -> list[str]:
        """Return a clause for each reason, with the names of its models."""
        names: dict[str, list[str]] = {}
        for name, error in self.missing.items():
            names.setdefault(error.why, []).append(name)
        return [f"{', '.join(of)}, {why}" for why, of in names.items()]

    def error(self) -> ConfigError | Unavailable:
        """Return one error for all that is missing."""
        errors = list(self.missing.values())
        if len(errors) == 1:
            return errors[0]
        if all(isinstance(error, Absent) for error in errors):
            return absent(*self.missing)
        if reasons := [error.reason for error in errors if isinstance(error, Unfetched)]:
            return unfetched(*self.missing, reason=reasons[0])
        without = "; nor for ".join(self._told())
        return ConfigError(
            f"there are no weights to begin with for {without}. Name others with --weights PATH; "
            "--set model.name=NAME says what is wrong for one of them."
        )

    def error_of(self, search: str) -> ConfigError | Unavailable:
        """Return the error where a search of this name continues with weights that are missing."""
        errors = list(self.missing.values())
        places = [f"'{error.place}'" for error in errors if isinstance(error, NotFound)]
        if len(places) < len(errors):
            return self.error()
        fetched = all(isinstance(error, Absent) for error in errors)
        return ConfigError(
            f"the weights of {', '.join(self.missing)}, with which '{search}' began, are not at "
            f"{', '.join(places)}. Put them back there{', or use --download' * fetched}."
        )


def place_of(model: ModelConfig) -> Path:
    """Return the path where the weights of this model are, or are to be put."""
    given, name = model.options.get("weights"), MODELS[model.name].weights
    if given and not (Path(given).is_dir() and not (Path(given) / "manifest.json").exists()):
        return Path(given)
    if not name:
        raise ConfigError(
            f"there are no published weights of '{model.name}'. "
            "Name a file of your own with --weights PATH, or set model.pretrained=false."
        )
    return in_folder(Path(given), model.name) if given else cache() / name


def found(model: ModelConfig) -> Path:
    """Return the file, or the checkpoint's folder. Nothing is downloaded.

    Raises:
        Unfit: what the user has named does not have them.
        ConfigError: nobody has published such weights.
        Absent: torch's cache does not have them.
    """
    place = place_of(model)
    if place.exists():
        return place
    if model.options.get("weights"):
        raise NotFound(
            f"weights of '{model.name}' not found: '{place}' (--weights). Name a file, "
            f"or a folder that holds '{MODELS[model.name].weights}'.",
            f"whose weights are not in '{place.parent}'",
            place,
        )
    raise absent(model.name)


def fetch(model: ModelConfig) -> Path:
    """Download the weights into torch's cache if they are missing; return their path.

    Nothing is downloaded where the user has named another place.

    Raises:
        ConfigError: as `found`.
        Unfetched: the download failed.
    """
    try:
        return found(model)
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
    """Return the tensors in a file or a checkpoint, by name.

    Nothing but tensors and plain values is read out of a file.

    Raises:
        ConfigError: it holds no weights, or cannot be read.
    """
    try:
        if place.is_dir():
            state = checkpoint.load(place)
            first = state.get("folds", [state])[0]  # with folds, the first one's network
            tensors: Any = first.get("model", {})
        elif place.suffix == ".safetensors":
            tensors = checkpoint.tensors(place)
        else:
            with open_regular(place) as file:
                tensors = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        told = (str(error).splitlines() or [type(error).__name__])[0][:200]
        reason = (
            "it holds more than weights, or is damaged"
            if type(error).__name__ == "UnpicklingError"
            else told
        )
        raise ConfigError(
            f"weights '{place}' cannot be read ({reason}). "
            "A state dict of torchvision's network is needed."
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
            f"weights '{place}' hold no weights by name. "
            "A state dict of torchvision's network is needed."
        )
    return {_plain(name): value for name, value in tensors.items()}


def check(
    model: ModelConfig, image: tuple[int, int, int], classes: int, *, download: bool = False
) -> Path:
    """Check that a pre-trained model's weights are there and fit.

    This is for use before anything is trained. The network is built without memory for its own
    weights.

    Returns:
        Their path.

    Raises:
        ConfigError: they do not fit (the first difference is named), or are not there, or what lies
            beside them is damaged.
        Unfetched: they are to be downloaded, and cannot be.
    """
    place = fetch(model) if download else found(model)
    with torch.device("meta"):
        network = MODELS[model.name].build(image, classes, **model.options)
    assert isinstance(network, Family)
    fitted(network, read(place), place, model.name)
    scaling_of(place, lambda name: IMAGENET)
    return place


def check_all(
    models: Iterable[ModelConfig],
    image: tuple[int, int, int],
    classes: int,
    *,
    download: bool = False,
) -> Checked:
    """Check the weights of several models, which may be missing.

    Raises:
        ConfigError: a file cannot be read, or what lies beside it is damaged.
    """
    checked = Checked()
    for model in models:
        try:
            place = check(model, image, classes, download=download)
        except (Unfit, Unfetched) as error:
            checked.missing.setdefault(model.name, error)
            continue
        checked.digests[place.name] = digest(place)
    return checked


def digest(place: Path) -> str:
    """Return 16 hex digits that tell weights apart.

    They are of the size and of `SAMPLES` blocks of a file, or of a checkpoint's manifest. Not the
    whole file is read, which for VGG-16's 528 MB takes a second: training weights further changes
    nearly all of their bytes.
    """
    place = place / "manifest.json" if place.is_dir() else place
    size, found = place.stat().st_size, hashlib.sha256()
    found.update(str(size).encode())
    with open_regular(place) as file:
        for number in range(SAMPLES):
            file.seek(number * max(0, size - BLOCK) // (SAMPLES - 1))
            found.update(file.read(BLOCK))
    return found.hexdigest()[:16]


def start_from(network: nn.Module, model: ModelConfig, scaling: Callable[[str], Scaling]) -> None:
    """Put the weights into a freshly built network, all but the head's.

    The network then scales pixels as those weights were trained with.

    Args:
        network: a `Family`.
        model: says where the weights are.
        scaling: of the data at hand, by a name of the config's (`data.scaling`).

    Raises:
        ConfigError: they do not fit, or are not there.
    """
    assert isinstance(network, Family)
    place = found(model)
    network.net.load_state_dict(fitted(network, read(place), place, model.name), strict=False)
    network.normalise(scaling_of(place, scaling))


def scaling_of(place: Path, scaling: Callable[[str], Scaling]) -> Scaling:
    """Return the scaling of pixels that the weights at a place were trained with.

    That of a checkpoint is the one of its own training, that of other weights ImageNet's.
    Checkpoints of earlier versions name the scaling alone, without its values: then `standard` is
    that of the data at hand.

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
            return _valid(own["scaling"])
        config = document["extra"].get("config", {})
        if config.get("model", {}).get("pretrained") or "data" not in config:
            return IMAGENET
        name = SCALING_NAMES[SCALING_NAMES.index(config["data"]["scaling"])]
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        told = (
            f"'{folder / 'state.json'}' beside them is damaged: "
            "it does not say how pixels were scaled"
        )
        remedy = (
            "Name another checkpoint, or the tensors in a folder without it, "
            "for pixels as ImageNet's."
        )
        raise ConfigError(f"weights '{place}' cannot be used: {told}. {remedy}") from error
    return scaling(name)


def _fold_of(place: Path) -> int:
    """Return the number of the fold whose network a place names; 1 for a whole checkpoint."""
    found = FOLD.fullmatch(place.parent.name)
    return int(found[1]) if found else 1


def _valid(scaling: Any) -> Scaling:
    """Return a scaling as a file has it, once checked.

    Raises:
        ValueError, LookupError, TypeError: it is no scaling.
    """
    for name in ("mean", "deviation"):
        values = torch.tensor(scaling[name], dtype=torch.float32)
        if values.shape not in ((1,), (3,)) or not values.isfinite().all():
            raise ValueError(name)
    found: Scaling = scaling
    return found


def fitted(network: Family, weights: Weights, place: Path, name: str) -> Weights:
    """Return the weights that belong into this network.

    The head's are left out, because the head is new; of auxiliary heads, those that both have are
    taken.

    Raises:
        Unfit: naming the first that is missing, is of another shape, or belongs nowhere.
    """
    wanted = {
        key: value
        for key, value in network.net.state_dict().items()
        if not key.startswith(network.anatomy.head)
    }
    weights = _positions(
        weights, wanted.get(POSITIONS), getattr(network.net, "patch_size", 0), network.size[0]
    )
    if difference := _difference(network, wanted, weights):
        raise Unfit(
            f"weights '{place}' do not fit {name}: {difference}",
            f"which the weights '{place}' do not fit",
        )
    return {key: value for key, value in weights.items() if key in wanted}


def _difference(network: Family, wanted: Weights, weights: Weights) -> str:
    """Return the first difference between the weights that a network needs and those there are."""
    for key, value in wanted.items():
        if (
            key not in weights
            and not key.endswith("num_batches_tracked")
            and not key.startswith(network.anatomy.auxiliary)
        ):
            return f"'{key}' is not there."
        if key in weights and weights[key].shape != value.shape:
            return f"'{key}' is {_shape(weights[key])} there, and {_shape(value)} in the network."
    apart = (*network.anatomy.head, *network.anatomy.auxiliary)
    unknown = (key for key in weights if key not in wanted and not key.startswith(apart))
    return next((f"it has no '{key}'." for key in unknown), "")


def _url(model: str) -> str:
    """Return the address at which torchvision publishes a model's weights."""
    return str(models.get_model_weights(model).DEFAULT.url)


def _missing(of: Sequence[str]) -> str:
    """Return which files are not in torch's cache."""
    names = [f"'{MODELS[model].weights}'" for model in of]
    if len(names) == 1:
        return f"the weights {names[0]} are not in '{cache()}'"
    return f"none of the weights {', '.join(names[:-1])} and {names[-1]} is in '{cache()}'"


def _remedy(names: Sequence[str]) -> str:
    """Return what to do without a download: `put the file there ...`."""
    url, one, what = _url(names[0]), "it", "the file"
    if len(names) > 1:
        url, one, what = f"{url.rpartition('/')[0]}/", "one", "one"
    others = [name for name in cached() if name not in names]
    there = (
        f" Those of {', '.join(others)} are there: --set model.name={others[0]}." if others else ""
    )
    return (
        f"put {what} there (from {url}), or name {one} with --weights PATH; or start from nothing, "
        f"as --space table3 does.{there}"
    )


def _plain(name: str) -> str:
    """Return a weight's name as torchvision's network has it."""
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    return OLD_DENSE_LAYER.sub(r"\1\2", name)


def _positions(weights: Weights, wanted: Tensor | None, patch: int, side: int) -> Weights:
    """Return the weights with a transformer's position embeddings brought to another image size.

    They are interpolated as torchvision does; where that cannot be done, the weights stay as they
    are.
    """
    if (
        wanted is None
        or POSITIONS not in weights
        or weights[POSITIONS].shape == wanted.shape
        or weights[POSITIONS].dim() != wanted.dim()
    ):
        return weights
    try:
        return dict(interpolate_embeddings(side, patch, dict(weights)))
    except (ValueError, RuntimeError):  # of another width, or for one patch
        return weights


def _shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "a number"
