"""What screen readers and keys need of each page: headings in order, tables with titles, and
regions that scroll within reach.
"""

from html.parser import HTMLParser
from pathlib import Path

import pytest

from search.design.experiment import Experiment
from search.journal.result import SearchResult
from search.views.page.page import write
from tests.support.site import Visitor

SEARCH = "/searches/played"
PAGES = (
    "/",
    "/new",
    "/new?data=digits&space=smoke",
    "/data",
    "/models",
    "/models/flowers/folder?version=1",
    "/compare",
    "/compare?names=played&names=again",
    SEARCH,
    f"{SEARCH}/trials/t0001",
    f"{SEARCH}/importance",
    f"{SEARCH}/clean",
    f"{SEARCH}/delete",
    f"{SEARCH}/next/promote",
    f"{SEARCH}/next/select",
)


class Outline(HTMLParser):
    """A page's headings, titles of columns, and regions that may scroll sideways."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.headings: list[int] = []
        self.titles: list[str] = []
        self.unreachable: list[str] = []
        self._in_title = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in ("h1", "h2", "h3", "h4"):
            self.headings.append(int(tag[1]))
        if tag == "th":
            self.titles.append("")
            self._in_title = True
        if "box" in (given.get("class") or "").split() and not (
            given.get("tabindex") == "0" and given.get("role") and given.get("aria-label")
        ):
            self.unreachable.append(str(self.getpos()))

    def handle_endtag(self, tag: str) -> None:
        self._in_title = self._in_title and tag != "th"

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.titles[-1] += data.strip()

    def check(self) -> None:
        assert self.headings[0] == 1
        steps = zip(self.headings, self.headings[1:], strict=False)
        assert all(later <= earlier + 1 for earlier, later in steps), self.headings
        assert all(self.titles), self.titles
        assert self.unreachable == []


@pytest.mark.parametrize("path", PAGES)
def test_headings_are_in_order_titles_say_something_and_keys_reach_what_scrolls(
    path: str, visitor: Visitor, played: Experiment
) -> None:
    if "again" in path:
        copy = Path(str(played.storage)) / "again"
        copy.symlink_to(played.folder)
    reply = visitor.see(path)
    assert reply.status == 200, reply.content
    Outline(reply.content.decode()).check()


def test_the_command_below_a_form_is_no_heading_of_a_part(visitor: Visitor) -> None:
    """The cost takes the place of what stood there while it was worked out."""
    form = visitor.see(f"{SEARCH}/next/promote").content.decode()
    cost = visitor.see(f"{SEARCH}/cost/promote", part=True).content.decode()
    before, _, behind = form.partition('<div id="cost"')
    Outline(before + cost + behind.partition("</div>")[2]).check()


def test_the_report_is_held_to_the_same(played: Experiment, tmp_path: Path) -> None:
    write(SearchResult.read(played.folder), played.folder, tmp_path / "report.html")
    Outline((tmp_path / "report.html").read_text()).check()
