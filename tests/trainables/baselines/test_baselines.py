import io
import json
import math
import multiprocessing
import threading
import time
import zipfile

import numpy as np
import pytest
import skops.io
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from tests.support.networks import BASELINES
from trainables.baselines import feature_classifiers as classification
from trainables.baselines import features
from trainables.baselines.base import Fitting, keep_alive, load_baseline
from trainables.baselines.classifiers import knn, svm
from trainables.baselines.feature_classifiers import features_of, hand_made
from trainables.baselines.features import FEATURES, compute_features, grey, length
from trainables.checkpoints import checkpoint
from trainables.checkpoints.checkpoint import CheckpointError
from trainables.config import FEATURE_NAMES, TrialConfig
from trainables.datasets.arrays import Dataset, Part
from trainables.disk import cache_folder
from trainables.errors import ConfigError
from trainables.evaluation import estimate
from trainables.evaluation.evaluate import evaluate, predictions
from trainables.fusion.rounds import FusionRounds
from trainables.fusion.stack import shape_of
from trainables.messages import TrialRequest
from trainables.trial import run_trial

NAMES = BASELINES


def config_of(name="svm", **values):
    return TrialConfig().override(
        {"model.name": name} | {path.replace("__", "."): value for path, value in values.items()}
    )


def noise(count, height, width, channels):
    return np.random.default_rng(0).integers(
        0, 256, (count, height, width, channels), dtype=np.uint8
    )


@pytest.fixture
def counted(monkeypatch):
    """How many images of each kind of features were looked at."""
    looked = dict.fromkeys(FEATURES, 0)

    def count(kind, make):
        def counting(image):
            looked[kind] += 1
            return make(image)

        return counting

    for kind, make in list(FEATURES.items()):
        monkeypatch.setitem(features.FEATURES, kind, count(kind, make))
    return looked


# Features


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("height", "width"), [(8, 8), (28, 28), (32, 32), (224, 224), (9, 8), (31, 17), (70, 64)]
)
@pytest.mark.parametrize("kind", FEATURES)
def test_images_of_one_size_have_one_number_of_finite_features(kind, height, width, channels):
    images = noise(3, height, width, channels)
    images[1], images[2] = 0, 255
    found = compute_features(images, kind)
    assert found.shape == (3, length(kind, height, width))
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    assert found[0].std() > 0


def test_how_many_features_there_are():
    sizes = {kind: [length(kind, side, side) for side in (8, 28, 32, 224)] for kind in FEATURES}
    assert sizes == {"hog": [324, 576, 576, 1764], "lbp": [944] * 4, "edges": [96] * 4}


def test_a_grey_image_and_the_same_in_colour_have_equal_features():
    image = noise(2, 16, 16, 1)
    for kind in FEATURES:
        np.testing.assert_allclose(
            compute_features(image, kind),
            compute_features(np.repeat(image, 3, axis=-1), kind),
            atol=1e-6,
        )


def test_green_is_brighter_than_blue():
    green, blue = np.zeros((2, 8, 8, 3), np.uint8)
    green[..., 1], blue[..., 2] = 255, 255
    assert grey(green).mean() > 5 * grey(blue).mean() > 0


@pytest.mark.parametrize("kind", FEATURES)
def test_features_tell_where_something_is(kind):
    images = np.zeros((2, 32, 32, 1), np.uint8)
    images[0, 2:6, 2:6], images[1, 26:30, 26:30] = 255, 255
    first, second = compute_features(images, kind)
    assert not np.allclose(first, second)


def test_the_names_that_a_config_takes_are_those_of_the_features():
    assert {*FEATURES, "all"} == set(FEATURE_NAMES)
    assert FEATURE_NAMES[:-1] == tuple(FEATURES)


# Shared


def test_features_are_computed_once_and_shared(make_dataset, counted):
    part = make_dataset(train=24).train
    first = features_of(part, hand_made("hog"))
    assert counted["hog"] == 24
    again = features_of(Part(part.images.copy(), part.targets), hand_made("hog"))
    assert counted["hog"] == 24
    assert np.array_equal(first, again)
    assert not again.flags.writeable
    assert isinstance(again.base, np.memmap)


