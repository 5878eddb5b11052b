"""The pages to read: what they show of searches, trials and comparisons, hostile names as text."""

import json
import re
import shutil
import zlib
from pathlib import Path
from typing import Any

import pytest
from markupsafe import escape
from starlette.datastructures import QueryParams

from search.design.experiment import Experiment
from search.journal.events import Ended, Started
from search.journal.journal import FILE_NAME, Event, Journal, read, read_about
from search.journal.lease import Lease
from search.journal.result import SearchResult, TrialResult
from search.views.page.page import render
from search.views.text.terms import TERMS, TERMS_OF_CLASSES
from search.web.listing import Cell, Column, Query, Row, listed
from search.web.pages.search import PARTS
from tests.search.web.conftest import HOSTILE, make_hostile
from tests.support.pages import ROOT
from tests.support.played import OpenDriver, changed, play
from tests.support.site import Visitor
from tests.support.stories import story_lines
from trainables.config import PATHS
from trainables.tasks import TASKS


def rows_of(page: bytes) -> list[str]:
    """Return the names of a table's rows, in their order."""
    return re.findall(r'id="to-([^"]+)"', page.decode())


def test_searches_are_listed_with_their_best_and_its_interval(visitor: Visitor) -> None:
    page = visitor.see("/")
    assert (page.status, rows_of(page.content)) == (200, ["played"])
    text = page.content.decode()
    assert "9 of 9" in text
    assert re.search(r"0\.5900 accuracy<br><span class=\"note\">0\.4\d+ to 0\.7\d+", text)
    assert text.count("<polyline") == 1
    assert "<span>1 search</span>" in text


def test_open_pages_share_a_look_at_the_searches(visitor: Visitor, played: Experiment) -> None:
    assert rows_of(visitor.see("/", part=True).content) == ["played"]
    (played.folder / FILE_NAME).unlink()
    assert rows_of(visitor.see("/", part=True).content) == ["played"], "as another page was told"
    assert b"None yet" in visitor.see("/").content, "a page that is opened looks anew"


def test_a_place_without_searches_leads_to_a_new_one(tmp_path: Path) -> None:
    page = Visitor(tmp_path).see("/").content.decode()
    assert "None yet" in page
    assert 'href="/new"' in page


def test_a_broken_search_says_why_and_hides_none(visitor: Visitor, played: Experiment) -> None:
    broken = Path(str(played.storage)) / "broken"
    broken.mkdir()
    (broken / FILE_NAME).write_bytes(b"nonsense\n")
    page = visitor.see("/?sort=name").content
    assert rows_of(page) == ["broken", "played"]
    assert b"journal.jsonl:1 is damaged" in page
    assert visitor.see("/searches/broken").status == 404


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("", ["b", "a", "c"]),
        ("sort=value", ["a", "b", "c"]),
        ("sort=value&down=1", ["b", "a", "c"]),
        ("sort=lr", ["a", "c", "b"]),
        ("q=adam+0.1", ["b"]),
        ("state=stopped", ["a", "c"]),
        ("sort=nosuch&page=99&cols=nosuch", ["b", "a", "c"]),
        ("page=-1", ["b", "a", "c"]),
        ("page=²", ["b", "a", "c"]),
        ("page=" + "9" * 5000, ["b", "a", "c"]),
    ],
    ids=range(10),
)
def test_an_address_sorts_and_filters_a_table(query: str, rows: list[str]) -> None:
    def row(name: str, state: str, value: float | None, lr: float | str) -> Row:
        cells = {"value": Cell(str(value or ""), value), "lr": Cell(f"adam {lr}", lr)}
        return Row(name, state, cells)

    table = [
        row("b", "completed", 0.9, 0.1),
        row("a", "stopped", 0.5, 0.01),
        row("c", "stopped", None, 0.05),
    ]
    columns = (Column("name", "name"), Column("value", "value", True), Column("lr", "lr"))
    assert [one.name for one in listed(table, columns, Query.of(QueryParams(query))).rows] == rows


