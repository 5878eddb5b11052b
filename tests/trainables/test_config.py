import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import trainables
from trainables.catalog.datasets import DATASETS
from trainables.catalog.models import MODELS
from trainables.config import (
    HORIZON_FREE,
    PATHS,
    AugmentConfig,
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    TrainConfig,
    TrialConfig,
    is_own_beginning,
    parse_setting,
    training_key,
    unknown_key,
)
from trainables.errors import ConfigError, DataError, TrainableError, Unavailable, unknown
from trainables.messages import WarmStart
from trainables.tasks import TASKS
from trainables.tasks.detection.entry import DetectionOptions
from trainables.tasks.segmentation.entry import SegmentationOptions
from trainables.tasks.super_resolution.entry import SuperResolutionOptions
from trainables.training.optimizers import SCHEDULES

PARTS = (
    ModelConfig,
    DataConfig,
    AugmentConfig,
    OptimizerConfig,
    TrainConfig,
    SegmentationOptions,
    DetectionOptions,
    TrialConfig,
)


def refused(text: str):
    return pytest.raises(ConfigError, match=f"^{re.escape(text)}$")


def test_importing_config_does_not_import_torch_or_ray():
    code = (
        "import sys, trainables.config; "
        "print(sorted({'torch', 'torchvision', 'ray', 'numpy', 'sklearn', "
        "'PIL'} & set(sys.modules)))"
    )
    home = Path(trainables.__file__).parents[1]
    assert (
        subprocess.run(
            [sys.executable, "-c", code], cwd=home, capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )


@pytest.mark.parametrize("part", PARTS)
def test_every_part_is_frozen_keyword_only_and_hashable(part):
    config = part()
    for field in dataclasses.fields(part):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(config, field.name, getattr(config, field.name))
    with pytest.raises(TypeError):
        part("positional")
    assert config == part()
    assert hash(config) == hash(part())


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        ("batch_size", 32.0, "batch_size must be a whole number (got 32.0)."),
        ("batch_size", "32", "batch_size must be a whole number (got '32')."),
        ("batch_size", True, "batch_size must be a whole number (got True)."),
        ("batch_size", None, "batch_size must be a whole number (got None)."),
        ("epochs", 2.5, "epochs must be a whole number (got 2.5)."),
        ("seed", "0", "seed must be a whole number (got '0')."),
        ("model.name", 3, "model.name must be text (got 3)."),
        ("model.layers", 5.0, "model.layers must be a whole number or none (got 5.0)."),
        ("model.dropout", "a", "model.dropout must be a number or none (got 'a')."),
        ("model.dropout", False, "model.dropout must be a number or none (got False)."),
        ("data.root", None, "data.root must be text (got None)."),
        ("data.image_size", 8.0, "data.image_size must be a whole number or none (got 8.0)."),
        ("augment.flip", 1, "augment.flip must be true or false (got 1)."),
        ("augment.rotation", True, "augment.rotation must be a number (got True)."),
        ("optimizer.lr", "0.1", "optimizer.lr must be a number (got '0.1')."),
        ("optimizer.lr", None, "optimizer.lr must be a number (got None)."),
        ("optimizer.patience", 1.0, "optimizer.patience must be a whole number (got 1.0)."),
    ],
)
def test_a_wrong_type_is_refused_with_what_came_and_what_is_allowed(path, value, text):
    with refused(text):
        TrialConfig().override({path: value})


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        ("epochs", 0, "epochs must be >= 1 (got 0)."),
        ("seed", -1, "seed must be >= 0 and <= 2147483648 (got -1)."),
        ("seed", 2**31 + 1, f"seed must be >= 0 and <= 2147483648 (got {2**31 + 1})."),
        ("model.width", 0, "model.width must be >= 1 and <= 4096 (got 0)."),
        ("model.width", 4097, "model.width must be >= 1 and <= 4096 (got 4097)."),
        ("model.layers", 2, "model.layers must be >= 3 and <= 200 (got 2)."),
        ("model.layers", 201, "model.layers must be >= 3 and <= 200 (got 201)."),
        ("model.filter_size", 0, "model.filter_size must be >= 1 and <= 31 (got 0)."),
        ("model.filter_size", 33, "model.filter_size must be >= 1 and <= 31 (got 33)."),
        (
            "model.filter_size",
            4,
            "model.filter_size must be odd, so that the filter has a centre (got 4).",
        ),
        ("model.dropout", -0.1, "model.dropout must be >= 0 and < 1 (got -0.1)."),
        ("model.dropout", 1.0, "model.dropout must be >= 0 and < 1 (got 1.0)."),
        ("data.image_size", 0, "data.image_size must be >= 1 and <= 4096 (got 0)."),
        ("data.image_size", 4097, "data.image_size must be >= 1 and <= 4096 (got 4097)."),
        ("data.train_limit", 0, "data.train_limit must be >= 1 (got 0)."),
        ("data.val_limit", 0, "data.val_limit must be >= 1 (got 0)."),
        ("data.val_fraction", 0.0, "data.val_fraction must be > 0 and < 1 (got 0.0)."),
        ("data.val_fraction", 1.0, "data.val_fraction must be > 0 and < 1 (got 1.0)."),
        ("data.test_fraction", 0, "data.test_fraction must be > 0 and < 1 (got 0)."),
        ("data.split_seed", -1, "data.split_seed must be >= 0 (got -1)."),
        ("data.folds", 1, "data.folds must be >= 2 and <= 20 (got 1)."),
        ("data.folds", 21, "data.folds must be >= 2 and <= 20 (got 21)."),
        ("augment.rotation", -1, "augment.rotation must be >= 0 and <= 180 (got -1)."),
        ("augment.rotation", 180.5, "augment.rotation must be >= 0 and <= 180 (got 180.5)."),
        ("augment.scale", 1, "augment.scale must be >= 0 and < 1 (got 1)."),
        ("augment.crop", 513, "augment.crop must be >= 0 and <= 512 (got 513)."),
        ("augment.jitter", 1.0, "augment.jitter must be >= 0 and < 1 (got 1.0)."),
        ("optimizer.lr", 0, "optimizer.lr must be > 0 (got 0)."),
        ("optimizer.lr", -0.1, "optimizer.lr must be > 0 (got -0.1)."),
        ("optimizer.lr", float("nan"), "optimizer.lr must be finite (got nan)."),
        ("optimizer.lr", float("inf"), "optimizer.lr must be finite (got inf)."),
        ("optimizer.weight_decay", -1e-9, "optimizer.weight_decay must be >= 0 (got -1e-09)."),
        ("optimizer.decay", 0.0, "optimizer.decay must be > 0 and < 1 (got 0.0)."),
        ("optimizer.decay", 1.0, "optimizer.decay must be > 0 and < 1 (got 1.0)."),
        ("optimizer.step_epochs", 0, "optimizer.step_epochs must be >= 1 (got 0)."),
        ("optimizer.patience", -1, "optimizer.patience must be >= 0 (got -1)."),
    ],
)
def test_a_value_out_of_its_limits_is_refused(path, value, text):
    with refused(text):
        TrialConfig().override({path: value})


