"""The forms of the pages, and the processes outside the server that perform their actions.

The values of a form are checked and become command-line arguments. This package may import the
functions of every command and the modules of `search.web`; never a page.
"""
