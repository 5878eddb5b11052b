"""Pre-trained weights: the files that torchvision would read, a user's own, and what does not fit.
All are made here.
"""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision import models

from trainables.catalog.models import MODELS
from trainables.catalog.weights import cache
from trainables.checkpoints import checkpoint
from trainables.config import ModelConfig, TrialConfig
from trainables.datasets.arrays import Dataset
from trainables.errors import ConfigError, Unavailable
from trainables.evaluation.evaluate import predictions
from trainables.models import weights
from trainables.models.families import ANATOMY, Family
from trainables.models.pretrained import IMAGENET, Scaling
from trainables.training.loop import Training

IMAGE = (3, 32, 32)


@pytest.fixture(autouse=True)
def torch_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where torch keeps what it has downloaded."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    (tmp_path / "torch" / "hub" / "checkpoints").mkdir(parents=True)
    return tmp_path / "torch" / "hub" / "checkpoints"


def began(model: ModelConfig, classes: int = 3) -> Family:
    network = MODELS[model.name].build(IMAGE, classes, **model.options)
    assert isinstance(network, Family)
    weights.start_from(network, model, no_data)
    return network


def no_data(name: str) -> Scaling:
    raise AssertionError(f"nothing here is scaled as '{name}' of the data at hand")


def pretrained(name: str, **options: object) -> ModelConfig:
    return ModelConfig(name=name, pretrained=True, **options)


def test_torchvisions_own_file_is_read_where_torchvision_reads_it(torch_home: Path) -> None:
    """The backbone's weights are the file's, the head is new, and torchvision itself finds the same
    file.
    """
    source = models.resnet18()
    torch.save(source.state_dict(), torch_home / MODELS["resnet18"].weights)
    network = began(pretrained("resnet18"))
    theirs = models.resnet18(weights="DEFAULT").state_dict()
    for key, value in network.net.state_dict().items():
        assert key.startswith("fc.") or torch.equal(value, theirs[key]), key
    assert network.net.fc.weight.shape == (3, 512)


@pytest.mark.parametrize("name", ["resnet18", "googlenet"])
def test_images_are_prepared_as_the_weights_want_it(name: str, torch_home: Path) -> None:
    """Logits equal those of torchvision's own network behind torchvision's own normalisation."""
    source = (
        models.get_model(name, init_weights=True) if name == "googlenet" else models.get_model(name)
    )
    torch.save(source.state_dict(), torch_home / MODELS[name].weights)
    theirs = models.get_model(name, weights="DEFAULT").eval()
    network = MODELS[name].build((3, 224, 224), 1000, **pretrained(name).options)
    assert isinstance(network, Family)
    weights.start_from(network, pretrained(name), no_data)
    network.net.fc.load_state_dict(theirs.fc.state_dict())
    images = torch.rand(2, 3, 224, 224)
    mean, deviation = (
        torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1),
        torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1),
    )
    torch.testing.assert_close(
        network.eval()(images), theirs((images - mean) / deviation), rtol=1e-4, atol=1e-4
    )


def test_pixels_of_a_pretrained_network_are_scaled_by_the_network_alone(
    make_dataset: Callable[..., Dataset], torch_home: Path
) -> None:
    torch.save(models.resnet18().state_dict(), torch_home / MODELS["resnet18"].weights)
    config = TrialConfig().override(
        {
            "model.name": "resnet18",
            "model.pretrained": True,
            "model.input_size": 32,
            "data.scaling": "standard",
            "batch_size": 8,
        }
    )
    images, _ = Training(config, make_dataset(channels=3)).val.batch(torch.arange(4))
    assert 0 <= images.min() < images.max() <= 1