def test_a_batch_of_no_images_is_refused():
    with pytest.raises(ConfigError, match=r"^batch_size must be >= \d \(got 0\)\.$"):
        TrialConfig(batch_size=0)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("seed", 0), ("seed", 2**31), ("model.layers", 3), ("model.layers", 200),
        ("model.filter_size", 1), ("model.filter_size", 31), ("model.dropout", 0),
        ("augment.rotation", 180), ("augment.crop", 512), ("optimizer.lr", 1),
        ("optimizer.lr", 1e6), ("optimizer.patience", 0), ("data.train_limit", None),
    ],
)  # fmt: skip
def test_a_value_on_its_limit_is_taken(path, value):
    assert TrialConfig().override({path: value}).value(path) == value


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        (
            "model.name",
            "tabel2",
            f"unknown model 'tabel2'. Known: {', '.join(sorted(MODELS))}. Did you mean 'table2'?",
        ),
        ("model.name", "zzz", f"unknown model 'zzz'. Known: {', '.join(sorted(MODELS))}."),
        (
            "data.name",
            "minst",
            f"unknown data set 'minst'. Known: {', '.join(sorted(DATASETS))}. "
            "Did you mean 'mnist'?",
        ),
        (
            "data.scaling",
            "standart",
            "unknown scaling 'standart'. Known: standard, symmetric, unit. "
            "Did you mean 'standard'?",
        ),
        (
            "optimizer.name",
            "adan",
            "unknown optimizer 'adan'. Known: adam, adamw, sgd. Did you mean 'adam'?",
        ),
        (
            "optimizer.schedule",
            "cosin",
            "unknown schedule 'cosin'. Known: constant, cosine, plateau, step. "
            "Did you mean 'cosine'?",
        ),
    ],
)
def test_an_unknown_name_is_refused_with_the_known_and_the_nearest(path, value, text):
    with refused(text):
        TrialConfig().override({path: value})


