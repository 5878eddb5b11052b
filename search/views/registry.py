"""The views by name, of a search while it runs, and of its result.

To add one, write it in a file and name it here. It implements `search.views.base.View`. Each is
imported when a session begins, and opened in this order.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class ViewEntry:
    """A view that is not imported yet."""

    opens: str
    """`module:name` of its factory, which takes a `search.views.base.ViewContext`: its class, or a
    function that returns None where the view does not apply."""
    title: str
    """Its name in a sentence on its failure."""


VIEWS = {
    "progress": ViewEntry("search.views.live:open_display", "the progress"),
    "page": ViewEntry("search.views.page.view:open_page", "the pictures"),
    "summary": ViewEntry("search.views.outcome:Summary", "the summary"),
    "json": ViewEntry("search.views.outcome:open_json", "the result as JSON"),
}