def test_the_old_names_in_densenets_file_are_understood(torch_home: Path) -> None:
    source = models.densenet121().state_dict()
    old = {
        key.replace("norm1.", "norm.1.").replace("conv2.", "conv.2.")
        if "denselayer" in key
        else key: value
        for key, value in source.items()
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    torch.save(old, torch_home / MODELS["densenet121"].weights)
    key = "features.denseblock1.denselayer1.conv2.weight"
    assert torch.equal(began(pretrained("densenet121")).net.state_dict()[key], source[key])


def test_a_transformers_positions_are_interpolated_to_another_size(torch_home: Path) -> None:
    source = models.vit_b_16()
    torch.save(source.state_dict(), torch_home / MODELS["vit_b_16"].weights)
    network = began(pretrained("vit_b_16", input_size=64))
    positions = network.net.encoder.pos_embedding
    assert positions.shape == (1, 17, 768)
    assert torch.equal(positions[:, 0], source.encoder.pos_embedding[:, 0])  # of the class token


def test_a_users_file_may_be_safetensors_wrapped_or_a_checkpoint_of_ours(
    make_dataset: Callable[..., Dataset], tmp_path: Path
) -> None:
    source = models.mobilenet_v3_small().state_dict()
    save_file(
        {key: value.contiguous() for key, value in source.items()}, tmp_path / "w.safetensors"
    )
    torch.save(
        {"epoch": 3, "state_dict": {f"module.{key}": value for key, value in source.items()}},
        tmp_path / "wrapped.pth",
    )
    config = TrialConfig().override(
        {"model.name": "mobilenet_v3_small", "batch_size": 8, "epochs": 1}
    )
    training = Training(config, make_dataset(side=32, channels=3, classes=5))
    saved = checkpoint.save(tmp_path, training.state(), {})
    ours = training.network.state_dict()
    for path, wanted in (
        (tmp_path / "w.safetensors", source),
        (tmp_path / "wrapped.pth", source),
        (saved, {key[4:]: value for key, value in ours.items()}),
    ):
        network = began(pretrained("mobilenet_v3_small", weights=str(path)))
        assert torch.equal(
            network.net.state_dict()["features.0.0.weight"], wanted["features.0.0.weight"]
        )


def test_a_digest_tells_weights_apart_and_not_where_they_are(tmp_path: Path) -> None:
    content = bytearray(
        np.random.default_rng(0).integers(0, 256, 5_000_000, dtype=np.uint8).tobytes()
    )
    for name in ("one", "other"):
        (tmp_path / name).write_bytes(content)
    assert weights.digest(tmp_path / "one") == weights.digest(tmp_path / "other")
    content[-1] ^= 1
    (tmp_path / "other").write_bytes(content)
    assert weights.digest(tmp_path / "one") != weights.digest(tmp_path / "other")
    (tmp_path / "short").write_bytes(content[:100])
    assert weights.digest(tmp_path / "short") != weights.digest(tmp_path / "one")


def test_a_folder_may_hold_files_with_torchvisions_names(tmp_path: Path) -> None:
    for name in ("resnet18", "mobilenet_v3_small"):
        torch.save(models.get_model(name).state_dict(), tmp_path / MODELS[name].weights)
    for name in ("resnet18", "mobilenet_v3_small"):
        assert began(pretrained(name, weights=str(tmp_path))).pretrained


def test_in_a_folder_a_file_may_be_named_after_its_family_alone(tmp_path: Path) -> None:
    source = models.squeezenet1_0()
    torch.save(source.state_dict(), tmp_path / "squeezenet1_0.mine.pth")
    torch.save(models.squeezenet1_1().state_dict(), tmp_path / "squeezenet1_1.pth")
    network = began(pretrained("squeezenet1_0", weights=str(tmp_path)))
    assert torch.equal(network.net.features[0].weight, source.features[0].weight)


def test_two_files_of_one_family_in_a_folder_are_refused(tmp_path: Path) -> None:
    for name in ("resnet18.pth", "resnet18-own.safetensors"):
        (tmp_path / name).touch()
    with pytest.raises(
        ConfigError, match=r"several files with weights of 'resnet18' \('resnet18-own.safe"
    ):
        weights.find_weights(pretrained("resnet18", weights=str(tmp_path)))


@pytest.mark.parametrize("name", ["mobilenet_v2", "squeezenet1_0"])
@pytest.mark.parametrize("width", [None, 1000])
def test_a_file_without_a_head_or_with_another_begins_with_a_fresh_one(
    name: str, width: int | None, tmp_path: Path
) -> None:
    source = models.get_model(name, num_classes=width or 1).state_dict()
    head = ANATOMY[name].head
    kept = {key: value for key, value in source.items() if width or not key.startswith(head)}
    torch.save(kept, tmp_path / "w.pth")
    model = pretrained(name, weights=str(tmp_path / "w.pth"))
    assert weights.check_all([model], IMAGE, 3).notes == []
    network = began(model)
    fresh = MODELS[name].build(IMAGE, 3, **model.options).net.state_dict()
    for key, value in network.net.state_dict().items():
        wanted = fresh[key] if key.startswith(head) else source[key]
        assert value.shape == wanted.shape
        assert key.startswith(head) or torch.equal(value, wanted)


def test_models_without_weights_are_told_by_their_reason(torch_home: Path, tmp_path: Path) -> None:
    torch.save(models.squeezenet1_0().state_dict(), tmp_path / "w.pth")
    absent = [pretrained(name) for name in ("resnet18", "mobilenet_v2")]
    misfit = pretrained("alexnet", weights=str(tmp_path / "w.pth"), input_size=64)
    fits = pretrained("squeezenet1_0", weights=str(tmp_path / "w.pth"))
    checked = weights.check_all([*absent, misfit, fits], IMAGE, 3)
    assert list(checked.digests) == ["w.pth"]
    assert checked.notes == [
        "note: models that are left out: resnet18, mobilenet_v2, whose weights are not in "
        f"'{torch_home}' (use --download)",
        f"note: models that are left out: alexnet, which the weights '{tmp_path / 'w.pth'}' do "
        "not fit",
    ]


def test_where_none_has_weights_one_line_names_the_files_the_place_and_the_ways(
    torch_home: Path,
) -> None:
    (torch_home / MODELS["resnet50"].weights).touch()
    wanted = [pretrained(name) for name in ("resnet18", "mobilenet_v2", "squeezenet1_0")]
    assert str(weights.check_all(wanted, IMAGE, 3).error()) == (
        "none of the weights 'resnet18-f37072fd.pth', 'mobilenet_v2-7ebf99e0.pth' and "
        f"'squeezenet1_0-b66bff10.pth' is in '{torch_home}'. Download them with --download, put "
        "one there (from https://download.pytorch.org/models/), or pass one with --weights PATH. "
        "To train without pretrained weights, use for example --space table3. The weights of "
        "resnet50 are available: "
        "--set model.name=resnet50."
    )


def test_an_error_of_weights_comes_whole_through_a_pickle() -> None:
    """A worker's errors do."""
    for error in (
        weights.absent("resnet18"),
        weights.NotFound("not found", "whose weights are gone", Path("w.pth")),
        weights.unfetched("resnet18", reason="no network"),
    ):
        again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
        assert (type(again), str(again), again.why) == (type(error), str(error), error.why)


@pytest.mark.parametrize("variables", [
    {"TORCH_HOME": "/here"}, {"TORCH_HOME": "~/here"}, {"XDG_CACHE_HOME": "/there"}, {},
])  # fmt: skip
def test_the_cache_is_where_torch_has_it(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cache() == Path(torch.hub.get_dir()) / "checkpoints"


SMALL = {"batch_size": 8, "epochs": 1, "precision": "fp32"}


@pytest.fixture
def own(
    make_dataset: Callable[..., Dataset], tmp_path: Path
) -> Callable[..., tuple[Training, Path]]:
    """A training from nothing after an epoch, and its checkpoint, perhaps as an earlier version
    wrote it.
    """

    def train(
        name: str = "mobilenet_v3_small",
        *,
        old: bool = False,
        channels: int = 3,
        scaling: str = "standard",
    ) -> tuple[Training, Path]:
        config = TrialConfig().override({"model.name": name, "data.scaling": scaling, **SMALL})
        training = Training(config, make_dataset(side=32, channels=channels))
        next(training.epochs())
        state = training.state()
        if old:
            del state["scaling"]
        return training, checkpoint.save(tmp_path / "own", state, {"config": config.to_dict()})

    return train


@pytest.mark.parametrize("scaling", ["unit", "symmetric", "standard"])
@pytest.mark.parametrize(("name", "channels", "old"), [
    ("mobilenet_v3_small", 3, False), ("mobilenet_v3_small", 1, False),
    ("mobilenet_v3_small", 3, True), ("googlenet", 3, False),
])  # fmt: skip
def test_a_checkpoint_of_ours_gets_pixels_scaled_as_its_own_training_had_them(
    name: str,
    channels: int,
    old: bool,
    scaling: str,
    own: Callable[..., tuple[Training, Path]],
    make_dataset: Callable[..., Dataset],
) -> None:
    """What reaches the first filters is what reached them there."""
    source, path = own(name, old=old, channels=channels, scaling=scaling)
    config = TrialConfig().override(
        {"model.name": name, "model.pretrained": True, "model.input_size": 32, **SMALL}
    )
    for place in (path, path / "model.safetensors"):
        training = Training(
            config.override({"model.weights": str(place)}), make_dataset(side=32, channels=channels)
        )
        torch.testing.assert_close(
            first_inputs(training), first_inputs(source), rtol=1e-4, atol=1e-4
        )


def first_inputs(training: Training) -> torch.Tensor:
    """What a network's first convolution is given of the validation images."""
    given: list[torch.Tensor] = []
    first = next(module for module in training.network.modules() if isinstance(module, nn.Conv2d))
    with (
        first.register_forward_pre_hook(lambda module, inputs: given.append(inputs[0])),
        torch.no_grad(),
    ):
        training.network.eval()(training.val.batch(torch.arange(12))[0])
    return given[0]


@pytest.fixture
def folds(own: Callable[..., tuple[Training, Path]], tmp_path: Path) -> tuple[list[Training], Path]:
    """Two trainings with other scalings, and a checkpoint in which they are folds."""
    both = [own(scaling=scaling)[0] for scaling in ("unit", "symmetric")]
    state = {"epoch": 1, "folds": [training.state() for training in both]}
    return both, checkpoint.save(tmp_path / "folds", state, {"config": both[0].config.to_dict()})


def test_a_folds_own_file_gets_pixels_scaled_as_that_fold_had_them(
    folds: tuple[list[Training], Path],
) -> None:
    both, path = folds
    for number, training in enumerate(both, 1):
        assert (
            weights.scaling_of(path / f"fold-{number}" / "model.safetensors", no_data)
            == training.state()["scaling"]
        )
    assert weights.scaling_of(path, no_data) == both[0].state()["scaling"]


@pytest.mark.parametrize("text", [
    "", "[]", "{}", '"text"', "\0", '{"folds": []}', '{"folds": 3}', '{"folds": [null, null]}',
    '{"folds": [{}, {}], "extra": {"config": {"data": {}}}}',
    '{"folds": [{}, {}], "extra": {"config": {"data": {"scaling": "other"}}}}',
    '{"scaling": {"mean": [0.5]}}', '{"scaling": null}',
    '{"scaling": {"mean": [0, 0], "deviation": [1, 1]}}',
    '{"scaling": {"mean": ["a"], "deviation": [1]}}',
    '{"scaling": {"mean": [NaN], "deviation": [1]}}',
])  # fmt: skip
def test_a_damaged_state_beside_whole_tensors_is_refused_before_any_trial(
    text: str, folds: tuple[list[Training], Path]
) -> None:
    _, path = folds
    (path / "state.json").write_text(text)
    place = path / "fold-2" / "model.safetensors"
    with pytest.raises(ConfigError) as caught:
        weights.check(pretrained("mobilenet_v3_small", weights=str(place)), IMAGE, 3)
    told = (
        f"the weights '{place}' cannot be used: '{path / 'state.json'}' next to the weights is "
        "damaged, so the scaling of pixels is unknown. "
    )
    assert str(caught.value) == told + (
        "Pass another checkpoint. To scale pixels as for ImageNet, move the weights into a "
        "folder without this file."
    )


def test_what_began_with_a_checkpoint_of_ours_is_scaled_so_for_good(
    own: Callable[..., tuple[Training, Path]], make_dataset: Callable[..., Dataset], tmp_path: Path
) -> None:
    """Resumed, evaluated, and begun with once more; also when the first checkpoint is gone."""
    source, path = own()
    values = {
        "model.name": "mobilenet_v3_small",
        "model.pretrained": True,
        "model.input_size": 32,
        "data.scaling": "unit",
        **SMALL,
        "epochs": 2,
    }
    config, dataset = (
        TrialConfig().override({**values, "model.weights": str(path)}),
        make_dataset(side=32, channels=3),
    )
    training = Training(config, dataset)
    next(training.epochs())
    assert training.state()["scaling"] == source.state()["scaling"] != IMAGENET
    second = checkpoint.save(tmp_path / "second", training.state(), {"config": config.to_dict()})
    found = predictions(config, dataset, dataset.val, second)
    loss = -np.log(found[np.arange(12), dataset.val.targets]).mean()
    assert training._validate().values(training.world)["val/loss"] == pytest.approx(loss, rel=1e-4)
    third = Training(config.override({"model.weights": str(second)}), dataset)
    assert third.state()["scaling"] == source.state()["scaling"]


def test_a_trial_that_an_earlier_version_began_with_a_checkpoint_goes_on_as_it_was(
    own: Callable[..., tuple[Training, Path]], make_dataset: Callable[..., Dataset]
) -> None:
    _, path = own()
    config = TrialConfig().override(
        {
            "model.name": "mobilenet_v3_small",
            "model.pretrained": True,
            "model.input_size": 32,
            "model.weights": str(path),
            **SMALL,
        }
    )
    training = Training(config, make_dataset(side=32, channels=3))
    state = training.state()
    del state["scaling"]
    training.load_state(state)
    assert training.state()["scaling"]["mean"] == pytest.approx(IMAGENET["mean"])


def damage(state: dict[str, torch.Tensor], how: str) -> dict[str, torch.Tensor]:
    if how == "missing":
        del state["layer1.0.bn1.weight"]
    elif how == "shape":
        state["layer1.0.conv1.weight"] = torch.zeros(64, 64, 5, 5)
    else:
        state["layer9.0.conv1.weight"] = torch.zeros(1)
    return state


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("missing", "do not fit resnet18: 'layer1.0.bn1.weight' is missing in the file."),
        (
            "shape",
            "do not fit resnet18: 'layer1.0.conv1.weight' is 64 x 64 x 5 x 5 in the "
            "file, but 64 x 64 x 3 x 3 in the network.",
        ),
        ("more", "do not fit resnet18: the network has no 'layer9.0.conv1.weight'."),
    ],
)
def test_the_first_difference_is_named(how: str, words: str, tmp_path: Path) -> None:
    torch.save(damage(models.resnet18().state_dict(), how), tmp_path / "w.pth")
    with pytest.raises(ConfigError, match=words.replace("(", r"\(")):
        weights.check(pretrained("resnet18", weights=str(tmp_path / "w.pth")), IMAGE, 3)


