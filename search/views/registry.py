"""Registry of the views of a running search and of its result.

To add a view, implement `search.views.base.View` in a module and name it here. Views are imported
when a session begins, and opened in this order.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class ViewEntry:
    """A view, which is imported only when a session opens it."""

    opens: str
    """Import path `module:name` of the view's factory, which takes a
    `search.views.base.ViewContext`. It is the view's class, or a function that returns None if the
    view does not apply.
    """
    title: str
    """The view's name in messages about its failure."""


VIEWS = {
    "progress": ViewEntry("search.views.live:open_display", "the display of progress"),
    "page": ViewEntry("search.views.page.view:open_page", "the report page"),
    "summary": ViewEntry("search.views.outcome:Summary", "the summary"),
    "json": ViewEntry("search.views.outcome:open_json", "the JSON output"),
}
