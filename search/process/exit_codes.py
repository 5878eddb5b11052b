"""The exit codes of verbs.

0 all well, and MLflow has it all · 1 a mistake in this code · 2 the command, config or data is
wrong, nothing started · 3 the search ended, some trials failed · 4 the environment is not ready or
was lost, safe to try again · 5 a person must look: a damaged journal, a search that another driver
has, or that is not what it was · 6 the search ended, and its answer is no better than guessing
(trials may have failed) · 7 something has changed for a model in use (`search.monitor`) · 130 and
143 stopped by SIGINT and SIGTERM · 141 nobody reads the output any more.
"""

SOME_FAILED, AT_CHANCE, CHANGED = 3, 6, 7
"""The exit codes that only a search's verbs have; the others are in `cluster.cli`."""
