"""The model of a search: the choice of its trial, its export, its description and its source.

The model is used by the verbs that promote, serve, predict and monitor. This package may import
`search.journal`, `search.tracking`, `trainables.export` and `search.views.text`, but never
`search.decisions`, `search.execution`, a verb or the command line.
"""
