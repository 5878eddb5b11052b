"""Steering a search from its page: what is told before, what is asked, and what is started."""

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.storage.bucket import Bucket
from search.cli.parser import parser_of
from search.decisions.driver import Driver
from search.design.experiment import Experiment
from search.journal.events import Started
from search.journal.requests import DriverRequest, waiting_requests
from search.journal.store import Home, home
from search.values.message import Blank, Message, Remedy, Start
from search.values.option import values_of, words_of
from search.web.forms.children import Asker, ProcessOutput
from search.web.forms.verbs import FORMS, button_name, verb_request, with_button_names
from tests.support.asgi import Reply
from tests.support.played import OpenDriver, play, started_event
from tests.support.site import Visitor
from trainables.errors import ConfigError

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def visitor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Visitor:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Visitor(tmp_path)


@pytest.fixture
def begun(experiment: Experiment, open_driver: OpenDriver) -> Experiment:
    """A search that has trained some epochs and has not ended."""
    play(open_driver(experiment), slots=2, events=9)
    return experiment


@pytest.fixture
def ended(experiment: Experiment, open_driver: OpenDriver) -> Experiment:
    play(open_driver(experiment))
    return experiment


def text(reply: Reply) -> str:
    return reply.content.decode()


def test_a_running_search_tells_what_each_button_does(begun: Experiment, visitor: Visitor) -> None:
    with home(begun.storage, begun.name).lease():
        page = text(visitor.see("/searches/played/steer"))
    assert "Each trial finishes its current epoch, then the process of the search ends" in page
    assert "No further trials start" in page
    assert "t0001: running, epoch" in page
    assert "search.resume" not in page


def test_an_open_page_hears_when_its_buttons_are_no_longer_right(
    begun: Experiment, visitor: Visitor
) -> None:
    with home(begun.storage, begun.name).lease():
        seen = re.search(r"news\?seen=([0-9a-f.]+)", text(visitor.see("/searches/played/steer")))
        assert seen is not None
        same = visitor.see("/searches/played/steer/news", part=True, seen=seen[1])
        assert "hx-trigger" not in same.headers
        trials = f"{seen[1].partition('.')[0]}.0"
        told = visitor.see("/searches/played/steer/news", part=True, seen=trials)
        assert told.headers["hx-trigger"] == "now-changed"
        now = text(visitor.see("/searches/played/steer/now", part=True, trial="t0002"))
        assert '<option value="t0002" selected>' in now
        assert "more-trials" not in now  # what is being filled in stays
    visitor.site.feed._followed.clear()  # who has it is looked at every two seconds alone
    told = visitor.see("/searches/played/steer/news", part=True, seen=seen[1])
    assert told.headers["hx-trigger"] == "steer-changed"


def test_a_trial_is_stopped_by_a_request(begun: Experiment, visitor: Visitor) -> None:
    kept = home(begun.storage, begun.name)
    with kept.lease():
        reply = visitor.send("/searches/played/ask", {"action": "stop", "trial": "t0001"})
        assert "The request was sent: t0001 stops after epoch" in text(reply)
        assert "t0001: the driver answers in a moment" in text(reply)
    (asked,) = waiting_requests(kept)
    assert (asked.action, asked.trial) == ("stop", "t0001")
    assert asked.by.endswith(" (page)")


