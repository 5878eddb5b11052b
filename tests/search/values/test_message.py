"""Messages, and every command that a message of ours names."""

import argparse
import ast
import copy
import importlib
import inspect
import json
import os
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import search.api
from cluster.errors import Refused
from cluster.exit_codes import ExitCode
from cluster.storage.bucket import Bucket
from search.decisions.steering import CHANGEABLE
from search.design.budget import limit
from search.process.guard import OUTCOME_VARIABLE, guarded
from search.values.message import (
    COMMANDS_ONLY,
    PYTHON_NAMES,
    Blank,
    Message,
    Remedy,
    Start,
    going_on,
    message_from_json,
    message_of,
)
from search.values.option import options_of
from search.values.verbs import VERBS
from search.values.wording import DEFAULT_STORAGE

ROOT = Path(__file__).parents[3]


def parser_of(verb: str, monkeypatch: pytest.MonkeyPatch) -> argparse.ArgumentParser:
    """Return the parser with which a verb reads its command line."""
    parsers: list[argparse.ArgumentParser] = []

    def stop(parser: argparse.ArgumentParser, *_: object, **__: object) -> None:
        parsers.append(parser)
        raise SystemExit

    module = importlib.import_module(f"search.{verb}")
    with monkeypatch.context() as patch:
        patch.setattr("cluster.cli.Parser.parse_args", stop)
        patch.setattr("argparse.ArgumentParser.parse_known_args", stop)
        with pytest.raises(SystemExit):
            module.main([])
    return parsers[0]


@cache
def written_remedies() -> dict[str, ast.Call]:
    """Return each `Remedy(...)` in the source by its place."""
    sources = {path: path.read_text() for path in sorted((ROOT / "search").rglob("*.py"))}
    return {
        f"{path.relative_to(ROOT)}:{node.lineno}": node
        for path, source in sources.items()
        if "Remedy(" in source
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "Remedy"
    }


def alternatives(expression: ast.expr) -> list[ast.expr]:
    """Return an expression, or both sides of a conditional one."""
    if isinstance(expression, ast.IfExp):
        return [*alternatives(expression.body), *alternatives(expression.orelse)]
    return [expression]


ELSEWHERE = {
    "search/decisions/steering.py": dict.fromkeys(CHANGEABLE, False),
    "search/web/forms/verbs.py": {},  # what it has read in a text
}
"""The options of remedies that are built in another way than by a literal."""


def verbs_in(call: ast.Call, place: str) -> list[str]:
    if place.startswith("search/web/forms/verbs.py"):
        return []
    constants = alternatives(call.args[0])
    assert all(isinstance(constant, ast.Constant) for constant in constants), "write the verb here"
    return [str(constant.value) for constant in constants if isinstance(constant, ast.Constant)]


def options_in(call: ast.Call, place: str) -> dict[str, bool]:
    """Return the options that a remedy names, and whether each is a flag."""
    written = next((word.value for word in call.keywords if word.arg == "options"), None)
    options: dict[str, bool] = {}
    for literal in alternatives(written) if written is not None else []:
        if not isinstance(literal, ast.Dict):
            return ELSEWHERE[place.partition(":")[0]]
        for name, value in zip(literal.keys, literal.values, strict=True):
            assert isinstance(name, ast.Constant), "write the option's name here"
            options[str(name.value)] = isinstance(value, ast.Constant) and value.value is True
    return options