def test_weights_of_another_family_do_not_fit(tmp_path: Path) -> None:
    torch.save(models.resnet18().state_dict(), tmp_path / "w.pth")
    with pytest.raises(
        ConfigError,
        match=r"do not fit resnet50: 'layer1\.0\.conv1\.weight' is 64 x 64 x 3 x 3 in the file",
    ):
        weights.check(pretrained("resnet50", weights=str(tmp_path / "w.pth")), IMAGE, 3)


class Malicious:
    def __reduce__(self) -> tuple[Callable[..., int], tuple[str]]:
        return os.system, ("touch hacked",)


@pytest.mark.parametrize(
    "content", [b"not weights", b"", pickle.dumps(Malicious()), pickle.dumps({"a": 1})]
)
def test_a_file_that_holds_no_weights_is_refused_and_nothing_in_it_runs(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(ConfigError, match=r"w\.pth' (cannot be read|are not a state dict)"):
        weights.check(pretrained("resnet18", weights=str(tmp_path / "w.pth")), IMAGE, 3)
    assert not (tmp_path / "hacked").exists()


@pytest.mark.parametrize("freeze", ["nothing", "backbone"])
def test_auxiliary_heads_need_not_be_in_the_file(freeze: str, tmp_path: Path) -> None:
    torch.save(
        models.googlenet(aux_logits=False, init_weights=False).state_dict(), tmp_path / "w.pth"
    )
    weights.check(pretrained("googlenet", weights=str(tmp_path / "w.pth"), freeze=freeze), IMAGE, 3)


@pytest.mark.parametrize(
    "content",
    [{1: torch.zeros(1)}, {"encoder.pos_embedding": torch.zeros(1, 1, 768)}, nn.Linear(2, 2)],
)
def test_odd_files_are_told_in_one_line(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(ConfigError) as caught:
        weights.check(
            pretrained("vit_b_16", weights=str(tmp_path / "w.pth"), input_size=64), IMAGE, 3
        )
    assert str(caught.value).isprintable()


def test_absent_weights_and_no_network_are_one_clear_line(
    torch_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(url: str, *arguments: object, **options: object) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setattr(weights, "download_url_to_file", offline)
    with pytest.raises(Unavailable) as caught:
        weights.check(pretrained("resnet18"), IMAGE, 3, download=True)
    text = str(caught.value)
    assert (
        f"'resnet18-f37072fd.pth' are not in '{torch_home}' and could not be downloaded "
        "(Name or service not known)" in text
    )
    assert (
        "--weights PATH. To train without pretrained weights, use for example --space table3"
        in text
    )
    assert "\n" not in text


def test_absent_weights_are_fetched_once_and_checked_by_their_hash(
    torch_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched = []

    def download(url: str, place: str, hash_prefix: str, progress: bool) -> None:
        fetched.append((url.rpartition("/")[2], hash_prefix))
        torch.save(models.resnet18().state_dict(), place)

    monkeypatch.setattr(weights, "download_url_to_file", download)
    for _ in range(2):
        weights.check(pretrained("resnet18"), IMAGE, 3, download=True)
    assert fetched == [("resnet18-f37072fd.pth", "f37072fd")]


def test_nothing_is_fetched_that_was_not_asked_for(
    make_dataset: Callable[..., Dataset], torch_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither before a search nor by a training: the network is left alone."""

    def fetched(*arguments: object, **options: object) -> None:
        raise AssertionError("went to the network")

    monkeypatch.setattr(weights, "download_url_to_file", fetched)
    config = TrialConfig().override(
        {
            "model.name": "resnet18",
            "model.pretrained": True,
            "model.input_size": 32,
            "batch_size": 8,
        }
    )
    told = (
        f"the weights 'resnet18-f37072fd.pth' are not in '{torch_home}'. "
        "Download them with --download, "
        "put the file there (from https://download.pytorch.org/models/resnet18-f37072fd.pth), "
        "or pass it with --weights PATH. To train without pretrained weights, use for example "
        "--space table3."
    )
    with pytest.raises(ConfigError) as checked:
        weights.check(config.model, IMAGE, 3)
    with pytest.raises(ConfigError) as trained:
        Training(config, make_dataset())
    assert str(checked.value) == str(trained.value) == told


def test_a_place_that_the_user_names_is_never_downloaded_to(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"resnet18-f37072fd\.pth' \(--weights\)"):
        weights.check(pretrained("resnet18", weights=str(tmp_path)), IMAGE, 3)


def test_a_checkpoint_needs_no_weights_to_be_evaluated(
    make_dataset: Callable[..., Dataset], torch_home: Path, tmp_path: Path
) -> None:
    """What a training began with is in its checkpoint."""
    from trainables.evaluation.evaluate import predictions

    path = torch_home / MODELS["resnet18"].weights
    torch.save(models.resnet18().state_dict(), path)
    config = TrialConfig().override(
        {
            "model.name": "resnet18",
            "model.pretrained": True,
            "model.input_size": 32,
            "batch_size": 8,
            "epochs": 1,
        }
    )
    dataset = make_dataset()
    training = Training(config, dataset)
    list(training.epochs())
    saved = checkpoint.save(tmp_path, training.state(), {})
    path.unlink()
    assert predictions(config, dataset, dataset.val, saved).shape == (len(dataset.val), 3)


def test_a_checkpoint_of_folds_gives_its_first_network(
    make_dataset: Callable[..., Dataset], tmp_path: Path
) -> None:
    config = TrialConfig().override(
        {"model.name": "mobilenet_v3_small", "model.input_size": 32, "batch_size": 8, "epochs": 1}
    )
    states = [Training(config.override({"seed": seed}), make_dataset()).state() for seed in (1, 2)]
    saved = checkpoint.save(tmp_path, {"epoch": 1, "folds": states}, {})
    found = weights.read(saved)
    assert torch.equal(found["features.0.0.weight"], states[0]["model"]["net.features.0.0.weight"])


def test_a_module_that_is_not_a_family_has_no_weights_to_begin_with() -> None:
    assert isinstance(MODELS["table2"].build(IMAGE, 3, width=4, dropout=0.0), nn.Module)
    with pytest.raises(ConfigError, match="model 'table2' has no option 'pretrained'"):
        ModelConfig(name="table2", pretrained=True)
