"""`--config FILE.yaml`: what it says, and what is refused, each with its line."""

import typing
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from search.cli.config_file import words
from search.operations.run import experiment_of
from search.run import RunOptions, parse_options
from trainables.config import PATHS
from trainables.errors import ConfigError

GOOD = """
space: table3
max_epochs: 1
hang-timeout: 60.5
budget: [2h, 500epochs]
download: false
skip-bad: true
seed:
name: "-x"
set:
  batch_size: 32
  optimizer:
    lr: 1e-3
  data.image_size: null
  augment: {flip: false}
"""


def problems(tmp_path: Path, text: str | bytes) -> list[str]:
    """What is said of a file with this text, without the folder."""
    path = tmp_path / "config.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ConfigError) as caught:
        words(RunOptions, path)
    return str(caught.value).replace(f"{tmp_path}/", "").splitlines()


def test_a_files_options_are_words_of_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(GOOD)
    assert words(RunOptions, path) == [
        "--space=table3",
        "--max-epochs=1",
        "--hang-timeout=60.5",
        "--budget=2h",
        "--budget=500epochs",
        "--skip-bad",
        "--name=-x",
        "--set=batch_size=32",
        "--set=optimizer.lr=1e-3",
        "--set=data.image_size=none",
        "--set=augment.flip=false",
    ]


def test_the_command_line_wins_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("space: table3\ntrials: 5\nseed: 3\nset: {batch_size: 32, epochs: 4}\n")
    options = parse_options(["--trials", "7", "--config", str(path), "--set", "epochs=9"])
    experiment = experiment_of(options.request)
    assert (experiment.trials, experiment.seed, experiment.space_name) == (7, 3, "table3")
    assert (experiment.base.batch_size, experiment.base.epochs) == (32, 9)


