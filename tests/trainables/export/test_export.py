"""Every model as a folder that stands alone: the same probabilities as its checkpoint, from images
of any size.
"""

import re
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from tests.support.calibrated import calibrated
from tests.support.networks import BASELINES, OF_TORCHVISION, OWN
from trainables.baselines.base import Fitting
from trainables.catalog.models import MODELS
from trainables.checkpoints import checkpoint
from trainables.config import TrialConfig
from trainables.datasets.images import decode
from trainables.errors import ConfigError
from trainables.evaluation.evaluate import predictions
from trainables.export import reference
from trainables.export.export import (
    Disagreement,
    _check_agreement,
    check_onnx,
    export,
)
from trainables.export.runtime import in_onnxruntime
from trainables.predictors.base import NETWORK, ONNX, as_trained
from trainables.tasks.base import difference
from trainables.tasks.classification.entry import ENTRY as CLASSIFICATION
from trainables.tasks.classification.predictor import Predictor
from trainables.training.cross_validation import Folds
from trainables.training.loop import Training


@pytest.fixture
def exported(make_dataset, tmp_path):
    """Train a moment, save, export: what was exported, the data, and the checkpoint's own
    probabilities of the validation images, calibrated.
    """

    def make(name, *, onnx=False, side=None, channels=1, trained=True, **values):
        entry = MODELS[name]
        dataset = make_dataset(
            side=side or max(8, entry.min_side), channels=channels, train=12, val=6
        )
        config = TrialConfig().override(
            {"model.name": name, "epochs": 1, "precision": "fp32", "batch_size": 4, **values}
        )
        training = (Fitting if entry.kind == "baseline" else Training)(config, dataset)
        if trained:
            list(training.epochs())
        path = checkpoint.save(tmp_path / "saved", training.state(), {})
        found = export(config, dataset, path, tmp_path / "exported", onnx=onnx)
        before = predictions(config, dataset, dataset.val, path)
        return found, dataset, calibrated(found.folder, before)

    return make


@pytest.mark.parametrize(
    "name",
    [*OWN, *BASELINES, *(pytest.param(name, marks=pytest.mark.slow) for name in OF_TORCHVISION)],
)
def test_every_model_gives_what_its_checkpoint_gives(name, exported):
    found, dataset, before = exported(name, trained=name not in OF_TORCHVISION)
    again = Predictor(found.folder)
    assert difference(again.predictions(dataset.val.images), before) < 1e-5
    assert again.classes == list(dataset.classes)
    kept = reference.read(found.folder)
    assert difference(kept.probabilities, before[reference.sample(dataset)]) < 1e-5
    for count in (0, 1, 5):
        assert again.predictions(dataset.val.images[:count]).shape == (count, 3)


@pytest.mark.parametrize(
    "name",
    [*OWN, *(pytest.param(name, marks=pytest.mark.slow) for name in ("vit", "mobilenet_v3_small"))],
)
def test_onnx_gives_what_torch_gives(name, exported):
    values = (
        {"model.input_size": 40} if name == "mobilenet_v3_small" else {}
    )  # which is resized inside, with antialiasing
    found, dataset, before = exported(name, onnx=True, channels=3, trained=name in OWN, **values)
    classify = in_onnxruntime(found.folder / ONNX, 1)
    assert found.onnx_difference < 1e-5
    assert (
        difference(
            np.concatenate([classify(dataset.val.images[:1]), classify(dataset.val.images[1:])]),
            before,
        )
        < 1e-5
    )
    assert {size: times["median_ms"] > 0 for size, times in found.onnx_inference.items()} == {
        "batch_1": True,
        "batch_64": True,
    }


def test_a_network_that_began_with_trained_weights_sees_pixels_from_0_to_1(make_dataset, tmp_path):
    dataset = make_dataset(side=20, channels=3)
    config = TrialConfig().override(
        {
            "model.name": "resnet18",
            "model.pretrained": True,
            "model.input_size": 24,
            "data.scaling": "symmetric",
        }
    )
    network = MODELS["resnet18"].build(dataset.image, 3, **config.model.options)
    state = {
        "epoch": 1,
        "model": network.state_dict(),
        "optimizer": torch.optim.SGD(network.parameters()).state_dict(),
        "schedule": {},
        "precision": "fp32",
    }
    path = checkpoint.save(tmp_path, state, {})
    written = Predictor(export(config, dataset, path, tmp_path / "exported").folder)
    pixels = torch.from_numpy(dataset.val.images).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        assert (
            difference(
                written.predictions(dataset.val.images),
                calibrated(
                    tmp_path / "exported", network.eval()(pixels).double().softmax(1).numpy()
                ),
            )
            < 1e-5
        )


