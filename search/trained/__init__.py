"""The model of a search: the choice of its trial, its export, its description and its source.

This package may import texts from `search.views`, `search.journal`, `search.tracking` and
`trainables.export`, but never `search.decisions`, `search.execution`, a verb or the command line.
"""
