"""The data set of a search, from its description in the journal."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainables.errors import printable


def source_text(data: Mapping[str, Any]) -> str:
    """The data set's name, from its description in the journal.

    For a folder of images, it is `folder` and the folder's own name.
    """
    return (
        f"folder {printable(Path(data['root']).name)}"
        if data["name"] == "folder"
        else str(data["name"])
    )
