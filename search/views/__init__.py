"""Views of a search for people: the live table, the summary, the report and the web pages.

`registry` lists the first three, which show what the journal records. The package may import those
below it, such as `search.journal`, `search.design` and `search.decisions`; never Ray or MLflow.
Only `web` may also import the commands.
"""
