"""The name of a search's data set."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainables.errors import printable


def source_text(data: Mapping[str, Any]) -> str:
    """Return the name of a data set, given its description in the journal.

    For a folder of images, it is `folder` followed by the folder's name.
    """
    return (
        f"folder {printable(Path(data['root']).name)}"
        if data["name"] == "folder"
        else str(data["name"])
    )