@pytest.mark.parametrize(
    ("path", "near"),
    [
        ("optimizer.learning_rate", ""),
        ("optimizer.lrr", "optimizer.lr"),
        ("model.filtersize", "model.filter_size"),
        ("epoch", "epochs"),
        ("batchsize", "batch_size"),
    ],
)
def test_an_unknown_key_is_refused_with_the_keys_of_its_part_and_the_nearest(path, near):
    with pytest.raises(ConfigError) as error:
        TrialConfig().override({path: 1})
    text = str(error.value)
    assert text.startswith(f"unknown key '{path}'. Known: ")
    listed = text.partition("Known: ")[2].partition(". Did")[0].rstrip(".").split(", ")
    assert listed == sorted(
        known for known in PATHS if known.rpartition(".")[0] == path.rpartition(".")[0]
    )
    assert ("Did you mean" in text) == bool(near)
    assert not near or text.endswith(f"Did you mean '{near}'?")


@pytest.mark.parametrize("path", ["nothing.like.it", "model", "", "optimizer."])
def test_a_key_that_leads_to_no_value_is_refused(path):
    with pytest.raises(ConfigError, match=r"^unknown key"):
        TrialConfig().override({path: 1})


def test_an_option_that_the_model_does_not_take_is_refused():
    with refused("model 'table2' has no option 'layers'. It accepts: width, dropout."):
        ModelConfig(name="table2", layers=5)


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_momentum_is_refused_for_all_but_sgd(name):
    with pytest.raises(
        ConfigError, match=r"^optimizer\.momentum=0\.5 requires optimizer\.name=sgd \(got " + name
    ):
        OptimizerConfig(name=name, momentum=0.5)
    assert OptimizerConfig(name="sgd", momentum=0.5).momentum == 0.5


@pytest.mark.parametrize(
    "name", sorted(name for name, entry in DATASETS.items() if "classification" in entry.tasks)
)
def test_flip_is_refused_where_a_mirrored_image_means_something_else(name):
    assert DATASETS[name].flip == (name not in ("digits", "mnist"))
    if DATASETS[name].flip:
        assert TrialConfig().override({"data.name": name, "augment.flip": True}).augment.flip
    else:
        with refused(
            f"augment.flip cannot be used for '{name}', because mirroring changes the meaning of "
            "its images. Remove augment.flip."
        ):
            TrialConfig().override({"data.name": name, "augment.flip": True})


def test_fractions_that_leave_nothing_to_train_on_are_refused():
    with pytest.raises(
        ConfigError,
        match=(
            r"^the sum of data\.val_fraction and data\.test_fraction must be below 1, so that "
            r"training images are left \(got 1\.1\)\.$"
        ),
    ):
        DataConfig(val_fraction=0.6, test_fraction=0.5)


def test_override_sets_the_values_of_a_part_together():
    config = TrialConfig().override(
        {
            "optimizer.momentum": 0.5,
            "optimizer.name": "sgd",
            "model.name": "table2",
            "model.width": 8,
            "epochs": 3,
        }
    )
    assert (
        config.optimizer.name,
        config.optimizer.momentum,
        config.model.name,
        config.model.width,
        config.epochs,
    ) == ("sgd", 0.5, "table2", 8, 3)


