import hashlib
import json
import pickle
import shutil

import pytest
import torch
from safetensors import SafetensorError

from trainables import disk
from trainables.checkpoints import checkpoint
from trainables.checkpoints.checkpoint import FILES, CheckpointError
from trainables.training.loop import Training

NAMES = (*FILES, "manifest.json")
TRAININGS = {
    "adam": {"optimizer__name": "adam"},
    "adamw": {"optimizer__name": "adamw", "optimizer__weight_decay": 0.1},
    "sgd": {"optimizer__name": "sgd"},
    "sgd without momentum": {"optimizer__name": "sgd", "optimizer__momentum": 0.0},
    "plateau": {
        "optimizer__schedule": "plateau",
        "optimizer__patience": 0,
        "optimizer__decay": 0.5,
        "optimizer__name": "sgd",
        "optimizer__lr": 1e-6,
    },
    "step": {"optimizer__schedule": "step", "optimizer__step_epochs": 2},
    "cosine": {"optimizer__schedule": "cosine"},
    "dropout, normalisation, augmentation": {
        "model__dropout": 0.3,
        "model__layers": 6,
        "augment__rotation": 10,
        "augment__jitter": 0.1,
    },
}


@pytest.fixture
def path(make_config, make_dataset, tmp_path):
    """A checkpoint after one epoch."""
    training = Training(make_config(), make_dataset())
    next(training.epochs())
    return checkpoint.save(tmp_path, training.state(), {"note": "kept"})


def untimed(epoch):
    return epoch.epoch, {
        name: value for name, value in epoch.values.items() if name != "time/epoch_s"
    }


def same(left, right):
    """Equal nested values; tensors bit for bit."""
    if isinstance(left, torch.Tensor):
        return (
            isinstance(right, torch.Tensor)
            and left.dtype == right.dtype
            and torch.equal(left, right)
        )
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    return left == right


@pytest.mark.parametrize("options", TRAININGS.values(), ids=TRAININGS)
def test_a_training_goes_on_from_its_checkpoint_as_if_undisturbed(
    options, make_config, make_dataset, tmp_path
):
    config, dataset = make_config(epochs=5, **options), make_dataset()
    undisturbed = Training(config, dataset)
    whole = [untimed(epoch) for epoch in undisturbed.epochs()]

    first = Training(config, dataset)
    epochs = first.epochs()
    part = [untimed(next(epochs)) for _ in range(2)]
    path = checkpoint.save(tmp_path, first.state(), {})

    torch.manual_seed(4321)
    second = Training(config, dataset)
    second.load_state(checkpoint.load(path))
    assert part + [untimed(epoch) for epoch in second.epochs()] == whole
    assert same(second.state(), undisturbed.state())
    if config.optimizer.schedule == "plateau":
        assert len({values["lr"] for _, values in whole[2:]}) == 3


@pytest.mark.parametrize("options", TRAININGS.values(), ids=TRAININGS)
def test_what_is_loaded_is_what_was_saved(options, make_config, make_dataset, tmp_path):
    training = Training(make_config(**options), make_dataset())
    next(training.epochs())
    extra = {"metrics": {"val/loss": 0.1}, "best_epoch": 1}
    loaded = checkpoint.load(checkpoint.save(tmp_path, training.state(), extra))
    assert loaded.pop("extra") == extra
    assert same(loaded["model"], dict(training.state()["model"]))
    assert same(loaded["optimizer"], training.state()["optimizer"])
    assert loaded["epoch"] == 1


def test_a_checkpoint_before_the_first_step_can_be_saved(make_config, make_dataset, tmp_path):
    training = Training(make_config(), make_dataset())
    path = checkpoint.save(tmp_path, training.state(), {})
    assert path.name == "epoch-0000"
    Training(make_config(), make_dataset()).load_state(checkpoint.load(path))


def test_a_checkpoint_holds_its_files_and_nothing_pickled(path):
    assert sorted(file.name for file in path.iterdir()) == sorted(NAMES)
    assert {file.suffix for file in path.iterdir()} == {".safetensors", ".json"}
    for file in path.glob("*.json"):
        json.loads(file.read_text())
    for file in path.glob("*.safetensors"):
        header = int.from_bytes(file.read_bytes()[:8], "little")
        json.loads(file.read_bytes()[8 : 8 + header])


@pytest.mark.parametrize("value", [object(), torch.rand(2), {1}, len])
def test_what_is_neither_tensor_nor_plain_is_refused_not_pickled(
    value, make_config, make_dataset, tmp_path
):
    with pytest.raises(TypeError):
        checkpoint.save(tmp_path, Training(make_config(), make_dataset()).state(), {"value": value})
    assert checkpoint.list_checkpoints(tmp_path) == []


def test_the_manifest_has_size_and_sum_of_every_other_file(path):
    manifest = json.loads((path / "manifest.json").read_text())
    assert sorted(manifest) == sorted(FILES)
    assert all(manifest[name]["bytes"] == (path / name).stat().st_size for name in FILES)
    checkpoint.verify(path)


