"""Read the images in the body of a request."""

import binascii
import io
import json
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray
from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from search.serving.limits import Limits, Refusal
from trainables.errors import printable

TYPES = "image/*, multipart/form-data, application/json or application/x-npy"
TENSORS_FORM = 'the JSON must be {"inputs": [...]} or {"instances": [...]} with pixels of 0 to 255'
JSON_NAMES = {
    str: "strings",
    list: "lists",
    dict: "objects",
    bool: "booleans",
    type(None): "nulls",
}
"""The names of values in JSON that are not numbers, by their type in Python."""
JSON_FORM = 'the JSON must be {"images": ["base64", ...]}'

ENCODED_FILE_NAME = re.compile(rb";\s*filename\*\s*=", re.IGNORECASE)
"""Pattern of a file name encoded by RFC 5987. Some clients encode names like this if they contain
other characters than ASCII.
"""

Contents = list[bytes]
"""The contents of image files."""


def read_images(content_type: str, body: bytes, limits: Limits) -> Contents | NDArray[np.uint8]:
    """Read the images of a request.

    Args:
        content_type: the Content-Type of the request, which determines the format of the body.
        body: the body.
        limits: the limits of the server; only the maximum number of images is used.

    Returns:
        The contents of image files, or an array of the pixels of all images.

    Raises:
        Refusal: the Content-Type is not supported, the body has another format, or the number of
            images is zero or too high.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind.startswith("image/") or kind == "application/octet-stream":
        return [body]
    reader = READERS.get(kind)
    if reader is None:
        sent = content_type.strip()
        content_name = f"'{printable((kind or sent)[:80])}'" if sent else "no Content-Type"
        raise Refusal(415, f"the Content-Type must be {TYPES} (got {content_name})")
    images = reader(content_type, body, limits)
    if len(images) > limits.images:
        raise _too_many_refusal(limits)
    if not len(images):
        raise Refusal(400, "the request contains no image: send at least one image")
    return images


def _too_many_refusal(limits: Limits) -> Refusal:
    return Refusal(413, f"too many images in one request (limit {limits.images})")


def _read_multipart(content_type: str, body: bytes, limits: Limits) -> Contents:
    """Read the files of a form. Each part of the form has to be a file."""
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise Refusal(400, "the Content-Type multipart/form-data must contain a boundary")
    form = _Form(limits)
    try:
        parser = MultipartParser(boundary, form.callbacks(), max_header_size=4096)
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise Refusal(400, f"invalid multipart/form-data: {_first_line(error)}") from error
    if not form.is_whole:
        raise Refusal(400, "invalid multipart/form-data: the body ends before its last boundary")
    return form.files


class _Form:
    """Collects the files of a form while the parser reads it."""

    def __init__(self, limits: Limits) -> None:
        self.files: Contents = []
        self.is_whole = False
        self._limits = limits
        self._name, self._value, self._disposition = b"", b"", b""
        self._pieces: list[bytes] = []

    def callbacks(self) -> Any:
        """The functions that the parser should call, by the names of its callbacks."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._add_name,
            "on_header_value": self._add_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._check_is_file,
            "on_part_data": lambda data, start, end: self._pieces.append(data[start:end]),
            "on_part_end": lambda: self.files.append(b"".join(self._pieces)),
            "on_end": self._end,
        }

    def _begin(self) -> None:
        if len(self.files) >= self._limits.images:
            raise _too_many_refusal(self._limits)
        self._pieces, self._disposition = [], b""

    def _add_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._name.lower() == b"content-disposition":
            self._disposition = self._value
        self._name, self._value = b"", b""

    def _check_is_file(self) -> None:
        options = parse_options_header(self._disposition)[1]
        if b"filename" not in options and not ENCODED_FILE_NAME.search(self._disposition):
            name = printable(options.get(b"name", b"").decode("utf-8", "replace")[:80])
            raise Refusal(
                400, f"the field '{name}' of the form is not a file: send each image as a file"
            )

    def _end(self) -> None:
        self.is_whole = True


def parse_json(body: bytes) -> Any:
    """Parse a body as JSON.

    Raises:
        Refusal: the body is not JSON.
    """
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, f"the body is not JSON: {_first_line(error)}") from error


