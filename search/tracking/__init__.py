"""The access to MLflow: the runs of a search, and the model registry.

The runs are written from the search's journal, and no decision depends on the contents of MLflow.
This package may import `search.journal`, and the functions of `search.views` that compose texts. It
must not import `search.decisions` or `search.execution`.
"""
