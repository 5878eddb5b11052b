"""Test that a command line and its request are two forms of the same thing."""

import importlib
import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest

from search.cli.face import Face
from search.cli.parser import parse_request, parser_of
from search.values.option import (
    flag,
    group,
    option,
    options_of,
    positional,
    repeated,
    request_of,
    switch,
    words_of,
)
from search.values.verbs import VERBS
from tests.support.recorded import commands_in, recorded_texts, surroundings, write_command_files
from trainables.errors import ConfigError

FACES: dict[str, Face] = {
    verb: module.FACE
    for verb in VERBS
    if hasattr(module := importlib.import_module(f"search.{verb}"), "FACE")
}


def number(text: str) -> int:
    if not text.isdigit():
        raise ConfigError(f"a number is needed (got '{text}').")
    return int(text)


@dataclass(frozen=True, kw_only=True)
class Address:
    host: str = option("of {what}", default="127.0.0.1", metavar="HOST")
    port: int = option("its port", default=80, parse=number, metavar="N")


@dataclass(frozen=True, kw_only=True)
class Example:
    name: str = positional("its name", metavar="NAME")
    others: tuple[str, ...] = positional("others", metavar="OTHER", nargs="*")
    sizes: tuple[int, ...] = repeated("sizes", name="size", parse=number, metavar="N")
    shape: tuple[int, int] = option(
        "its shape",
        default="1:4",
        parse=lambda text: tuple(map(int, text.split(":"))),
        text=lambda shape: ":".join(map(str, shape)),
        metavar="A:B",
    )
    csv: str | None = option("a table", nargs="?", const="-", metavar="FILE")
    quick: bool = flag("quick")
    browser: bool = flag("open no browser", default=True, name="no-browser")
    onnx: bool | None = switch("as ONNX too")
    address: Address = group(Address, section="where", defaults={"port": 8000}, what="the page")


def parsed(*words: str) -> Example:
    return parse_request(parser_of(Example, "example", ""), Example, words)


@pytest.mark.parametrize(
    "words",
    [
        ("a",),
        ("a", "b", "c"),
        ("--size=1", "--size=2", "a"),
        ("a", "--shape=2:3", "--csv"),
        ("a", "--csv=out.csv", "--quick", "--no-browser"),
        ("a", "--onnx", "--host=0.0.0.0"),
        ("a", "--no-onnx", "--port=80"),
        ("--", "-a", "--quick"),
    ],
)
def test_the_words_of_a_request_give_the_same_request(words: tuple[str, ...]) -> None:
    request = parsed(*words)
    assert parsed(*words_of(request)) == request
    assert sorted(words_of(request)) == sorted(words)


def test_defaults_are_those_of_the_request() -> None:
    request = parsed("a")
    assert request == Example(name="a", address=Address(port=8000))
    assert (request.shape, request.sizes, request.browser, request.onnx) == ((1, 4), (), True, None)
    assert request_of(Example, {"name": "a"}) == request
    assert words_of(request) == ["a"]


def test_a_value_never_becomes_an_option() -> None:
    request = Example(name="--quick", csv="--onnx", address=Address(host="--port=1"))
    assert parsed(*words_of(request)) == request


def test_a_group_fills_in_its_help_and_has_a_heading() -> None:
    by_name = {declared.name: declared for declared in options_of(Example)}
    assert (by_name["host"].help, by_name["host"].section) == ("of the page", "where")
    assert "where:\n  --host HOST" in parser_of(Example, "example", "").format_help()


def test_an_option_may_stand_among_those_of_a_group() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Moved:
        address: Address = group(Address, what="the page")
        quick: bool = flag("quick", before="port")

    assert [declared.name for declared in options_of(Moved)] == ["host", "quick", "port"]


def test_a_wrong_value_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parsed("a", "--port", "many")
    assert ended.value.code == 2
    told = "error: argument --port: a number is needed (got 'many'). See python -m search.example"
    assert capsys.readouterr().err.startswith(told)


def test_a_value_of_two_dashes_is_no_list(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parsed("a", "--port=--")
    assert "argument --port: " in capsys.readouterr().err


@pytest.mark.parametrize("verb", FACES)
def test_each_recorded_command_line_survives_as_a_request(verb: str, tmp_path: Path) -> None:
    face, checked = FACES[verb], 0
    lines = [line for text in recorded_texts("commands").values() for line in commands_in(text)]
    with surroundings() as folder:
        write_command_files(folder)
        for line in lines:
            module, *words = shlex.split(line)
            if module != f"search.{verb}":
                continue
            try:
                options = parse_request(face.parser(), face.options_type, words)
            except SystemExit:
                continue
            again = parse_request(face.parser(), face.options_type, words_of(options))
            assert again == options or repr(again) == repr(options)  # nan does not equal itself
            checked += 1
    assert checked
