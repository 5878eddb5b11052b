"""The pages, in the order of their links."""

from search.views.web.pages import compare, report, search, searches, trial
from search.views.web.site import Page

PAGES: tuple[Page, ...] = (searches, compare, search, report, trial)
