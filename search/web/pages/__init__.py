"""The web pages, one per module: `NAV` is the page's link on all pages, `routes` builds its routes.

`registry` lists them. A page may import the functions of every command, and the modules of
`search.web` and its `forms`.
"""
