"""What docs/cluster.md says is so: its commands are understood, its links lead somewhere, what it quotes is said."""

import importlib
import re
import shlex
from pathlib import Path

import pytest

from search.run import arguments, experiment_of

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "cluster.md"
COMMANDS = sorted({line.strip().partition("  #")[0].strip() for line in PAGE.read_text().splitlines() if line.startswith("    python -m ")})


def test_every_verb_is_shown() -> None:
    shown = {command.split()[2] for command in COMMANDS}
    assert shown == {"cluster.up", "cluster.check", "cluster.submit", "cluster.status", "cluster.down", "search.report"}


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("python -m cluster.")])
def test_a_command_is_understood(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outer, dashes, inner = command.partition(" -- ")
    words = shlex.split(outer)[2:]
    module = importlib.import_module(words[0])
    assert (ROOT / words[1]).exists()
    getattr(module, "arguments", module.parser().parse_args)([*words[1:], *(["--", *shlex.split(inner)] if dashes else [])])
    if dashes:
        monkeypatch.chdir(tmp_path)
        assert experiment_of(arguments(shlex.split(inner)[3:])).name == "first"


def test_a_cluster_is_ten_commands_away() -> None:
    block = PAGE.read_text().partition("\n    pip install")[2].partition("\n\n")[0]
    assert [word for word in ("up", "check", "submit", "status", "down") if f"cluster.{word} " not in block] == []
    assert len(block.splitlines()) <= 10


def test_its_links_lead_somewhere() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", PAGE.read_text())
    assert links
    assert all((PAGE.parent / link).exists() for link in links), links


@pytest.mark.parametrize("output", re.findall(r"`(Region|SecurityGroup|Image|HeadProfile|WorkerProfile|Storage|KeepDeletedDays)\b", PAGE.read_text()))
def test_what_it_calls_by_name_is_in_the_stack(output: str) -> None:
    assert re.search(rf"^  {output}:", (ROOT / "cluster/aws/stack.yaml").read_text(), re.MULTILINE)
