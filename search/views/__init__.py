"""Views of a search for people: the live table, the summary and the report (listed in `registry`).

The other modules print the results of single verbs. This package may import the packages below it,
such as `search.journal`, `search.facts` and `search.decisions`, but never Ray or MLflow.
"""
