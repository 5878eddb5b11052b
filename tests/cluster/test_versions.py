"""Untried versions are refused, and every file that names versions names the same ones."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
import ray

from cluster.errors import Mistake, NotReady
from cluster.jobs import Jobs
from cluster.preflight import findings
from cluster.runtime.shared_folder import SharedFolderCheck
from cluster.versions import (
    SHARED_LIBRARIES,
    TRIED_VERSIONS,
    TriedVersions,
    numbers,
    problems,
    shared_versions,
)
from tests.conftest import Command

ROOT = Path(__file__).parent.parent.parent
PIN = re.compile(r"^([A-Za-z0-9._-]+)==([0-9][^ ;\n]*)", re.MULTILINE)


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(path: Path) -> dict[str, str]:
    return {plain(name): found for name, found in PIN.findall(path.read_text())}


@pytest.mark.parametrize(
    ("found", "is_tried"),
    [
        ("2.56.0", True),
        ("2.58.1", True),
        ("2.60.7", True),
        ("2.60.0+cpu", True),
        ("2.55.9", False),
        ("2.61.0", False),
        ("2.61.0rc1", False),
        ("3.0", False),
        ("?", False),
    ],
)
def test_a_release_line_counts_and_not_its_patches(found: str, is_tried: bool) -> None:
    assert TriedVersions("2.56", "2.60").has(found) is is_tried


def test_a_version_that_was_never_tried_is_named_with_those_that_were() -> None:
    (line,) = problems({"ray": TriedVersions("2.56", "2.60")}, lambda name: "2.61.0")
    assert line == (
        "this program was not tested with ray 2.61.0, only with 2.56 to 2.60. Install a "
        "tested version: pip install 'ray>=2.56,<2.61'."
    )


def test_a_library_that_is_missing_is_named() -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    (line,) = problems({"mlflow": TriedVersions("3.17", "3.17")}, missing)
    assert (
        line
        == "mlflow is not installed. Install a tested version: pip install 'mlflow>=3.17,<3.18'."
    )


def test_what_is_installed_here_was_tried() -> None:
    assert list(problems()) == []
    assert "none" not in shared_versions().values()


def test_pip_is_given_the_same_bounds() -> None:
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    bounds = {re.split(r"[\[<>=]", one)[0]: re.sub(r"^[^<>=]+", "", one) for one in wanted}
    assert {name: bounds[name] for name in TRIED_VERSIONS} == {
        name: tried.bounds for name, tried in TRIED_VERSIONS.items()
    }


@pytest.mark.parametrize("name", ["constraints.txt", "cluster/requirements.txt"])
def test_the_pinned_versions_were_tried(name: str) -> None:
    found = pins(ROOT / name)
    assert {
        library: found[library]
        for library in TRIED_VERSIONS
        if not TRIED_VERSIONS[library].has(found[library])
    } == {}


def test_clusters_get_what_the_tests_ran_with() -> None:
    here, there = pins(ROOT / "constraints.txt"), pins(ROOT / "cluster" / "requirements.txt")
    assert {
        name: (here[name], there[name])
        for name in here.keys() & there.keys()
        if here[name] != there[name]
    } == {}
    assert set(map(plain, SHARED_LIBRARIES)) <= here.keys() & there.keys()


def test_the_constraints_serve_any_machine() -> None:
    lines = [
        line
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if not line.startswith("#")
    ]
    assert lines == sorted(lines, key=str.lower)
    assert [line for line in lines if not PIN.fullmatch(line) or "+" in line] == []


def test_all_that_is_asked_for_is_constrained() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(one for extra in project["optional-dependencies"].values() for one in extra),
    ]
    names = {plain(re.split(r"[\[<>=]", one)[0]) for one in wanted} - {"image-classifier-search"}
    assert names - pins(ROOT / "constraints.txt").keys() == set()


def test_make_setup_uses_the_constraints() -> None:
    setup = (ROOT / "Makefile").read_text().partition("$(STAMP):")[2].partition("\n\n")[0]
    assert "--constraint constraints.txt" in setup
    assert "constraints.txt" in setup.splitlines()[0]


def test_numbers_are_a_versions_own() -> None:
    assert numbers("2.13.0+cpu") == (2, 13, 0)


def pretend(folder: Path, name: str, version: str) -> None:
    """Put a library's metadata where Python looks first."""
    about = folder / f"{name}-{version}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


@pytest.mark.parametrize("words", [["--dry-run"], []])
def test_a_search_with_a_version_that_was_never_tried_does_not_begin(
    words: list[str], command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    pretend(elsewhere, "ray", "2.61.0")
    monkeypatch.setenv("PYTHONPATH", str(elsewhere), prepend=":")
    done = command("search.run", "--space", "smoke", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: this program was not tested with ray 2.61.0, only with ")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "searches").exists()


@pytest.mark.parametrize("name", ["mlflow", "ray", "scikit-learn", "torch"])
def test_each_library_is_refused_in_a_line_that_names_the_versions_that_work(
    name: str, call: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    pretend(elsewhere, name.replace("-", "_"), "99.0")
    monkeypatch.syspath_prepend(elsewhere)
    done = call("search.run", "--space", "smoke")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"error: this program was not tested with {name} 99.0, only with {TRIED_VERSIONS[name]}. "
        f"Install a tested version: pip install '{name}{TRIED_VERSIONS[name].bounds}'.\n"
    )


def test_a_job_is_not_sent_by_a_version_that_was_never_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(tmp_path, "ray", "2.61.0")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(Mistake, match=r"this program was not tested with ray 2\.61\.0"):
        Jobs("http://127.0.0.1:1")


def test_the_preflight_of_a_cluster_names_it() -> None:
    (found,) = findings.versions({}, {"ray": "2.61.0"}, [])
    assert found.text.startswith("here: this program was not tested with Ray 2.61.0, only with ")


class Node:
    """Stands for Ray's answer on the node of this process."""

    def get_node_id(self) -> str:
        return "head"


def test_nodes_with_other_versions_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = shared_versions()
    answers = {
        "a": ("", mine),
        "b": ("", {**mine, "torch": "2.12.1"}),
        "c": ("", {**mine, "torch": "2.12.1"}),
    }
    monkeypatch.setattr(ray, "get_runtime_context", Node)
    monkeypatch.setattr(ray, "wait", lambda asked, **options: (asked, []))
    monkeypatch.setattr(ray, "get", answers.__getitem__)
    witness = SharedFolderCheck(None)
    witness.pending_tasks = {"a": "10.0.0.2"}
    witness.collect_answers(1)
    witness.pending_tasks = {"b": "10.0.0.3", "c": "10.0.0.4"}
    with pytest.raises(
        NotReady,
        match=(
            r"software versions: 10\.0\.0\.3 has torch 2\.12\.1, but this machine has .*; "
            r"10\.0\.0\.4 has torch"
        ),
    ):
        witness.collect_answers(1)
