"""What the README says is so: its commands are understood, its links lead somewhere, its code runs."""

import importlib
import re
import shlex
from pathlib import Path

import pytest

from search.run import arguments, experiment_of
from search.space import SearchSpace

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
COMMANDS = sorted({line.strip().partition("  #")[0].strip() for line in README.splitlines() if line.startswith("    python -m ")})
CLUSTERS = [command for command in COMMANDS if command.startswith("python -m cluster.")]
RUNS = [command for command in COMMANDS if command.startswith("python -m search.run")]


@pytest.mark.parametrize("command", RUNS)
def test_a_command_describes_an_experiment(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_space.py").write_text(block("python", "SearchSpace("))
    (tmp_path / "my_search.yaml").write_text(block("yaml"))
    (tmp_path / "PATH").touch()
    experiment = experiment_of(arguments(shlex.split(command)[3:]))
    assert experiment.planned_trials > 0


def test_every_run_command_is_checked() -> None:
    assert len(RUNS) >= 9
    selects = {"select NAME", "select NAME --top 3 --seeds 10"}
    others = selects | {"promote NAME", "promote NAME --onnx", "report NAME", "resume NAME", "status NAME", "sync NAME", "why NAME t0007"}
    others |= {"report first --storage s3://bucket/searches"}
    assert set(COMMANDS) - set(RUNS) - set(CLUSTERS) == {f"python -m search.{words}" for words in others}


def test_a_cluster_is_ten_commands_away() -> None:
    """`tests/cluster/test_onprem.py` runs them on real hosts."""
    section = README.partition("## On a cluster\n")[2].partition("\n    pip install")[2].partition("\n\n")[0]
    assert [word for word in ("up", "check", "submit", "status", "down") if f"cluster.{word} " not in section] == []
    assert len(section.splitlines()) <= 10


@pytest.mark.parametrize("command", CLUSTERS)
def test_a_cluster_s_command_is_understood(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = shlex.split(command.partition(" -- ")[0])[2:]
    module = importlib.import_module(words[0])
    assert (ROOT / words[1]).exists()
    getattr(module, "arguments", module.parser().parse_args)(
        [*words[1:], "--", *shlex.split(command.partition(" -- ")[2])][: None if " -- " in command else -1]
    )
    if inner := command.partition(" -- ")[2]:
        monkeypatch.chdir(tmp_path)
        assert experiment_of(arguments(shlex.split(inner)[3:])).name == "first"


def block(language: str, text: str = "") -> str:
    """The one block of code that has this text in it."""
    (only,) = (found for found in re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL) if text in found)
    return str(only)


def test_the_space_in_the_text_is_a_space() -> None:
    names: dict[str, object] = {}
    exec(compile(block("python", "SearchSpace("), "README.md", "exec"), names)
    assert isinstance(names["space"], SearchSpace)


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"])
def test_links_lead_somewhere(document: str) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", (ROOT / document).read_text())
    assert all((ROOT / link).exists() for link in links), links


@pytest.mark.parametrize("target", re.findall(r"^    make (\w+)", README + (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE))
def test_make_targets_exist(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("path", re.findall(r"`((?:tests|search|cluster)/[\w/]+\.py)`", (ROOT / "SECURITY.md").read_text()))
def test_the_files_that_security_names_are_there(path: str) -> None:
    assert (ROOT / path).is_file()