def test_override_leaves_the_original_and_all_other_values():
    base = TrialConfig(seed=5, data=DataConfig(image_size=9))
    changed = base.override({"data.scaling": "unit"})
    assert base.data.scaling == "standard"
    assert changed.data == DataConfig(image_size=9, scaling="unit")
    assert dataclasses.replace(changed, data=base.data) == base


def test_override_by_nothing_is_equal():
    assert TrialConfig().override({}) == TrialConfig()


def every_value_changed() -> TrialConfig:
    return TrialConfig(
        model=ModelConfig(name="deep_cnn", width=8, layers=10, filter_size=5, dropout=0.35),
        data=DataConfig(
            name="folder",
            root="/a b",
            image_size=16,
            skip_bad=True,
            scaling="unit",
            train_limit=10,
            val_limit=7,
            folds=4,
            val_fraction=0.1,
            test_fraction=0.3,
            split_seed=4,
            leaks="keep",
        ),
        augment=AugmentConfig(rotation=5, scale=0.1, crop=2, flip=True, jitter=0.2),
        optimizer=OptimizerConfig(
            name="sgd",
            lr=0.1,
            weight_decay=0.01,
            momentum=0.5,
            schedule="step",
            decay=0.5,
            step_epochs=2,
            patience=1,
        ),
        batch_size=16,
        precision="fp32",
        epochs=4,
        seed=9,
    )


TRANSFERRED = TrialConfig(
    model=ModelConfig(
        name="resnet18", pretrained=True, weights="/w", freeze="all_but_last_stage", input_size=64
    ),
    optimizer=OptimizerConfig(backbone_lr=1e-4),
)
SEGMENTING = TrialConfig(
    model=ModelConfig(name="unet", depth=3, norm="group"),
    data=DataConfig(name="scenes", task="segmentation"),
    options=SegmentationOptions(loss="focal", focal_gamma=1.0, turns=True),
)
DETECTING = TrialConfig(
    model=ModelConfig(name="center_points", width=16),
    data=DataConfig(name="digit_scenes", task="detection"),
    options=DetectionOptions(most_boxes=50, overlap=0.5),
)
ENLARGING = TrialConfig(
    model=ModelConfig(name="edsr", layers=3),
    data=DataConfig(name="photographs", task="super_resolution", scale=3),
    options=SuperResolutionOptions(loss="l2", turns=False),
)
EXAMPLES = {
    "all": every_value_changed(),
    "metric": TrialConfig(metric="macro_f1"),
    "bucket": TrialConfig(data=DataConfig(name="folder", bucket="s3://b/flowers")),
    "weighted": TrialConfig(train=TrainConfig(class_weights="sqrt")),
    "warm": TrialConfig(warm_start="champion-1"),
    "grouped": TrialConfig(
        data=DataConfig(name="folder", groups="/g.csv"),
        train=TrainConfig(sampling="groups", group_dro=0.1),
    ),
    "sampled": TrialConfig(train=TrainConfig(sampling="balanced")),
    "policy": TrialConfig(augment=AugmentConfig(policy="augmix")),
    "mixed": TrialConfig(augment=AugmentConfig(mix="cutmix", mix_alpha=0.5)),
    "regularised": TrialConfig(train=TrainConfig(ema=0.99, smoothing=0.1, adversarial=2.0)),
    "transferred": TRANSFERRED,
    "vit": TrialConfig(model=ModelConfig(name="vit", patch=8)),
    "svm": TrialConfig(model=ModelConfig(name="svm", features="all", c=3, gamma=0.1)),
    "knn": TrialConfig(model=ModelConfig(name="knn", neighbours=2)),
    "spread": TrialConfig(model=ModelConfig(name="spread_resnet18", unlabelled="/u")),
    "tree": TrialConfig(model=ModelConfig(name="tree", tree_depth=3)),
    "segmenting": SEGMENTING,
    "enlarging": ENLARGING,
    "detecting": DETECTING,
    "forest": dataclasses.replace(SEGMENTING, model=ModelConfig(name="pixel_forest", trees=7)),
}


