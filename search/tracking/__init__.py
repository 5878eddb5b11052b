"""MLflow: a search's runs, written from its journal, and the registry of models.

A projection: nothing is decided by what MLflow says. May import the journal and the words of
`views`; never what decides or runs.
"""
