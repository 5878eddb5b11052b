"""The pages, in the order of their links."""

from search.views.web.pages import (
    compare,
    data,
    models,
    new,
    report,
    search,
    searches,
    started,
    trial,
)
from search.views.web.site import Page

PAGES: tuple[Page, ...] = (
    searches,
    new,
    compare,
    models,
    data,
    search,
    report,
    trial,
    started,
)
