"""Folders that a form may name, and what is told of them."""

from pathlib import Path

import pytest

from search.web.forms.folders import allowed, check_links, listing
from trainables.errors import ConfigError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root" / "flowers" / "tulip").mkdir(parents=True)
    (tmp_path / "secret").mkdir()
    return tmp_path / "root"


@pytest.mark.parametrize(
    "path", ["{root}/../secret", "{root}/flowers/../../secret", "/etc", "{root}/link", "{root}x"]
)
def test_folders_outside_the_data_root_are_refused(root: Path, path: str) -> None:
    (root / "link").symlink_to(root.parent / "secret")
    with pytest.raises(ConfigError, match="is not inside"):
        allowed(path.format(root=root), root)


@pytest.mark.parametrize("name", ["link", "tulip/link", "tulip/a.png"])
def test_a_link_in_the_images_that_leads_outside_is_refused(name: str, root: Path) -> None:
    (root.parent / "secret" / "a.png").touch()
    target = root.parent / "secret" / ("a.png" if name.endswith("png") else "")
    (root / "flowers" / name).symlink_to(target)
    with pytest.raises(ConfigError, match="is a link that leads out of") as refused:
        check_links(root / "flowers", root)
    assert "secret" not in str(refused.value)


def test_a_link_leads_outside_over_another(root: Path) -> None:
    (root / "hidden").mkdir()
    (root / "hidden" / "link").symlink_to(root.parent / "secret")
    (root / "flowers" / "rose").symlink_to(root / "hidden")
    with pytest.raises(ConfigError, match="is a link that leads out of"):
        check_links(root / "flowers", root)


def test_links_among_the_images_are_followed(root: Path) -> None:
    (root / "flowers" / "rose").symlink_to(root / "flowers" / "tulip")
    (root / "flowers" / "tulip" / "round").symlink_to(root / "flowers")
    check_links(root / "flowers", root)


def test_what_lies_outside_is_not_told_by_the_refusal(root: Path) -> None:
    """Whether there is such a folder or not, the answer is the same."""
    texts = set()
    for name in ("secret", "nowhere"):
        with pytest.raises(ConfigError) as refused:
            allowed(str(root.parent / name), root)
        texts.add(str(refused.value).replace(name, ""))
    assert len(texts) == 1


@pytest.mark.parametrize("text", ["", "\0", "a\0b", "x" * 5000, "~nobody-here/x", "\udcff"])
def test_what_is_no_folder_is_refused_in_a_line(text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        allowed(text, None)
    assert len(str(refused.value)) < 400


def test_a_listing_has_folders_and_the_number_of_images(root: Path) -> None:
    for name in (".hidden", "<b>bold", "Zinnia"):
        (root / "flowers" / name).mkdir()
    for name in ("a.JPG", "b.png", "notes.txt"):
        (root / "flowers" / name).touch()
    found = listing(allowed(str(root / "flowers"), root), root)
    assert [one.name for one in found.folders] == ["<b>bold", "tulip", "Zinnia"]
    assert found.images == 2
    assert found.above == root


def test_nothing_above_the_data_root_is_offered(root: Path) -> None:
    assert listing(allowed(str(root), root), root).above is None