@pytest.mark.parametrize("place", written_remedies())
def test_no_remedy_names_a_verb_or_an_option_that_does_not_exist(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = written_remedies()[place]
    keywords = {keyword.arg: keyword.value for keyword in call.keywords}
    given = len(call.args) > 1 or "search" in keywords
    for verb in verbs_in(call, place):
        assert verb in VERBS
        actions = parser_of(verb, monkeypatch)._option_string_actions
        options = options_in(call, place)
        if len(call.args) > 2 or "storage" in keywords:
            options["storage"] = False
        for name, is_flag in options.items():
            action = actions[f"--{name}"]
            assert is_flag == (action.nargs == 0), name
        if given:
            positionals = parser_of(verb, monkeypatch)._get_positional_actions()
            assert positionals, "it takes no search"


def remedy_at(place: str, verb: str) -> Remedy:
    """Build a written remedy; the values that are known only at run time are `x`."""
    call = written_remedies()[place]
    keywords = {keyword.arg: keyword.value for keyword in call.keywords}
    arguments = keywords.get("arguments", ast.List(elts=[]))
    assert isinstance(arguments, ast.List), "write the list here"
    return Remedy(
        verb,
        "x" if len(call.args) > 1 or "search" in keywords else "",
        Path("y") if len(call.args) > 2 or "storage" in keywords else DEFAULT_STORAGE,
        arguments=["x"] * len(arguments.elts),
        options={name: is_flag or "x" for name, is_flag in options_in(call, place).items()},
    )


def called(remedy: Remedy) -> tuple[str, list[Any], dict[str, Any]]:
    """Return the function that a remedy calls in Python, and its arguments."""
    calls = (node for node in ast.walk(ast.parse(remedy.call)) if isinstance(node, ast.Call))
    call = next(node for node in calls if isinstance(node.func, ast.Name))
    assert isinstance(call.func, ast.Name)
    arguments = [ast.literal_eval(argument) for argument in call.args]
    return (
        call.func.id,
        arguments,
        {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords},
    )


def options_in_python(verb: str) -> set[str]:
    """Return the names of a verb's options as keywords."""
    request = getattr(
        importlib.import_module(f"search.operations.{verb}"), f"{verb.title()}Request"
    )
    return {declared.name.replace("-", "_") for declared in options_of(request)}


@pytest.mark.parametrize("place", written_remedies())
def test_the_call_of_each_remedy_fits_its_function(place: str) -> None:
    for verb in verbs_in(written_remedies()[place], place):
        remedy = remedy_at(place, verb)
        if verb in COMMANDS_ONLY:
            assert not hasattr(search.api, verb)
            assert remedy.import_line == f"import search.{verb}"
            continue
        name, arguments, keywords = called(remedy)
        assert remedy.import_line == f"from search.api import {name}"
        signature = inspect.signature(getattr(search.api, name))
        if VERBS[verb].arguments and not (remedy.search or remedy.arguments):
            assert is_mention(place), "it names no search"
            continue
        bound = signature.bind(*arguments, **keywords)
        assert set(bound.arguments.get("options", {})) <= options_in_python(verb)


def is_mention(place: str) -> bool:
    """True if a written remedy only names a verb."""
    return "Start.MODULE" in ast.unparse(written_remedies()[place])


def test_each_verb_that_serves_no_page_is_a_function_in_python() -> None:
    functions = {PYTHON_NAMES.get(verb, (verb, ""))[0] for verb in VERBS.keys() - COMMANDS_ONLY}
    assert {name for name in functions if not callable(getattr(search.api, name, None))} == set()
    assert {verb for verb in COMMANDS_ONLY if hasattr(search.api, verb)} == set()


def test_a_message_is_the_text_of_its_parts() -> None:
    inner = Message("so: ", Remedy("list", start=Start.ANYWHERE))
    message = Message("not ", inner, ".", "")
    assert str(message) == "not so: python -m search.list."
    assert message == Message("not ", "so: ", Remedy("list", start=Start.ANYWHERE), ".")
    assert message.render(lambda remedy: remedy.verb.upper()) == "not so: LIST."
    assert not Message("", Message())
    assert Message("a")


def test_an_exception_keeps_its_message() -> None:
    message = Message("Go on with it first: ", Remedy("resume", "flowers", Path("a b")))
    error = copy.deepcopy(Refused(message))  # as between processes
    assert message_of(error) == message
    assert repr(error) == f"Refused({str(message)!r})"
    assert str(error) == str(message)
    assert str(error).endswith("python -m search.resume flowers --storage 'a b'")
    assert message_of(ValueError("x", 1)) == Message("('x', 1)")
    assert message_of(KeyboardInterrupt()) == Message()


@pytest.mark.parametrize(
    ("remedy", "command"),
    [
        (Remedy("ui"), "ui"),
        (Remedy("ui", storage=Bucket("b", "x")), "ui --storage s3://b/x"),
        (Remedy("resume", "x", Path("searches")), "resume x"),
        (Remedy("why", "x", Path("y"), arguments=["t0001"]), "why x --storage y t0001"),
        (Remedy("promote", Blank("NAME")), "promote NAME"),
        (Remedy("serve", arguments=["models:/a b@champion"]), "serve 'models:/a b@champion'"),
        (
            Remedy("extend", "x", options={"budget": ["1h", "9epochs"]}),
            "extend x --budget 1h --budget 9epochs",
        ),
        (
            Remedy("promote", "x", options={"anyway": True, "trial": "$(ls)"}),
            "promote x --anyway --trial '$(ls)'",
        ),
        (Remedy("promote", "x", options={"anyway": False}), "promote x"),
        (going_on("x", Path("searches"), "budget"), "resume x --budget LIMIT (a larger one)"),
        (going_on("x", Path("searches"), "lost"), "resume x"),
    ],
)
def test_a_remedy_is_a_command_line(remedy: Remedy, command: str) -> None:
    assert str(replace(remedy, start=Start.MODULE)) == f"search.{command}"
    assert str(replace(remedy, start=Start.ANYWHERE)) == f"python -m search.{command}"
    assert str(remedy).endswith(f"python -m search.{command}")


def test_a_remedy_is_read_by_its_verb(monkeypatch: pytest.MonkeyPatch) -> None:
    remedy = Remedy("resume", "x", Path("a b"), options={"trials": 12, "budget": ["1h", "9epochs"]})
    args = parser_of("resume", monkeypatch).parse_args(remedy.words)
    assert (args.name, args.storage, args.trials) == ("x", Path("a b"), 12)
    assert [str(each) for each in args.budget] == [str(limit("1h")), str(limit("9epochs"))]


def test_the_command_starts_this_python(tmp_path: Path) -> None:
    """The path of the program may have spaces, and the shell does not find every Python."""
    python = tmp_path / "my env" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "executable", str(python.with_name("python3")))
        patch.chdir(tmp_path)
        assert str(Remedy("list")) == "'my env/bin/python' -m search.list"