@pytest.mark.parametrize(
    "config",
    [TrialConfig(), *EXAMPLES.values(), TrialConfig(model=ModelConfig(name="table2"))],
    ids=["default", *EXAMPLES, "table2"],
)
def test_a_config_survives_the_way_through_json(config):
    assert TrialConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_options_that_came_later_leave_earlier_configs_as_they_were():
    model = TrialConfig().to_dict()["model"]
    assert not {"depth", "norm"} & set(model)
    assert SEGMENTING.to_dict()["model"] == model | {"name": "unet", "depth": 3, "norm": "group"}


def test_copies_across_parts_stay_in_a_config_of_a_version_that_kept_them():
    config = TrialConfig()
    assert config.data.leaks == "clean"
    earlier = config.to_dict()
    del earlier["data"]["leaks"]
    assert TrialConfig.from_dict(earlier).data.leaks == "keep"
    assert TrialConfig.from_dict(earlier).to_dict() == earlier
    assert training_key(TrialConfig.from_dict(earlier)) == training_key(config)


def test_the_round_trip_examples_change_every_value():
    default = TrialConfig()
    several = {path for path in PATHS if path != "data.task" or len(TASKS) > 1}
    assert [
        path
        for path in several
        if all(example.value(path) == default.value(path) for example in EXAMPLES.values())
    ] == []


@pytest.mark.parametrize("name", ["svm", "knn", "tree"])
def test_a_baseline_has_one_epoch_whatever_is_said(name):
    config = TrialConfig().override({"model.name": name, "epochs": 30, "augment.rotation": 5.0})
    assert config.model.is_baseline
    assert (
        config.epochs
        == config.override({"epochs": 7}).epochs
        == TrialConfig.from_dict(config.to_dict() | {"epochs": 9}).epochs
        == 1
    )
    assert TrialConfig(epochs=7).epochs == 7


def test_classes_are_not_balanced_twice():
    with pytest.raises(ConfigError, match="both compensate for different class sizes"):
        TrialConfig().override({"train.class_weights": "sqrt", "train.sampling": "balanced"})


@pytest.mark.parametrize(
    ("name", "kept"), [("svm", "balanced"), ("tree", "balanced"), ("knn", "none")]
)
def test_a_baseline_keeps_the_class_weights_that_it_can_take(name, kept):
    config = TrialConfig().override({"model.name": name, "train.class_weights": "balanced"})
    assert config.train == TrainConfig(class_weights=kept)
    sampled = TrialConfig().override({"model.name": name, "train.sampling": "balanced"})
    assert sampled.train == TrainConfig()


@pytest.mark.parametrize(
    "values", [{"epoch": 3}, {"optimizer": {"lerning": 1}}, {"epochs": {"x": 1}}, {"model": 5}]
)
def test_from_dict_refuses_unknown_keys(values):
    with pytest.raises(ConfigError, match=r"^unknown key"):
        TrialConfig.from_dict(values)


def test_from_dict_takes_defaults_for_what_is_left_out():
    assert TrialConfig.from_dict({"optimizer": {"lr": 0.5}}) == TrialConfig(
        optimizer=OptimizerConfig(lr=0.5)
    )


def test_value_reads_a_path_and_takes_the_models_default_for_an_open_option():
    config = TrialConfig().override({"optimizer.lr": 0.25, "model.width": 7})
    assert config.value("optimizer.lr") == 0.25
    assert config.value("epochs") == 20
    assert config.value("model.width") == 7
    assert config.value("model.layers") == 5
    assert config.value("model.name") == "deep_cnn"
    assert TrialConfig(model=ModelConfig(name="table2")).value("model.layers") is None


