"""The web pages, one per module, as listed in `registry`.

In a module, `NAV` is the link to the page that all pages show, and `routes` builds the page's
routes. A page may import the functions of every command, and the modules of `search.web` and its
`forms`.
"""