@pytest.mark.parametrize("text", ["", "# nothing\n", "set:\n", "\ufeffset: {}\n"])
def test_a_file_may_say_nothing(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    assert words(RunOptions, path) == []


REFUSED = {
    "a near option": (
        "a: b\ntrails: 3\n",
        "config.yaml:2: unknown key 'trails'. Known: address,",
        "Did you mean 'trials'?",
    ),
    "a setting at the top": (
        "batch_size: 3\n",
        "config.yaml:1: unknown key 'batch_size'. Did you mean 'batch_size' under 'set:'?",
        "",
    ),
    "a setting's last name": (
        "lr: 3\n",
        "config.yaml:1: unknown key 'lr'. Did you mean 'optimizer.lr' under 'set:'?",
        "",
    ),
    "the file itself": ("config: x\n", "config.yaml:1: unknown key 'config'", ""),
    "an unknown setting": (
        "set:\n  optimizer:\n    lrr: 1\n",
        "config.yaml:3: unknown key 'optimizer.lrr'.",
        "Did you mean 'optimizer.lr'?",
    ),
    "a setting of another type": (
        "set: {batch_size: many}\n",
        "config.yaml:1: batch_size must be a whole number (got 'many').",
        "",
    ),
    "an option of another type": (
        "\ntrials: 2.5\n",
        "config.yaml:2: 'trials': invalid int value: '2.5'.",
        "",
    ),
    "an option that is no choice": (
        "device: tpu\n",
        "config.yaml:1: 'device': invalid choice: 'tpu'",
        "",
    ),
    "a switch that is neither": (
        "download: yes\n",
        "config.yaml:1: 'download' must be true or false (got 'yes').",
        "",
    ),
    "a list": ("name: [a, b]\n", "config.yaml:1: 'name' accepts one value.", ""),
    "a mapping": ("data: {name: mnist}\n", "config.yaml:1: 'data' accepts one value.", ""),
    "a list of settings": ("set: [epochs=3]\n", "config.yaml:1: 'set' accepts one value.", ""),
    "a word for settings": (
        "set: epochs=3\n",
        "config.yaml:1: 'set' must contain keys and values, such as 'optimizer.lr: 0.001' (got "
        "'epochs=3').",
        "",
    ),
    "an option twice": (
        "trials: 3\ntrials: 3\n",
        "config.yaml:2: 'trials' is given twice (first in line 1).",
        "",
    ),
    "an option in both spellings": (
        "max-epochs: 3\nmax_epochs: 4\n",
        "config.yaml:2: 'max_epochs' is given twice (first in line 1).",
        "",
    ),
    "a setting in both forms": (
        "set:\n  optimizer.lr: 1\n  optimizer:\n    lr: 2\n",
        "config.yaml:4: 'set.optimizer.lr' is given twice (first in line 2).",
        "",
    ),
    "a key twice in one line": (
        "set: {epochs: 3, epochs: 3}\n",
        "config.yaml:1: 'set.epochs' is given twice (first in line 1).",
        "",
    ),
    "settings twice": (
        "set: {epochs: 3}\nset: {batch_size: 3}\n",
        "config.yaml:2: 'set' is given twice (first in line 1).",
        "",
    ),
    "a key that is a list": ("? [a, b]\n: 3\n", "config.yaml:1: unknown key '?'.", ""),
    "a tab": (
        "set:\n\tepochs: 3\n",
        "config.yaml:2: tabs are not allowed for indentation; use spaces.",
        "",
    ),
    "a text without an end": (
        'space: "table3\n',
        "config.yaml:2: while scanning a quoted scalar, found unexpected end of stream.",
        "",
    ),
    "two documents": (
        "space: a\n---\nspace: b\n",
        "config.yaml:2: expected a single document in the stream, but found another document.",
        "",
    ),
    "no keys": (
        "- a\n",
        "config.yaml:1: the file must contain keys and values, such as 'space: table3' (got a "
        "list).",
        "",
    ),
    "an anchor": (
        "space: &a table3\n",
        "config.yaml:1: YAML anchors and aliases are not allowed. Write the values out.",
        "",
    ),
    "an alias": (
        "space: *a\n",
        "config.yaml:1: YAML anchors and aliases are not allowed. Write the values out.",
        "",
    ),
    "an object": (
        "space: a\nname: !!python/object/apply:os.system [x]\n",
        "config.yaml:2: the tag '!!python/object/apply:os.system' is not allowed",
        "",
    ),
    "a tag of a plain kind": (
        "space: !!str 5\n",
        "config.yaml:1: the tag '!!str' is not allowed; use plain values.",
        "",
    ),
    "a NUL": (
        "space: a\nname: a\0b\n",
        "config.yaml:2: this line has the character '\\x00', which YAML does not allow.",
        "",
    ),
    "a credential's key": (
        "aws_secret_access_key: abcdef\n",
        "config.yaml:1: 'aws_secret_access_key' looks like a credential, so its "
        "value was refused and not logged.",
        "",
    ),
    "a credential": (
        "name: AKIAABCDEFGHIJKLMNOP\n",
        "config.yaml:1: 'name' looks like a credential, so its value was refused and not "
        "logged. Pass credentials in environment variables.",
        "",
    ),
}


@pytest.mark.parametrize(("text", "start", "end"), REFUSED.values(), ids=REFUSED)
def test_nonsense_is_refused_with_its_line(tmp_path: Path, text: str, start: str, end: str) -> None:
    said = problems(tmp_path, text)[-1]
    assert said.startswith(start)
    assert said.endswith(end)


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    said = problems(tmp_path, "trails: 3\ntrials: three\nset:\n  epochs: 2.5\n")
    assert [line.partition(": ")[0] for line in said] == [
        "config.yaml:1",
        "config.yaml:2",
        "config.yaml:4",
    ]


def test_a_file_that_is_no_text_or_too_large_or_not_there_is_refused(tmp_path: Path) -> None:
    assert problems(tmp_path, b"\xff") == [
        "config file 'config.yaml' (--config) is not UTF-8. Save the file as UTF-8."
    ]
    assert problems(tmp_path, "# " + "x" * 1_000_000) == [
        "config file 'config.yaml' (--config) is larger than 1 MB, which is the limit."
    ]
    with pytest.raises(
        ConfigError, match=r"'none.yaml' \(--config\) cannot be read \(No such file or directory\)"
    ):
        words(RunOptions, Path("none.yaml"))


BOMBS = {
    "a billion laughs": "a: &a [x, x]\n"
    + "".join(f"b{number}: &b{number} [{', '.join(['*a'] * 9)}]\n" for number in range(30)),
    "a hundred thousand levels": "a: " + "[" * 100_000,
    "as many mappings": "{a: " * 100_000,
}


@pytest.mark.parametrize("text", BOMBS.values(), ids=BOMBS)
def test_a_bomb_is_refused_before_it_is_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    parse, events = yaml.parse, list[yaml.Event]()

    def counted(*arguments: Any, **options: Any) -> Iterator[yaml.Event]:
        for event in parse(*arguments, **options):
            events.append(event)
            yield event

    monkeypatch.setattr(yaml, "parse", counted)
    (said,) = problems(tmp_path, text)
    assert len(events) < 50
    assert said in (
        "config.yaml:1: YAML anchors and aliases are not allowed. Write the values out.",
        "config.yaml:1: the values are nested too deeply (at most 8 levels are allowed).",
    )


@pytest.mark.parametrize("path", PATHS)
def test_every_key_of_a_trial_can_be_set(tmp_path: Path, path: str) -> None:
    """And none of them is taken for a credential."""
    file = tmp_path / "config.yaml"
    value = "true" if bool in (typing.get_args(PATHS[path]) or (PATHS[path],)) else "1"
    file.write_text(f"set: {{{path}: {value}}}\n")
    assert words(RunOptions, file) == [f"--set={path}={value}"]


def test_a_tilde_is_the_home_folder_wherever_a_path_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shell reads `~` for the words of a command line, but not within them, and not in a file."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.py").write_text(
        "from search.space import Choice, SearchSpace\n"
        'space = SearchSpace({"epochs": Choice(1, 2)})\n'
    )
    (tmp_path / "config.yaml").write_text(
        "space: ~/mine.py\nstorage: ~/kept\ndata: mnist\ndata-root: ~/mnist\nweights: ~/w.pth\n"
    )
    request = parse_options(["--config=~/config.yaml"]).request
    assert (request.storage, request.reading.data_root, request.weights) == (
        tmp_path / "kept",
        tmp_path / "mnist",
        tmp_path / "w.pth",
    )
    made = experiment_of(replace(request, weights=None))
    assert made.space_source == f"{tmp_path}/mine.py:space"
    assert made.base.data.root == str(tmp_path / "mnist")


def test_weights_that_are_set_are_found_at_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "w.pth").touch()
    options = parse_options(["--space", "transfer", "--set", "model.weights=~/w.pth"])
    made = experiment_of(options.request)
    assert made.settings["model.weights"] == str(tmp_path / "w.pth")
