"""Shards: tar files with many images, as WebDataset writes them.

The files of one sample have the same name up to the first dot after the last `/`: `000017.jpg` is
an image, and `000017.cls` has its class, a number or a name. Without a file of its class, an image
belongs to the folder in which it is: `dog/000017.jpg`. Files of other kinds are ignored.
"""

import hashlib
import shutil
import tarfile
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from trainables.datasets.images import SUFFIXES
from trainables.errors import DataError, printable

SUFFIX, CLASS = ".tar", ".cls"
MAX_CLASS_BYTES = MAX_NAME_BYTES = 200
"""The maximum size of a class's name, and of a file's name without its suffix."""


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
        DataError: the shard is damaged, or an image has no class. Before its images are written,
            the whole shard has been looked through.
    """
    try:
        with tarfile.open(shard, "r:") as members:
            samples = _samples(members, shard.stat().st_size)
            images: dict[str, tarfile.TarInfo] = {}
            for name, sample in samples.items():
                for path, header in _places(shard.stem, name, sample):
                    if path in images:
                        raise DataError(f"two images have the name '{printable(header.name)}'")
                    images[path] = header
            if not images:
                raise DataError("it has no images")
            for path, header in images.items():
                place = folder / path
                place.parent.mkdir(parents=True, exist_ok=True)
                content = members.extractfile(header)
                if content is not None:
                    with content, place.open("wb") as file:
                        shutil.copyfileobj(content, file)
    except DataError:
        raise
    except (tarfile.TarError, EOFError, ValueError, ArithmeticError, LookupError) as error:
        raise DataError(f"it is not a whole tar file: {error}") from error
    return list(images)


def _samples(members: tarfile.TarFile, size: int) -> dict[str, Sample]:
    """Return the samples of a shard, by their names.

    Args:
        members: the shard.
        size: its size in bytes.

    Raises:
        DataError: it is damaged or cut off, or a name leads out of the folder.
    """
    samples: dict[str, Sample] = {}
    for member in members:
        path = PurePosixPath(member.name)
        stem, _, end = path.name.partition(".")
        suffix = f".{end.rpartition('.')[2].lower()}"
        if not member.isfile() or not stem or (suffix not in SUFFIXES and suffix != CLASS):
            continue
        if path.is_absolute() or ".." in path.parts:
            raise DataError(f"the name '{printable(member.name)}' leads out of the folder")
        if member.issparse() or member.size > size:
            raise DataError(
                f"'{printable(member.name)}' would be larger than the tar file, which is sparse or "
                "damaged"
            )
        sample = samples.setdefault(str(path.with_name(stem)), Sample())
        if suffix == CLASS:
            content = members.extractfile(member)
            assert content is not None  # the member is a file
            sample.class_name = _class_of(member.name, content.read(MAX_CLASS_BYTES + 1))
        else:
            sample.images.append((f".{end.lower()}", member))
    _check_end(members)
    return samples


def _check_end(members: tarfile.TarFile) -> None:
    """Check that a tar file, whose members have been read, ends with a block of zeros.

    `tarfile` takes a damaged or truncated header for the end.

    Raises:
        DataError: it does not.
    """
    assert members.fileobj is not None  # it is open
    members.fileobj.seek(members.offset)
    if members.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise DataError(f"it is damaged or cut off after {members.offset:,} bytes")


def _class_of(name: str, content: bytes) -> str:
    """Return the class that a file of a shard has.

    Raises:
        DataError: the content cannot be the name of a class.
    """
    text = content.decode().strip()
    if not is_class_name(text):
        raise DataError(
            f"'{printable(name)}' must have the number or the name of a class "
            f"(got '{printable(text[:40])}')"
        )
    return text


def is_class_name(text: str) -> bool:
    """True if a class may have this name, which becomes that of a folder."""
    is_short = 0 < len(text.encode()) <= MAX_CLASS_BYTES
    return is_short and text.isprintable() and "/" not in text and not text.startswith(".")


def file_name(*parts: str) -> str:
    """Return a file name that differs for different parts, which may contain `/`.

    A name that would be too long ends in a hash of the whole.
    """
    escaped = "@".join(
        part.replace("%", "%25").replace("/", "%2F").replace("@", "%40") for part in parts
    )
    if len(escaped.encode()) <= MAX_NAME_BYTES:
        return escaped
    digest = hashlib.sha256(escaped.encode()).hexdigest()[:16]
    return f"{escaped.encode()[: MAX_NAME_BYTES - 20].decode(errors='ignore')}-{digest}"


def _places(shard: str, name: str, sample: Sample) -> list[tuple[str, tarfile.TarInfo]]:
    """Return the path and the header of each image of a sample.

    Args:
        shard: the name of the shard, without its suffix.
        name: the name of the sample in the shard.
        sample: the sample.

    Raises:
        DataError: the images have no class, or several images have the same file of a class.
    """
    path = PurePosixPath(name)
    class_name = sample.class_name or path.parent.name
    if sample.images and not class_name:
        raise DataError(
            f"the image '{printable(name)}' has no class: neither a file "
            f"'{printable(name)}{CLASS}' nor a folder"
        )
    if sample.class_name and len(sample.images) > 1:
        raise DataError(
            f"the sample '{printable(name)}' has {len(sample.images)} images "
            f"({', '.join(suffix for suffix, _ in sample.images)}), but one class"
        )
    above = () if sample.class_name else path.parts[:-2]
    base = file_name(shard, name if sample.class_name else path.name)
    return [
        ("/".join([*above, class_name, f"{base}{suffix}"]), header)
        for suffix, header in sample.images
    ]
