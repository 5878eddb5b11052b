"""The model of a search: the choice of its trial, its export, its description and its source.

Several verbs use the model, such as promote, serve and predict. This package may import
`search.journal`, `search.tracking`, `trainables.export` and the functions in `search.views.text`,
but never `search.decisions`, `search.execution`, a verb or the command line.
"""
