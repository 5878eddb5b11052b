"""The recordings of what a user meets: command lines, texts, JSON, journals, reports and pages.

`tests/fixtures/faces/` holds them, `tests/search/test_faces.py` compares them with what the code
does now. To record again, after a deliberate change:

    python -m tests.support.recorded [GROUP ...]

The lines that begin with `$` in a recording are the commands that it answers: add a command by
adding such a line, then record.
"""

import contextlib
import difflib
import importlib
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote

import numpy as np
import pytest
from PIL import Image

from cluster.cli import Parser
from search.cli.face import Face
from search.feedback.records import Records
from search.journal.lease import Lease
from search.journal.store import Storage
from search.operations import run
from search.tracking.model_registry import RegisteredModel, Version
from search.values.verbs import VERBS
from search.web.forms import carried, children, launch
from search.web.pages import models
from tests.search.feedback.monitoring import made_up
from tests.support.broken_files import FILES
from tests.support.pages import ROOT, block
from trainables.baselines import features
from trainables.errors import ConfigError
from trainables.export.export import copy_code
from trainables.predictors import base as predictor
from trainables.tasks import TASKS

FACES = ROOT / "tests" / "fixtures" / "faces"
VERB_NAMES = tuple(sorted(VERBS))
RECORDED_IN = (3, 11)
"""The version of Python whose argparse has laid out the recorded help."""
NOW_S = 1_780_400_000
"""The time at which all is looked at, in seconds since 1970."""
WIDTH = 80
"""The columns of the help."""
WIDE = 200
"""The columns of tables."""
Texts = dict[str, str]
"""Texts by their paths below `FACES`."""
DATABASE = "sqlite:///"
"""The beginning of the address of a database in the working folder."""
FLOAT = re.compile(r"(?<![\w.])-?\d+\.\d{6,}(?:e[+-]?\d+)?(?![\w.])")
MASKS = (
    (re.compile(r"-20\d{6}-\d{6}\b"), "-YYYYMMDD-HHMMSS"),
    (re.compile(r"\b[0-9a-f]{32}\b"), "RUN"),
    (re.compile(r"\d+(\.\d+)? GB"), "N GB"),
    (re.compile(r"[\d,]+ a second"), "N a second"),
    (re.compile(r"by process \d+ on"), "by process PID on"),
    (re.compile(r"error:   (code|version\.[\w.-]+): nothing -> .*\n"), ""),
)
"""What differs between machines, and what stands for it."""
CHOICES = re.compile(r"\(choose from .*?\)")
LEFT_OUT = (
    (re.compile(r"(<(style|script)[^>]*>).*?(</\2>)", re.DOTALL), r"\1\3"),
    (re.compile(r"data:(image/[\w+]+);base64,[\w+/=]+"), r"data:\1"),
    (re.compile(r"/static/[0-9a-f]{12}/"), "/static/VERSION/"),
    (re.compile(r'(name="once" value=")[0-9a-f]{16}"'), r'\1ONCE"'),
    (re.compile(r"seen=[0-9a-f]{12}\.[0-9a-f]{12}"), "seen=SEEN"),
)
"""The parts of pages that are not recorded, and what stands for them."""
MODELS = (
    RegisteredModel(
        "flowers",
        (
            Version("2", (), 1_700_000_000_000, "| accuracy | 0.9 |", "played", "t0006"),
            Version("1", ("champion",), 1_600_000_000_000, "", "", ""),
        ),
    ),
)
"""The models that the pages show."""
HOW_TO_RECORD = (
    "What a user meets differs from the recording in tests/fixtures/faces. If that is deliberate, "
    "say so in CHANGELOG.md and record it again: python -m tests.support.recorded {group}\n"
)