def test_a_long_table_has_a_page_of_rows_alone() -> None:
    rows = [Row(f"t{number:04}", "done", {}) for number in range(1000)]
    made = listed(rows, (Column("name", "name"),), Query(page=20))
    assert (len(made.rows), made.rows[-1].name, made.pages) == (50, "t0999", 20)


def test_a_query_keeps_what_it_asks_in_its_links() -> None:
    query = Query.of(QueryParams("sort=lr&down=1&q=a%26b&state=x&cols=a&cols=b&page=3"))
    assert Query.of(QueryParams(query.address(page=3)[1:])) == query
    assert query.address(text="", state="") == "?sort=lr&down=1&cols=a&cols=b"


def test_a_search_is_told_with_its_verdict_and_its_trials(visitor: Visitor) -> None:
    page = visitor.see("/searches/played").content
    text = page.decode()
    assert "Finished: all trials are done." in text
    assert "<dt>Found</dt>" in text
    assert len(rows_of(page)) == 9
    assert rows_of(visitor.see("/searches/played?q=nosuch").content) == []
    only = visitor.see("/searches/played?cols=value").content.decode()
    assert ">epochs<" not in only.partition("<thead>")[2].partition("</thead>")[0]


def test_a_search_that_runs_says_whether_it_trains_or_evaluates(
    visitor: Visitor, played: Experiment
) -> None:
    """Its charts come before what one can do, to which a link leads."""
    journal = played.folder / FILE_NAME
    lines = journal.read_bytes().splitlines(keepends=True)
    last = max(number for number, line in enumerate(lines) if b'"event": "ended"' in line)
    said = {}
    with Lease(played.folder):
        for cut in (last - 1, last + 1):
            journal.write_bytes(b"".join(lines[:cut]))
            page = visitor.see("/searches/played").content.decode()
            said[cut] = page[page.index('class="stand running"') :]
    assert "Running: 1 trial in training." in said[last - 1]
    assert "its trials have ended, and are being evaluated" in said[last + 1]
    link, chart, steer = (
        said[last + 1].index(one) for one in ('href="#steer"', 'id="by-epoch"', 'id="steer"')
    )
    assert link < chart < steer


def test_every_part_that_changes_has_its_place(visitor: Visitor) -> None:
    page = visitor.see("/searches/played").content.decode()
    assert [name for name in PARTS if page.count(f'id="{name}"') != 1] == []
    part = visitor.site.text("search_states.html", table=listed([Row("a", "new", {})], (), Query()))
    assert '<option value="new">new (1)</option>' in part


def test_charts_have_every_trial_and_the_best_so_far(visitor: Visitor) -> None:
    told = json.loads(visitor.see("/searches/played/charts").content)
    assert len(told["trials"]) == 9
    assert {len(params) for _, params, *_ in told["trials"]} == {len(told["axes"])}
    values = [value for _, _, value in told["course"]]
    assert values == sorted(values)
    assert told["course"][-1][2] == max(value for _, _, value, *_ in told["trials"])


def test_a_trial_has_its_params_its_story_and_its_files(
    visitor: Visitor, played: Experiment
) -> None:
    kept = played.folder / "trials" / "t0001" / "evidence"
    kept.mkdir(parents=True)
    (kept / "val.json").write_text('{"classes": ["</pre><script>alert(1)</script>"]}')
    (kept / "secret").symlink_to("/etc/passwd")
    page = visitor.see("/searches/played/trials/t0001").content.decode()
    assert "optimizer.lr" in page
    assert "suggested by grid" in page
    assert "val.json" in page
    assert "secret" not in page
    assert "The best trial so far." not in page
    best = SearchResult.read(played.folder).best
    assert best is not None
    assert b"The best trial so far." in visitor.see(f"/searches/played/trials/{best.trial}").content
    file = visitor.see("/searches/played/trials/t0001/files/val.json").content.decode()
    assert "&lt;/pre&gt;&lt;script&gt;" in file
    assert visitor.see("/searches/played/trials/t0001/files/secret").status == 404


