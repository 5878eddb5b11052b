"""Preflight of a cluster: its file, its hosts and the account are checked.

The results are findings in whole sentences. `probe.py` runs on hosts where the project may not be
installed, and stands alone.
"""