def flip_byte(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def truncate(file):
    file.write_bytes(file.read_bytes()[:-1])


def empty(file):
    file.write_bytes(b"")


def remove(file):
    file.unlink()


@pytest.mark.parametrize("damage", [flip_byte, truncate, empty, remove])
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_found_and_named(name, damage, path):
    damage(path / name)
    for read in (checkpoint.verify, checkpoint.load):
        with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
            read(path)


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b"1",
        b"\xff\xfe",
        json.dumps(dict.fromkeys(FILES)).encode(),
    ],
)
def test_a_damaged_manifest_is_found(content, path):
    (path / "manifest.json").unlink() if content is None else (path / "manifest.json").write_bytes(
        content
    )
    for read in (checkpoint.verify, checkpoint.load):
        with pytest.raises(CheckpointError, match=r"manifest\.json (is damaged|cannot be read)"):
            read(path)


def test_a_checkpoint_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(CheckpointError):
        checkpoint.load(tmp_path / "epoch-0001")


@pytest.fixture
def three(make_config, make_dataset, tmp_path):
    """A folder with the checkpoints of three epochs."""
    training = Training(make_config(epochs=3), make_dataset())
    for _ in training.epochs():
        checkpoint.save(tmp_path / "three", training.state(), {})
    return tmp_path / "three"


def test_saved_lists_the_oldest_first(three):
    assert [path.name for path in checkpoint.list_checkpoints(three)] == [
        "epoch-0001",
        "epoch-0002",
        "epoch-0003",
    ]


def test_the_oldest_first_also_beyond_four_digits(make_config, make_dataset, tmp_path):
    training = Training(make_config(), make_dataset())
    for epoch in (10_000, 9_999):
        checkpoint.save(tmp_path, training.state() | {"epoch": epoch}, {})
    (tmp_path / "epoch-last").mkdir()
    assert [path.name for path in checkpoint.list_checkpoints(tmp_path)] == [
        "epoch-9999",
        "epoch-10000",
    ]
    assert checkpoint.list_checkpoints(tmp_path / "missing") == []


def test_what_is_removed_is_what_was_named_and_each_time_it_is_asked_before(three):
    asked = []

    def still_ours():
        asked.append([path.name for path in checkpoint.list_checkpoints(three)])

    checkpoint.remove(three, {2, 7}, still_ours=still_ours)
    assert [path.name for path in checkpoint.list_checkpoints(three)] == [
        "epoch-0001",
        "epoch-0003",
    ]
    checkpoint.remove(three, {1, 3}, still_ours=still_ours)
    assert checkpoint.list_checkpoints(three) == []
    assert [len(names) for names in asked] == [3, 2, 1]


def test_a_half_written_checkpoint_is_not_one_and_is_replaced(path, make_config, make_dataset):
    partial = path.parent / ".epoch-0002.1.partial"
    partial.mkdir()
    (partial / "left-over").write_text("x")
    assert checkpoint.list_checkpoints(path.parent) == [path]
    training = Training(make_config(), make_dataset())
    list(training.epochs())
    second = checkpoint.save(path.parent, training.state(), {})
    assert checkpoint.list_checkpoints(path.parent) == [path, second]
    assert sorted(file.name for file in second.iterdir()) == sorted(NAMES)
    assert not partial.exists()


def test_an_interrupted_save_leaves_nothing_under_the_final_name(
    path, make_config, make_dataset, monkeypatch
):
    def full(*arguments, **keywords):
        raise OSError("no space left on device")

    training = Training(make_config(), make_dataset())
    list(training.epochs())
    monkeypatch.setattr(checkpoint, "sync", full)
    with pytest.raises(OSError, match="no space"):
        checkpoint.save(path.parent, training.state(), {})
    assert checkpoint.list_checkpoints(path.parent) == [path]


def test_a_full_disk_is_an_oserror_also_where_safetensors_meets_it(
    path, make_config, make_dataset, monkeypatch
):
    def full(*arguments):
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    training = Training(make_config(), make_dataset())
    list(training.epochs())
    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(OSError, match="No space left on device"):
        checkpoint.save(path.parent, training.state(), {})
    assert checkpoint.list_checkpoints(path.parent) == [path]


def test_the_same_epoch_can_be_saved_again(path, make_config, make_dataset):
    training = Training(make_config(seed=8), make_dataset())
    next(training.epochs())
    assert checkpoint.save(path.parent, training.state(), {}) == path
    assert same(checkpoint.load(path)["model"], dict(training.state()["model"]))


def test_a_checkpoint_can_be_moved(path, tmp_path):
    moved = shutil.copytree(path, tmp_path / "elsewhere" / path.name)
    assert checkpoint.load(moved)["extra"] == {"note": "kept"}


def test_a_small_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    disk.write_whole(tmp_path / "attempt", "1")

    def full(path):
        raise OSError("no space left on device")

    monkeypatch.setattr(disk, "sync", full)
    with pytest.raises(OSError, match="no space"):
        disk.write_whole(tmp_path / "attempt", "2")
    assert (tmp_path / "attempt").read_text() == "1"


def test_a_pickle_under_a_checkpoints_name_is_refused_and_not_run(path, tmp_path):
    class Payload:
        def __reduce__(self):
            return (tmp_path / "ran").touch, ()

    planted = pickle.dumps(Payload())
    for name in FILES:
        (path / name).write_bytes(planted)
    manifest = {
        name: {"bytes": len(planted), "sha256": hashlib.sha256(planted).hexdigest()}
        for name in FILES
    }
    (path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError):
        checkpoint.load(path)
    assert not (tmp_path / "ran").exists()
