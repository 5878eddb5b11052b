"""Test that the README and the pages of docs/ are true.

Commands are understood, links lead somewhere, code runs.
"""

import ast
import importlib
import re
import shlex
from pathlib import Path

import pytest

from search.operations.run import experiment_of
from search.run import parse_options
from search.space import SearchSpace
from tests.support.pages import PAGES, ROOT, block, blocks
from tests.support.recorded import guard_of

README = (ROOT / "README.md").read_text()
OTHERS = ["CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "cluster/tracking/README.md"]
COMMANDS = sorted(
    {
        line.strip().partition("  #")[0].strip()
        for text in PAGES.values()
        for line in text.splitlines()
        if line.startswith("    python -m ")
    }
)
CLUSTERS = [command for command in COMMANDS if command.startswith("python -m cluster.")]
RUNS = [command for command in COMMANDS if command.startswith("python -m search.run")]
VERBS = [command for command in COMMANDS if command not in CLUSTERS and command not in RUNS]


def test_the_readme_is_short() -> None:
    assert len(README.encode()) <= 12_000


def test_the_readme_names_every_page() -> None:
    assert [page for page in PAGES if page != "README.md" and f"({page})" not in README] == []


@pytest.mark.parametrize("command", RUNS)
def test_a_run_describes_an_experiment(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_space.py").write_text(block("python", "SearchSpace("))
    (tmp_path / "my_search.yaml").write_text(block("yaml"))
    for name in ("PATH", "skin.csv"):
        (tmp_path / name).touch()
    monkeypatch.setattr("search.operations.run.fetch", lambda address: Path("/path/to/flowers"))
    experiment = experiment_of(parse_options(shlex.split(command)[3:]).request)
    assert experiment.planned_trials > 0


@pytest.mark.parametrize("command", VERBS)
def test_a_verb_understands_its_words(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, *words = shlex.split(command)[2:]
    package = (ROOT / name.replace(".", "/")).is_dir()
    module = importlib.import_module(f"{name}.__main__" if package else name)
    monkeypatch.setattr(guard_of(module.__name__), lambda work: 0)  # parsed, and not done
    assert module.main(words) == 0


def test_enough_commands_are_checked() -> None:
    assert len(RUNS) >= 20
    verbs = {command.split()[2] for command in VERBS}
    assert verbs >= {
        f"search.{v}"
        for v in ["select", "refine", "promote", "report", "resume", "status", "sync", "why"]
    }


def test_a_cluster_is_ten_commands_away() -> None:
    """`tests/cluster/test_onprem.py` runs them on real hosts."""
    section = PAGES["docs/cluster.md"].partition("\n    pip install")[2].partition("\n\n")[0]
    verbs = ("up", "check", "submit", "status", "down")
    assert [verb for verb in verbs if f"cluster.{verb} " not in section] == []
    assert len(section.splitlines()) <= 10


@pytest.mark.parametrize("command", CLUSTERS)
def test_a_cluster_s_command_is_understood(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outer, _, inner = command.partition(" -- ")
    words = shlex.split(outer)[2:]
    module = importlib.import_module(words[0])
    assert (ROOT / words[1]).exists()
    asked = [*words[1:], *(["--", *shlex.split(inner)] if inner else [])]
    getattr(module, "arguments", module.parser().parse_args)(asked)
    if inner.startswith("python -m search.run"):
        monkeypatch.chdir(tmp_path)
        assert experiment_of(parse_options(shlex.split(inner)[3:]).request).planned_trials > 0


STACK = (ROOT / "cluster/aws/stack.yaml").read_text()
PLACEHOLDER = r"@[A-Z_][A-Z_0-9]*@|^\|(?: *[a-z] *\|)+ *$|\b(?:TODO|FIXME|TBD)\b"
"""Text that stands in for a figure, a row or a sentence that is to come."""
NAMED = r"`(Region|SecurityGroup|Image|HeadProfile|WorkerProfile|Storage|KeepDeletedDays)\b"


@pytest.mark.parametrize("name", sorted(set(re.findall(NAMED, PAGES["docs/cluster.md"]))))
def test_what_the_page_calls_by_name_is_in_the_stack(name: str) -> None:
    assert re.search(rf"^  {name}:", STACK, re.MULTILINE)


def test_the_space_in_the_text_is_a_space() -> None:
    names: dict[str, object] = {}
    exec(compile(block("python", "SearchSpace("), "docs/options.md", "exec"), names)
    assert isinstance(names["space"], SearchSpace)


@pytest.mark.parametrize("number", range(len(blocks("python"))))
def test_what_code_imports_is_there(number: int) -> None:
    for node in ast.walk(ast.parse(blocks("python")[number])):
        if isinstance(node, ast.ImportFrom) and node.module:
            module = importlib.import_module(node.module)
            assert [name.name for name in node.names if not hasattr(module, name.name)] == []


@pytest.mark.parametrize("document", [*PAGES, *OTHERS])
def test_links_lead_somewhere(document: str) -> None:
    text, folder = (ROOT / document).read_text(), (ROOT / document).parent
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text):
        path, _, anchor = link.partition("#")
        target = (folder / path) if path else ROOT / document
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text()), link


@pytest.mark.parametrize("document", [*PAGES, *OTHERS])
def test_no_placeholder_is_left(document: str) -> None:
    text = (ROOT / document).read_text()
    assert re.findall(PLACEHOLDER, text, re.MULTILINE) == []


@pytest.mark.parametrize("text", ["in @P1@ s", "| x | y | z |", "|x|y|", "TODO: measure", "<TBD>"])
def test_a_placeholder_is_seen(text: str) -> None:
    assert re.search(PLACEHOLDER, text, re.MULTILINE)


def anchors(text: str) -> set[str]:
    """List the anchors that GitHub gives a page's headings."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


TEXTS = "\n".join([*PAGES.values(), (ROOT / "CONTRIBUTING.md").read_text()])


@pytest.mark.parametrize(
    "target", sorted(set(re.findall(r"^    make ([\w-]+)", TEXTS, re.MULTILINE)))
)
def test_make_targets_exist(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


SECURITY = (ROOT / "SECURITY.md").read_text()


@pytest.mark.parametrize("path", re.findall(r"`((?:tests|search|cluster)/[\w/]+\.py)`", SECURITY))
def test_the_files_that_security_names_are_there(path: str) -> None:
    assert (ROOT / path).is_file()
