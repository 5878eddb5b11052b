"""Benches run rarely, so a name that has moved would not be noticed before the next measurement."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BENCHES = sorted((ROOT / "tests" / "bench").rglob("*.py"))


def defined_in(path: Path) -> set[str]:
    """Return the names at the top level of a module, and those of the modules in its folder."""
    names = {each.stem for each in path.parent.iterdir()} if path.name == "__init__.py" else set()
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.FunctionDef() | ast.ClassDef() | ast.AsyncFunctionDef():
                names.add(node.name)
            case ast.Name(ctx=ast.Store()):
                names.add(node.id)
            case ast.Import() | ast.ImportFrom():
                names |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    return names


@pytest.mark.parametrize("bench", BENCHES, ids=lambda path: path.stem)
def test_names_that_a_bench_imports_exist(bench: Path) -> None:
    missing = []
    for node in ast.walk(ast.parse(bench.read_text())):
        if not isinstance(node, ast.ImportFrom) or node.module is None:
            continue
        place = ROOT.joinpath(*node.module.split("."))
        module = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
        if node.module.split(".")[0] in ("search", "trainables", "cluster", "tests"):
            known = defined_in(module)
            missing += [f"{node.module}.{a.name}" for a in node.names if a.name not in known]
    assert missing == []
