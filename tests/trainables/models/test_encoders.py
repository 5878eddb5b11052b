"""Networks whose encoder may start with the weights of torchvision's whole network."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torchvision import models

from tests.support.networks import LARGE, SEGMENTING
from trainables.catalog.models import MODELS
from trainables.catalog.weights import cached
from trainables.checkpoints import checkpoint
from trainables.config import ModelConfig, OptimizerConfig, TrialConfig
from trainables.datasets.arrays import Dataset, Part
from trainables.errors import ConfigError
from trainables.models import weights
from trainables.models.encoders import ENCODERS, FeatureEncoder
from trainables.models.pretrained import IMAGENET, Pretrainable, Scaling
from trainables.training.loop import Training, put_weights
from trainables.training.optimizers import groups

IMAGE = (3, 64, 64)
NAMES = [name for name in SEGMENTING if MODELS[name].source]
SMALL = "unet_squeezenet1_0"


@pytest.fixture(autouse=True)
def torch_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which torch keeps the weights that it has downloaded."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    (tmp_path / "torch" / "hub" / "checkpoints").mkdir(parents=True)
    return tmp_path / "torch" / "hub" / "checkpoints"


def build(model: ModelConfig, image: tuple[int, int, int] = IMAGE) -> Pretrainable:
    network = MODELS[model.name].build(image, 2, **model.options)
    assert isinstance(network, Pretrainable)
    return network


def pretrained(name: str = SMALL, **options: object) -> ModelConfig:
    return ModelConfig(name=name, pretrained=True, **options)


def no_data(name: str) -> Scaling:
    raise AssertionError(f"no pixels are scaled as '{name}' of a data set")


# Layers


@pytest.mark.parametrize("name", ENCODERS)
def test_each_stage_halves_its_input_and_has_the_channels_of_the_table(name: str) -> None:
    with torch.device("meta"):
        maps = FeatureEncoder(name)(torch.zeros(2, 3, 64, 96, device="meta"))
    assert [tuple(stage.shape[1:]) for stage in maps] == [
        (channels, 64 // 2**halving, 96 // 2**halving)
        for halving, channels in enumerate(ENCODERS[name].channels, 1)
    ]


@pytest.mark.parametrize("name", ENCODERS)
def test_the_last_stage_is_torchvisions_features(name: str) -> None:
    """All layers but torchvision's last ones are applied, in torchvision's order."""
    theirs, encoder = models.get_model(name).eval(), FeatureEncoder(name).eval()
    encoder.load_state_dict(theirs.state_dict(), strict=False)
    if name == "squeezenet1_0":
        theirs.features[0].padding = (3, 3)
    last = ENCODERS[name].stages[-1][-1]
    outputs: list[torch.Tensor] = []
    theirs.get_submodule(last).register_forward_hook(lambda *args: outputs.append(args[2]))
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        theirs(images)
        assert torch.equal(encoder(images)[-1], outputs[0])


# Weights


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * name.startswith(LARGE)) for name in NAMES],
)
def test_the_encoder_starts_with_the_file_of_torchvisions_network(
    name: str, torch_home: Path
) -> None:
    """The head is new; the file is found under torchvision's name, and is complete."""
    source = models.get_model(MODELS[name].source).state_dict()
    torch.save(source, torch_home / MODELS[name].weights)
    assert weights.check_all([pretrained(name)], IMAGE, 2).missing == {}
    torch.manual_seed(0)
    fresh = build(pretrained(name)).state_dict()
    torch.manual_seed(0)
    network = build(pretrained(name))
    weights.start_from(network, pretrained(name), no_data)
    for key, value in network.state_dict().items():
        inside = key.startswith("encoder.")
        wanted = source[key.removeprefix("encoder.")] if inside else fresh[key]
        assert torch.equal(value, wanted), key


@pytest.mark.parametrize("suffix", ["", ".features"])
def test_in_a_folder_the_file_is_named_after_torchvisions_network(
    suffix: str, tmp_path: Path
) -> None:
    source = {
        key: value
        for key, value in models.squeezenet1_0().state_dict().items()
        if not suffix or key.startswith("features.")
    }
    torch.save(source, tmp_path / f"squeezenet1_0{suffix}.pth")
    model = pretrained(weights=str(tmp_path))
    network = build(model)
    weights.start_from(network, model, no_data)
    key = "features.3.squeeze.weight"
    assert torch.equal(network.part.state_dict()[key], source[key])


def test_a_file_that_does_not_fit_is_refused_with_the_first_difference(tmp_path: Path) -> None:
    torch.save(models.squeezenet1_1().state_dict(), tmp_path / "w.pth")
    with pytest.raises(ConfigError, match=r"do not fit unet_squeezenet1_0: 'features\.0\.weight'"):
        weights.check(pretrained(weights=str(tmp_path / "w.pth")), IMAGE, 2)