@pytest.mark.parametrize("part", ["", "t0001", "t0001/evidence", "t0001/evidence/inner"])
def test_files_behind_a_link_to_a_folder_are_not_shown(
    part: str, visitor: Visitor, played: Experiment, tmp_path: Path
) -> None:
    for folder in ("t0001/evidence/inner", "evidence/inner", "inner"):
        (tmp_path / "others" / folder).mkdir(parents=True)
        (tmp_path / "others" / folder / "secret").touch()
    linked = played.folder / "trials" / part
    shutil.rmtree(linked, ignore_errors=True)
    linked.parent.mkdir(parents=True, exist_ok=True)
    linked.symlink_to(tmp_path / "others")
    assert b"secret" not in visitor.see("/searches/played/trials/t0001").content
    for name in ("inner/secret", "inner/inner/secret"):
        assert visitor.see(f"/searches/played/trials/t0001/files/{name}").status == 404


def test_two_to_five_searches_are_compared(visitor: Visitor, played: Experiment) -> None:
    place = Path(str(played.storage))
    (place / "other").mkdir()
    first, *rest = (played.folder / FILE_NAME).read_bytes().splitlines(keepends=True)
    event = Event.from_line(first.decode())
    assert isinstance(event.data, Started)
    other = event.data.__class__(**{**vars(event.data), "name": "other"})
    line = Event(event.number, event.time_ms, other).to_line().encode()
    (place / "other" / FILE_NAME).write_bytes(line + b"".join(rest))
    page = visitor.see("/compare?names=played&names=other").content.decode()
    assert "other is as good as played" in page or "played is as good as other" in page
    told = json.loads(visitor.see("/compare/charts?names=played&names=other").content)
    assert [one["name"] for one in told["searches"]] == ["played", "other"]
    assert visitor.see("/compare?names=played").status == 400
    assert visitor.see("/compare?names=played&names=nosuch").status == 404
    assert b"pick-played" in visitor.see("/compare").content


