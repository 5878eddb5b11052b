"""The web pages of `search.ui`: list, start and steer all searches of a storage.

`app` builds the ASGI app, `access` authorises requests, and `site` has the parts that all pages
share. Each module in `pages/` is a page. This package may import the functions of every command. A
page never communicates with the driver of a search directly: it reads the journal, and sends
requests through `search.journal.requests`.
"""
