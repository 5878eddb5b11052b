"""The views by name: what a search shows while it runs, and of its result.

To add one, write it in a file and name it here. `search.views.base.View` is what a session asks of
it; each is imported when a session begins, and opened in this order.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class ViewEntry:
    """The facts of a view that are known before it is imported."""

    opens: str
    """`module:name` of what makes it of a `search.views.base.Shown`: its class, or a function that
    returns None where the view does not apply."""
    title: str
    """Its name in a sentence that says that it failed."""


VIEWS = {
    "progress": ViewEntry("search.views.live:open_display", "the progress"),
    "page": ViewEntry("search.views.page.view:open_page", "the pictures"),
    "summary": ViewEntry("search.views.outcome:Summary", "the summary"),
    "json": ViewEntry("search.views.outcome:open_json", "the result as JSON"),
}
