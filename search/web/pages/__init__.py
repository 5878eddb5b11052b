"""The web pages, one per module, as listed in `registry`.

In each module, `NAV` is the title and the path of the page's link, which all pages show; None for a
page without a link. `routes` builds the page's routes. A page may import the functions of every
command, and the modules of `search.web` and its `forms`.
"""