def test_what_was_trained_in_bfloat16_computes_in_float32_and_says_how_far_that_is(exported):
    found, dataset, before = exported("mnist_cnn", precision="bf16", side=16, onnx=True)
    after = Predictor(found.folder).predictions(dataset.val.images)
    assert found.precision == "bf16"
    assert found.difference == difference(before, after) > 0
    assert found.onnx_difference < 1e-5
    assert found.value == (after.argmax(1) == dataset.val.targets).mean()


@pytest.mark.parametrize("name", ["deep_cnn", "svm"])
def test_a_trial_with_folds_is_a_committee(name, make_dataset, tmp_path):
    dataset = replace(make_dataset(train=30), folds=3)
    dataset = replace(dataset, val=dataset.train)
    config = TrialConfig().override(
        {"model.name": name, "epochs": 1, "precision": "fp32", "batch_size": 4, "data.folds": 3}
    )
    folds = Folds(
        config, dataset, lambda own: (Training if name == "deep_cnn" else Fitting)(config, own)
    )
    list(folds.epochs())
    path = checkpoint.save(tmp_path / "saved", folds.state(), {})
    found = export(config, dataset, path, tmp_path / "exported", onnx=name == "deep_cnn")
    assert found.value is None
    assert (
        difference(
            Predictor(found.folder).predictions(dataset.test.images),
            calibrated(found.folder, predictions(config, dataset, dataset.test, path)),
        )
        < 1e-5
    )


TASK = CLASSIFICATION.load()


@pytest.mark.parametrize("difference", [1.1e-4, float("nan")])
def test_two_forms_that_disagree_are_refused_with_how_far_they_differ(difference):
    _check_agreement(TASK, "one", "the other", 1e-4)
    with pytest.raises(
        Disagreement,
        match=rf"one and the other for .* differ by {difference:.2g} \(at most 0.0001 is allowed\)",
    ):
        _check_agreement(TASK, "one", "the other", difference)


def test_onnx_is_refused_for_what_is_no_network():
    with pytest.raises(
        ConfigError, match="'svm' cannot be exported to ONNX, because it is not a network"
    ):
        check_onnx(TrialConfig().override({"model.name": "svm"}))


def test_a_damaged_checkpoint_is_told(make_dataset, tmp_path):
    config, dataset = (
        TrialConfig().override({"model.name": "deep_cnn", "epochs": 1}),
        make_dataset(),
    )
    path = checkpoint.save(tmp_path / "saved", Training(config, dataset).state(), {})
    (path / "model.safetensors").write_bytes(b"")
    with pytest.raises(checkpoint.CheckpointError, match="damaged"):
        export(config, dataset, path, tmp_path / "exported")


@pytest.mark.parametrize(
    ("name", "file"),
    [("deep_cnn", NETWORK), ("tree", "classifier-1.skops"), ("svm", "classifier-1.skops")],
)
def test_no_file_holds_a_pickle_or_a_type_of_ours(name, file, exported):
    folder = exported(name)[0].folder
    with zipfile.ZipFile(folder / file) as archive:
        contents = [archive.read(entry) for entry in archive.namelist()]
    assert not [
        content
        for content in contents
        if content.startswith((b"\x80\x02", b"\x80\x04", b"\x80\x05", b"PK"))
    ]
    assert not [content for content in contents if b"trainables.baselines" in content]


# Images in every form


@pytest.mark.parametrize("wanted", ["L", "RGB"])
@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
@pytest.mark.parametrize("size", [(12, 10), (31, 17), (5, 9)])
def test_images_are_brought_into_form_as_files_of_a_data_set_are(size, mode, wanted, tmp_path):
    channels = len(Image.new(mode, (1, 1)).getbands())
    pixels = np.random.default_rng(0).integers(0, 256, (*size[::-1], channels), dtype=np.uint8)
    Image.fromarray(pixels.squeeze()).save(tmp_path / "image.png")
    (made,) = as_trained(pixels[None], (10, 12, 1 if wanted == "L" else 3))
    assert np.array_equal(made, decode(tmp_path / "image.png", (12, 10), wanted))


