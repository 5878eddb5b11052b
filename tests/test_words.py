"""The names and docstrings that say nothing: their number may only fall.

A name is a noun for what it holds, a function a verb, a class is unique in the project. The tables
count what is left, by room. A test fails where a number has risen (find a better name), and where
it has fallen (lower it here, so that it stays down).
"""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("cluster", "search", "trainables")

WORDS = """
about answered asked begun both come done found gave given gone heard held it kept known left looked
made meant met named one other others said seen shown told took wanted way
"""
VAGUE_NAMES = frozenset(WORDS.split())
VAGUE_DOCSTRING = re.compile(r"(Return|Say|Tell) (what|whether|how|which|why|who|where)\b")

NAMES_LEFT: dict[str, int] = {
    "search/decisions": 1,
    "search/execution": 1,
    "search/feedback": 4,
    "search/journal": 4,
    "search/serving": 2,
    "trainables": 2,
    "trainables/tasks": 2,
}
"""By room, the definitions, parameters and variables with a vague name."""

DOCSTRINGS_LEFT: dict[str, int] = {}
"""By room, the docstrings that begin with "Return whether" and the like."""

CLASSES_LEFT: dict[str, int] = {
    "Expected": 2,
    "Finished": 2,
    "Limit": 2,
}
"""Names that several classes have, with their number."""


def room_of(path: Path) -> str:
    """Name the room of a module: its package, and the folder within it if there is one."""
    package, *rest = path.relative_to(ROOT).parts
    return f"{package}/{rest[0]}" if len(rest) > 1 else package


@cache
def modules() -> tuple[tuple[str, ast.Module], ...]:
    return tuple(
        (room_of(path), ast.parse(path.read_text(encoding="utf-8")))
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
    )


def defined_names(node: ast.AST) -> Iterator[str]:
    """Yield the names that a node itself defines."""
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            yield node.name
        case ast.arg():
            yield node.arg
        case ast.Name(ctx=ast.Store()):
            yield node.id
        case ast.ExceptHandler(name=str(name)) | ast.alias(asname=str(name)):
            yield name
        case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
            yield name


def is_vague(name: str) -> bool:
    return name.strip("_").lower() in VAGUE_NAMES


def has_vague_docstring(node: ast.AST) -> bool:
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module):
        return False
    return VAGUE_DOCSTRING.match(ast.get_docstring(node) or "") is not None


def test_no_room_has_more_vague_names() -> None:
    counts = Counter(
        room
        for room, module in modules()
        for node in ast.walk(module)
        for name in defined_names(node)
        if is_vague(name)
    )
    assert dict(sorted(counts.items())) == NAMES_LEFT


def test_no_room_has_more_vague_docstrings() -> None:
    counts = Counter(
        room for room, module in modules() for node in ast.walk(module) if has_vague_docstring(node)
    )
    assert dict(sorted(counts.items())) == DOCSTRINGS_LEFT


def test_no_further_class_has_the_name_of_another() -> None:
    counts = Counter(
        node.name
        for _, module in modules()
        for node in ast.walk(module)
        if isinstance(node, ast.ClassDef)
    )
    doubles = {name: count for name, count in sorted(counts.items()) if count > 1}
    assert doubles == CLASSES_LEFT


def test_what_is_vague_is_seen() -> None:
    module = ast.parse(
        "def told(one, image):\n    '''Return whether it is.'''\n"
        "    for found in one:\n        self.kept = found\n"
        "    match image:\n        case [made, *_]:\n            pass\n"
    )
    names = [name for node in ast.walk(module) for name in defined_names(node) if is_vague(name)]
    assert sorted(names) == ["found", "made", "one", "told"]
    assert [has_vague_docstring(node) for node in module.body] == [True]
