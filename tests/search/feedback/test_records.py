"""Records of what a model has met, in a folder and in a bucket."""

import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.storage.bucket import Bucket
from search.feedback.records import About, Records, Seen, image_name
from trainables.errors import ConfigError

PETS = About("models:/pets", ("cat", "dog"))
Reader = Callable[[], Records]


@pytest.fixture(params=["folder", "bucket"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Reader:
    """Return a function that opens the same place anew, as another process would."""
    place: Path | Bucket = tmp_path / "met"
    if request.param == "bucket":
        place = request.getfixturevalue("bucket")
    return lambda: Records.at(place)


def seen(number: int, **options: str) -> Seen:
    return Seen(f"a{number}", 1000 + number, "0" * 64, "3", (0.25, 0.75), **options)


def test_what_was_written_is_read_in_its_order(opened: Reader) -> None:
    records = opened()
    records.begin(PETS)
    records.write_seen([seen(1), seen(2, kept="usual")])
    records.write_seen([seen(3)])
    again = opened()
    assert again.about == PETS
    assert list(again.seen()) == [seen(1), seen(2, kept="usual"), seen(3)]
    assert list(again.seen(since_ms=1002)) == [seen(2, kept="usual"), seen(3)]


def test_a_place_without_records_has_none(opened: Reader) -> None:
    records = opened()
    assert records.about is None
    assert list(records.seen()) == []
    assert records.corrections() == {}
    assert records.image("0" * 64) is None


def test_an_image_is_kept_once_under_its_hash(opened: Reader) -> None:
    name = opened().keep_image(b"pixels")
    assert opened().keep_image(b"pixels") == name == image_name(b"pixels")
    assert opened().images() == {name: 6}
    assert opened().image(name) == b"pixels"
    opened().remove_images([name])
    assert opened().image(name) is None


def test_a_name_that_is_no_hash_leads_nowhere(opened: Reader) -> None:
    opened().begin(PETS)
    assert opened().image("../about.json") is None


def test_the_last_correction_of_an_image_counts(opened: Reader) -> None:
    records = opened()
    records.begin(PETS)
    name = records.keep_image(b"pixels")
    records.correct(name, "cat", "page")
    records.correct(name, "dog", "label")
    assert {image: one.label for image, one in opened().corrections().items()} == {name: "dog"}


def test_a_correction_names_a_class_and_an_image_that_is_kept(opened: Reader) -> None:
    records = opened()
    records.begin(PETS)
    name = records.keep_image(b"pixels")
    with pytest.raises(ConfigError, match=r"unknown class 'horse'. Known: cat, dog"):
        records.correct(name, "horse", "page")
    with pytest.raises(ConfigError, match="is kept"):
        records.correct("1" * 64, "cat", "page")


def test_a_place_has_the_records_of_one_model(opened: Reader) -> None:
    opened().begin(PETS)
    opened().begin(PETS)
    with pytest.raises(ConfigError, match="holds the records of 'models:/pets'"):
        opened().begin(About("models:/cars", ("fast", "slow")))
    with pytest.raises(ConfigError, match="holds the records of other classes"):
        opened().begin(About("models:/pets", ("cat", "cow")))


def test_a_folder_with_records_is_for_its_owner_alone(tmp_path: Path) -> None:
    records = Records.at(tmp_path / "met")
    records.begin(PETS)
    name = records.keep_image(b"pixels")
    modes = [
        stat.S_IMODE((tmp_path / "met" / part).stat().st_mode)
        for part in ("", "images", f"images/{name}", "about.json")
    ]
    assert modes == [0o700, 0o700, 0o600, 0o600]
