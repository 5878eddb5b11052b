"""Fingerprints of the code: no module that they are to stand for is left out."""

import ast
from pathlib import Path

import pytest

from search.journal import provenance

ROOT = Path(__file__).parents[3]
PACKAGES = ("search", "trainables", "cluster")
KEEPING = {
    "search/design/commands.py",
    "search/values/executors.py",
    "search/values/message.py",
    "search/values/wording.py",
} | {
    f"search/journal/{name}.py"
    for name in (
        *("bucket_lease", "bucket_log", "journal", "keeping", "kinds", "lease", "pareto"),
        "requests",
        "store",
    )
}
"""Where a search is kept, and what of it, what it is asked, what carries it out, and how it is put
into words.
"""


def imported(path: str) -> set[str]:
    """The modules of this program that one of them imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    paths = {f"{name.replace('.', '/')}.py" for name in found if name.partition(".")[0] in PACKAGES}
    return {path for path in paths if (ROOT / path).is_file()}


def reached(*starts: str) -> set[str]:
    """Those that come to be imported with these."""
    found, left = set[str](), set(starts)
    while left:
        path = left.pop()
        found.add(path)
        left |= imported(path) - found
    return found


def matched(patterns: tuple[str, ...]) -> set[str]:
    return {
        path.relative_to(ROOT).as_posix() for pattern in patterns for path in ROOT.glob(pattern)
    }


def test_all_that_runs_in_a_worker_tells_workers_apart() -> None:
    assert reached("search/execution/worker.py") - matched(provenance.WORKING) == set()


def test_all_that_decides_is_in_the_fingerprint_of_the_code() -> None:
    deciding = {
        path
        for path in reached(
            "search/decisions/driver.py",
            "search/decisions/selection_policy.py",
            "search/decisions/refinement_policy.py",
        )
        if not path.startswith("cluster/")
    }
    assert deciding - matched(provenance.DECIDING) - KEEPING == set()


@pytest.mark.parametrize("name", ["DECIDING", "WORKING"])
def test_a_pattern_that_matches_nothing_is_an_error(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert provenance.code_fingerprint() != provenance.working_fingerprint()
    monkeypatch.setattr(
        provenance, name, ("search/decisions/driver.py", "search/moved_elsewhere.py")
    )
    with pytest.raises(FileNotFoundError, match=r"search/moved_elsewhere\.py"):
        (provenance.code_fingerprint if name == "DECIDING" else provenance.working_fingerprint)()
