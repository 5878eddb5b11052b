"""The design of a search: its experiment as one frozen value, its budget, its command lines.

May import algorithms, schedulers, the space, the journal and `values`; never what decides, runs or
shows.
"""
