"""Whether a cluster can work: its file, its hosts and the account, each asked, and findings in
sentences.

`probe.py` runs on hosts where the project may not be installed, and stands alone.
"""