def difference(group: str, actual: Texts, *, ignores_layout: bool = False) -> str:
    """Compare texts with the recorded ones; return the differing lines, empty if there are none."""
    recorded = recorded_texts(group)
    lines: list[str] = []
    for path in sorted(recorded.keys() | actual.keys()):
        texts = recorded.get(path, ""), actual.get(path, "")
        before, now = (
            text.split() if ignores_layout else text.splitlines(keepends=True) for text in texts
        )
        changes = difflib.unified_diff(before, now, f"recorded {path}", f"now {path}", n=1)
        lines += [line.removesuffix("\n") for line in changes]
    return "\n".join([HOW_TO_RECORD.format(group=group), *lines]) if lines else ""


def recorded_texts(group: str) -> Texts:
    """Read the recorded texts of a group."""
    return {
        str(path.relative_to(FACES)): path.read_text(encoding="utf-8")
        for path in sorted((FACES / group).rglob("*"))
        if path.is_file()
    }


@contextlib.contextmanager
def surroundings() -> Iterator[Path]:
    """Work in a new folder, at a fixed time, without what this machine and its user have set up."""
    try:
        with tempfile.TemporaryDirectory() as text, pytest.MonkeyPatch.context() as patched:
            folder = Path(text).resolve()
            patched.chdir(folder)
            for name in list(os.environ):
                if name.startswith(("MLFLOW_", "SEARCH_", "AWS_", "IMAGE_", "RAY_", "PYTHON_")):
                    patched.delenv(name)
            for name in ("NO_COLOR", "FORCE_COLOR", "LINES", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
                patched.delenv(name, raising=False)
            values = {
                "COLUMNS": WIDTH,
                "CUDA_VISIBLE_DEVICES": "",
                "TERM": "dumb",
                "HOME": folder,
                "TZ": "UTC",
            }
            for name, value in values.items():
                patched.setenv(name, str(value))
            for name in ("XDG_CACHE_HOME", "TORCH_HOME"):
                patched.setenv(name, str(folder / "cache"))
            patched.setattr("time.time", lambda: float(NOW_S))
            patched.setattr("time.time_ns", lambda: NOW_S * 10**9)
            # Commands in messages then begin with `python`, wherever this one lies.
            patched.setattr("sys.executable", "/nowhere/python3")
            patched.setattr("socket.gethostname", lambda: "here")
            patched.setattr("getpass.getuser", lambda: "somebody")
            time.tzset()
            yield folder
    finally:
        time.tzset()


def masked(text: str, folder: Path) -> str:
    """Return a text without what differs between machines and versions of Python."""
    text = text.replace(f"sqlite:///{folder}/", DATABASE)
    text = text.replace(str(folder), "FOLDER").replace(quote(str(folder), safe=""), "FOLDER")
    text = CHOICES.sub(lambda choices: choices[0].replace("'", ""), text)
    for pattern, instead in MASKS:
        text = pattern.sub(instead, text)
    return FLOAT.sub(lambda number: f"{float(number[0]):.6g}", text)


def run_verb(module: str, words: Sequence[str]) -> tuple[str, str, int]:
    """Run a verb in this process; return its stdout, its stderr and its exit code."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = importlib.import_module(module).main(list(words))
        except SystemExit as ended:
            code = int(ended.code or 0)
    return out.getvalue(), err.getvalue(), code


def help_texts() -> Texts:
    """Return the `--help` of each verb."""
    with surroundings():
        return {
            f"help/{verb}.txt": run_verb(f"search.{verb}", ["--help"])[0] for verb in VERB_NAMES
        }


def command_texts() -> Texts:
    """Return each recorded command line with its parsed values, or with its error and exit code.

    Of the values, those that differ from those of the verb's first command line.
    """
    texts: Texts = {}
    with surroundings() as folder:
        write_command_files(folder)
        for path, text in recorded_texts("commands").items():
            usual: Texts = {}
            lines = []
            for command in commands_in(text):
                module, *words = shlex.split(command)
                values, error = parsed_values(module, words)
                lines += [
                    f"$ {command}",
                    *(
                        f"  {name} = {value}"
                        for name, value in values.items()
                        if usual.get(name) != value
                    ),
                    *(f"  {line}" for line in masked(error, folder).splitlines()),
                ]
                usual = usual or values
            texts[path] = "\n".join(lines) + "\n"
    return texts


def write_command_files(folder: Path) -> None:
    """Write the files that command lines name."""
    files = {
        **FILES,
        "my_space.py": block("python", "SearchSpace("),
        "my_search.yaml": block("yaml"),
        "PATH": "",
        "weights.pth": "",
    }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")


def commands_in(text: str) -> list[str]:
    """Return the command lines in a recording."""
    return [line.removeprefix("$ ") for line in text.splitlines() if line.startswith("$ ")]


def parsed_values(module: str, words: list[str]) -> tuple[Texts, str]:
    """Parse a command line, and start nothing; return its values, or its error and exit code.

    Of `search.run` it describes the experiment too, which refuses most mistakes.
    """
    spaces: list[Any] = []
    parse = Parser.parse_args

    def remember(parser: Parser, args: Any = None, namespace: Any = None) -> Any:
        spaces.append(parse(parser, args, namespace))
        return spaces[-1]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Parser, "parse_args", remember)
        place = guard_of(module).rpartition(".")[0]
        if hasattr(importlib.import_module(place), "command"):  # some parse within the guard
            patched.setattr(f"{place}.command", lambda options: _describe(module, options))
        else:
            patched.setattr(guard_of(module), lambda work: 0)
        out, err, code = run_verb(module, words)
    if code:
        return {}, f"{err}= {code}"
    assert not out + err, out + err
    return {name: value_text(value) for name, value in sorted(vars(spaces[-1]).items())}, ""


def guard_of(module: str) -> str:
    """Return the dotted name of the guard that the `main` of a verb calls."""
    place = importlib.import_module(module).main.__module__
    is_there = hasattr(importlib.import_module(place), "guarded")
    return f"{place if is_there else Face.__module__}.guarded"


def _describe(module: str, options: Any) -> int:
    if module == "search.run":
        run.experiment_of(options.request)
    return 0


def value_text(value: Any) -> str:
    """Return a parsed value as text that does not depend on its class."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(value_text, value))}]"
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    return str(value) if isinstance(value, Path) or is_dataclass(value) else repr(value)


def search_texts() -> Texts:
    """Play the searches; return their journals."""
    from tests.support.recorded_searches import journals

    with surroundings() as folder:
        return {
            f"searches/{name}/journal.jsonl": text for name, text in journals(folder / "searches")
        }


def answer_texts(database: Path | None = None) -> Texts:
    """Return what the verbs say of the recorded searches: tables, JSON, and their refusals.

    An MLflow database without runs saves the seconds that its migrations take.
    """
    texts: Texts = {}
    for path, text in recorded_texts("answers").items():
        with surroundings() as folder, pytest.MonkeyPatch.context() as patched:
            patched.setenv("COLUMNS", str(WIDE))
            without_measuring(patched)
            copy_searches(folder)
            if "models" in path:
                write_models(folder)
            if database is not None:
                shutil.copy(database, folder)
            lines = []
            for command in commands_in(text):
                # MLflow remembers a database by its address, so that each has one of its own.
                module, *words = shlex.split(command.replace(DATABASE, f"sqlite:///{folder}/"))
                out, err, code = run_verb(module, words)
                shown = [f"  {line}" for line in masked(laid_out(out), folder).splitlines()]
                shown += [f"! {line}" for line in masked(err, folder).splitlines()]
                lines += [f"$ {command}", *map(str.rstrip, shown), f"= {code}"]
            texts[path] = "\n".join(lines) + "\n"
    return texts


def copy_searches(folder: Path) -> None:
    """Copy the recorded searches to `searches/`, with what stands for checkpoints."""
    shutil.copytree(FACES / "searches", folder / "searches")
    for journal in folder.glob("searches/*/journal.jsonl"):
        for line in map(json.loads, journal.read_text(encoding="utf-8").splitlines()):
            if line["event"] == "epoch":
                saved = journal.parent / "trials" / line["trial"] / f"epoch-{line['epoch']:04d}"
                saved.mkdir(parents=True)
                (saved / "model.safetensors").write_bytes(b"m" * 998)
                (saved / "manifest.json").write_text("{}")


def without_measuring(patched: pytest.MonkeyPatch) -> None:
    """Let the estimate of a search's time be the same on each machine."""
    patched.setattr(
        "trainables.evaluation.estimate.epochs_seconds",
        lambda configs, *data, **how: [0.5] * len(configs),
    )
    patched.setattr("trainables.machine.Load.of_others", lambda load: 0.0)


def write_models(folder: Path) -> None:
    """Write a model with the records of what it was asked, and another with images to predict."""
    made_up.promoted(folder / "watched")
    made_up.meet(Records.at(folder / "met"), 120, mix=(0.9, 0.05, 0.05), corrected=120)
    write_constant_model(folder / "model")
    for number in (3, 4):
        file = folder / "images" / str(number) / "1.png"
        file.parent.mkdir(parents=True)
        Image.fromarray(np.full((8, 8), 20 * number, np.uint8)).save(file)
    (folder / "images" / "3" / "damaged.png").write_text("this is no image")


def write_constant_model(folder: Path) -> None:
    """Write a model that gives each image the same probabilities, of which `3` has the largest."""
    import skops.io  # which takes a second
    from sklearn.dummy import DummyClassifier

    folder.mkdir()
    kind = next(iter(features.FEATURES))
    classes = [str(number) for number in range(10)]
    labels = [*range(10), *([3] * 10)]
    fitted = DummyClassifier(strategy="prior").fit(np.zeros((20, 1)), labels)
    skops.io.dump(fitted, folder / "classifier.skops")
    members = [{"file": "classifier.skops", "temperature": None}]
    about = {"classes": classes, "image": (8, 8, 1), "batch": 8, "features": kind}
    (folder / predictor.DESCRIPTION).write_text(json.dumps({**about, "members": members}))
    shutil.copy(features.__file__, folder / predictor.FEATURES)
    copy_code(TASKS["classification"], folder)


def laid_out(text: str) -> str:
    """Return a text with each line of JSON on several lines."""
    return "\n".join(
        json.dumps(json.loads(line), indent=1, ensure_ascii=False)
        if line.startswith(("{", "["))
        else line
        for line in text.splitlines()
    )


def page_texts() -> Texts:
    """Return the pages of the recorded searches, and what forms would start.

    A request is `GET`, `POST` with its fields, or `PART`, which is a GET as htmx sends it.
    """
    return {
        path: _answers_to_requests(commands_in(text), is_running="running" in path)
        for path, text in recorded_texts("pages").items()
    }


def _answers_to_requests(requests: Sequence[str], *, is_running: bool) -> str:
    from tests.support.site import Visitor

    lines = []
    with surroundings() as folder, pytest.MonkeyPatch.context() as patched:
        copy_searches(folder)
        started = without_processes(patched)
        (folder / "photos" / "flowers").mkdir(parents=True)
        visitor = Visitor(folder, folder / "photos", Path("searches"))
        write_starts(visitor.site.place)
        with Lease(folder / "searches" / "cut-off") if is_running else contextlib.nullcontext():
            for request in requests:
                method, address, *fields = request.split(" ", 2)
                if method == "POST":
                    reply = visitor.send(address, dict(parse_qsl("".join(fields))))
                else:
                    reply = visitor.see(address, part=method == "PART")
                text = reply.content.decode().replace(visitor.site.access.csrf, "CSRF")
                text = masked(page_lines(text), folder)
                kind = reply.headers.get("content-type", "").partition(";")[0]
                leads_to = reply.headers.get("location", "")
                lines += [
                    f"$ {request}",
                    *(f"  {line}".rstrip() for line in text.splitlines() if line.strip()),
                    *(f"> {masked(shlex.join(words), folder)}" for words in started),
                    f"= {reply.status} {kind or leads_to}",
                ]
                started.clear()
    return "\n".join(lines) + "\n"


def without_processes(patched: pytest.MonkeyPatch) -> list[list[str]]:
    """Let the pages start no process; return the list of the command lines that they would start.

    A question that a process would answer is refused with its command line.
    """
    started: list[list[str]] = []

    def start(launcher: Any, verb: str, subject: str, words: Sequence[str], back: str) -> Any:
        started.append([verb, subject, *words])
        return launch.Launched("1", verb, subject, tuple(words), 0, back, Path("/nowhere"))

    async def ask(asker: Any, module: str, words: Sequence[str]) -> Any:
        raise ConfigError(f"this would be asked: {shlex.join([module, *words])}")

    def models_in(tracking: str, name: str = "") -> list[RegisteredModel]:
        return [model for model in MODELS if name in ("", model.name)]

    patched.setattr(launch.Launcher, "start", start)
    patched.setattr(launch, "REFUSES_S", 0.0)
    patched.setattr(children.Asker, "ask", ask)
    patched.setattr(models, "models_in", models_in)
    return started


def write_starts(place: Storage) -> None:
    """Write what pages keep of verbs that they have started: predictions, and a refused verb."""
    launcher = launch.Launcher(place)
    table = "file,class,probability,margin\nphotos/a.png,3,0.55,0.5\nphotos/b.png,1,0.9,0.8\n"
    for verb, subject, words, log, code in (
        ("predict", "models:/flowers", ["models:/flowers/1", "photos"], "not read: c.png", 3),
        ("promote", "played", ["played"], "error: MLflow is not ready.", 4),
    ):
        start = launch.Launched(
            f"1780000000000-{code:08x}", verb, subject, tuple(words), 1_780_000_000_000, "/back"
        )
        folder = launcher._place(subject) / start.id
        folder.mkdir(parents=True)
        about = {key: value for key, value in asdict(start).items() if key != "folder"}
        for name, text in (
            (launch.DESCRIPTION, json.dumps(about)),
            (carried.LOG, log),
            (carried.CODE, str(code)),
            (launch.RESULT, table),
        ):
            (folder / name).write_text(text)


def page_lines(text: str) -> str:
    """Return a page with an element on each line, without pictures, styles and scripts."""
    if not text.lstrip().startswith("<"):
        return laid_out(text)
    for pattern, instead in LEFT_OUT:
        text = pattern.sub(instead, text)
    return re.sub(r">\s*<", ">\n<", text)


def import_texts() -> Texts:
    """Return the modules that the `--help` of a few verbs imports: ours, and libraries."""
    texts = {}
    for verb in ("list", "resume", "status", "why"):
        code = (
            f"import contextlib, io, sys, search.{verb} as verb\n"
            "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n"
            "    verb.main(['--help'])\n"
            "print(*sys.modules, sep='\\n')"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
        )
        texts[f"imports/{verb}.txt"] = "\n".join(sorted(named_modules(done.stdout.split()))) + "\n"
    return texts


def named_modules(modules: Sequence[str]) -> set[str]:
    """Return our modules by their names, and the libraries that are not Python's own."""
    ours = {
        name for name in modules if name.partition(".")[0] in ("search", "trainables", "cluster")
    }
    others = {name.partition(".")[0] for name in modules} - set(sys.stdlib_module_names)
    return ours | {name for name in others if not name.startswith("_")} - OWN


OWN = {"search", "cluster", "sitecustomize", "usercustomize"}
"""Modules without a dot that are no libraries."""
GROUPS: dict[str, Callable[..., Texts]] = {
    "help": help_texts,
    "commands": command_texts,
    "searches": search_texts,
    "answers": answer_texts,
    "pages": page_texts,
    "imports": import_texts,
}


def record(groups: Sequence[str]) -> None:
    """Write the recordings of these groups."""
    for group in groups:
        texts = GROUPS[group]()
        for path in recorded_texts(group).keys() - texts.keys():
            (FACES / path).unlink()
        for path, text in texts.items():
            (FACES / path).parent.mkdir(parents=True, exist_ok=True)
            (FACES / path).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    assert sys.version_info[:2] == RECORDED_IN, "record in Python 3.11"
    record(sys.argv[1:] or list(GROUPS))