@pytest.mark.parametrize("channels", [1, 3])
def test_grey_and_colour_images_of_other_sizes_are_classified(channels, exported):
    found, dataset, before = exported("deep_cnn", channels=channels)
    written = Predictor(found.folder)
    assert written.predictions(np.zeros((2, 300, 7, 4), np.uint8)).sum(axis=1) == pytest.approx(
        np.ones(2)
    )
    grey = dataset.val.images[..., :1]
    alike = difference(written.predictions(grey), written.predictions(np.repeat(grey, 3, axis=-1)))
    assert alike < 1e-6
    if channels == 1:
        assert difference(written.predictions(np.repeat(grey, 3, axis=-1)), before) < 1e-5


def test_grey_images_without_channels_and_lists_of_several_sizes_are_taken(exported):
    found, dataset, before = exported("deep_cnn", channels=1)
    written, images = Predictor(found.folder), dataset.val.images
    assert difference(written.predictions(images[..., 0]), before) < 1e-5
    assert difference(written.predictions([*images[:4], *images[4:, ..., 0]]), before) < 1e-5
    assert difference(written.predictions(images.tolist()), before) < 1e-5  # as JSON brings them
    high, wide = np.repeat(images[0], 2, axis=0), np.repeat(images[1], 3, axis=2)
    expected = [written.predictions(image[None])[0] for image in (high, wide)]
    assert difference(written.predictions([high, wide]), np.array(expected)) < 1e-6
    assert (
        difference(
            written.predictions(np.array([high, wide, None], dtype=object)[:2]),
            np.array(expected),
        )
        < 1e-6
    )
    assert written.predictions([]).shape == written.predictions(images[:0]).shape == (0, 3)


@pytest.mark.parametrize(
    ("images", "came"),
    [
        (np.zeros((8, 8), np.uint8), r"got uint8 (8, 8)). Pass a single image as image[None]."),
        (
            np.zeros((8, 8, 3), np.uint8),
            r"got uint8 (8, 8, 3)). Pass a single image as image[None].",
        ),
        (
            [np.zeros((8, 8), np.uint16)],
            r"got uint16 (8, 8)). Scale the pixels to 0 to 255 as in the training images, "
            r"and convert them with .astype(numpy.uint8).",
        ),
        ([np.zeros((8, 8, 5), np.uint8)], r"got uint8 (8, 8, 5))."),
        (
            [[300]],
            r"got int64 (1,)). Scale the pixels to 0 to 255 as in the training images, "
            r"and convert them with .astype(numpy.uint8).",
        ),
        ("image.png", r"got str)"),
        ({"images": 1}, r"got dict)"),
        (None, r"got NoneType)"),
    ],
)
def test_what_is_no_images_is_refused_in_one_line(images, came, exported):
    with pytest.raises(ValueError, match=rf"^images must be a uint8 array .*\({re.escape(came)}$"):
        Predictor(exported("deep_cnn")[0].folder).predictions(images)


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((8, 8, 1), np.uint8),
        np.zeros((1, 8, 8, 1)),
        np.zeros((1, 8, 8, 5), np.uint8),
        np.zeros((1, 0, 8, 1), np.uint8),
    ],
)
def test_other_arrays_are_refused_with_what_came(images, exported):
    written = Predictor(exported("deep_cnn")[0].folder)
    with pytest.raises(
        ValueError,
        match=r"uint8 array \(count, height, width, channels\)"
        rf".*got {images.dtype} \({images.shape[0]}, ",
    ):
        written.predictions(images)


def test_no_name_of_a_class_takes_the_place_of_a_column(exported):
    found, dataset, before = exported("deep_cnn")
    written = Predictor(found.folder)
    written.classes = ["class", "probability of class", "<script>" + 60 * "x"]
    table = written.table(dataset.val.images)
    titles = [
        "probability of class",
        "probability of probability of class",
        "probability of <script>" + 60 * "x",
    ]
    assert list(table.columns) == ["class", "probability", *titles]
    assert difference(table[titles].to_numpy(), before) < 1e-5
    assert list(table["class"]) == [written.classes[number] for number in before.argmax(1)]
    assert table["probability"].to_numpy() == pytest.approx(before.max(1))
