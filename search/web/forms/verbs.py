"""The forms, buttons and requests of the verbs that continue from an existing search.

A verb is the name of a command after `search.`, such as `resume`.
"""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from search.cli.keywords import request_from
from search.design.experiment import check_search_name
from search.operations.options import SearchRequest
from search.operations.promote import PromoteRequest
from search.operations.refine import ROUNDS, RefineRequest
from search.operations.resume import ResumeRequest
from search.operations.select import SEEDS, TOP, SelectRequest
from search.values.message import Blank, Remedy, Word
from search.values.option import OptionKind, options_of
from search.web.forms.new_search import MAX_VALUE, place_options
from search.web.site import Site
from trainables.errors import ConfigError


@dataclass(frozen=True)
class Field:
    """A field of a form: an option of a verb."""

    option: str
    """The name of the option."""
    label: str
    hint: str = ""
    """The default value, in words."""


@dataclass(frozen=True)
class VerbForm:
    """The form of a verb, with its texts and its fields."""

    title: str
    does: str
    """Description of the verb, in sentences."""
    fields: tuple[Field, ...]
    request_type: type[SearchRequest]
    tells_cost: bool = False
    """True if the verb has the option `--dry-run`, which prints its plan and cost."""

    @property
    def flags(self) -> set[str]:
        """The names of the options without a value, which are checkboxes in the form."""
        options = options_of(self.request_type)
        return {declared.field for declared in options if declared.kind is OptionKind.FLAG}


ANYWAY = "Even if it is no better than guessing"
BUDGET = Field("budget", "Stop after (30m, 2h, 500epochs)", "when all is done")
FORMS: dict[str, VerbForm] = {
    "resume": VerbForm(
        "Continue",
        "Continues where the search was paused, stopped or cut off. Nothing that was finished is "
        "lost or done again. With a larger total number of trials, it also continues after its "
        "end.",
        (Field("trials", "Total number of trials", "as before"), BUDGET),
        ResumeRequest,
    ),
    "select": VerbForm(
        "Choose the best",
        "The best of many trials is partly lucky. The best few are trained again with fresh "
        "seeds, the one that stays ahead is chosen, and only that one is evaluated on the test "
        "images.",
        (
            Field("top", "Candidates", f"the best {TOP}"),
            Field("seeds", "Trainings of each", str(SEEDS)),
        ),
        SelectRequest,
        tells_cost=True,
    ),
    "refine": VerbForm(
        "Refine the search",
        "Continues in rounds, each around the best results so far, until the gain of a round is "
        "within noise.",
        (
            Field("trials", "New trials per round", "a third of the search's"),
            Field("rounds", "Maximum number of rounds", str(ROUNDS)),
            BUDGET,
        ),
        RefineRequest,
        tells_cost=True,
    ),
    "promote": VerbForm(
        "Promote the model",
        "Registers the chosen model, or else the best one, so that it can be used. Before that, "
        "its predictions for every validation image are compared with those of the trained "
        "network, which takes seconds, or longer with many images. It replaces a champion of the "
        "same name, which is kept as a version.",
        (
            Field("trial", "Trial", "the search's answer"),
            Field("model", "Name of the model", "the search's"),
            Field("onnx", "Also as ONNX, for other programs"),
            Field("max_error", "Wrong answers, at most (it abstains from the others)", "any"),
            Field("coverage", "Sets of classes with the true one, at least", "none"),
            Field("unlike", "Abstain from unlike images, at a false-alarm rate of", "never"),
            Field("anyway", ANYWAY),
        ),
        PromoteRequest,
    ),
}
BUTTONS = {name: f"'{verb.title}' on this page" for name, verb in FORMS.items()} | {
    "pause": "'Pause' on this page",
    "status": "the table of trials",
}
COMMAND = re.compile(
    r"(?<![^\s(])(?:'[^']*python'|[^\s']*python) -m search\.(?P<verb>[a-z]+) (?P<search>[\w.-]*\w)"
    r"(?P<options>(?: --[a-z-]+(?: (?:'[^']*'|[^\s()'\"\\-][^\s()'\"\\]*))?)*)"
)
"""Pattern of a command in the reply of a driver, or in a line that another process has printed."""


def button_name(remedy: Remedy) -> str:
    """Return the name of the button with the same effect as a command.

    If there is no such button, return the command itself.
    """
    button, options = BUTTONS.get(remedy.verb), remedy.options
    if button is None:
        return str(remedy)
    if trial := options.get("trial"):
        button += ", with a trial" if isinstance(trial, Blank) else f", with the trial {trial}"
    return f"{button}, with '{ANYWAY}'" if options.get("anyway") else button


def with_button_names(text: str) -> str:
    """Replace the commands in a text by the names of buttons with the same effect."""

    def replaced(command: re.Match[str]) -> str:
        if command["verb"] not in BUTTONS:
            return command[0]
        options = dict[str, Word]()
        for word in shlex.split(command["options"]):
            if word.startswith("--"):
                options[name := word[2:]] = True
            else:
                options[name] = Blank(word) if word.isupper() else word
        return button_name(Remedy(command["verb"], command["search"], options=options))

    return COMMAND.sub(replaced, text)


def verb_request(name: str, search: str, values: Mapping[str, str], site: Site) -> SearchRequest:
    """Build the request of a verb from the values of a form.

    Args:
        name: the verb, a key of `FORMS`.
        search: the name of the search.
        values: the values of the form's fields.
        site: the site, which determines the storage.

    Raises:
        ConfigError: a value is too long, or the verb does not accept it.
    """
    check_search_name(search)
    verb = FORMS[name]
    options: dict[str, Any] = {"name": search, **place_options(site)}
    for field in verb.fields:
        value = values.get(field.option, "").strip()
        if len(value) > MAX_VALUE:
            raise ConfigError(
                f"the value of '{field.label}' has {len(value):,} characters; at most "
                f"{MAX_VALUE:,} are allowed."
            )
        if value:
            options[field.option] = True if field.option in verb.flags else value
    return request_from(verb.request_type, options)