def test_all_joins_what_is_there_and_computes_the_rest(make_dataset, counted):
    dataset = make_dataset(train=6)
    part = dataset.train
    hog = features_of(part, hand_made("hog"))
    joined = load_baseline(config_of(model__features="all")).features(part, dataset)
    assert np.array_equal(joined[:, : hog.shape[1]], hog)
    assert set(counted.values()) == {6}
    assert joined.shape[1] == sum(length(kind, 8, 8) for kind in FEATURES)
    assert len(list(cache_folder("features").glob("*.npy"))) == 3


def test_other_images_have_other_features(make_dataset):
    dataset = make_dataset()
    assert not np.array_equal(
        features_of(dataset.val, hand_made("hog")),
        features_of(Part(255 - dataset.val.images, dataset.val.targets), hand_made("hog"))[::-1],
    )
    assert len(features_of(dataset.train, hand_made("hog"))) == len(dataset.train)
    assert len(list(cache_folder("features").glob("*.npy"))) == 3


@pytest.mark.parametrize("damage", [b"", b"no array", "half", "pickled", "fewer"])
def test_what_is_damaged_is_computed_again(damage, make_dataset):
    part = make_dataset().train
    before = np.array(features_of(part, hand_made("edges")))
    (path,) = cache_folder("features").glob("*.npy")
    if damage == "half":
        path.write_bytes(path.read_bytes()[:1000])
    elif damage == "pickled":
        np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    elif damage == "fewer":
        np.save(path, before[1:])
    else:
        path.write_bytes(damage)
    assert np.array_equal(features_of(part, hand_made("edges")), before)
    assert len(np.load(path)) == len(part)


