"""Parts of the command line that verbs share: options, the config file, questions, CSV output.

This package may import `search.values`, `search.journal`, `search.decisions.steering`,
`search.process`, `search.preflight.overrides` and `search.trained.source`, but never
`search.execution` or `search.views`.
"""