def test_paths_lead_to_every_value_of_every_part():
    # Six fields are parts themselves, and the members of an ensemble cannot be set.
    assert len(PATHS) == sum(len(dataclasses.fields(part)) for part in PARTS) - 6 - 1
    for path in PATHS:
        TrialConfig().value(path)


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("epochs=3", "epochs", 3),
        ("optimizer.lr=1e-2", "optimizer.lr", 0.01),
        ("optimizer.lr=1", "optimizer.lr", 1.0),
        ("optimizer.name=sgd", "optimizer.name", "sgd"),
        ("augment.flip=True", "augment.flip", True),
        ("augment.flip=false", "augment.flip", False),
        ("model.width=none", "model.width", None),
        ("model.width=12", "model.width", 12),
        ("model.dropout=null", "model.dropout", None),
        ("data.root=/a=b", "data.root", "/a=b"),
        ("data.root=none", "data.root", "none"),
    ],
)
def test_a_setting_is_read_as_its_own_type(text, path, value):
    read = parse_setting(text)
    assert read == (path, value)
    assert type(read[1]) is type(value)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("epochs", "a setting must have the form key=value (got 'epochs')."),
        ("epochs=three", "epochs must be a whole number (got 'three')."),
        ("epochs=2.5", "epochs must be a whole number (got '2.5')."),
        ("epochs=none", "epochs must be a whole number (got 'none')."),
        ("augment.flip=yes", "augment.flip must be true or false (got 'yes')."),
        ("model.width=", "model.width must be a whole number or none (got '')."),
        ("optimizer.lr=fast", "optimizer.lr must be a number (got 'fast')."),
    ],
)
def test_a_setting_that_cannot_be_read_is_refused(text, error):
    with refused(error):
        parse_setting(text)


def test_a_setting_with_an_unknown_key_names_the_nearest():
    with pytest.raises(ConfigError, match=r"Did you mean 'optimizer\.lr'\?$"):
        parse_setting("optimizer.rl=0.1")
    assert isinstance(unknown_key("x"), ConfigError)


def test_the_errors_say_whose_fault_it_is():
    assert issubclass(DataError, ConfigError)
    assert issubclass(ConfigError, TrainableError)
    assert issubclass(ConfigError, ValueError)
    assert issubclass(Unavailable, TrainableError)
    assert issubclass(Unavailable, RuntimeError)
    assert not issubclass(Unavailable, ConfigError)


def test_unknown_lists_the_known_in_order_or_only_those_worth_it():
    assert unknown("thing", "q", ["b", "a"]) == "unknown thing 'q'. Known: a, b."
    assert (
        unknown("thing", "abcdf", ["abcde", "x"], listed=["x"])
        == "unknown thing 'abcdf'. Known: x. Did you mean 'abcde'?"
    )


def test_schedules_that_do_not_look_at_the_horizon_are_those_that_are_named():
    assert set(HORIZON_FREE) == set(SCHEDULES) - {"cosine"}


@pytest.mark.parametrize("schedule", HORIZON_FREE)
def test_trainings_of_other_lengths_have_one_stem(schedule, make_config):
    short, long = (make_config(optimizer__schedule=schedule, epochs=epochs) for epochs in (1, 9))
    assert training_key(short) == training_key(long)


def test_with_a_schedule_that_ends_with_the_training_they_have_not(make_config):
    short, same, long = (
        make_config(optimizer__schedule="cosine", epochs=epochs) for epochs in (1, 1, 9)
    )
    assert training_key(short) == training_key(same) != training_key(long)


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 1},
        {"optimizer__lr": 0.5},
        {"batch_size": 9},
        {"model__width": 5},
        {"precision": "bf16"},
        {"data__split_seed": 1},
        {"data__train_limit": 9},
        {"augment__rotation": 5.0},
    ],
)
def test_what_decides_a_training_makes_another_stem(other, make_config):
    assert training_key(make_config()) != training_key(make_config(**other))


def test_what_does_not_decide_it_makes_none(make_config):
    """A model's default is as good as the same value given, and where the images lie is told by
    their fingerprint.
    """
    plain = make_config(model__name="deep_cnn")
    assert training_key(plain) == training_key(
        make_config(model__name="deep_cnn", model__layers=plain.model.options["layers"])
    )
    assert training_key(plain) == training_key(
        make_config(model__name="deep_cnn", data__root="/elsewhere")
    )


def test_a_training_is_the_beginning_of_a_longer_one_as_far_as_both_go(make_config):
    short, long = make_config(epochs=3), make_config(epochs=9)
    assert is_own_beginning(short, 3, long)
    assert is_own_beginning(long, 3, short)
    assert not is_own_beginning(long, 4, short)
    assert not is_own_beginning(make_config(epochs=3, seed=1), 3, long)


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"search": "s"}'])
def test_what_says_nothing_of_a_beginning_is_none(text):
    assert WarmStart.parse(text) is None
