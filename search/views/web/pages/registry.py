"""The pages, in the order of their links."""

from search.views.web.pages import searches
from search.views.web.site import Page

PAGES: tuple[Page, ...] = (searches,)
