"""Web pages on which people see and correct a model's answers, and the routes for these pages.

This package may import `search.feedback`. It must not import the server, which includes the pages.
Text from outside is never inserted into a page as HTML.
"""