def _read_json(content_type: str, body: bytes, limits: Limits) -> Contents:
    document = parse_json(body)
    if not isinstance(document, dict) or set(document) != {"images"}:
        raise Refusal(400, JSON_FORM)
    texts = document["images"]
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise Refusal(400, JSON_FORM)
    if len(texts) > limits.images:
        raise _too_many_refusal(limits)
    try:
        return [binascii.a2b_base64(text, strict_mode=True) for text in texts]
    except ValueError as error:
        raise Refusal(400, f"an image is not base64: {_first_line(error)}") from error


def _read_npy(content_type: str, body: bytes, limits: Limits) -> NDArray[np.uint8]:
    """Read one or more images from the format of `numpy.save`, without unpickling anything."""
    file = io.BytesIO(body)
    try:
        major, _ = npy.read_magic(file)
        read_header = npy.read_array_header_1_0 if major == 1 else npy.read_array_header_2_0
        shape, is_fortran, kind = read_header(file)
        size, start = math.prod(shape), file.tell()
    except Exception as error:  # any error, since NumPy parses the header as Python
        raise Refusal(400, "the body must be an array in the format of numpy.save") from error
    if any(type(side) is not int or not 0 <= side <= len(body) for side in shape):
        raise Refusal(
            400,
            "every size in the array's header must be a whole number from 0 to the number of bytes "
            f"in the body ({len(body):,})",
        )
    if kind != np.uint8 or is_fortran or not 2 <= len(shape) <= 4:
        raise Refusal(
            422,
            "an array must be uint8 (count, height, width, channels) in C order "
            f"(got {kind} {shape}{' in Fortran order' * is_fortran})"[:200],
        )
    if size != len(body) - start:
        raise Refusal(
            400,
            f"according to its header, the array has {size:,} bytes, but the body contains "
            f"{len(body) - start:,}",
        )
    images = np.frombuffer(body, dtype=np.uint8, offset=start).reshape(shape)
    is_single = images.ndim == 2 or (images.ndim == 3 and shape[-1] <= 4)
    return images[None] if is_single else images


def _first_line(error: Exception) -> str:
    return printable((str(error).splitlines() or [type(error).__name__])[0][:200])


READERS: dict[str, Callable[[str, bytes, Limits], Contents | NDArray[np.uint8]]] = {
    "multipart/form-data": _read_multipart,
    "application/json": _read_json,
    "application/x-npy": _read_npy,
}


def read_tensors(body: bytes, limits: Limits) -> Any:
    """Read the images of a request to `/invocations`, which has the format of MLflow's server.

    Returns:
        An array of all images or, if their sizes differ, a list of arrays.

    Raises:
        Refusal: the body contains no images, too many, or anything but numbers.
    """
    document = parse_json(body)
    keys = [
        key for key in ("inputs", "instances") if isinstance(document, dict) and key in document
    ]
    if len(keys) != 1:
        raise Refusal(400, TENSORS_FORM)
    images = document[keys[0]]
    if not isinstance(images, list) or not images:
        got = "an empty list" if images == [] else type(images).__name__
        raise Refusal(400, f"'{keys[0]}' must be a list of images, with at least one (got {got})")
    if len(images) > limits.images:
        raise _too_many_refusal(limits)
    _check_numbers(images, axes=4)
    try:
        return np.array(images)
    except (ValueError, OverflowError):  # the images have several sizes
        return [_to_array(image) for image in images]


def _check_numbers(values: list[Any], axes: int) -> None:
    """Check that nested lists contain only numbers.

    Strings are refused because NumPy would pad each of them to the length of the longest.

    Raises:
        Refusal: the lists contain something else, or are nested more deeply than `axes`.
    """
    kinds = set(map(type, values))
    if kinds <= {int, float}:
        return
    if kinds != {list} or axes == 1:
        names = " and ".join(sorted({JSON_NAMES.get(kind, "numbers") for kind in kinds}))
        got = "lists inside of pixels" if kinds == {list} else f"a list of {names}"
        raise Refusal(
            422,
            "an image must be a list of rows, a row a list of pixels, and a pixel a number from 0 "
            f"to 255 or a list of such numbers (got {got})",
        )
    for value in values:
        _check_numbers(value, axes - 1)


def _to_array(image: Any) -> NDArray[Any]:
    try:
        return np.array(image)
    except (ValueError, OverflowError) as error:
        raise Refusal(
            400,
            "all rows of an image must have the same length, and all its pixels the same number of "
            f"channels ({_first_line(error)})",
        ) from error
