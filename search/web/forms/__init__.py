"""Forms of the pages, and the processes apart from the server that carry them out.

Form values are checked and become command-line arguments. This package may import the functions of
every command and the modules of `search.web`; never a page.
"""
