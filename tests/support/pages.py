"""The pages of the documentation, and the code on them."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]

PAGES = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
}


def blocks(language: str) -> list[str]:
    """Find every block of code in this language, on all pages."""
    pattern = rf"```{language}\n(.*?)```"
    return [str(found) for text in PAGES.values() for found in re.findall(pattern, text, re.DOTALL)]


def block(language: str, text: str = "") -> str:
    """Find the one block of code that has this text in it."""
    (only,) = (found for found in blocks(language) if text in found)
    return only
