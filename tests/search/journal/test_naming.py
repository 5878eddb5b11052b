"""A mistyped name of a search: what is meant, and what there is."""

from pathlib import Path

import pytest

from cluster.storage.bucket import Bucket
from search.journal.naming import NoSuchSearch, closest_name, resolve_name

EXISTING = ["birds", "flowers-1", "flowers-2", "pets-2026"]


@pytest.mark.parametrize(
    ("name", "closest"),
    [
        ("bird", "birds"),
        ("BIRDS", "birds"),
        ("brids", "birds"),
        ("searches/birds/", "birds"),
        ("pets", "pets-2026"),
        ("flowers", ""),
        ("flowers-11", "flowers-1"),
        ("whales", ""),
    ],
)
def test_a_name_is_understood_if_it_can_mean_one_search_alone(name: str, closest: str) -> None:
    assert closest_name(name, EXISTING) == closest
    assert closest_name(name, []) == ""


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    """A place with searches of these names."""
    for name in EXISTING:
        (tmp_path / name).mkdir()
        (tmp_path / name / "journal.jsonl").touch()
    return tmp_path


def test_a_name_that_no_search_has_is_refused_with_what_there_is(storage: Path) -> None:
    assert resolve_name("birds", storage) == "birds"
    with pytest.raises(NoSuchSearch) as caught:
        resolve_name("brids", storage)
    assert caught.value.closest == "birds"
    assert str(caught.value) == (
        f"there is no search 'brids' in '{storage}'. Did you mean 'birds'? Existing "
        f"searches: birds, flowers-1, "
        "flowers-2, pets-2026 (see python -m search.list)."
    )


def test_any_name_passes_where_there_is_no_search_at_all(tmp_path: Path) -> None:
    assert resolve_name("birds", tmp_path / "none") == "birds"


@pytest.mark.parametrize("has_searches", [True, False])
def test_a_model_without_its_address_is_meant(
    has_searches: bool, storage: Path, tmp_path: Path
) -> None:
    place = storage if has_searches else tmp_path / "none"
    with pytest.raises(NoSuchSearch) as caught:
        resolve_name("birds@champion", place)
    assert caught.value.closest == ""
    assert str(caught.value) == (
        "there is no search 'birds@champion'. Did you mean the registered model "
        "'models:/birds@champion'? "
        "To register a model: python -m search.promote NAME"
    )


def test_of_many_searches_the_nearest_are_named(storage: Path) -> None:
    for number in range(20):
        (storage / f"whale-{number}").mkdir()
        (storage / f"whale-{number}" / "journal.jsonl").touch()
    with pytest.raises(
        NoSuchSearch,
        match=(
            r"Existing searches: whale-0, .*, whale-\d+ and 16 more "
            r"\(see "
        ),
    ):
        resolve_name("whale", storage)


def test_the_names_in_a_bucket_are_found_too(bucket: Bucket) -> None:
    bucket.put(b"{}", "birds/journal.jsonl/000001")
    assert resolve_name("birds", bucket) == "birds"
    with pytest.raises(NoSuchSearch, match="Did you mean 'birds'"):
        resolve_name("birdz", bucket)
