"""The forms of the pages, and the processes that perform the actions of the forms.

The values of a form are checked and become command-line arguments of such a process. This package
may import the functions of every command and the modules of `search.web`, but no page.
"""
