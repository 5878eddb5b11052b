"""Preflight of a cluster: checks of its file, its hosts and the account.

The results are findings in whole sentences. `probe.py` also runs on hosts where the project may not
be installed, so it imports nothing of the project.
"""
