"""The web pages on all searches of a place: see them, start them, steer them (`search.ui`).

`app` makes the server's app, `access` says who may use it, `site` is what every page has. The pages
are in `pages/`, one a file. May import every verb's functions; a page never asks a driver for
anything: it reads journals, and what it wants of a search it asks by `search.journal.requests`.
"""