def test_trials_time_and_trials_at_once_are_asked_for(begun: Experiment, visitor: Visitor) -> None:
    asked = {"action": "extend", "trials": "", "budget": "1h 500epochs", "concurrency": "3"}
    kept = home(begun.storage, begun.name)
    with kept.lease():
        assert visitor.send("/searches/played/ask", asked).status == 200
    (found,) = waiting_requests(kept)
    assert (found.budget, found.concurrency) == (("1h", "500epochs"), 3)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"action": "stop", "trial": f"t9{HOSTILE}"}, "no trial"),
        ({"action": "stop", "trial": "x" * 500}, "a text of at most 64 characters"),
        ({"action": "delete"}, "action"),
        ({"action": ""}, "action"),
        ({"action": "extend"}, "enter at least one value"),
        ({"action": "extend", "trials": "-3"}, "--trials"),
        ({"action": "extend", "concurrency": "²"}, "whole number"),
        ({"action": "extend", "budget": HOSTILE}, "--budget"),
        ({"action": "extend", "budget": "1h " * 99}, "--budget"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_a_line(
    given: dict[str, str], told: str, begun: Experiment, visitor: Visitor
) -> None:
    kept = home(begun.storage, begun.name)
    with kept.lease():
        reply = visitor.send("/searches/played/ask", given)
        before = visitor.see("/searches/played/foreseen", part=True, **given)
    assert reply.status == 400
    for page in (text(reply), text(before)):
        assert told in page
        assert HOSTILE not in page
    assert waiting_requests(kept) == []


def test_nobody_waits_for_a_search_while_its_requests_are_fetched(
    begun: Experiment, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = list[bool]()

    def held(kept: Home) -> list[DriverRequest]:
        lock = visitor.site.feed._followed["played"].lock
        with ThreadPoolExecutor(1) as other:
            free.append(other.submit(lock.acquire, blocking=False).result())
            if free[-1]:
                other.submit(lock.release).result()
        return []

    monkeypatch.setattr("search.web.pages.steer.waiting_requests", held)
    assert visitor.see("/searches/played/steer/news").status == 200
    assert free == [True]


def test_a_search_that_was_cut_off_goes_on(
    begun: Experiment, visitor: Visitor, started: list[list[str]]
) -> None:
    assert "/searches/played/next/resume" in text(visitor.see("/searches/played/steer"))
    reply = visitor.send("/searches/played/next/resume", {"trials": "", "budget": "2h"})
    assert (reply.status, reply.headers["location"]) == (303, "/started/1")
    where = f"--storage={visitor.folder}/searches"
    assert started[0][:4] == ["resume", "played", "played", where]
    assert "--budget=2h" in started[0]


def test_a_search_that_has_ended_offers_what_goes_on_from_it(
    ended: Experiment, visitor: Visitor
) -> None:
    page = text(visitor.see("/searches/played/steer"))
    offered = re.findall(r"/searches/played/next/(\w+)", page)
    assert offered == ["select", "promote", "refine", "resume"]
    assert "Stop the search" not in page


@pytest.mark.parametrize("verb", FORMS)
def test_a_verb_says_what_it_does_before_it_is_started(
    verb: str, ended: Experiment, visitor: Visitor
) -> None:
    page = text(visitor.see(f"/searches/played/next/{verb}"))
    assert FORMS[verb].does.split(".")[0].replace("'", "&#39;") in page
    assert visitor.see("/searches/played/next/delete").status == 404


def test_what_a_verb_costs_is_told_in_words(
    ended: Experiment, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def told(self: Asker, module: str, words: list[str]) -> ProcessOutput:
        assert (module, words[0]) == ("search.select", "--dry-run")
        return ProcessOutput(0, f"at most 25 trainings {HOSTILE}\n", "")

    monkeypatch.setattr(Asker, "ask", told)
    page = text(visitor.see("/searches/played/cost/select", part=True))
    assert "at most 25 trainings" in page
    assert HOSTILE not in page


def test_more_trials_tell_their_cost_before_a_resume(ended: Experiment, visitor: Visitor) -> None:
    page = text(visitor.see("/searches/played/cost/resume", part=True, trials="5"))
    assert "is too low" in page


@pytest.mark.parametrize("verb", FORMS)
@pytest.mark.parametrize("value", ["--help", "-1 --allow-change", "--address=evil"])
def test_no_value_becomes_an_option_of_a_verb(verb: str, value: str, visitor: Visitor) -> None:
    offered = [field.option for field in FORMS[verb].fields]
    given = {name: value for name in offered if name not in FORMS[verb].flags}
    try:
        request = verb_request(verb, "played", given, visitor.site)
    except ConfigError:
        return  # refused in a line
    parser = parser_of(type(request), verb, "")
    for values in (values_of(request), vars(parser.parse_args(words_of(request)))):
        assert (values["name"], values.get("address")) == ("played", None)


@pytest.mark.parametrize("name", ["--help", "-x", "..", "a b", HOSTILE.replace("/", "")])
def test_no_name_of_a_search_becomes_an_option_or_a_path(
    name: str, visitor: Visitor, started: list[list[str]]
) -> None:
    reply = visitor.send(f"/searches/{name}/next/resume", {})
    assert reply.status == 400
    assert "--name must have 1 to 64 of the characters" in text(reply)
    assert HOSTILE not in text(reply)
    assert started == []


@pytest.mark.parametrize(
    ("remedy", "command", "button"),
    [
        (
            Remedy("resume", "x", Path("y"), start=Start.ANYWHERE),
            "python -m search.resume x --storage y",
            "'Continue' on this page",
        ),
        (
            Remedy(
                "resume",
                "x",
                Path("a b"),
                options={"budget": Blank("LIMIT", "a larger one")},
                start=Start.ANYWHERE,
            ),
            "python -m search.resume x --storage 'a b' --budget LIMIT (a larger one)",
            "'Continue' on this page",
        ),
        (
            Remedy("promote", "a.b-c", options={"trial": "t0003"}, start=Start.ANYWHERE),
            "python -m search.promote a.b-c --trial t0003",
            "'Promote the model' on this page, with the trial t0003",
        ),
        (
            Remedy("promote", "x", options={"trial": Blank("TRIAL")}, start=Start.ANYWHERE),
            "python -m search.promote x --trial TRIAL",
            "'Promote the model' on this page, with a trial",
        ),
        (
            Remedy(
                "promote", "x", options={"trial": "t0001", "anyway": True}, start=Start.ANYWHERE
            ),
            "python -m search.promote x --trial t0001 --anyway",
            "'Promote the model' on this page, with the trial t0001, with 'Even if it is no "
            "better than guessing'",
        ),
        (
            Remedy("select", "x", start=Start.ANYWHERE),
            "python -m search.select x",
            "'Choose the best' on this page",
        ),
        (
            Remedy("select", start=Start.MODULE),
            "search.select",
            "'Choose the best' on this page",
        ),
        (
            Remedy("status", "x", options={"all": True}, start=Start.ANYWHERE),
            "python -m search.status x --all",
            "the table of trials",
        ),
        (
            Remedy("predict", "x", options={"trial": "t0003"}, start=Start.ANYWHERE),
            "python -m search.predict x --trial t0003",
            "python -m search.predict x --trial t0003",
        ),
    ],
)
def test_a_remedy_is_called_by_its_button(remedy: Remedy, command: str, button: str) -> None:
    message = Message("To mend it: ", remedy, ", which helps.")
    assert str(message) == f"To mend it: {command}, which helps."
    assert message.render(button_name) == f"To mend it: {button}, which helps."


@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        (
            "t0001 goes on: .venv/bin/python -m search.resume x --storage y",
            "t0001 goes on: 'Continue' on this page",
        ),
        (
            "too late, it goes on with: python -m search.resume x --trials 12 --budget 2h",
            "too late, it goes on with: 'Continue' on this page",
        ),
        (
            "Promote another: python -m search.promote x --trial TRIAL (to list them: "
            "python -m search.status x --all)",
            "Promote another: 'Promote the model' on this page, with a trial (to list them: "
            "the table of trials)",
        ),
        (
            "To register it all the same: python -m search.promote x --storage 'a b' "
            "--trial t0001 --anyway",
            "To register it all the same: 'Promote the model' on this page, with the trial t0001, "
            "with 'Even if it is no better than guessing'",
        ),
        (
            "It goes on: '/home/my dir/.venv/bin/python' -m search.resume x; no epoch is lost",
            "It goes on: 'Continue' on this page; no epoch is lost",
        ),
        ("python -m search.predict x --trial t0003", "python -m search.predict x --trial t0003"),
        ("python -m search.resume x --a \\ --b '", "'Continue' on this page \\ --b '"),
        ('python -m search.resume x --a "b c', "'Continue' on this page \"b c"),
        ("the module search.unknown stays", "the module search.unknown stays"),
        ("a.research.resume b", "a.research.resume b"),
        ("x" * 100_000, "x" * 100_000),
    ],
)
def test_commands_in_a_stored_answer_are_called_by_their_buttons(answer: str, shown: str) -> None:
    assert with_button_names(answer) == shown


def test_trials_are_taken_along_as_a_table(ended: Experiment, visitor: Visitor) -> None:
    reply = visitor.see("/searches/played/trials.csv")
    assert reply.headers["content-type"].startswith("text/csv")
    assert len(text(reply).splitlines()) == 10


def test_a_search_in_a_bucket_is_steered_and_deleted(
    experiment: Experiment, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("search.operations.delete.traces_of", lambda *_: None)
    kept, visitor = home(bucket, "played"), Visitor(tmp_path, place=bucket)
    journal, _ = kept.journal(new=True)
    moved = replace(experiment, storage=bucket)
    journal.append(Started(name="played", experiment=moved.describe(), **started_event()))
    play(Driver(moved, journal), events=9)
    journal.close()
    with kept.lease():
        assert "Each trial finishes its current epoch" in text(
            visitor.see("/searches/played/steer")
        )
        asked = visitor.send("/searches/played/ask", {"action": "pause"})
        assert "the driver answers in a moment" in text(asked)
    assert [one.action for one in waiting_requests(kept) if isinstance(one, DriverRequest)] == [
        "pause"
    ]
    assert visitor.send("/searches/played/delete", {"sure": "on"}).status == 303
    assert not kept.exists()


def test_a_search_is_deleted_after_a_look_and_a_yes(
    ended: Experiment, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.operations.delete.traces_of", lambda *_: None)
    page = text(visitor.see("/searches/played/delete"))
    assert "1 file, " in page
    assert visitor.send("/searches/played/delete", {}).status == 400
    assert home(ended.storage, "played").exists()
    assert visitor.send("/searches/played/delete", {"sure": "on"}).status == 303
    assert not home(ended.storage, "played").exists()


def test_a_search_that_runs_is_not_deleted(begun: Experiment, visitor: Visitor) -> None:
    kept = home(begun.storage, begun.name)
    with kept.lease():
        assert visitor.see("/searches/played/delete").status == 409
        assert visitor.send("/searches/played/delete", {"sure": "on"}).status == 409
    assert kept.exists()


def test_what_can_be_removed_is_told_before(ended: Experiment, visitor: Visitor) -> None:
    assert "There is nothing to remove." in text(visitor.see("/searches/played/clean"))
    assert visitor.send("/searches/played/clean", {"keep": "nothing"}).status == 400


@pytest.mark.parametrize("name", ["nix", "..", ".hidden", "a b", HOSTILE.replace("/", "")])
@pytest.mark.parametrize("page", ["steer", "delete", "clean", "trials.csv", "foreseen"])
def test_a_search_that_is_not_there_is_told_of(name: str, page: str, visitor: Visitor) -> None:
    reply = visitor.see(f"/searches/{name}/{page}", action="stop")
    assert reply.status == 404
    assert HOSTILE not in text(reply)