def test_the_report_can_reach_nothing(visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.views.page.page.render", lambda result, folder: "the report")
    reply = visitor.see("/searches/played/report")
    policy = reply.headers["content-security-policy"]
    assert (reply.status, reply.content) == (200, b"the report")
    assert policy.startswith("sandbox allow-scripts; default-src 'none'")
    assert "allow-same-origin" not in policy
    assert "script-src 'sha256-" in policy


def test_what_mattered_says_when_there_is_too_little(visitor: Visitor) -> None:
    reply = visitor.see("/searches/played/importance")
    assert (reply.status, b"needs at least 10 trainings" in reply.content) == (200, True)


def test_a_page_may_run_own_files_alone(visitor: Visitor) -> None:
    for path in ("/", "/searches/played", "/searches/played/trials/t0001", "/compare"):
        page = visitor.see(path)
        text = page.content.decode()
        assert "script-src 'self'" in page.headers["content-security-policy"]
        assert not re.search(r"<script(?![^>]* src=)|<style| style=| on[a-z]+=", text)
        assert not re.search(r'(?:src|href)="(?:https?:)?//', text)


def test_trials_are_ranked_once_for_each_state_of_a_search(
    visitor: Visitor, played: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranked = []
    rank_trials = SearchResult._rank_trials

    def count(result: SearchResult) -> list[TrialResult]:
        ranked.append(result)
        return rank_trials(result)

    monkeypatch.setattr(SearchResult, "_rank_trials", count)
    for path in ("/searches/played", "/searches/played/charts", "/searches/played/trials/t0001"):
        assert visitor.see(path).status == 200
    assert len(ranked) == 1
    render(SearchResult.read(played.folder))
    assert len(ranked) == 2
    journal, _ = Journal.reopen(played.folder)
    journal.append(Ended("t0001", "failed", "it is worn out"))
    journal.close()
    page = visitor.see("/searches/played").content
    assert len(ranked) == 3
    assert b"it is worn out" in page


@pytest.mark.parametrize("trial", ["t0001", "t0005", "t0009"])
def test_the_story_of_a_trial_needs_only_its_own_events(
    trial: str, open_driver: OpenDriver, experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(open_driver(changed(experiment, scheduler="asha")))
    place = experiment.folder.parent
    page = Visitor(place, place=place).see(f"/searches/played/trials/{trial}").content.decode()
    events = read(experiment.folder / FILE_NAME)
    lines = list(story_lines(events, trial))
    assert len(lines) > 3
    for line in lines:
        assert escape(line[9:].strip()) in page
    own = read_about(experiment.folder / FILE_NAME, trial)
    assert own == [event for event in events if event.trial in ("", trial)]


@pytest.mark.parametrize(
    "change",
    [
        {"data": {}},
        {"data": {"name": "digits", "root": "", "val": 0, "train": 1, "test": 1, "classes": []}},
        {"data": {"val": "all"}},
        {"experiment": {}},
        {"experiment": {"space": {"domains": {"batch_size": {}}}}},
        {"began_ms": 10**18},
        {"experiment": {"base": {"metric": "beauty"}}},
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "path",
    ["/", "/searches/odd", "/searches/odd/charts", "/searches/odd/trials/t0001", "/compare?of=odd"],
)
def test_an_odd_journal_is_told_of_in_a_line(
    path: str, change: dict[str, Any], visitor: Visitor, played: Experiment
) -> None:
    first, *others = (played.folder / FILE_NAME).read_bytes().splitlines(keepends=True)
    values = {**json.loads(first), **change}
    del values["crc"]
    text = json.dumps(values)[:-1]
    odd = Path(str(played.storage)) / "odd"
    odd.mkdir()
    line = f'{text}, "crc": "{zlib.crc32(text.encode()):08x}"}}\n'.encode()
    (odd / FILE_NAME).write_bytes(line + b"".join(others))
    page = visitor.see(path)
    assert page.status in {200, 400, 404, 500, 503}
    assert page.headers["content-type"].startswith(("text/html", "application/json"))
    if path == "/":
        assert (page.status, sorted(rows_of(page.content))) == (200, ["odd", "played"])


def test_hostile_names_are_text(visitor: Visitor, played: Experiment) -> None:
    """Those of a journal's params, classes and data, and the reasons in it."""
    make_hostile(played.folder)
    addresses = ("/", "/searches/played", "/searches/played/trials/t0001", f"/?q={HOSTILE[:30]}")
    for address in addresses:
        page = visitor.see(address.replace("\n", "%0a"))
        assert page.status == 200
        assert b"<script>alert" not in page.content
        assert b"\x1b" not in page.content
    charts = visitor.see("/searches/played/charts")
    assert charts.headers["content-type"] == "application/json"


def test_each_page_and_the_report_explain_their_words(visitor: Visitor, played: Experiment) -> None:
    page = visitor.see("/words").content.decode()
    report = render(SearchResult.read(played.folder), played.folder)
    for word, meaning in (TERMS | TERMS_OF_CLASSES).items():
        entry = f"<dt>{escape(word)}</dt><dd>{escape(meaning)}</dd>"
        assert entry in page
        assert entry in report
    for address in ("/", "/new", "/searches/played"):
        assert '<a href="/words">' in visitor.see(address).content.decode()


def test_words_that_are_explained_are_those_that_are_used() -> None:
    """A word of ours is in the glossary; others are the names of settings and metrics."""
    glossary = (ROOT / "docs" / "glossary.md").read_text().lower()
    settings = " ".join([*PATHS, *(metric.title for metric in TASKS["classification"].metrics)])
    for word in ("trial", "epoch", "guessing", "held", "stopped", "probe", "baseline"):
        assert word in TERMS
        assert f"| {word}" in glossary
    for word in ("lr", "dropout", "freeze", "pretrained"):
        assert word in TERMS
        assert word in settings
