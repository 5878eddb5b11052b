"""Shards: tar files with many images, as WebDataset writes them.

The files of one sample have the same name up to the first dot after the last `/`: `000017.jpg` is
an image, and `000017.cls` has its class, a number or a name. Without a file of its class, an image
belongs to the folder in which it is: `dog/000017.jpg`. Files of other kinds are ignored.
"""

import shutil
import tarfile
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from trainables.datasets.images import SUFFIXES
from trainables.errors import DataError, printable

SUFFIX, CLASS = ".tar", ".cls"
MAX_CLASS_BYTES = 200
"""The maximum size of a file with a class."""


@dataclass
class Sample:
    """The files of a shard that have one name."""

    images: list[tuple[str, tarfile.TarInfo]] = field(default_factory=list)
    """The suffix and the header of each image."""
    class_name: str = ""
    """The content of the file with the class; empty if there is none."""


def unpack(shard: Path, folder: Path) -> list[str]:
    """Write the images of a shard to a folder with a sub-folder for each class.

    Args:
        shard: the tar file, whose name becomes part of those of the images.
        folder: the folder that gets the classes.

    Returns:
        The paths of the written files, relative to `folder`.

    Raises:
        DataError: the shard is damaged, or an image has no class; nothing has been written.
    """
    try:
        with tarfile.open(shard, "r:") as members:
            images = {
                path: header
                for name, sample in _samples(members).items()
                for path, header in _places(shard.stem, name, sample)
            }
            if not images:
                raise DataError("it has no images")
            for path, header in images.items():
                place = folder / path
                place.parent.mkdir(parents=True, exist_ok=True)
                content = members.extractfile(header)
                if content is not None:
                    with content, place.open("wb") as file:
                        shutil.copyfileobj(content, file)
    except (tarfile.TarError, EOFError, UnicodeError) as error:
        raise DataError(f"it is not a whole tar file: {error}") from error
    return list(images)


def _samples(members: tarfile.TarFile) -> dict[str, Sample]:
    """Return the samples of a shard, by their names."""
    samples: dict[str, Sample] = {}
    for member in members:
        path = PurePosixPath(member.name)
        stem, _, end = path.name.partition(".")
        suffix = f".{end.rpartition('.')[2].lower()}"
        if not member.isfile() or not stem or (suffix not in SUFFIXES and suffix != CLASS):
            continue
        if path.is_absolute() or ".." in path.parts:
            raise DataError(f"the name '{printable(member.name)}' leads out of the folder")
        sample = samples.setdefault(str(path.with_name(stem)), Sample())
        if suffix == CLASS:
            content = members.extractfile(member)
            assert content is not None  # the member is a file
            sample.class_name = _class_of(member.name, content.read(MAX_CLASS_BYTES + 1))
        else:
            sample.images.append((f".{end.lower()}", member))
    return samples


def _class_of(name: str, content: bytes) -> str:
    """Return the class that a file of a shard has.

    Raises:
        DataError: the content cannot be the name of a class.
    """
    text = content.decode().strip()
    is_name = text.isprintable() and "/" not in text and not text.startswith(".")
    if not text or len(content) > MAX_CLASS_BYTES or not is_name:
        raise DataError(
            f"'{printable(name)}' must have the number or the name of a class "
            f"(got '{printable(text[:40])}')"
        )
    return text


def _places(shard: str, name: str, sample: Sample) -> list[tuple[str, tarfile.TarInfo]]:
    """Return the path and the header of each image of a sample.

    Args:
        shard: the name of the shard, without its suffix.
        name: the name of the sample in the shard.
        sample: the sample.

    Raises:
        DataError: the images have no class.
    """
    path = PurePosixPath(name)
    class_name = sample.class_name or path.parent.name
    if sample.images and not class_name:
        raise DataError(
            f"the image '{printable(name)}' has no class: neither a file "
            f"'{printable(name)}{CLASS}' nor a folder"
        )
    above = () if sample.class_name else path.parts[:-2]
    rest = quote(name, safe=" ") if sample.class_name else path.name
    return [
        ("/".join([*above, class_name, f"{shard}-{rest}{suffix}"]), header)
        for suffix, header in sample.images
    ]
