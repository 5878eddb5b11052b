"""Checks of a cluster before it is used: its file, its hosts, and the cloud account.

The results are findings: sentences, each with a level and a remedy. `probe.py` also runs on hosts
where the project may not be installed, so it imports nothing from the project.
"""
