"""Traditional classifiers, to compare networks with.

Features are made by hand (`features`), and classifiers are fitted to them once (`classifiers`).
"""
