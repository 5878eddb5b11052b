"""The list of all pages, in the order of their links."""

from search.web.pages import (
    compare,
    data,
    keep,
    models,
    new,
    predictions,
    report,
    search,
    searches,
    started,
    steer,
    trial,
    words,
)
from search.web.site import Page

PAGES: tuple[Page, ...] = (
    searches,
    new,
    compare,
    models,
    data,
    predictions,
    search,
    report,
    trial,
    steer,
    keep,
    started,
    words,
)