@pytest.mark.parametrize(
    ("remedy", "call"),
    [
        (Remedy("resume", "x", Path("a b")), "resume('x', storage='a b')"),
        (Remedy("select", "x", Bucket("b", "x")), "select('x', storage='s3://b/x')"),
        (Remedy("resume", "x", options={"allow-change": True}), "resume('x', allow_change=True)"),
        (Remedy("promote", "x", options={"anyway": False}), "promote('x')"),
        (
            Remedy("extend", "x", options={"budget": ["1h", "9epochs"], "trials": 4}),
            "extend('x', budget=['1h', '9epochs'], trials=4)",
        ),
        (Remedy("why", "x", arguments=["t0001"]), "why('x', 't0001')"),
        (Remedy("status", "x", options={"all": True}), "status('x')"),
        (Remedy("list", storage=Path("y")), "searches(storage='y')"),
        (Remedy("report", "x"), "result('x').report()"),
        (Remedy("export", "x", Path("y")), "result('x', storage='y').trials"),
        (Remedy("run"), "run()"),
        (Remedy("serve", arguments=["x"]), "search.serve.main(['x'])"),
    ],
)
def test_a_remedy_is_a_call_in_python(remedy: Remedy, call: str) -> None:
    assert remedy.call == call


@pytest.mark.parametrize(
    ("verb", "output"),
    [("list", "[]"), ("ui", "usage: python -m search.ui")],
)
def test_the_call_in_python_runs(verb: str, output: str, tmp_path: Path) -> None:
    remedy = Remedy(verb, storage=tmp_path / "it's", options={"help": verb == "ui"})
    code = f"{remedy.import_line}; print({remedy.call})"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.startswith(output)


def test_a_message_survives_as_json() -> None:
    message = Message(
        "it was cut off. ",
        Remedy(
            "resume",
            "flowers",
            "s3://bucket/searches",
            arguments=("t0001",),
            options={"budget": Blank("LIMIT", "a larger one"), "anyway": True, "set": ["a", "b"]},
            start=Start.ANYWHERE,
        ),
        ".",
    )
    read = message_from_json(json.loads(json.dumps(message.as_json())))
    assert read == message
    assert str(read) == str(message)


def test_the_message_of_a_refusal_is_written_where_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    message = Message("it was cut off. ", Remedy("resume", "flowers"))

    def refuse() -> int:
        assert OUTCOME_VARIABLE not in os.environ, "the verb's own processes must not write there"
        raise Refused(message)

    monkeypatch.setenv(OUTCOME_VARIABLE, str(tmp_path / "outcome"))
    assert guarded(refuse) == ExitCode.REFUSED
    assert capsys.readouterr().err == f"error: {message}\n"
    assert message_from_json(json.loads((tmp_path / "outcome").read_text())) == message
    assert guarded(lambda: 0) == 0


def test_a_credential_in_a_suggested_command_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = "http://me:secret-word@host"
    message = Message(f"{uri} is away. ", Remedy("sync", "flowers", options={"tracking": uri}))

    def refuse() -> int:
        raise Refused(message)

    monkeypatch.setenv(OUTCOME_VARIABLE, str(tmp_path / "outcome"))
    assert guarded(refuse) == ExitCode.REFUSED
    written = (tmp_path / "outcome").read_text()
    assert "secret-word" not in written + capsys.readouterr().err
    assert message_from_json(json.loads(written)).remedies[0].verb == "sync"
