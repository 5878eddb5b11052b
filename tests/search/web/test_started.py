"""The page of a verb that was started: it leads to the search, or says why there is none."""

from collections.abc import Callable
from pathlib import Path

import pytest

from search.design.experiment import Experiment
from search.journal.store import home
from search.values.verbs import VERBS
from search.web.forms import launch
from search.web.forms.carried import CODE, LOG
from search.web.forms.launch import Launched
from search.web.forms.verbs import FORMS
from search.web.pages import started
from tests.support.asgi import Reply
from tests.support.played import OpenDriver, play
from tests.support.site import Visitor

Started = Callable[..., Launched]
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def visitor(tmp_path: Path) -> Visitor:
    return Visitor(tmp_path)


@pytest.fixture
def make_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Started:
    """Makes something that was started, with what it has said, and its exit code."""

    def make(verb: str, said: str = "", code: int | None = None, running: bool = False) -> Launched:
        (tmp_path / LOG).write_text(said)
        if code is not None:
            (tmp_path / CODE).write_text(str(code))
        back = f"/new?data=digits&name={HOSTILE}"
        made = Launched("1", verb, "played", ("--x=" + HOSTILE,), 0, back, tmp_path)
        monkeypatch.setattr(launch.Launcher, "find", lambda self, name: made)
        monkeypatch.setattr(Launched, "is_running", running)
        return made

    return make


def text(reply: Reply) -> str:
    return reply.content.decode()


def test_a_start_is_watched_until_the_search_is_there(
    make_started: Started, visitor: Visitor, experiment: Experiment, open_driver: OpenDriver
) -> None:
    make_started("run", f"reading the images {HOSTILE}\nsearching\n", running=True)
    page = text(visitor.see("/started/1"))
    assert "Starting played" in page
    assert "reading the images" in page
    assert "\nsearching</pre>" in page  # on a line of its own
    assert 'hx-get="/started/1"' in page
    assert HOSTILE not in page
    play(open_driver(experiment), events=3)
    assert visitor.see("/started/1").headers["location"] == "/searches/played"
    assert visitor.see("/started/1", part=True).headers["hx-redirect"] == "/searches/played"


def test_a_refusal_is_told_with_the_way_back_to_the_form(
    make_started: Started, visitor: Visitor
) -> None:
    make_started("run", f"error: no image {HOSTILE}\nerror: at all\n", code=2)
    page = text(visitor.see("/started/1"))
    assert "<p>at all</p>" in page
    assert "/new?data=digits&amp;name=" in page
    assert "hx-get" not in page
    assert HOSTILE not in page


def test_a_process_that_is_gone_without_a_word_is_told_of(
    make_started: Started, visitor: Visitor
) -> None:
    make_started("select")
    assert "Ended before it was finished." in text(visitor.see("/started/1"))


def test_a_promotion_leads_to_the_models(make_started: Started, visitor: Visitor) -> None:
    make_started("promote", "t0001 is the champion", code=0)
    page = text(visitor.see("/started/1"))
    assert "t0001 is the champion" in page
    assert 'href="/models"' in page


def test_a_resume_leads_to_its_search_once_it_has_it(
    make_started: Started, visitor: Visitor, experiment: Experiment, open_driver: OpenDriver
) -> None:
    play(open_driver(experiment), events=3)
    make_started("resume", running=True)
    assert visitor.see("/started/1").status == 200
    with home(experiment.storage, "played").lease():
        assert visitor.see("/started/1").status == 303


@pytest.mark.parametrize("verb", [name for name, verb in VERBS.items() if verb.start_title])
def test_the_title_of_a_start_names_its_subject(verb: str) -> None:
    made = Launched("1-00000000", verb, "models:/pets", (), 0, "")
    assert "pets" in started.title_of(made)


def test_every_form_belongs_to_a_verb_that_pages_may_start() -> None:
    assert all(VERBS[name].start_title for name in FORMS)


def test_what_was_never_started_is_not_there(visitor: Visitor) -> None:
    for name in ("1-00000000", "nosuch", "..", "1-0000000*"):
        reply = visitor.see(f"/started/{name}")
        assert (reply.status, "no command with this id was started" in text(reply)) == (
            404,
            True,
        )
