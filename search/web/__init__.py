"""The web pages of `search.ui`: list, start and steer all searches of a storage.

`app` builds the ASGI app, `access` authorises requests, and `site` has the parts that all pages
share. Each module in `pages/` is a page. This package may import the functions of every command. A
page never talks to a driver: it reads journals, and posts requests with `search.journal.requests`.
"""