def test_a_cache_that_cannot_be_written_is_done_without(make_dataset, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    part = make_dataset().train
    assert np.array_equal(features_of(part, hand_made("lbp")), compute_features(part.images, "lbp"))


def counting_features(images, log, both):
    """In a process of its own: begin when the other does, and say when an image is looked at."""

    def counting(image):
        with log.open("a") as file:
            file.write("x")
        return features.gradients(image)

    features.FEATURES["hog"] = counting
    both.wait()
    features_of(Part(images, np.zeros(len(images), np.int64)), hand_made("hog"))


def test_of_two_processes_one_computes_and_both_have_the_features(tmp_path):
    images, log, fork = noise(50, 32, 32, 1), tmp_path / "log", multiprocessing.get_context("fork")
    both = fork.Barrier(2)
    processes = [fork.Process(target=counting_features, args=(images, log, both)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert len(log.read_text()) == 50
    assert {path.suffix for path in cache_folder("features").iterdir()} == {".npy", ".lock"}
    assert {path.stat().st_mode & 0o777 for path in cache_folder("features").iterdir()} == {0o600}


def test_each_image_is_a_sign_of_life(make_dataset):
    beats = []
    features_of(make_dataset(train=24).train, hand_made("hog"), lambda: beats.append(1))
    assert len(beats) == 24


# Classifiers


@pytest.mark.parametrize("name", NAMES)
def test_a_baseline_is_one_epoch_and_has_the_metrics_of_a_network(name, make_dataset, tmp_path):
    dataset = make_dataset(train=120, val=60)
    (report,) = run_trial(
        config_of(name, epochs=7, augment__rotation=10.0, model__features="edges"),
        dataset.sealed,
        tmp_path,
        device="cuda",
    )
    assert (report.epoch, report.outcome, report.precision) == (1, "completed", "")
    assert set(report.metrics) == {"train/loss", "val/loss", "val/accuracy", "lr", "time/epoch_s"}
    assert report.metrics["lr"] == 0
    assert all(np.isfinite(value) for value in report.metrics.values())
    assert [path.name for path in checkpoint.list_checkpoints(tmp_path)] == ["epoch-0001"]


@pytest.mark.parametrize("name", NAMES)
def test_a_baseline_learns(name, tmp_path):
    """Stripes that lie and stripes that stand."""
    generator = np.random.default_rng(0)
    labels = np.arange(150) % 2
    stripes = np.where((np.arange(12) // 2 % 2)[:, None] > 0, 200, 20) + np.zeros((12, 12), int)
    images = np.stack(
        [
            (stripes if label else stripes.T) + generator.integers(0, 40, (12, 12))
            for label in labels
        ]
    )[..., None].astype(np.uint8)
    part, other = Part(images[:100], labels[:100]), Part(images[100:], labels[100:])
    dataset = Dataset("stripes", ("lie", "stand"), part, other, other, "f00d")
    for kind in FEATURE_NAMES:
        (report,) = run_trial(config_of(name, model__features=kind), dataset, tmp_path / kind)
        assert report.metrics["val/accuracy"] >= 0.9


@pytest.mark.parametrize("name", NAMES)
def test_a_baseline_repeats_from_its_seed(name, make_dataset):
    dataset = make_dataset(train=90, val=60)
    ends = []
    for _ in range(2):
        (epoch,) = Fitting(config_of(name, seed=3), dataset).epochs()
        ends.append({key: value for key, value in epoch.values.items() if key != "time/epoch_s"})
    assert ends[0] == ends[1]


@pytest.mark.parametrize("name", NAMES)
def test_classes_of_one_or_two_images_are_no_reason_to_fail(name, tmp_path):
    """Three classes of 40, 2 and 1 training images, of which the last is in no other part."""
    labels = np.array([0] * 40 + [1] * 2 + [2])
    images = (noise(43, 8, 8, 1) // 4 + (labels * 60).astype(np.uint8).reshape(-1, 1, 1, 1)).astype(
        np.uint8
    )
    val = Part(images[:41], labels[:41])
    dataset = Dataset("few", ("many", "two", "one"), Part(images, labels), val, val, "f00d")
    config = config_of(name, model__features="edges")
    (report,) = run_trial(config, dataset, tmp_path)
    chances = predictions(config, dataset, val, tmp_path / "epoch-0001")
    assert chances.shape == (41, 3)
    np.testing.assert_allclose(chances.sum(axis=1), 1)
    assert report.metrics["val/accuracy"] > 0.9


@pytest.mark.parametrize("name", NAMES)
def test_each_class_with_one_image_is_enough(name, tmp_path):
    images, labels = noise(3, 8, 8, 3), np.arange(3)
    part = Part(images, labels)
    dataset = Dataset("one each", ("a", "b", "c"), part, part, part, "f00d")
    options = {"model__neighbours": 1} if name == "knn" else {}
    (report,) = run_trial(config_of(name, **options), dataset, tmp_path)
    assert report.metrics["val/accuracy"] == 1


@pytest.mark.parametrize("name", NAMES)
def test_a_class_without_training_images_has_no_chance(name, make_dataset):
    dataset = make_dataset(classes=4, train=80, val=40)
    kept = np.flatnonzero(dataset.train.targets != 1)
    fitting = Fitting(
        config_of(name),
        Dataset("made", dataset.classes, dataset.train.take(kept), dataset.val, None, "f00d"),
    )
    (epoch,) = fitting.epochs()
    found = fitting.baseline.predict_part(fitting.fitted, dataset.val, dataset)
    assert found[:, 1].tolist() == [0] * 40
    assert np.isfinite(epoch.values["val/loss"])


@pytest.mark.parametrize("classes", [2, 3])
def test_an_svms_temperature_is_fitted_and_leaves_its_decisions(classes, make_dataset):
    dataset = make_dataset(classes=classes, train=200, val=200)
    part, val = dataset.train, dataset.val
    inputs, others = compute_features(part.images, "edges"), compute_features(val.images, "edges")
    ours = svm(0, c=10.0, gamma=1.0).fit(inputs, part.targets)
    theirs = SVC(C=10.0, gamma="scale").fit(inputs, part.targets)
    scores = theirs.decision_function(others)
    expected = (scores > 0).astype(int) if classes == 2 else scores.argmax(axis=1)
    assert np.array_equal(ours.predict(others), expected)
    assert ours.temperature_ != 1


def test_an_svm_that_tells_all_of_few_images_right_is_not_certain():
    """Of ten held out, each far from the others' side."""
    generator = np.random.default_rng(0)
    labels = np.arange(50) % 2
    features = generator.normal(size=(50, 4)) + 20 * labels[:, None]
    fitted = svm(0, c=10.0, gamma=1.0).fit(features, labels)
    chances = fitted.predict_proba(features)
    assert np.array_equal(chances.argmax(axis=1), labels)
    assert 0.85 < np.median(chances.max(axis=1)) < 0.97, "one of twelve is thought to be wrong"


@pytest.mark.parametrize(
    ("name", "option", "values"),
    [
        ("svm", "c", (0.001, 10)),
        ("svm", "gamma", (0.001, 10)),
        ("knn", "neighbours", (1, 20)),
        ("tree", "tree_depth", (1, 8)),
    ],
)
def test_each_option_changes_what_is_fitted(name, option, values, make_dataset):
    dataset = make_dataset(train=90, val=90)
    losses = []
    for value in values:
        (epoch,) = Fitting(config_of(name, **{f"model__{option}": value}), dataset).epochs()
        losses.append(epoch.values["val/loss"])
    assert losses[0] != losses[1]


def test_options_belong_to_those_that_list_them():
    with pytest.raises(
        ConfigError,
        match=r"model 'svm' has no option 'neighbours'. It accepts: features, c, gamma.",
    ):
        config_of("svm", model__neighbours=3)
    with pytest.raises(ConfigError, match=r"model 'deep_cnn' has no option 'features'"):
        config_of("deep_cnn", model__features="hog")
    with pytest.raises(
        ConfigError,
        match=r"unknown kind of features 'hogs'. Known: all, edges, hog, lbp. Did you mean 'hog'\?",
    ):
        config_of("svm", model__features="hogs")


# A trial like others


@pytest.mark.parametrize("name", NAMES)
def test_what_was_saved_is_what_was_fitted(name, make_dataset, tmp_path):
    dataset, config = make_dataset(train=60, val=60), config_of(name, model__features="all")
    fitted = Fitting(config, dataset)
    (epoch,) = fitted.epochs()
    path = checkpoint.save(tmp_path, fitted.state(), {"config": config.to_dict()})
    found = predictions(config, dataset, dataset.val, path)
    assert np.array_equal(found, fitted.baseline.predict_part(fitted.fitted, dataset.val, dataset))
    assert np.array_equal(
        found,
        load_baseline(config).predict(
            [checkpoint.load(path)["classifier"]], dataset.val.images, dataset
        ),
    )
    assert evaluate(config, dataset, dataset.val, path)["accuracy"] == epoch.values["val/accuracy"]


def test_a_baseline_that_is_done_says_so_again_and_fits_nothing(
    make_dataset, tmp_path, monkeypatch
):
    dataset, config = make_dataset(), config_of("tree")
    (first,) = run_trial(config, dataset, tmp_path)
    monkeypatch.setattr(Fitting, "next_epoch", lambda self: pytest.fail("fitted again"))
    restored, again = run_trial(config, dataset, tmp_path, TrialRequest(attempt=2, known=1))
    assert (restored.epoch, restored.restored) == (1, [])
    assert again == first


@pytest.mark.parametrize("file", [checkpoint.CLASSIFIER, "state.json", "manifest.json"])
def test_a_damaged_checkpoint_is_passed_over_and_fitted_anew(file, make_dataset, tmp_path):
    dataset, config = make_dataset(), config_of("tree")
    (first,) = run_trial(config, dataset, tmp_path)
    (tmp_path / "epoch-0001" / file).write_bytes(b"PK damaged")
    restored, again = run_trial(config, dataset, tmp_path, TrialRequest(attempt=2))
    assert len(restored.restored) == 1
    assert "epoch-0001" in restored.restored[0]
    assert again.metrics["val/loss"] == first.metrics["val/loss"]
    checkpoint.verify(tmp_path / "epoch-0001")


def test_a_fit_holds_nobody_up_who_trains_in_rounds(make_dataset, tmp_path):
    together = FusionRounds()
    together.join("t1")
    (report,) = run_trial(config_of("tree"), make_dataset(), tmp_path / "t1", together=together)
    assert report.outcome == "completed"
    assert not together._present


@pytest.mark.parametrize("name", NAMES)
def test_a_baseline_has_no_shape_and_its_cost_is_estimated(name, make_dataset):
    dataset, config = make_dataset(train=60, val=30), config_of(name)
    assert shape_of(config) is None
    assert 0 < estimate.epochs_seconds([config], dataset)[0] < math.inf


def test_the_cost_is_estimated_of_more_neighbours_than_images_in_the_sample(
    make_dataset, monkeypatch
):
    monkeypatch.setattr(classification, "SAMPLE", 30)
    assert (
        0
        < estimate.epochs_seconds(
            [config_of("knn", model__neighbours=40)], make_dataset(train=60, val=30)
        )[0]
        < math.inf
    )


@pytest.mark.parametrize("kind", ["edges", "all"])
@pytest.mark.parametrize("name", NAMES)
def test_a_classifier_takes_no_more_room_than_said(name, kind, make_dataset, tmp_path):
    dataset, config = make_dataset(train=600, val=30), config_of(name, model__features=kind)
    list(run_trial(config, dataset, tmp_path))
    written = (tmp_path / "epoch-0001" / checkpoint.CLASSIFIER).stat().st_size
    assert written < estimate.checkpoint_bytes(config.model, dataset.image, 3, images=600) + 20_000


def test_a_long_step_is_kept_alive_only_while_it_computes():
    beats = []
    with keep_alive(lambda: beats.append(1), every_s=0.05):
        end = time.process_time() + 0.5
        while time.process_time() < end:
            pass
    assert len(beats) >= 3
    computing = len(beats)
    with keep_alive(lambda: beats.append(1), every_s=0.05):
        threading.Event().wait(0.5)
    assert len(beats) <= computing + 2


# Files that are not ours


def replaced(path, write):
    """Put another file in the place of a checkpoint's classifier, with a manifest that vouches for
    it.
    """
    write(path / checkpoint.CLASSIFIER)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest[checkpoint.CLASSIFIER]["sha256"] = checkpoint._sha256(path / checkpoint.CLASSIFIER)
    (path / "manifest.json").write_text(json.dumps(manifest))
    return path


@pytest.fixture
def saved(make_dataset, tmp_path):
    list(run_trial(config_of("tree"), make_dataset(train=60), tmp_path))
    return tmp_path / "epoch-0001"


class Foreign:
    """A class that skops would make an object of, if it were trusted."""


FOREIGN = {
    "another estimator": (
        lambda: LogisticRegression(),
        "contains a LogisticRegression, which is not one of the supported classifiers",
    ),
    "a pipeline of ours": (
        lambda: make_pipeline(StandardScaler(), KNeighborsClassifier()),
        "contains a Pipeline",
    ),
    "plain values": (lambda: {"a": 1}, "contains a dict"),
    "an object": (
        lambda: make_pipeline(Foreign()),
        "does not contain a fitted classifier .*Foreign",
    ),
    "a function": (lambda: {"a": time.sleep}, "does not contain a fitted classifier"),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_a_file_of_something_else_is_refused(what, saved):
    make, words = FOREIGN[what]
    with pytest.raises(CheckpointError, match=words):
        checkpoint.load(replaced(saved, lambda path: skops.io.dump(make(), path)))


@pytest.mark.parametrize("content", [b"", b"PK\x05\x06" + 18 * b"\0", b"\x80\x04N."])
def test_a_file_of_no_kind_is_refused(content, saved):
    with pytest.raises(CheckpointError, match="does not contain a fitted classifier"):
        checkpoint.load(replaced(saved, lambda path: path.write_bytes(content)))


def edited(path, edit):
    """Write the classifier's file anew, with its arrays as `edit` returns them and the rest as it
    leaves it.
    """
    with zipfile.ZipFile(path) as before:
        files = {name: before.read(name) for name in before.namelist()}
    with zipfile.ZipFile(path, "w") as after:
        for name, content in files.items():
            if name.endswith(".npy"):
                array = io.BytesIO()
                np.save(array, edit(np.load(io.BytesIO(content))))
                content = array.getvalue()
            after.writestr(name, content)


ASTRAY = [
    *[("root", "left_child", value) for value in (10**6, -2, 0)],
    *[("root", "right_child", value) for value in (10**6, -2, -1, 0)],
    *[("root", "feature", value) for value in (10**6, -2)],
    *[("leaf", "left_child", value) for value in (10**6, -2)],
    *[("leaf", "right_child", value) for value in (10**6, -2)],
]


@pytest.mark.parametrize(("node", "member", "value"), ASTRAY)
def test_a_tree_that_leads_nowhere_is_refused(node, member, value, saved):
    """scikit-learn follows a tree without a look, out of its memory if need be."""

    def crooked(array):
        if array.dtype.names:
            array[member][0 if node == "root" else np.flatnonzero(array["left_child"] == -1)[0]] = (
                value
            )
        return array

    with pytest.raises(
        CheckpointError, match="a DecisionTreeClassifier that is damaged or was changed"
    ):
        checkpoint.load(replaced(saved, lambda path: edited(path, crooked)))


def test_a_tree_without_a_root_is_refused(saved):
    def felled(array):
        return array[:0] if array.dtype.names or array.ndim == 3 else array

    with pytest.raises(
        CheckpointError, match="a DecisionTreeClassifier that is damaged or was changed"
    ):
        checkpoint.load(replaced(saved, lambda path: edited(path, felled)))


def with_another_part(found):
    found.svc_ = DecisionTreeClassifier()


def with_other_counts(found):
    found.svc_._n_support = found.svc_._n_support + 9


def with_images_looked_up(found):
    """libsvm then takes an image's kernel with a support vector from memory, by the vector's
    number.
    """
    svc = found.svc_
    svc.kernel, svc.shape_fit_, svc.support_ = (
        "precomputed",
        (svc.n_features_in_, svc.n_features_in_),
        np.full_like(svc.support_, 10**8),
    )


def with_numbers_of_no_image(found):
    found.svc_.support_ = np.full_like(found.svc_.support_, 10**8)


def with_fewer_numbers(found):
    found.svc_.support_ = found.svc_.support_[:1]


def with_short_probabilities(found):
    found.svc_._probA = found.svc_._probB = np.zeros(1)


def with_sparse_vectors(found):
    found.svc_._sparse = True


def with_a_method_hidden(found):
    found.svc_.decision_function = "another"


def with_one_class(found):
    svc = found.svc_
    found.classes_ = svc.classes_ = svc.classes_[:1]
    svc._n_support, svc._dual_coef_, svc._intercept_ = (
        np.array([len(svc.support_)], np.int32),
        svc._dual_coef_[:0],
        svc._intercept_[:0],
    )


def with_no_vectors(found):
    svc = found.svc_
    svc._n_support, svc.support_, svc.support_vectors_ = (
        svc._n_support * 0,
        svc.support_[:0],
        svc.support_vectors_[:0],
    )
    svc._dual_coef_ = svc._dual_coef_[:, :0]


def with_whole_numbers(found):
    found.svc_._dual_coef_ = found.svc_._dual_coef_.astype(np.int64)


CHANGES = [
    with_another_part,
    with_other_counts,
    with_images_looked_up,
    with_numbers_of_no_image,
    with_fewer_numbers,
    with_short_probabilities,
    with_sparse_vectors,
    with_a_method_hidden,
    with_one_class,
    with_no_vectors,
    with_whole_numbers,
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_machine_of_other_parts_is_refused(change, make_dataset, saved):
    dataset = make_dataset(train=60)
    found = svm(0, c=1.0, gamma=1.0).fit(
        compute_features(dataset.train.images, "edges"), dataset.train.targets
    )
    change(found)
    with pytest.raises(CheckpointError, match="a CalibratedSVC that is damaged or was changed"):
        checkpoint.load(replaced(saved, lambda path: skops.io.dump(found, path)))


@pytest.mark.parametrize(
    "values",
    [
        {"predict_proba": "another"},
        {"weights": "uniform"},
        {"metric": "precomputed"},
        {"effective_metric_params_": {"Y_norm_squared": np.zeros(1)}},
        {"n_samples_fit_": 10**6},
        {"n_neighbors": 61},
        {"n_features_in_": 7},
        {"_y": np.full(60, -1)},
        {"_y": np.zeros(59, np.int64)},
    ],
    ids=str,
)
def test_neighbours_of_other_parts_are_refused(values, make_dataset, saved):
    dataset = make_dataset(train=60)
    found = knn(0, neighbours=5).fit(
        compute_features(dataset.train.images, "edges"), dataset.train.targets
    )
    vars(found).update(values)
    with pytest.raises(
        CheckpointError, match="a KNeighborsClassifier that is damaged or was changed"
    ):
        checkpoint.load(replaced(saved, lambda path: skops.io.dump(found, path)))


def test_neighbours_that_are_looked_up_by_numbers_are_refused(make_dataset, saved):
    dataset = make_dataset(train=60)
    found = KNeighborsClassifier(algorithm="kd_tree").fit(
        compute_features(dataset.train.images, "edges"), dataset.train.targets
    )
    with pytest.raises(
        CheckpointError,
        match=r"(does not contain a fitted|contains a KNeighborsClassifier whose parts)",
    ):
        checkpoint.load(replaced(saved, lambda path: skops.io.dump(found, path)))
