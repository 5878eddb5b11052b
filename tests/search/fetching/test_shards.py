"""Tar files of images, as WebDataset and people write them."""

import io
import re
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from search.fetching.shards import file_name, unpack
from trainables.errors import DataError


def shard(path: Path, files: Mapping[str, bytes]) -> Path:
    """Write a tar file with these files."""
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
    return path


def test_samples_with_the_file_of_their_class(tmp_path: Path) -> None:
    files = {
        "000.jpg": b"zero",
        "000.cls": b"7\n",
        "000.json": b"{}",
        "deep/er/001.PNG": b"one",
        "deep/er/001.cls": b"dog house",
        "002.cls": b"7",
    }
    written = unpack(shard(tmp_path / "a-0.tar", files), tmp_path / "out")
    assert written == ["7/a-0@000.jpg", "dog house/a-0@deep%2Fer%2F001.png"]
    assert [(tmp_path / "out" / name).read_bytes() for name in written] == [b"zero", b"one"]
    assert len([path for path in (tmp_path / "out").rglob("*") if path.is_file()]) == 2


def test_samples_in_the_folder_of_their_class(tmp_path: Path) -> None:
    files = {"./train/cat/1.jpg": b"1", "./train/dog/1.jpg": b"2", "./val/cat/1.jpg": b"3"}
    written = unpack(shard(tmp_path / "x.tar", files), tmp_path)
    assert written == ["train/cat/x@1.jpg", "train/dog/x@1.jpg", "val/cat/x@1.jpg"]
    assert (tmp_path / "val/cat/x@1.jpg").read_bytes() == b"3"


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"000.jpg": b""}, "the image '000' has no class: neither a file '000.cls' nor a folder"),
        ({"readme.txt": b""}, "it has no images"),
        ({"0.jpg": b"", "0.cls": b""}, "'0.cls' must have the number or the name of a class"),
        ({"0.jpg": b"", "0.cls": b"../up"}, "(got '../up')"),
        ({"0.jpg": b"", "0.cls": b"x" * 201}, "'0.cls' must have"),
        ({"../../cat/0.jpg": b""}, "the name '../../cat/0.jpg' leads out of the folder"),
        ({"/cat/0.jpg": b""}, "the name '/cat/0.jpg' leads out of the folder"),
        (
            {"0.jpg": b"", "0.mask.png": b"", "0.cls": b"3"},
            "the sample '0' has 2 images (.jpg, .mask.png), but one class",
        ),
        ({"cat/1.jpg": b"", "cat/1.JPG": b""}, "two images have the name 'cat/1.JPG'"),
    ],
)
def test_what_cannot_be_used_is_named(
    tmp_path: Path, files: Mapping[str, bytes], reason: str
) -> None:
    path = shard(tmp_path / "x.tar", files)
    with pytest.raises(DataError, match=re.escape(reason)):
        unpack(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


WHOLE = 3072
"""The size of a tar file with two images of 600 bytes, without the zeros at its end."""


@pytest.mark.parametrize("size", [0, 100, 512, 700, 1400, 1536, 1600, 2048, 2100, WHOLE, WHOLE + 9])
def test_a_cut_off_tar_file_is_no_shard(tmp_path: Path, size: int) -> None:
    path = shard(tmp_path / "x.tar", {"cat/0.jpg": b"x" * 600, "cat/1.jpg": b"y" * 600})
    assert not any(path.read_bytes()[WHOLE:])
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(DataError, match=r"it is not a whole tar file|damaged"):
        unpack(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("place", [10, 1536 + 10, 1536 + 130])
def test_a_tar_file_with_a_damaged_header_is_no_shard(tmp_path: Path, place: int) -> None:
    path = shard(tmp_path / "x.tar", {"cat/0.jpg": b"x" * 600, "cat/1.jpg": b"y" * 600})
    content = bytearray(path.read_bytes())
    content[place] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"it is not a whole tar file|it is damaged or cut off"):
        unpack(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "headers",
    [
        {"GNU.sparse.map": "a,b"},
        {"GNU.sparse.size": "100000000", "GNU.sparse.map": "0,1"},
        {"size": "100000000"},
        {"size": "-5"},
    ],
)
def test_a_member_that_is_larger_than_its_tar_file_is_refused(
    tmp_path: Path, headers: Mapping[str, str]
) -> None:
    path, header = tmp_path / "x.tar", tarfile.TarInfo("cat/0.jpg")
    header.size, header.pax_headers = 3, dict(headers)
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(header, io.BytesIO(b"xyz"))
    with pytest.raises(DataError):
        unpack(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_names_are_different_and_not_too_long() -> None:
    pairs = [("s", "a-b"), ("s-a", "b"), ("s@a", "b"), ("s", "a@b"), ("s", "a/b"), ("s", "a%2Fb")]
    assert len({file_name(*pair) for pair in pairs}) == len(pairs)
    assert file_name("花/玫瑰") == "花%2F玫瑰"
    long = [file_name("花" * 100 + end) for end in "ab"]
    assert len(set(long)) == 2
    assert max(len(name.encode()) for name in long) <= 200
