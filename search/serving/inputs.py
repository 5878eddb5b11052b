"""The images in the body of a request."""

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
TENSORS_FORM = 'JSON must be {"inputs": [...]} or {"instances": [...]}: pixels, 0 to 255'
JSON_FORM = 'JSON must be {"images": ["base64", ...]}'

NAMED = re.compile(rb";\s*filename\*\s*=", re.IGNORECASE)
"""A name in the form of RFC 5987, by which some clients name a file that is not called in ASCII."""

Contents = list[bytes]
"""Images as files hold them."""


def read(content_type: str, body: bytes, limits: Limits) -> Contents | NDArray[np.uint8]:
    """Return the images of a request: the content of files, or pixels.

    Raises:
        Refusal: the body is not what its type says, or there are too many images.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind.startswith("image/") or kind == "application/octet-stream":
        return [body]
    reader = READERS.get(kind)
    if reader is None:
        came = printable(kind[:80]) or "no Content-Type"
        raise Refusal(415, f"the Content-Type must be {TYPES} (got '{came}')")
    found = reader(content_type, body, limits)
    if len(found) > limits.images:
        raise _too_many(limits)
    if not len(found):
        raise Refusal(400, "the request holds no image")
    return found


def _too_many(limits: Limits) -> Refusal:
    return Refusal(413, f"too many images in one request (limit {limits.images})")


def _multipart(content_type: str, body: bytes, limits: Limits) -> Contents:
    """Return the parts of a form, each of which has to be a file."""
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise Refusal(400, "multipart/form-data needs a boundary in its Content-Type")
    form = _Form(limits)
    try:
        parser = MultipartParser(boundary, form.callbacks(), max_header_size=4096)
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise Refusal(400, f"broken multipart/form-data: {_line(error)}") from error
    if not form.is_whole:
        raise Refusal(400, "broken multipart/form-data: it ends before its last boundary")
    return form.files


class _Form:
    """The files that are found in a form."""

    def __init__(self, limits: Limits) -> None:
        self.files: Contents = []
        self.is_whole = False
        self._limits = limits
        self._name, self._value, self._disposition = b"", b"", b""
        self._pieces: list[bytes] = []

    def callbacks(self) -> Any:
        """Return what the parser calls."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._field,
            "on_header_value": self._valued,
            "on_header_end": self._header,
            "on_headers_finished": self._check,
            "on_part_data": lambda data, start, end: self._pieces.append(data[start:end]),
            "on_part_end": lambda: self.files.append(b"".join(self._pieces)),
            "on_end": self._end,
        }

    def _begin(self) -> None:
        if len(self.files) >= self._limits.images:
            raise _too_many(self._limits)
        self._pieces, self._disposition = [], b""

    def _field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _valued(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header(self) -> None:
        if self._name.lower() == b"content-disposition":
            self._disposition = self._value
        self._name, self._value = b"", b""

    def _check(self) -> None:
        options = parse_options_header(self._disposition)[1]
        if b"filename" not in options and not NAMED.search(self._disposition):
            name = printable(options.get(b"name", b"").decode("utf-8", "replace")[:80])
            raise Refusal(400, f"the field '{name}' of the form is no file")

    def _end(self) -> None:
        self.is_whole = True


def parsed(body: bytes) -> Any:
    """Return what JSON says.

    Raises:
        Refusal: it is none.
    """
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, f"the body is not JSON: {_line(error)}") from error


def _json(content_type: str, body: bytes, limits: Limits) -> Contents:
    told = parsed(body)
    if not isinstance(told, dict) or set(told) != {"images"}:
        raise Refusal(400, JSON_FORM)
    texts = told["images"]
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise Refusal(400, JSON_FORM)
    if len(texts) > limits.images:
        raise _too_many(limits)
    try:
        return [binascii.a2b_base64(text, strict_mode=True) for text in texts]
    except ValueError as error:
        raise Refusal(400, f"an image is not base64: {_line(error)}") from error


def _npy(content_type: str, body: bytes, limits: Limits) -> NDArray[np.uint8]:
    """Return one or more images as NumPy saves them; nothing is unpickled."""
    file = io.BytesIO(body)
    try:
        major, _ = npy.read_magic(file)
        read_header = npy.read_array_header_1_0 if major == 1 else npy.read_array_header_2_0
        shape, is_fortran, kind = read_header(file)
        size, start = math.prod(shape), file.tell()
    except Exception as error:  # whatever Python's own parser makes of a header
        raise Refusal(400, "the body is not an array as numpy.save writes it") from error
    if any(type(side) is not int or not 0 <= side <= len(body) for side in shape):
        raise Refusal(400, "the sides in the array's header are no such numbers")
    if kind != np.uint8 or is_fortran or not 2 <= len(shape) <= 4:
        raise Refusal(
            422,
            "an array must be uint8 (count, height, width, channels) in C order "
            f"(got {kind} {shape}{' in Fortran order' * is_fortran})"[:200],
        )
    if size != len(body) - start:
        raise Refusal(
            400, f"the array's header says {size:,} bytes, and {len(body) - start:,} follow"
        )
    found = np.frombuffer(body, dtype=np.uint8, offset=start).reshape(shape)
    is_one = found.ndim == 2 or (found.ndim == 3 and shape[-1] <= 4)
    return found[None] if is_one else found


def _line(error: Exception) -> str:
    """Return the beginning of an error as one line."""
    return printable((str(error).splitlines() or [type(error).__name__])[0][:200])


READERS: dict[str, Callable[[str, bytes, Limits], Contents | NDArray[np.uint8]]] = {
    "multipart/form-data": _multipart,
    "application/json": _json,
    "application/x-npy": _npy,
}


def tensors(body: bytes, limits: Limits) -> Any:
    """Return the images of a request to MLflow's `/invocations`: an array, or a list of arrays.

    Raises:
        Refusal: there are none.
    """
    told = parsed(body)
    keys = [key for key in ("inputs", "instances") if isinstance(told, dict) and key in told]
    if len(keys) != 1:
        raise Refusal(400, TENSORS_FORM)
    given = told[keys[0]]
    if not isinstance(given, list) or not given:
        raise Refusal(400, f"'{keys[0]}' must be a list of images")
    if len(given) > limits.images:
        raise _too_many(limits)
    _check_numbers(given, axes=4)
    try:
        return np.array(given)
    except (ValueError, OverflowError):  # of several sizes
        return [_array(image) for image in given]


def _check_numbers(given: list[Any], axes: int) -> None:
    """Check that lists in lists hold numbers alone: NumPy makes each text as long as the longest.

    Raises:
        Refusal: they hold something else, or lists in more than `axes` lists.
    """
    kinds = set(map(type, given))
    if kinds <= {int, float}:
        return
    if kinds != {list} or axes == 1:
        raise Refusal(422, "images must be lists of numbers in rows of equal length, as uint8 are")
    for one in given:
        _check_numbers(one, axes - 1)


def _array(image: Any) -> NDArray[Any]:
    try:
        return np.array(image)
    except (ValueError, OverflowError) as error:
        raise Refusal(400, "an image must be rows of equal length") from error
