"""The pages, in the order of their links."""

from search.views.web.pages import (
    compare,
    data,
    keep,
    models,
    new,
    report,
    search,
    searches,
    started,
    steer,
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
    steer,
    keep,
    started,
)
