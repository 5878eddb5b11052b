"""Tar files of images, as WebDataset and people write them."""

import io
import re
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from search.fetching.shards import unpack
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
    assert written == ["7/a-0-000.jpg", "dog house/a-0-deep%2Fer%2F001.png"]
    assert [(tmp_path / "out" / name).read_bytes() for name in written] == [b"zero", b"one"]
    assert len([path for path in (tmp_path / "out").rglob("*") if path.is_file()]) == 2


def test_samples_in_the_folder_of_their_class(tmp_path: Path) -> None:
    files = {"./train/cat/1.jpg": b"1", "./train/dog/1.jpg": b"2", "./val/cat/1.jpg": b"3"}
    written = unpack(shard(tmp_path / "x.tar", files), tmp_path)
    assert written == ["train/cat/x-1.jpg", "train/dog/x-1.jpg", "val/cat/x-1.jpg"]
    assert (tmp_path / "val/cat/x-1.jpg").read_bytes() == b"3"


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
    ],
)
def test_what_cannot_be_used_is_named(
    tmp_path: Path, files: Mapping[str, bytes], reason: str
) -> None:
    path = shard(tmp_path / "x.tar", files)
    with pytest.raises(DataError, match=re.escape(reason)):
        unpack(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("size", [0, 100, 700, 1400])
def test_a_cut_off_tar_file_is_no_shard(tmp_path: Path, size: int) -> None:
    path = shard(tmp_path / "x.tar", {"cat/0.jpg": b"x" * 600, "cat/1.jpg": b"y" * 600})
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(DataError, match=r"it is not a whole tar file|it has no images"):
        unpack(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