def test_missing_weights_are_named_with_the_ways_to_get_them(torch_home: Path) -> None:
    (torch_home / MODELS["unet_resnet18"].weights).touch()
    checked = weights.check_all([pretrained(), pretrained("unet_mobilenet_v2")], IMAGE, 2)
    message = str(checked.error())
    assert message.startswith(
        "none of the weights 'squeezenet1_0-b66bff10.pth' and 'mobilenet_v2-7ebf99e0.pth' is in "
        f"'{torch_home}'. "
    )
    assert "To train without pretrained weights, set model.pretrained=false. " in message
    assert message.endswith(
        "The weights of unet_resnet18 are available: --set model.name=unet_resnet18."
    )


def test_networks_with_the_same_encoder_lack_one_file(torch_home: Path) -> None:
    missing = [pretrained("unet_mobilenet_v2"), pretrained("lraspp_mobilenet_v2")]
    message = str(weights.check_all(missing, IMAGE, 2).error())
    assert message.startswith(f"the weights 'mobilenet_v2-7ebf99e0.pth' are not in '{torch_home}'")


def test_weights_at_hand_are_listed_by_task(torch_home: Path) -> None:
    (torch_home / MODELS["resnet18"].weights).touch()
    assert cached() == ["resnet18"]
    assert cached(("segmentation",)) == ["unet_resnet18"]


# Training


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_are_scaled_as_in_the_training_of_the_weights(channels: int) -> None:
    images = torch.rand(2, channels, 32, 32)
    network = build(pretrained(), (channels, 32, 32))
    prepared = network.prepare(images)
    mean, deviation = (torch.tensor(IMAGENET[key]).view(3, 1, 1) for key in ("mean", "deviation"))
    torch.testing.assert_close(prepared * deviation + mean, images.expand(-1, 3, -1, -1))
    plain = build(ModelConfig(name=SMALL), (channels, 32, 32)).prepare(images)
    assert torch.equal(plain, images.expand(-1, 3, -1, -1))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("freeze", ["nothing", "backbone", "all_but_last_stage"])
def test_the_encoder_is_frozen_and_the_head_is_not(name: str, freeze: str) -> None:
    model = pretrained(name, freeze=freeze)
    with torch.device("meta"):
        network = build(model).train()
    learned = {key for key, weights in network.named_parameters() if weights.requires_grad}
    everything = {key for key, _ in network.named_parameters()}
    head = {key for key in everything if key.startswith("head.")}
    prefixes = tuple(f"encoder.{prefix}" for prefix in network.anatomy.last_stage)
    last_stage = {key for key in everything if key.startswith(prefixes)}
    assert last_stage
    assert learned == {
        "nothing": everything, "backbone": head, "all_but_last_stage": head | last_stage
    }[freeze]  # fmt: skip
    norms = [module for module in network.part.modules() if hasattr(module, "running_mean")]
    if freeze == "backbone":
        assert not any(module.training for module in norms)


def test_head_and_encoder_have_their_own_learning_rates() -> None:
    with torch.device("meta"):
        network = build(pretrained())
    head, backbone = groups(network, OptimizerConfig(lr=0.01, backbone_lr=0.001))
    assert [id(weights) for weights in head["params"]] == [
        id(weights) for weights in network.head.parameters()
    ]
    assert [id(weights) for weights in backbone["params"]] == [
        id(weights) for weights in network.part.parameters()
    ]


def config_of(**options: object) -> TrialConfig:
    return TrialConfig().override(
        {
            "data.name": "scenes",
            "data.task": "segmentation",
            "model.name": SMALL,
            "batch_size": 2,
            "epochs": 1,
            **{f"model.{option}": value for option, value in options.items()},
        }
    )


@pytest.fixture
def dataset(make_dataset: Callable[..., Dataset]) -> Dataset:
    """Noise, whose right half is the second class."""

    def masks(part: Part) -> Part:
        targets = torch.zeros(len(part), 32, 32, dtype=torch.uint8)
        targets[:, :, 16:] = 1
        return Part(part.images, targets.numpy())

    made = make_dataset(side=32, channels=3, classes=2, train=2, val=2)
    return Dataset(
        made.name, made.classes, masks(made.train), masks(made.val), made.test, made.fingerprint
    )


def test_a_checkpoint_keeps_the_scaling_and_gives_its_encoder_away(
    dataset: Dataset, tmp_path: Path
) -> None:
    first = Training(config_of(), dataset)
    saved = checkpoint.save(tmp_path / "first", first.state(), {})
    config = config_of(pretrained=True, weights=str(saved)).override({"seed": 1})
    second = Training(config, dataset)
    assert second.scaling == first.scaling
    key = "encoder.features.0.weight"
    states = [training.network.state_dict() for training in (first, second)]
    assert torch.equal(states[0][key], states[1][key])
    assert not torch.equal(states[0]["head.output.weight"], states[1]["head.output.weight"])
    (epoch,) = second.epochs()
    assert epoch.diverged == ""
    again = build(config.model, (3, 32, 32))
    put_weights(again, config, second.state())
    assert again.scaling == second.scaling != IMAGENET
